//! Seconds of every operation, bootstrap and step of a decoder layer, by level: the costs that placement reads.

use serde::Serialize;

use super::Observer;
use super::layer_times::LayerCheck;
use super::operations::{HOISTED_STEPS, operation_times};
use crate::backend::native::{NativeClient, NativeEvaluator};
use crate::bootstrapping::BootstrapParameters;
use crate::calibration::table::CalibrationTable;
use crate::contract::{
    BootstrapRequest, BootstrapSummary, Client, Complex64, Error, Evaluator, KeyRequest, Level, Result,
};
use crate::decoder::Decoder;
use crate::decoder::accuracy::Accuracy;
use crate::decoder::count::StepCounter;
use crate::decoder::keys::plan_keys;
use crate::decoder::plan::DecoderPlan;
use crate::decoder::step::Step;
use crate::measure::{Rounds, Statistics, check_memory, time};
use crate::model::prepared::PreparedModel;
use crate::model::weights::Weights;
use crate::placement::{
    BootstrapRow, CostFile, LayerTemplate, MeasuredLayer, ModuleRow, OperationRow, Prices, Primitive,
    Refresh, Source,
};
use crate::related_work::formulas::ModelShape;
use crate::related_work::own_layer;

/// Working memory of a decode step in bytes a slot, measured at N = 2^16.
const WORKING_BYTES_PER_SLOT: u64 = 60_000;

/// How much is measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ModuleCase {
    /// Tokens in the cache before the new one.
    pub cached: usize,
    /// Tokens the cache is laid out for.
    pub context: usize,
    /// Times everything is run; the median counts.
    pub rounds: usize,
    /// Every how many levels operations and steps are measured; between them costs are interpolated.
    #[serde(skip)]
    pub every: usize,
}

/// A model, as far as timing its steps needs it.
pub struct ModelModules {
    fingerprint: String,
    pub(super) decoder: Decoder,
    /// The layer whose steps are timed, the last.
    layer: usize,
    /// Bootstraps of that layer, placed by hand.
    pub(super) refreshes: Vec<Refresh>,
    pub(super) template: LayerTemplate,
}

/// What everything is timed on: keys for the operations, for bootstraps of all slots and for the decoder of a model.
pub struct ModuleBench {
    pub(super) client: NativeClient,
    pub(super) evaluator: NativeEvaluator,
    pub(super) summary: BootstrapSummary,
    pub(super) case: ModuleCase,
    pub(super) subject: Option<ModelModules>,
    preset: String,
}

/// The costs, and a layer beside them where a model was run.
#[derive(Debug, Serialize)]
pub struct ModuleCosts {
    /// One layer of a decode step beside what the costs predict for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_check: Option<LayerCheck>,
    /// The costs.
    #[serde(flatten)]
    pub costs: CostFile,
}

/// A model to be measured: prepared, calibrated, its weights open.
pub struct MeasuredModel<'a> {
    /// The model.
    pub prepared: &'a PreparedModel,
    /// Ranges that calibration saw of the model.
    pub calibration: &'a CalibrationTable,
    /// Weights of the model.
    pub weights: &'a Weights,
}

impl ModuleBench {
    /// Makes keys under `parameters`, which reports call `preset`; for the operations alone without a model.
    ///
    /// # Errors
    /// [`Error::Shape`] for 0 rounds or levels; [`Error::Memory`] when keys and working memory do not fit, before keys
    /// are made; what the decoder of the model returns.
    pub fn new(
        parameters: BootstrapParameters,
        preset: &str,
        case: ModuleCase,
        model: Option<&MeasuredModel<'_>>,
    ) -> Result<Self> {
        if case.rounds == 0 || case.every == 0 {
            return Err(Error::Shape {
                operation: "bench modules",
                what: format!("{} rounds at every {} levels", case.rounds, case.every),
                remedy: "give at least 1 of each".to_owned(),
            });
        }
        let summary = BootstrapSummary { bound: parameters.bound.min(1.0), ..parameters.summary() };
        let client = NativeClient::with_bootstrapping(parameters, None)?;
        let subject = model.map(|model| model_modules(model, &client, summary, case)).transpose()?;
        let (chain, top) = (client.ckks().parameters().chain(), summary.output_level);
        let mut request = KeyRequest::new();
        request.rotations(&HOISTED_STEPS, client.slots(), top).relinearization(top).conjugation(top);
        request.bootstrapping(client.slots());
        if let Some(subject) = &subject {
            let mut counter = StepCounter::new(&subject.decoder, chain, summary, case.cached, 1)?;
            request.merge(&counter.keys(subject.layer)?);
            request.merge(&plan_keys(&subject.decoder, chain, summary, 1)?.request);
        }
        let key_bytes = client.predicted_key_bytes(&request)?;
        let working_bytes = key_bytes / 8 + WORKING_BYTES_PER_SLOT * client.slots() as u64;
        check_memory("bench modules", key_bytes + working_bytes)?;
        let evaluator = client.evaluator(&request)?;
        Ok(Self { client, evaluator, summary, case, subject, preset: preset.to_owned() })
    }

    /// Measures operations, bootstraps and the steps of the model, and compares a decode step with them unless
    /// `skip_layer`.
    ///
    /// # Errors
    /// What the operations return.
    pub fn costs(&self, skip_layer: bool, observer: &mut Observer<'_>) -> Result<ModuleCosts> {
        let mut costs = CostFile {
            operations: self.operations(observer)?,
            bootstraps: self.bootstraps(observer)?,
            minimum_input_level: self.summary.minimum_input_level,
            modules: Vec::new(),
            layer: None,
            provenance: format!(
                "`bench modules` on native under {}, medians of {} with {} threads",
                self.preset,
                self.case.rounds,
                rayon::current_num_threads()
            ),
        };
        let mut layer_check = None;
        if let Some(subject) = &self.subject {
            costs.modules = self.modules(subject, observer)?;
            costs.layer = Some(MeasuredLayer {
                model: subject.fingerprint.clone(),
                layers: subject.decoder.config().num_hidden_layers,
                template: subject.template.clone(),
            });
            if !skip_layer {
                layer_check = Some(self.layer(subject, &costs, observer)?);
            }
        }
        Ok(ModuleCosts { layer_check, costs })
    }

    /// The steps of a shape by level, composed from the operations of `costs` and counts; none is run.
    ///
    /// # Errors
    /// [`Error::Shape`] for a shape that does not fit the slots; [`Error::Format`] for costs without an operation.
    pub fn composed(&self, shape: &ModelShape, costs: &CostFile) -> Result<Vec<ModuleRow>> {
        let operations = costs.operation_costs()?;
        let (slots, tokens) = (self.client.slots(), self.case.cached + 1);
        let layer = own_layer(shape, slots, tokens, false, &costs.bootstrap_costs()?)?;
        let prices = Prices { operations: &operations, file: None };
        let graph = layer.graph(&prices, self.summary.output_level)?;
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

    /// A fresh encryption of zero: times do not depend on the values.
    pub(super) fn zero(&self, level: Level) -> Result<<NativeEvaluator as Evaluator>::Ciphertext> {
        self.client.encrypt(&[Complex64::ZERO], level)
    }

    /// Median seconds of the rounds.
    fn timed<T>(&self, run: impl FnMut() -> Result<T>) -> Result<f64> {
        let (timings, _) = time(Rounds { untimed: 0, timed: self.case.rounds }, run)?;
        Ok(Statistics::of(&timings.seconds)?.median)
    }

    fn operations(&self, observer: &mut Observer<'_>) -> Result<Vec<OperationRow>> {
        let mut rows = Vec::new();
        let all = levels(1, self.summary.output_level.0, self.case.every);
        for (done, level) in all.iter().enumerate() {
            observer("operations, level", done, all.len());
            let level = Level(*level);
            let row = |primitive: Primitive, seconds| OperationRow {
                op: primitive.name().to_owned(),
                level,
                seconds,
                source: Source::Measured,
            };
            for time in operation_times(&self.client, self.evaluator.levelled(), level, self.case.rounds)? {
                let primitive = Primitive::from_name(time.op);
                rows.extend(primitive.map(|primitive| row(primitive, time.seconds.median)));
            }
            let zero = self.zero(level)?;
            rows.push(row(Primitive::Conjugate, self.timed(|| self.evaluator.conjugate(&zero))?));
        }
        Ok(rows)
    }

    /// Measured every few levels above the lowest input level; each level between takes the figure of the next higher
    /// one.
    fn bootstraps(&self, observer: &mut Observer<'_>) -> Result<Vec<BootstrapRow>> {
        let (low, high) = (self.summary.minimum_input_level, self.summary.output_level.0);
        let mut rows: Vec<BootstrapRow> = Vec::new();
        let all = levels(low.0 + 1, high, self.case.every);
        let x = self.zero(low)?;
        for (done, level) in all.iter().enumerate() {
            observer("bootstraps, level", done, all.len());
            let (level, slots) = (Level(*level), self.client.slots());
            let request = BootstrapRequest::all(level, slots);
            let seconds = self.timed(|| self.evaluator.bootstrap(&x, &request))?;
            let real = request.real(true);
            let real_seconds = Some(self.timed(|| self.evaluator.bootstrap(&x, &real))?);
            rows.push(BootstrapRow { level, seconds, real_seconds, source: Source::Measured });
        }
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

    fn modules(&self, subject: &ModelModules, observer: &mut Observer<'_>) -> Result<Vec<ModuleRow>> {
        let mut rows = Vec::new();
        let chain = self.client.ckks().parameters().chain();
        let mut counter = StepCounter::new(&subject.decoder, chain, self.summary, self.case.cached, 1)?;
        for (done, step) in Step::LAYER.into_iter().enumerate() {
            observer("steps", done, Step::LAYER.len());
            let mut operations = subject.template.operations.iter();
            let operation = operations
                .find(|operation| operation.name == step.name())
                .ok_or_else(|| Error::Internal(format!("no step {} in the layer", step.name())))?;
            let above = operation.reads.iter().map(|read| read.above).max().unwrap_or(0);
            let high = operation.levels.end().saturating_sub(above);
            let mut points: Vec<(usize, f64)> = Vec::new();
            for level in levels(*operation.levels.start(), high, self.case.every) {
                let zero = |level| self.zero(level);
                let mut prepared = counter.prepare(subject.layer, step, Level(level), &zero)?;
                points.push((level, self.timed(|| prepared.run(&self.evaluator))?));
            }
            rows.extend(filled(step.name(), &points));
        }
        Ok(rows)
    }
}

/// The last layer of the model with its decoder under hand placement.
fn model_modules(
    model: &MeasuredModel<'_>,
    client: &NativeClient,
    summary: BootstrapSummary,
    case: ModuleCase,
) -> Result<ModelModules> {
    let prepared = model.prepared;
    let config = prepared.model.config();
    let plan = DecoderPlan::new(config, &model.calibration.ranges, Accuracy::default(), summary)?;
    let layer = config.num_hidden_layers.saturating_sub(1);
    let decoder = Decoder::new(model.weights, plan, client.slots(), case.context)?;
    let chain = client.ckks().parameters().chain();
    let mut counter = StepCounter::new(&decoder, chain, summary, case.cached, 1)?;
    let (template, refreshes) = (counter.template(layer)?, counter.refreshes(layer)?);
    Ok(ModelModules { fingerprint: prepared.model.fingerprint(), decoder, layer, refreshes, template })
}

/// Every `every`-th level from `high` down to `low`, both included.
fn levels(low: usize, high: usize, every: usize) -> Vec<usize> {
    let mut levels: Vec<usize> = (low..=high).rev().step_by(every).collect();
    if levels.last() != Some(&low) && low <= high {
        levels.push(low);
    }
    levels
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
