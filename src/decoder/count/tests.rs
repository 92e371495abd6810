//! What is counted step by step is what a decode step does.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::calibration::calibrate::calibrate;
use crate::calibration::measure::Margins;
use crate::calibration::ranges::DecoderRanges;
use crate::contract::{CiphertextInfo, Client, Complex64, LevelCounts};
use crate::decoder::accuracy::Accuracy;
use crate::decoder::head_side::HeadSide;
use crate::decoder::keys::plan_keys;
use crate::decoder::placement::{PlacementScheme, TokensOfCache, place_decoder};
use crate::decoder::plan::DecoderPlan;
use crate::decoder::typical::typical_ranges;
use crate::model::config::{LlamaConfig, RopeScaling};
use crate::model::prepared::{PreparedModel, TextPart, built_in};
use crate::model::weights::Weights;
use crate::placement::CostFile;

const SLOTS: usize = 1 << 11;
const CONTEXT: usize = 24;

fn bundled_directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join("tiny-shakespeare-llama")
}

/// Shape and ranges of the bundled model.
fn bundled() -> (LlamaConfig, DecoderRanges) {
    let prepared = PreparedModel::read(&bundled_directory()).unwrap();
    let config = prepared.model.config().clone();
    let texts = |part| prepared.private_tokens(&built_in(part, prepared.frame.is_chat), 128, 0).unwrap();
    let (calibration, held_out) = (texts(TextPart::Calibration), texts(TextPart::HeldOut));
    let table =
        calibrate(&prepared, &calibration, &held_out, &Margins::default(), &mut |_, _, _| {}).unwrap().table;
    (config, table.ranges)
}

/// Grouped queries, heads and widths that are no powers of two, queries that shift their keys.
fn odd() -> (LlamaConfig, DecoderRanges) {
    let config = LlamaConfig {
        hidden_size: 90,
        intermediate_size: 200,
        num_hidden_layers: 3,
        num_attention_heads: 6,
        num_key_value_heads: 3,
        head_dim: 16,
        vocab_size: 300,
        max_position_embeddings: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_ids: vec![0],
    };
    let mut ranges = typical_ranges(&config).unwrap();
    ranges.layers[1].heads[2].square_shift[3] = 0.01;
    (config, ranges)
}

/// Bootstraps from level 3 to 16, whatever enters them.
fn parameters(slots: usize) -> ClearParameters {
    let bootstrap = BootstrapSummary {
        output_level: Level(16),
        minimum_input_level: Level(3),
        bound: f64::INFINITY,
        few: None,
    };
    ClearParameters::new(slots, 16, 42).unwrap().with_bootstrapping(bootstrap)
}

/// Functions of `ranges`, placed by the solver.
fn placed(config: &LlamaConfig, ranges: &DecoderRanges, head: HeadSide) -> DecoderPlan {
    let parameters = parameters(SLOTS);
    let bootstrap = parameters.bootstrapping.unwrap();
    let functions = DecoderPlan::new(config, ranges, Accuracy::default(), bootstrap).unwrap();
    let functions = functions.with_head(head).unwrap();
    let scheme = PlacementScheme {
        backend: "clear",
        preset: "sixteen levels",
        slots: SLOTS,
        chain: &parameters.chain,
        bootstrap,
    };
    let costs = CostFile::parse(include_str!("../../setup/built_in_costs/n16.json")).unwrap();
    let tokens = TokensOfCache { cached: CONTEXT - 1, context: CONTEXT };
    let placement = place_decoder(config, &functions, &scheme, &costs, tokens).unwrap();
    functions.placed(&placement.plan).unwrap()
}

/// Operations of a decode step added up from its steps, each counted alone at its level in the schedule; the
/// bootstraps and the ways down to those levels follow from the depths that were counted.
struct Added {
    counts: OperationCounts,
    levels: BTreeMap<LayerValue, Level>,
    ciphertexts: BTreeMap<LayerValue, usize>,
}

impl Added {
    fn note(&mut self, level: usize, counts: LevelCounts) {
        *self.counts.by_level.entry(Level(level)).or_default() += counts;
    }

    /// One multiplication by a constant and one rescale a ciphertext, one level above where it ends.
    fn lower(&mut self, from: Level, to: Level, count: usize) {
        assert!(from >= to, "{from} above {to}");
        if from > to {
            let counts = LevelCounts { constant_products: count, rescales: count, ..LevelCounts::default() };
            self.note(to.0 + 1, counts);
        }
    }

    fn bootstrap(&mut self, value: LayerValue, to: Level) {
        let (level, count) = (self.levels[&value], self.ciphertexts[&value]);
        self.note(level.0, LevelCounts { bootstraps: count, ..LevelCounts::default() });
        self.levels.insert(value, to);
    }

    fn layer(&mut self, counter: &mut StepCounter<'_>, index: usize) {
        let layer = counter.layer(index).unwrap();
        for step in counter.steps(index).iter().copied() {
            let level = layer.schedule.level(step).unwrap();
            let above = layer.above(step, counter.tokens > 1);
            if let (Some(refresh), Some(seam)) = (layer.schedule.refresh(step), step.seam()) {
                let more = if step == Step::QueryKeyValue { above[0] } else { 0 };
                self.bootstrap(seam, Level(refresh.level.0 + more));
            }
            for (value, above) in step.edges().0.iter().zip(above) {
                if let Some(count) = self.ciphertexts.get(value).copied() {
                    self.lower(self.levels[value], Level(level.0 + above), count);
                }
            }
            let point = counter.point(index, step, level);
            let (counts, written) = counter.count_in(layer.clone(), &point, &self.ciphertexts).unwrap();
            for (level, counts) in counts.by_level {
                self.note(level.0, counts);
            }
            for (value, list) in written.iter() {
                self.ciphertexts.insert(value, list.len());
                self.levels.insert(value, list.iter().map(CiphertextInfo::level).min().unwrap());
            }
        }
        if let Some(refresh) = layer.schedule.residual {
            self.bootstrap(LayerValue::NextResidual, refresh.level);
        }
    }

    fn of(counter: &mut StepCounter<'_>) -> BTreeMap<Level, LevelCounts> {
        let (layers, mut entry) = (counter.decoder.layers.len(), counter.decoder.plan().input_level);
        let mut added = Self {
            counts: OperationCounts::default(),
            levels: BTreeMap::new(),
            ciphertexts: BTreeMap::new(),
        };
        for index in 0..=layers {
            added.levels = BTreeMap::from([(LayerValue::Residual, entry)]);
            added.ciphertexts = BTreeMap::from([(LayerValue::Residual, 1)]);
            added.layer(counter, index);
            if index < layers {
                entry = added.levels[&LayerValue::NextResidual];
            }
        }
        if let Some(level) = added.levels.get(&LayerValue::InputNormed).copied()
            && counter.decoder.head().is_none()
        {
            added.lower(level, Level(0), 1);
        }
        added.counts.by_level.retain(|_, counts| *counts != LevelCounts::default());
        added.counts.by_level
    }
}

/// Operations of a whole decode step at the levels of the plan, by level.
fn whole(decoder: &Decoder, cached: usize, tokens: usize) -> BTreeMap<Level, LevelCounts> {
    let parameters = parameters(decoder.layout().hidden.slots());
    let client = ClearClient::new(parameters.clone());
    let evaluator = CountingEvaluator::new(client.dry_run());
    let mut state = decoder.filled_state(cached, |level| client.encrypt_blank(level)).unwrap();
    let x = client.encrypt_blank(decoder.plan().input_level).unwrap();
    decoder.step_wave(&evaluator, &mut state, &x, tokens, true, &mut |_, _| {}).unwrap();
    evaluator.counts().by_level
}

#[test]
fn the_steps_counted_one_by_one_are_the_operations_of_a_decode_step_at_every_level() {
    for (name, (config, ranges)) in [("bundled", bundled()), ("odd", odd())] {
        for head in [HeadSide::Client, HeadSide::Server] {
            let plan = placed(&config, &ranges, head);
            let decoder = Decoder::without_weights(&config, plan, SLOTS, CONTEXT).unwrap();
            let parameters = parameters(SLOTS);
            let bootstrap = parameters.bootstrapping.unwrap();
            for (cached, tokens) in [(0, 1), (13, 1), (CONTEXT - 1, 1), (5, 3)] {
                let what = format!("{name}, head on the {head:?}, {tokens} tokens behind {cached}");
                assert!(tokens <= decoder.wave_capacity(), "{what}: {} fit", decoder.wave_capacity());
                let mut counter =
                    StepCounter::new(&decoder, &parameters.chain, bootstrap, cached, tokens).unwrap();
                let (added, whole) = (Added::of(&mut counter), whole(&decoder, cached, tokens));
                assert_eq!(added, whole, "{what}");
            }
        }
    }
}

#[test]
fn every_step_is_in_the_templates_and_keys_and_counts_are_shared_only_between_equal_layers() {
    let (config, ranges) = bundled();
    let decoder =
        Decoder::without_weights(&config, placed(&config, &ranges, HeadSide::Server), SLOTS, CONTEXT)
            .unwrap();
    let parameters = parameters(SLOTS);
    let bootstrap = parameters.bootstrapping.unwrap();
    let counter = || StepCounter::new(&decoder, &parameters.chain, bootstrap, 7, 1).unwrap();
    let mut sharing = counter();
    let mut names = BTreeSet::new();
    for index in 0..=config.num_hidden_layers {
        let template = sharing.template(index).unwrap();
        assert_eq!(template, counter().template(index).unwrap(), "layer {index}");
        names.extend(template.operations.into_iter().map(|operation| operation.name));
    }
    let all: BTreeSet<String> =
        Step::LAYER.iter().chain([&Step::Head]).map(|step| step.name().to_owned()).collect();
    assert_eq!(names, all);
    // The keys of a decode step serve all steps that are timed alone at its levels.
    let planned = plan_keys(&decoder, &parameters.chain, bootstrap, 1).unwrap().request;
    let alone = sharing.keys(0).unwrap();
    assert!(alone.rotations.keys().all(|step| planned.rotations.contains_key(step)), "{alone:?}");
    assert!(alone.relinearization.is_some() && alone.conjugation.is_some());
}

#[test]
fn counts_and_keys_depend_on_no_weights_and_on_no_values() {
    let (config, ranges) = bundled();
    let plan = placed(&config, &ranges, HeadSide::Server);
    let weights = Weights::open(&bundled_directory(), &config).unwrap();
    let full = Decoder::new(&weights, plan.clone(), SLOTS, CONTEXT).unwrap();
    let blank = Decoder::without_weights(&config, plan, SLOTS, CONTEXT).unwrap();
    let client = ClearClient::new(parameters(SLOTS));
    let run = |decoder: &Decoder, encrypt: &dyn Fn(Level) -> Result<ClearCiphertext>| {
        let evaluator = CountingEvaluator::new(client.dry_run());
        let mut state = decoder.filled_state(9, encrypt).unwrap();
        let x = encrypt(decoder.plan().input_level).unwrap();
        decoder.step_wave(&evaluator, &mut state, &x, 2, true, &mut |_, _| {}).unwrap();
        (evaluator.counts(), evaluator.inner().recorded())
    };
    let zero = |level| client.encrypt(&[Complex64::ZERO], level);
    assert_eq!(run(&full, &zero), run(&blank, &|level| client.encrypt_blank(level)));
}

#[test]
fn functions_of_another_shape_are_refused_with_both_numbers() {
    let (config, ranges) = odd();
    let mut plan = placed(&config, &ranges, HeadSide::Client);
    let decoder = |plan: &DecoderPlan| Decoder::without_weights(&config, plan.clone(), SLOTS, CONTEXT);
    let refused = |plan: &DecoderPlan| decoder(plan).err().unwrap().to_string();
    plan.layers[1].attention.value_factors.pop();
    assert!(
        refused(&plan).contains("factors of the values: [5] values, the model wants [6]"),
        "{}",
        refused(&plan)
    );
    plan.layers[1].attention.value_factors.push(1.0);
    plan.layers[2].attention.shifts[4].pop();
    assert!(refused(&plan).contains("shifts of the keys"), "{}", refused(&plan));
    plan.layers.pop();
    assert!(refused(&plan).contains("2 layers, the model has 3"), "{}", refused(&plan));
}

#[test]
fn a_layer_or_a_cache_that_does_not_exist_is_refused() {
    let (config, ranges) = odd();
    let decoder =
        Decoder::without_weights(&config, placed(&config, &ranges, HeadSide::Client), SLOTS, CONTEXT)
            .unwrap();
    let parameters = parameters(SLOTS);
    let bootstrap = parameters.bootstrapping.unwrap();
    let counter = |cached| StepCounter::new(&decoder, &parameters.chain, bootstrap, cached, 1);
    let error = counter(0).unwrap().template(4).unwrap_err().to_string();
    assert!(error.contains("layer 4 of 3"), "{error}");
    let error = counter(CONTEXT).err().unwrap().to_string();
    assert!(error.contains("24 cached tokens"), "{error}");
}
