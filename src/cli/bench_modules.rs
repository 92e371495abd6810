//! `cachemir bench modules`: seconds of every operation, bootstrap and module of a decoder layer, by level: the costs
//! that `plan` and `baselines` read; and a decode step beside what they predict for it.

use std::path::PathBuf;
use std::time::Instant;

use crate::backend::native::{NativeClient, NativeEvaluator};
use crate::bootstrapping::BootstrapParameters;
use crate::calibration::ranges::DecoderRanges;
use crate::contract::{BootstrapRequest, BootstrapSummary, Client, Complex64, Evaluator, KeyRequest, Level};
use crate::decoder::Decoder;
use crate::decoder::count::StepCounter;
use crate::decoder::keys::plan_keys;
use crate::decoder::plan::{Accuracy, DecoderPlan};
use crate::decoder::step::Step;
use crate::model::prepared::PreparedModel;
use crate::model::weights::Weights;
use crate::placement::{
    BootstrapRow, CostFile, LayerTemplate, MeasuredLayer, ModuleRow, OperationRow, Prices, Primitive,
    Refresh, Search, Solution, Source, place, run_in_order,
};
use crate::related_work::formulas::ModelShape;
use crate::related_work::own_layer;
use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::bench_ops::{HOISTED, measure, median};
use super::machine::{available_memory_bytes, peak_memory_bytes};
use super::model_directory::{calibration, unpack_bundled_model};
use super::progress::Progress;
use super::report::Report;

/// Flags of `bench modules`.
#[derive(Args)]
pub struct Modules {
    /// Model directory in Hugging Face layout; the bundled tiny model without it.
    #[arg(long, value_name = "DIR", conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Shape instead of a model: its modules are composed from measured operations and counts, none is run.
    #[arg(long)]
    shape: Option<String>,
    /// n16, or test (N = 2^12, insecure).
    #[arg(long, visible_alias = "params", default_value = "n16")]
    preset: String,
    /// Tokens in the cache before the new one.
    #[arg(long, default_value_t = 15)]
    cached: usize,
    /// Tokens the cache is laid out for.
    #[arg(long, default_value_t = 32)]
    context: usize,
    /// Times everything is run; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Every how many levels operations and modules are measured; between them costs are interpolated.
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Do not run a decode step beside the prediction.
    #[arg(long)]
    skip_layer: bool,
    /// Write the costs here.
    #[arg(long, short = 'o', visible_alias = "output", value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A stretch of a layer between two bootstraps: the bootstrap before it, and what follows.
#[derive(Serialize)]
struct Stretch {
    ends_at: &'static str,
    measured_s: f64,
    predicted_s: f64,
}

/// A decoder layer as it ran, beside what the costs say.
#[derive(Serialize)]
struct LayerCheck {
    measured_s: f64,
    predicted_s: f64,
    ratio: f64,
    within_20_percent: bool,
    /// A layer in the steady state of the plan that the solver makes from the same costs.
    solver_s: f64,
    solver_bootstraps: f64,
    decoder_bootstraps: usize,
    stretches: Vec<Stretch>,
}

#[derive(Serialize)]
struct Body {
    cached: usize,
    context: usize,
    rounds: usize,
    threads: usize,
    peak_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer_check: Option<LayerCheck>,
    #[serde(flatten)]
    costs: CostFile,
}

/// A model as far as timing needs it.
struct Subject {
    fingerprint: String,
    decoder: Decoder,
    /// The layer whose steps are timed, the last.
    layer: usize,
    template: LayerTemplate,
    /// Its bootstraps by hand.
    refreshes: Vec<Refresh>,
    /// Tokens in the cache before the new one.
    cached: usize,
}

/// What everything is timed on.
struct Bench {
    client: NativeClient,
    evaluator: NativeEvaluator,
    summary: BootstrapSummary,
    rounds: usize,
}

impl Modules {
    /// Measures, prints, writes.
    pub fn run(self) -> anyhow::Result<()> {
        if self.rounds == 0 || self.every == 0 {
            bail!("--rounds and --every must be at least 1");
        }
        let (parameters, insecure) = match self.preset.as_str() {
            "n16" => (BootstrapParameters::n16(), false),
            "test" => (BootstrapParameters::test(12, 13), true),
            other => bail!("no preset `{other}`: use n16 or test"),
        };
        if insecure {
            eprintln!("warning: preset `test` is insecure");
        }
        let summary = BootstrapSummary {
            output_level: Level(parameters.output_level()),
            minimum_input_level: Level(parameters.minimum_input_level()),
            bound: parameters.bound.min(1.0),
        };
        let client = NativeClient::with_bootstrapping(parameters, None)?;
        let subject = match &self.shape {
            Some(_) => None,
            None => Some(self.subject(&client, summary)?),
        };
        let evaluator = self.evaluator(&client, summary, subject.as_ref())?;
        let bench = Bench { client, evaluator, summary, rounds: self.rounds };
        let operations = bench.operations(self.every)?;
        let bootstraps = bench.bootstraps(self.every)?;
        let mut costs = CostFile {
            operations,
            bootstraps,
            minimum_input_level: summary.minimum_input_level,
            modules: Vec::new(),
            layer: None,
            provenance: format!(
                "`bench modules` on native under {}, medians of {} with {} threads",
                self.preset,
                self.rounds,
                rayon::current_num_threads()
            ),
        };
        let mut layer_check = None;
        match (&subject, &self.shape) {
            (Some(subject), _) => {
                costs.modules = bench.modules(subject, self.every)?;
                costs.layer = Some(MeasuredLayer {
                    model: subject.fingerprint.clone(),
                    layers: subject.decoder.config().num_hidden_layers,
                    template: subject.template.clone(),
                });
                if !self.skip_layer {
                    layer_check = Some(bench.layer(subject, &costs)?);
                }
            }
            (None, Some(shape)) => costs.modules = self.composed(shape, &bench, &costs)?,
            (None, None) => {}
        }
        print_modules(&costs.modules);
        if let Some(check) = &layer_check {
            print_check(check);
        }
        if let Some(path) = &self.json {
            let body = Body {
                cached: self.cached,
                context: self.context,
                rounds: self.rounds,
                threads: rayon::current_num_threads(),
                peak_bytes: peak_memory_bytes(),
                layer_check,
                costs,
            };
            Report::new("bench modules", "native", &self.preset, insecure, body).write(path)?;
        }
        Ok(())
    }

    fn subject(&self, client: &NativeClient, summary: BootstrapSummary) -> anyhow::Result<Subject> {
        let bundled;
        let directory = match &self.model {
            Some(directory) => directory.clone(),
            None => {
                bundled = unpack_bundled_model()?;
                bundled.path().to_owned()
            }
        };
        let prepared = PreparedModel::read(&directory)?;
        let config = prepared.model.config();
        let table = calibration(&prepared, &directory)?;
        let ranges = DecoderRanges::from_calibration(&table, config, &prepared.prefix_cache)?;
        let plan = DecoderPlan::new(config, &ranges, Accuracy::default(), summary)?;
        let weights = Weights::open(&directory, config)?;
        let (layer, cached) = (config.num_hidden_layers.saturating_sub(1), self.cached);
        let decoder = Decoder::new(&weights, plan, client.slots(), self.context)?;
        let chain = client.ckks().parameters().chain();
        let mut counter = StepCounter::new(&decoder, chain, summary, cached, 1)?;
        let (template, refreshes) = (counter.template(layer)?, counter.refreshes(layer)?);
        let fingerprint = prepared.model.fingerprint();
        Ok(Subject { fingerprint, decoder, layer, template, refreshes, cached })
    }

    fn evaluator(
        &self,
        client: &NativeClient,
        summary: BootstrapSummary,
        subject: Option<&Subject>,
    ) -> anyhow::Result<NativeEvaluator> {
        let (chain, top) = (client.ckks().parameters().chain(), summary.output_level);
        let mut request = KeyRequest::new();
        request.rotations(&HOISTED, client.slots(), top).relinearization(top).conjugation(top);
        request.bootstrapping(client.slots());
        if let Some(subject) = subject {
            let mut counter = StepCounter::new(&subject.decoder, chain, summary, subject.cached, 1)?;
            request.merge(&counter.keys(subject.layer)?);
            request.merge(&plan_keys(&subject.decoder, chain, summary, 1)?.request);
        }
        let key_bytes = client.predicted_key_bytes(&request)?;
        let needed_bytes = key_bytes + key_bytes / 8 + 60_000 * client.slots() as u64;
        eprintln!("{} rotation keys, {:.2} GB of keys", request.rotations.len(), key_bytes as f64 / 1e9);
        if let Some(available_bytes) = available_memory_bytes()
            && available_bytes < needed_bytes
        {
            let operation = "bench modules";
            return Err(crate::Error::Memory { operation, needed_bytes, available_bytes }.into());
        }
        Ok(client.evaluator(&request)?)
    }

    fn composed(&self, shape: &str, bench: &Bench, costs: &CostFile) -> anyhow::Result<Vec<ModuleRow>> {
        let shape = ModelShape::named(shape)?;
        let operations = costs.operation_costs()?;
        let layer =
            own_layer(&shape, bench.client.slots(), self.cached + 1, false, &costs.bootstrap_costs()?)?;
        let graph =
            layer.graph(&Prices { operations: &operations, file: None }, bench.summary.output_level)?;
        let rows = graph.operations().iter().flat_map(|operation| {
            operation.runs().map(|(level, seconds)| ModuleRow {
                module: operation.name.clone(),
                level,
                seconds,
                source: Source::Composed,
            })
        });
        Ok(rows.collect())
    }
}

/// Every `every`-th level from `low` to `high`, both included.
fn levels(low: usize, high: usize, every: usize) -> Vec<usize> {
    let mut levels: Vec<usize> = (low..=high).rev().step_by(every).collect();
    if levels.last() != Some(&low) && low <= high {
        levels.push(low);
    }
    levels
}

impl Bench {
    fn zero(&self, level: Level) -> crate::Result<<NativeEvaluator as Evaluator>::Ciphertext> {
        self.client.encrypt(&[Complex64::ZERO], level)
    }

    fn timed<T>(&self, mut run: impl FnMut() -> crate::Result<T>) -> crate::Result<f64> {
        let mut samples = Vec::with_capacity(self.rounds);
        for _ in 0..self.rounds {
            let start = Instant::now();
            run()?;
            samples.push(start.elapsed().as_secs_f64());
        }
        Ok(median(&samples))
    }

    fn operations(&self, every: usize) -> anyhow::Result<Vec<OperationRow>> {
        let mut rows = Vec::new();
        let (mut progress, all) = (Progress::default(), levels(1, self.summary.output_level.0, every));
        for (done, level) in all.iter().enumerate() {
            progress.show("operations, level", done, all.len());
            for (op, samples) in measure(&self.client, self.evaluator.levelled(), Level(*level), self.rounds)?
            {
                let Some(primitive) = Primitive::from_name(op) else { continue };
                let share = if primitive == Primitive::RotateHoisted { HOISTED.len() as f64 } else { 1.0 };
                rows.push(OperationRow {
                    op: primitive.name().to_owned(),
                    level: Level(*level),
                    seconds: median(&samples) / 1e3 / share,
                    source: Source::Measured,
                });
            }
            let zero = self.zero(Level(*level))?;
            rows.push(OperationRow {
                op: Primitive::Conjugate.name().to_owned(),
                level: Level(*level),
                seconds: self.timed(|| self.evaluator.conjugate(&zero))?,
                source: Source::Measured,
            });
        }
        progress.clear();
        Ok(rows)
    }

    /// Measured every `every` levels above the lowest input level; each level between takes the figure of the next
    /// higher one.
    fn bootstraps(&self, every: usize) -> anyhow::Result<Vec<BootstrapRow>> {
        let (low, high) = (self.summary.minimum_input_level, self.summary.output_level.0);
        let mut rows: Vec<BootstrapRow> = Vec::new();
        let (mut progress, all) = (Progress::default(), levels(low.0 + 1, high, every));
        let x = self.zero(low)?;
        for (done, level) in all.iter().enumerate() {
            progress.show("bootstraps, level", done, all.len());
            let request = BootstrapRequest {
                level: Level(*level),
                slots: self.client.slots(),
                iterations: 1,
                real: false,
            };
            let seconds = self.timed(|| self.evaluator.bootstrap(&x, request))?;
            let real = BootstrapRequest { real: true, ..request };
            let real_seconds = Some(self.timed(|| self.evaluator.bootstrap(&x, real))?);
            rows.push(BootstrapRow { level: Level(*level), seconds, real_seconds, source: Source::Measured });
        }
        progress.clear();
        for level in 0..=high {
            let next = rows
                .iter()
                .filter(|row| row.source == Source::Measured && row.level.0 >= level)
                .min_by_key(|row| row.level)
                .copied();
            if let Some(next) = next.filter(|next| next.level.0 != level) {
                rows.push(BootstrapRow { level: Level(level), source: Source::Substituted, ..next });
            }
        }
        Ok(rows)
    }

    fn modules(&self, subject: &Subject, every: usize) -> anyhow::Result<Vec<ModuleRow>> {
        let mut rows = Vec::new();
        let mut progress = Progress::default();
        let chain = self.client.ckks().parameters().chain();
        let mut counter = StepCounter::new(&subject.decoder, chain, self.summary, subject.cached, 1)?;
        for (done, step) in Step::LAYER.into_iter().enumerate() {
            progress.show("modules", done, Step::LAYER.len());
            let operation =
                subject.template.operations.iter().find(|operation| operation.name == step.name());
            let operation = operation.with_context(|| format!("no step {}", step.name()))?;
            let above = operation.reads.iter().map(|read| read.above).max().unwrap_or(0);
            let high = operation.levels.end().saturating_sub(above);
            let mut points: Vec<(usize, f64)> = Vec::new();
            for level in levels(*operation.levels.start(), high, every) {
                let mut prepared =
                    counter.prepare(subject.layer, step, Level(level), &|level| self.zero(level))?;
                points.push((level, self.timed(|| prepared.run(&self.evaluator))?));
            }
            rows.extend(filled(step.name(), &points));
        }
        progress.clear();
        Ok(rows)
    }

    /// One layer of a decode step, from the tensor before its last bootstrap to the same in the next layer.
    fn layer(&self, subject: &Subject, costs: &CostFile) -> anyhow::Result<LayerCheck> {
        let decoder = &subject.decoder;
        let layers = decoder.config().num_hidden_layers;
        if layers < 2 {
            bail!("a model of one layer has no layer between two: use --skip-layer");
        }
        let state = decoder.filled_state(subject.cached, |level| self.zero(level))?;
        let x = self.zero(decoder.plan().input_level)?;
        let mut runs: Vec<Vec<(&'static str, f64)>> = Vec::new();
        for round in 0..self.rounds {
            eprintln!("decode step {} of {}", round + 1, self.rounds);
            let (mut state, mut last, mut stretches) = (state.clone(), Instant::now(), Vec::new());
            decoder.step(&self.evaluator, &mut state, &x, true, &mut |progress, _| {
                // A stretch begins with a bootstrap and ends before the next one.
                if progress.refreshed {
                    return;
                }
                let now = Instant::now();
                if progress.layer + 1 == layers {
                    stretches.push((progress.stage, (now - last).as_secs_f64()));
                }
                last = now;
            })?;
            runs.push(stretches);
        }
        let prices = Prices { operations: &costs.operation_costs()?, file: Some(costs) };
        let (bootstraps, top) = (costs.bootstrap_costs()?, self.summary.output_level);
        let graph = subject.template.graph(&prices, top)?;
        let by_hand = run_in_order(&graph, &bootstraps, top, &subject.refreshes)?;
        let predicted = predicted_stretches(&by_hand);
        let stretches: Vec<Stretch> = runs
            .first()
            .context("no decode step was run")?
            .iter()
            .zip(predicted)
            .enumerate()
            .map(|(index, ((stage, _), predicted_s))| {
                let samples: Vec<f64> =
                    runs.iter().filter_map(|run| run.get(index)).map(|(_, seconds)| *seconds).collect();
                // The first stretch begins with the bootstrap of the layer before: the same as this layer's last.
                let last = if index == 0 { by_hand.seconds - steps_seconds(&by_hand) } else { 0.0 };
                Stretch { ends_at: stage, measured_s: median(&samples), predicted_s: predicted_s + last }
            })
            .collect();
        let measured_s: f64 = stretches.iter().map(|stretch| stretch.measured_s).sum();
        let planned = place(&vec![&graph; layers], &bootstraps, top, Search::Exact)?;
        let ratio = by_hand.seconds / measured_s;
        Ok(LayerCheck {
            measured_s,
            predicted_s: by_hand.seconds,
            ratio,
            within_20_percent: (0.8..=1.2).contains(&ratio),
            solver_s: planned.iter().map(|solution| solution.seconds).sum::<f64>() / layers as f64,
            solver_bootstraps: planned.iter().map(Solution::bootstraps).sum::<usize>() as f64 / layers as f64,
            decoder_bootstraps: by_hand.bootstraps() + 1,
            stretches,
        })
    }
}

/// Seconds of all steps and the bootstraps before them.
fn steps_seconds(solution: &Solution) -> f64 {
    predicted_stretches(solution).iter().sum()
}

/// Seconds between the bootstraps of a layer, each with the bootstrap it begins with.
fn predicted_stretches(solution: &Solution) -> Vec<f64> {
    let mut stretches = vec![0.0];
    for step in &solution.steps {
        if !step.bootstraps.is_empty() {
            stretches.push(step.bootstraps.iter().map(|bootstrap| bootstrap.seconds).sum());
        }
        if let Some(last) = stretches.last_mut() {
            *last += step.seconds;
        }
    }
    stretches
}

/// Rows at every level between measured ones, on the straight line through its neighbours.
fn filled(module: &str, points: &[(usize, f64)]) -> Vec<ModuleRow> {
    let row = |level: usize, seconds: f64, source| ModuleRow {
        module: module.to_owned(),
        level: Level(level),
        seconds,
        source,
    };
    let mut rows: Vec<ModuleRow> =
        points.iter().map(|(level, seconds)| row(*level, *seconds, Source::Measured)).collect();
    for pair in points.windows(2) {
        if let [(high, above), (low, below)] = pair {
            for level in low + 1..*high {
                let along = (level - low) as f64 / (high - low) as f64;
                rows.push(row(level, below + along * (above - below), Source::Interpolated));
            }
        }
    }
    rows
}

/// Seconds by level, a line a module.
fn print_modules(rows: &[ModuleRow]) {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.module.as_str()) {
            names.push(&row.module);
        }
    }
    println!("seconds of a module by the level at which it runs:");
    for name in names {
        let mut of_module: Vec<&ModuleRow> = rows.iter().filter(|row| row.module == name).collect();
        of_module.sort_by_key(|row| row.level);
        let text: Vec<String> =
            of_module.iter().map(|row| format!("{}: {:.3}", row.level, row.seconds)).collect();
        println!("{name:28} {}", text.join("  "));
    }
}

fn print_check(check: &LayerCheck) {
    println!("one layer of a decode step, by stretches that begin with a bootstrap:");
    for stretch in &check.stretches {
        println!(
            "  to {:18} measured {:8.3} s, predicted {:8.3} s",
            stretch.ends_at, stretch.measured_s, stretch.predicted_s
        );
    }
    println!(
        "layer: measured {:.3} s, predicted {:.3} s ({:.1} % of it{}); {} bootstraps by hand",
        check.measured_s,
        check.predicted_s,
        100.0 * check.ratio,
        if check.within_20_percent { "" } else { ", NOT within 20 %" },
        check.decoder_bootstraps
    );
    println!(
        "the solver's plan from the same costs: {:.3} s and {:.2} bootstraps a layer",
        check.solver_s, check.solver_bootstraps
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_between_measured_ones_lie_on_a_line_and_both_ends_are_measured() {
        assert_eq!(levels(2, 9, 3), [9, 6, 3, 2]);
        assert_eq!(levels(2, 8, 3), [8, 5, 2]);
        let rows = filled("qkv", &[(6, 5.0), (3, 2.0)]);
        let found: Vec<(usize, f64, Source)> =
            rows.iter().map(|row| (row.level.0, row.seconds, row.source)).collect();
        let (measured, between) = (Source::Measured, Source::Interpolated);
        assert_eq!(found, [(6, 5.0, measured), (3, 2.0, measured), (4, 3.0, between), (5, 4.0, between)]);
    }
}
