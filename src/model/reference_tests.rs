//! The reference against recorded passes of other implementations.

use super::*;
use serde_json::Value;

fn tiny() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-shakespeare-llama")
}

fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(tiny().join("reference.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["cases"].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn tokens(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|number| number as u32).collect()
}

#[test]
fn every_logit_agrees_with_the_recorded_float64_pass() {
    let model = ReferenceModel::read(&tiny()).unwrap();
    for case in cases() {
        let ids = tokens(&case["token_ids"]);
        let hidden = model.forward(&ids, &mut model.new_cache(), &mut ExactFunctions).unwrap();
        let logits = model.logits(&hidden);
        let last = ids.len() - 1;
        for (found, wanted) in [
            (hidden.row(last), numbers(&case["last_hidden_after_final_norm"])),
            (logits.row(last), numbers(&case["last_logits"])),
        ] {
            assert_eq!(found.len(), wanted.len());
            let worst = found
                .iter()
                .zip(&wanted)
                .map(|(found, wanted)| (f64::from(*found) - wanted).abs())
                .fold(0.0, f64::max);
            assert!(worst < 1e-4, "{}: worst difference {worst:e}", case["prompt"]);
        }
    }
}

#[test]
fn greedy_text_agrees_token_by_token_through_the_cache() {
    let model = ReferenceModel::read(&tiny()).unwrap();
    for case in cases() {
        let mut cache = model.new_cache();
        let generated = model.generate_greedy(&tokens(&case["token_ids"]), &mut cache, 16).unwrap();
        assert_eq!(generated, tokens(&case["greedy_16"]), "{}", case["prompt"]);
    }
}

#[test]
fn tokenizer_gives_the_recorded_ids_and_text() {
    let config = LlamaConfig::read(&tiny()).unwrap();
    let tokenizer = crate::model::tokenizer::Tokenizer::read(&tiny(), &config).unwrap();
    for case in cases() {
        let mut ids = vec![config.bos_token_id.unwrap()];
        ids.extend(tokenizer.encode(case["prompt"].as_str().unwrap()).unwrap());
        assert_eq!(ids, tokens(&case["token_ids"]));
        let text = tokenizer.decode(&tokens(&case["greedy_16"])).unwrap();
        assert_eq!(text, case["text"].as_str().unwrap());
    }
}

#[test]
fn a_prompt_in_pieces_gives_the_same_states_as_in_one() {
    let model = ReferenceModel::read(&tiny()).unwrap();
    let ids = tokens(&cases()[0]["token_ids"]);
    let whole = model.forward(&ids, &mut model.new_cache(), &mut ExactFunctions).unwrap();
    let mut cache = model.new_cache();
    for (position, token) in ids.iter().enumerate() {
        let row = model.forward(&[*token], &mut cache, &mut ExactFunctions).unwrap();
        let worst = (&row.row(0) - &whole.row(position)).mapv(f32::abs).fold(0.0, |a: f32, b| a.max(*b));
        assert!(worst < 1e-5, "position {position}: {worst:e}");
    }
    assert_eq!(cache.positions(), ids.len());
}

#[test]
fn tokens_and_positions_outside_the_model_are_named() {
    let model = ReferenceModel::read(&tiny()).unwrap();
    let too_long = vec![0; 129];
    for (ids, word) in [(&[512u32][..], "512"), (&too_long, "129")] {
        let error = model.forward(ids, &mut model.new_cache(), &mut ExactFunctions).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}
/// SmolLM2-135M-Instruct is not part of the repository: `models/smollm2-135m-instruct/README.md` says how to get it.
#[test]
#[ignore = "needs CACHEMIR_SMOLLM2, a directory made by `cachemir import`"]
fn smollm2_answers_as_recorded() {
    let directory = std::path::PathBuf::from(std::env::var("CACHEMIR_SMOLLM2").unwrap());
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/smollm2-135m-instruct/reference.json");
    let recorded: Value = serde_json::from_str(&std::fs::read_to_string(recorded).unwrap()).unwrap();
    let prepared = crate::model::prepared::PreparedModel::read(&directory).unwrap();
    for case in recorded["cases"].as_array().unwrap() {
        let ids = tokens(&case["token_ids"]);
        let prefix = case["public_prefix_tokens"].as_u64().unwrap() as usize;
        assert_eq!(prepared.frame.prefix, ids[..prefix]);
        let question = case["question"].as_str().unwrap();
        let message = prepared.frame.message(&prepared.tokenizer, question).unwrap();
        assert_eq!(message, ids[prefix..], "{question}");
        let model = &prepared.model;
        let hidden =
            model.forward(&message, &mut prepared.prefix_cache.clone(), &mut ExactFunctions).unwrap();
        let logits = model.logits(&hidden);
        for pair in case["top10"].as_array().unwrap() {
            let (token, wanted) = (pair[0].as_u64().unwrap() as usize, pair[1].as_f64().unwrap());
            let found = f64::from(logits[[message.len() - 1, token]]);
            // Recorded to three decimals, from float32 sums in another order.
            assert!((found - wanted).abs() < 5e-3, "{question}: token {token}: {found} instead of {wanted}");
        }
        let wanted = tokens(&case["greedy"]);
        let found =
            model.generate_greedy(&message, &mut prepared.prefix_cache.clone(), wanted.len()).unwrap();
        assert_eq!(found, wanted, "{question}");
        assert_eq!(prepared.tokenizer.decode(&found).unwrap().trim(), case["text"].as_str().unwrap().trim());
    }
}
