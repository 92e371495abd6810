//! The f64 twin against the decoder on `clear`, and against the exact model.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ndarray::{Array2, Axis};

use super::*;
use crate::backend::clear::{ClearClient, ClearParameters, NoiseModel};
use crate::calibration::calibrate::calibrate;
use crate::calibration::measure::Margins;
use crate::contract::{BootstrapSummary, Level};
use crate::decoder::Decoder;
use crate::decoder::accuracy::Accuracy;
use crate::decoder::hidden_codec::HiddenCodec;
use crate::decoder::keys::plan_keys;
use crate::decoder::schedule::{LayerSchedule, Refresh};
use crate::decoder::step::Step;
use crate::generation::client::Client;
use crate::model::prepared::{TextPart, built_in};
use crate::model::weights::Weights;

const SLOTS: usize = 2048;
/// What the plans bootstrap to.
const TOP: Level = Level(13);
/// What the simulator bootstraps to at most: a second iteration takes a level.
const HIGHEST: Level = Level(14);
const SUMMARY: BootstrapSummary =
    BootstrapSummary { output_level: TOP, minimum_input_level: Level(0), bound: 1.0, few: None };

struct Fixture {
    prepared: Arc<PreparedModel>,
    plan: DecoderPlan,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-shakespeare-llama")
}

fn tokens(prepared: &PreparedModel, part: TextPart) -> Vec<Vec<u32>> {
    prepared.private_tokens(&built_in(part, false), 128, 0).unwrap()
}

fn plan_of(prepared: &PreparedModel, margins: &Margins) -> DecoderPlan {
    let (texts, held_out) = (tokens(prepared, TextPart::Calibration), tokens(prepared, TextPart::HeldOut));
    let table = calibrate(prepared, &texts, &held_out, margins, &mut |_, _, _| {}).unwrap().table;
    DecoderPlan::new(prepared.model.config(), &table.ranges, Accuracy::default(), SUMMARY).unwrap()
}

/// The bundled model, and its functions with the default margins.
fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let prepared = Arc::new(PreparedModel::read(&directory()).unwrap());
        let plan = plan_of(&prepared, &Margins::default());
        Fixture { prepared, plan }
    })
}

/// Logits of the twin behind every token of `text`.
fn twin_logits(plan: &DecoderPlan, text: &[u32], noise: Option<BootstrapNoise>) -> Array2<f32> {
    let Fixture { prepared, .. } = fixture();
    let model = &prepared.model;
    let mut functions = ApproximatedFunctions::new(model, plan, noise);
    let hidden = model.forward(text, &mut prepared.prefix_cache.clone(), &mut functions).unwrap();
    model.logits(&hidden)
}

/// Logits of the decoder on the simulator behind the last of every `wave` tokens of `text`.
fn decoder_logits(
    plan: &DecoderPlan,
    text: &[u32],
    wave: usize,
    noise: Option<BootstrapNoise>,
) -> Array2<f32> {
    let Fixture { prepared, .. } = fixture();
    let config = prepared.model.config();
    // Slots without a token stand at −1 exactly; noise moves them past it.
    let bound = if noise.is_some() { 1.001 } else { 1.0 };
    let summary = BootstrapSummary { bound, output_level: HIGHEST, ..SUMMARY };
    let mut parameters = ClearParameters::new(SLOTS, HIGHEST.0, 42).unwrap().with_bootstrapping(summary);
    if let Some(BootstrapNoise { bits, seed }) = noise {
        let bootstrap_absolute = (-bits).exp2();
        let none = NoiseModel {
            seed,
            encryption: 0.0,
            key_switch: 0.0,
            rescale: 0.0,
            bootstrap_relative: 0.0,
            bootstrap_absolute,
        };
        parameters = parameters.with_noise(none);
    }
    let context = prepared.frame.prefix.len() + text.len();
    let weights = Weights::open(&directory(), config).unwrap();
    let codec = HiddenCodec::new(config, plan, SLOTS, context).unwrap();
    let decoder = Decoder::new(&weights, plan.clone(), SLOTS, context).unwrap();
    let keys = plan_keys(&decoder, &parameters.chain, summary, wave).unwrap();
    let client = Client::from_parts(ClearClient::new(parameters), codec, prepared, context);
    let evaluator = client.evaluation_keys(&keys.request).unwrap();
    let mut state = decoder.new_state();
    decoder.append_public_prefix(&evaluator, &mut state, &prepared.prefix_cache).unwrap();
    let mut logits = Array2::zeros((text.len() / wave, config.vocab_size));
    for (tokens, mut row) in text.chunks_exact(wave).zip(logits.rows_mut()) {
        let encrypted = client.encrypt_tokens(tokens).unwrap();
        let answer =
            decoder.step_wave(&evaluator, &mut state, &encrypted, wave, true, &mut |_, _| {}).unwrap();
        row.assign(&ndarray::Array1::from_vec(client.logits(&answer.unwrap()).unwrap()));
    }
    logits
}

fn exact_logits(text: &[u32]) -> Array2<f32> {
    let Fixture { prepared, .. } = fixture();
    let model = &prepared.model;
    let mut cache = prepared.prefix_cache.clone();
    model.logits(&model.forward(text, &mut cache, &mut ExactFunctions).unwrap())
}

fn largest(values: &Array2<f32>) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

fn mean_square(values: &Array2<f32>) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / values.len() as f64
}

/// Measured: 7.9e-6 (logits of up to 15 in f32 are good for 1e-6) and 5.5e-3.
#[test]
fn the_twin_and_the_decoder_on_clear_differ_by_far_less_than_their_functions_err() {
    let Fixture { prepared, plan } = fixture();
    let text = &tokens(prepared, TextPart::Evaluation)[0][..40];
    let (exact, twin, decoder) =
        (exact_logits(text), twin_logits(plan, text, None), decoder_logits(plan, text, 1, None));
    let (apart, wrong) = (largest(&(&twin - &decoder)), largest(&(&exact - &decoder)));
    println!("logits of twin and decoder within {apart:.2e}, of decoder and exact model within {wrong:.2e}");
    assert!(apart < 3e-5 && apart < wrong / 100.0, "{apart:e} apart, {wrong:e} from the exact model");
}

/// Root mean squares of what noise of 2^-15 moves the logits by, in the twin and in the decoder. Tokens go through the
/// decoder in pairs, so that what is bootstrapped behind a norm is masked.
fn moved(plan: &DecoderPlan) -> [f64; 2] {
    const SEEDS: u64 = 6;
    let Fixture { prepared, .. } = fixture();
    let text = &tokens(prepared, TextPart::Evaluation)[0][..16];
    let second =
        |logits: Array2<f32>| logits.select(Axis(0), &(1..text.len()).step_by(2).collect::<Vec<_>>());
    let both = |noise| [second(twin_logits(plan, text, noise)), decoder_logits(plan, text, 2, noise)];
    let quiet = both(None);
    let mut sums = [0.0; 2];
    for seed in 0..SEEDS {
        let noisy = both(Some(BootstrapNoise { bits: 15.0, seed }));
        for ((sum, noisy), quiet) in sums.iter_mut().zip(noisy).zip(&quiet) {
            *sum += mean_square(&(noisy - quiet)) / SEEDS as f64;
        }
    }
    sums.map(f64::sqrt)
}

/// One seam at a time is bootstrapped once, the others twice, which leaves a hundredth of the noise. Measured: ratios
/// of 0.86 to 1.18, which is what six seeds leave open; a factor of 2 forgotten at one seam shows.
#[test]
fn noise_at_every_seam_moves_the_logits_of_twin_and_decoder_equally_far() {
    let Fixture { plan, .. } = fixture();
    let inside =
        Step::LAYER.into_iter().filter(|module| module.seam().is_some() && *module != Step::InputNormSquare);
    // The residual stream that leaves a layer belongs to no step of that layer.
    let seams: Vec<Option<Step>> = inside.map(Some).chain([None]).collect();
    for seam in &seams {
        let mut plan = plan.clone();
        for layer in &mut plan.layers {
            let full = |own: Option<Step>| {
                let known = match own {
                    Some(module) => layer.schedule.refresh(module),
                    None => layer.schedule.residual,
                };
                let below_norm = Level(layer.key_level.0 + 3);
                let level = match (known, own) {
                    (Some(refresh), _) => refresh.level,
                    (None, Some(Step::QueryKeyValue)) => below_norm,
                    (None, _) => TOP,
                };
                Refresh { level, iterations: if own == *seam { 1 } else { 2 } }
            };
            let refreshes = seams.iter().filter_map(|own| Some(((*own)?, full(*own))));
            layer.schedule = LayerSchedule::by_hand(refreshes, Some(full(None)));
        }
        let [twin, decoder] = moved(&plan);
        let name = seam.map_or("residual", Step::stage);
        let ratio = twin / decoder;
        println!("{name}: twin {twin:.2e}, decoder {decoder:.2e}, ratio {ratio:.3}");
        assert!((0.7..1.45).contains(&ratio), "{name}: twin {twin:e}, decoder {decoder:e}");
    }
}

#[test]
fn the_functions_of_the_tiny_model_keep_its_tokens_on_texts_that_calibration_never_saw() {
    let Fixture { prepared, plan } = fixture();
    let evaluation = tokens(prepared, TextPart::Evaluation);
    let outcome = compare_twin(prepared, plan, &evaluation, None, &mut |_, _| {}).unwrap();
    let fidelity = &outcome.fidelity;
    println!("{fidelity:?}");
    assert!(fidelity.positions >= 2000, "{fidelity:?}");
    assert!(fidelity.top1 >= 0.995 && fidelity.kl_mean <= 1e-5, "{fidelity:?}");
    assert!(outcome.outside().is_empty(), "{:?}", outcome.outside());
}

#[test]
fn a_gate_beyond_its_interval_is_reported_by_layer_and_name() {
    let Fixture { prepared, .. } = fixture();
    // Half of what was seen: nothing widens by less than what it saw.
    let margins = Margins { gate: 0.5, ..Margins::default() };
    let plan = plan_of(prepared, &margins);
    let texts = tokens(prepared, TextPart::Calibration);
    let outcome = compare_twin(prepared, &plan, &texts, None, &mut |_, _| {}).unwrap();
    let names: Vec<&str> = outcome.outside().iter().map(|site| site.site.as_str()).collect();
    assert!(names.contains(&"layer 0 SiLU") && names.contains(&"layer 1 SiLU"), "{names:?}");
}
