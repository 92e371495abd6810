//! The encrypted decoder on the simulator against the exact f32 model.

use std::path::{Path, PathBuf};

use cachemir::backend::clear::{ClearClient, ClearParameters, NoiseModel};
use cachemir::contract::{BootstrapSummary, Level};
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

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-shakespeare-llama")
}

/// Generates `count` tokens after `prompt` on the simulator and returns the worst logit error.
fn generate(slots: usize, levels: usize, noise: Option<NoiseModel>, prompt: &[u32], count: usize) -> f32 {
    let prepared = PreparedModel::read(&tiny()).unwrap();
    let (model, config) = (&prepared.model, prepared.model.config());
    let weights = Weights::open(&tiny(), config).unwrap();
    let texts = |part| prepared.private_tokens(&built_in(part, false), 128, 0).unwrap();
    let targets = CalibrationTargets { denominator_top: 2.5, ..CalibrationTargets::default() };
    let (calibration, held_out) = (texts(TextPart::Calibration), texts(TextPart::HeldOut));
    let table = calibrate(&prepared, &calibration, &held_out, &targets, &mut |_, _, _| {}).unwrap().table;
    let ranges = DecoderRanges::from_calibration(&table, config, &prepared.prefix_cache).unwrap();
    let summary =
        BootstrapSummary { output_level: Level(levels + 3), minimum_input_level: Level(3), bound: 1.0 };
    let mut parameters = ClearParameters::new(slots, levels + 3, 42).unwrap().with_bootstrapping(summary);
    if let Some(noise) = noise {
        parameters = parameters.with_noise(noise);
    }
    let context = 64;
    let plan = DecoderPlan::new(config, &ranges, Accuracy::default(), summary).unwrap();
    for (index, layer) in plan.layers.iter().enumerate() {
        let softmax = &layer.attention.softmax;
        println!(
            "layer {index}: norms of degree {} and {}, exp {} + {} squarings, 1/D over {:.1e} in {} iterations ({:?} first), SiLU {}, cache at {}",
            layer.input_norm.start.degree(),
            layer.post_norm.start.degree(),
            softmax.exponential.root.degree(),
            softmax.exponential.squarings,
            softmax.inverse.low,
            softmax.inverse.steps.len(),
            softmax.inverse.doubled_before,
            layer.gate.degree(),
            layer.cache_level
        );
    }
    let codec = HiddenCodec::new(config, &plan, slots, context).unwrap();
    let decoder = Decoder::new(&weights, plan, slots, context).unwrap();
    let keys = plan_keys(&decoder, &parameters.chain, summary).unwrap();
    println!("{} rotation keys, {:?}", keys.request.rotations.len(), keys.operations);
    assert_eq!(keys.operations.bootstraps, 10);
    let client = GenerationClient::new(ClearClient::new(parameters), codec, model);
    let evaluator = client.evaluation_keys(&keys.request).unwrap();
    let mut state = decoder.new_state();
    decoder.append_public_prefix(&evaluator, &mut state, &prepared.prefix_cache).unwrap();
    let server = GenerationServer::new(&decoder, evaluator, state);
    let request = GenerationRequest {
        prefix: prepared.frame.prefix.clone(),
        prompt: prompt.to_vec(),
        max_new_tokens: count,
        sampling: Sampling::greedy(),
        eos: config.eos_token_ids.clone(),
    };
    request.check(context).unwrap();
    let mut session = Session::new(client, server, request, Vec::new()).unwrap();
    let mut cache = prepared.prefix_cache.clone();
    let mut pending = prompt.to_vec();
    let mut worst: f32 = 0.0;
    while let Some(step) = session.next_token(&mut |_, _| {}).unwrap() {
        let hidden = model.forward(&pending, &mut cache, &mut ExactFunctions).unwrap();
        let logits = model.logits(&hidden);
        let exact = logits.row(logits.nrows() - 1).to_vec();
        let error = step.logits.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let want = Sampling::greedy().pick(&exact, 0).unwrap();
        let gap = exact[want as usize] - exact[step.token as usize];
        println!(
            "token {} (exact {want}), logit error {error:.4}, {:.1} s",
            step.token,
            step.elapsed.as_secs_f64()
        );
        assert!(step.token == want || gap <= 2.0 * error, "{} instead of {want}, gap {gap}", step.token);
        worst = worst.max(error);
        pending = vec![step.token];
    }
    worst
}

#[test]
fn the_tokens_of_the_tiny_model_are_those_of_the_exact_one() {
    let worst = generate(2048, 13, None, &[51, 48, 46, 38, 48, 27], 6);
    assert!(worst <= 0.05, "worst logit error {worst}");
}

#[test]
fn bootstrap_noise_of_seventeen_bits_keeps_the_tokens() {
    let noise = NoiseModel {
        seed: 7,
        encryption: 256.0,
        key_switch: 256.0,
        rescale: 256.0,
        bootstrap_relative: 0.0,
        bootstrap_absolute: 2f64.powi(-17),
    };
    let worst = generate(2048, 13, Some(noise), &[51, 48, 46, 38, 48, 27], 4);
    assert!(worst <= 0.5, "worst logit error {worst}");
}
