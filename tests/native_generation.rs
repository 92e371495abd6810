//! Two tokens of the tiny model on real ciphertexts, in the small ring that claims no security: bootstraps, encrypted KV
//! cache and all, against the exact f32 model.

#![allow(clippy::unwrap_used, reason = "tests state what must hold; a failure to get there is a failure")]

use std::path::Path;

use cachemir::backend::native::NativeClient;
use cachemir::bootstrapping::BootstrapParameters;
use cachemir::contract::{BootstrapSummary, Client, Level};
use cachemir::llm::block_functions::ExactFunctions;
use cachemir::llm::calibrate::calibrate;
use cachemir::llm::calibration::CalibrationTargets;
use cachemir::llm::client::GenerationClient;
use cachemir::llm::decoder::Decoder;
use cachemir::llm::decoder_plan::{Accuracy, DecoderPlan};
use cachemir::llm::decoder_ranges::DecoderRanges;
use cachemir::llm::hidden_codec::HiddenCodec;
use cachemir::llm::key_plan::plan_keys;
use cachemir::llm::sampling::Sampling;
use cachemir::llm::server::GenerationServer;
use cachemir::llm::session::{GenerationRequest, Session};
use cachemir::llm::texts::{PreparedModel, TextPart, built_in};
use cachemir::llm::weights::Weights;

const TOKENS: usize = 2;
/// Largest difference of a logit that the encrypted run may show.
const LOGIT_ERROR: f32 = 0.05;

#[test]
fn free_running_tokens_under_encryption_are_those_of_the_exact_model() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-shakespeare-llama");
    let prepared = PreparedModel::read(&directory).unwrap();
    let config = prepared.model.config();
    let texts = |part| prepared.private_tokens(&built_in(part, false), 128, 0).unwrap();
    let targets = CalibrationTargets { denominator_top: 2.5, ..CalibrationTargets::default() };
    let (calibration, held_out) = (texts(TextPart::Calibration), texts(TextPart::HeldOut));
    let table = calibrate(&prepared, &calibration, &held_out, &targets, &mut |_, _, _| {}).unwrap().table;
    let ranges = DecoderRanges::from_calibration(&table, config, &prepared.prefix_cache).unwrap();

    let parameters = BootstrapParameters::test(12, 13);
    let bootstrap = BootstrapSummary {
        output_level: Level(parameters.output_level()),
        minimum_input_level: Level(parameters.minimum_input_level()),
        bound: 1.0,
    };
    let plan = DecoderPlan::new(config, &ranges, Accuracy::default(), bootstrap).unwrap();
    let client = NativeClient::with_bootstrapping(parameters, Some(7)).unwrap();
    let prompt = prepared.frame.message(&prepared.tokenizer, "O").unwrap();
    let prefix = prepared.frame.prefix.clone();
    let context = prefix.len() + prompt.len() + TOKENS;
    let codec = HiddenCodec::new(config, &plan, client.slots(), context).unwrap();
    let decoder =
        Decoder::new(&Weights::open(&directory, config).unwrap(), plan, client.slots(), context).unwrap();
    let keys = plan_keys(&decoder, client.ckks().parameters().chain(), bootstrap).unwrap();

    let client = GenerationClient::new(client, codec, &prepared.model);
    let evaluator = client.evaluation_keys(&keys.request).unwrap();
    let mut state = decoder.new_state();
    decoder.append_public_prefix(&evaluator, &mut state, &prepared.prefix_cache).unwrap();
    let server = GenerationServer::new(&decoder, evaluator, state);
    let request = GenerationRequest {
        prefix,
        prompt: prompt.clone(),
        max_new_tokens: TOKENS,
        sampling: Sampling::greedy(),
        eos: config.eos_token_ids.clone(),
    };
    let mut session = Session::new(client, server, request, Vec::new()).unwrap();

    let (mut pending, mut cache) = (prompt, prepared.prefix_cache.clone());
    while let Some(step) = session.next_token(&mut |_, _, _| {}).unwrap() {
        let hidden = prepared.model.forward(&pending, &mut cache, &mut ExactFunctions).unwrap();
        let logits = prepared.model.logits(&hidden);
        let exact = logits.row(logits.nrows() - 1).to_vec();
        let worst = exact.iter().zip(&step.logits).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
        println!("token {}: logits wrong by at most {worst}, {:.1?}", step.token, step.elapsed);
        assert!(worst <= LOGIT_ERROR, "logits wrong by {worst}");
        let mut sorted = exact.clone();
        sorted.sort_by(f32::total_cmp);
        let gap = sorted.iter().rev().take(2).fold(0.0, |gap, logit| logit - gap).abs();
        if gap > 2.0 * worst {
            assert_eq!(step.token, Sampling::greedy().pick(&exact, 0).unwrap(), "gap {gap}");
        }
        pending = vec![step.token];
    }
    assert_eq!(session.generated().len(), TOKENS);
}
