//! What the encrypted decoder computes at each site: approximations, scales, bootstrap points and their levels.
//!
//! A plan is made from ranges ([`crate::calibration::ranges`]) and the levels a bootstrap gives. Its bootstrap points are at
//! first placed by hand, five in a layer: scores; numerator with the half-iterated denominator; residual after attention;
//! up + i·gate; residual after the MLP. A layer with a deep input norm has a sixth, behind that norm. A placement
//! ([`crate::decoder::placement`]) then moves them ([`DecoderPlan::placed`]).

use crate::circuits::approximation::{Approximation, Interval};
use crate::circuits::exp::Exponential;
use crate::circuits::inverse::RelaxedInverse;
use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::circuits::silu::{fit_silu, silu};
use crate::circuits::softmax::DeferredSoftmax;
use crate::contract::{BootstrapSummary, Error, Level, Result};
use crate::placement::Plan;

use crate::calibration::ranges::{DecoderRanges, LayerRanges};
use crate::decoder::head::HeadSide;
use crate::decoder::schedule::{LayerSchedule, Refresh};
use crate::decoder::step::Step as Module;
use crate::model::config::LlamaConfig;

/// Largest error each function may make.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Accuracy {
    /// Norms inside the layers, relative.
    pub norm: f64,
    /// Norm before the output head, relative: it scales every logit.
    pub final_norm: f64,
    /// exp, relative, down to the smallest denominator.
    pub exponential: f64,
    /// 1/D, relative.
    pub inverse: f64,
    /// SiLU, absolute.
    pub silu: f64,
}

impl Default for Accuracy {
    fn default() -> Self {
        Self { norm: 3e-3, final_norm: 2e-4, exponential: 1e-3, inverse: 1e-3, silu: 1e-3 }
    }
}

/// Softmax of one layer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AttentionFunctions {
    /// exp and 1/D.
    pub softmax: DeferredSoftmax,
    /// Per head: w subtracted from the keys.
    pub shifts: Vec<Vec<f64>>,
    /// Per head: u, of which u ⊙ q is subtracted from the keys that q meets.
    pub square_shifts: Vec<Vec<f64>>,
    /// Per head: subtracted from the scores: b, and what makes the largest D of every head 1.
    pub offsets: Vec<f64>,
    /// The D (of exp normalised to 1 at the top of the scores) that counts as 1 in the inverse, the same in all heads.
    pub largest_denominator: f64,
    /// Per head: factor of the values, so that the numerator is at most 1 where it is bootstrapped.
    pub value_factors: Vec<f64>,
    /// Per head: what the quotient must be multiplied by; folded into the output projection.
    pub output_factors: Vec<f64>,
}

/// Functions and scales of one layer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LayerFunctions {
    /// Norm before attention.
    pub input_norm: InverseSquareRoot,
    /// Softmax.
    pub attention: AttentionFunctions,
    /// What each feature of the residual stream between attention and MLP is divided by.
    pub middle_residual: Vec<f64>,
    /// Norm before the MLP.
    pub post_norm: InverseSquareRoot,
    /// SiLU divided by `gate_peak`.
    pub gate: Approximation,
    /// Largest |SiLU| over the interval of the gates.
    pub gate_peak: f64,
    /// What the up projection is divided by.
    pub up: f64,
    /// What each feature of the residual stream after the layer is divided by.
    pub residual: Vec<f64>,
    /// Where it bootstraps, and at which levels it runs.
    pub schedule: LayerSchedule,
    /// Level of the cached keys.
    pub key_level: Level,
    /// Level of the cached values.
    pub value_level: Level,
    /// Levels by which the denominator stands above the numerator where their iterations begin.
    pub division_gap: usize,
}

/// Everything the decoder computes apart from its weights.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DecoderPlan {
    /// What the embeddings are divided by.
    pub embedding: f64,
    /// Level at which embeddings are encrypted.
    pub input_level: Level,
    /// Level that a bootstrap gives at most.
    pub highest: Level,
    /// The layers.
    pub layers: Vec<LayerFunctions>,
    /// Norm before the output head.
    pub final_norm: InverseSquareRoot,
    /// Levels at which it runs: those of the modules of an input norm.
    pub final_schedule: LayerSchedule,
    /// Which side applies the output head.
    pub head: HeadSide,
}

/// Levels a norm takes: mask, square, polynomial, product.
fn norm_levels(norm: &InverseSquareRoot) -> usize {
    3 + norm.levels()
}

impl DecoderPlan {
    /// What each feature of the residual stream is divided by where layer `index` is entered, or the final norm.
    pub(crate) fn entering(&self, index: usize, hidden_size: usize) -> Vec<f64> {
        let before = index.checked_sub(1).and_then(|before| self.layers.get(before));
        before.map_or_else(|| vec![self.embedding; hidden_size], |before| before.residual.clone())
    }

    /// Plan for a model of shape `config` under bootstraps of `bootstrap`.
    ///
    /// # Errors
    /// [`Error::Plan`] when the ranges belong to another model, a function cannot be approximated, or a stretch between
    /// two bootstraps needs more levels than one gives.
    pub fn new(
        config: &LlamaConfig,
        ranges: &DecoderRanges,
        accuracy: Accuracy,
        bootstrap: BootstrapSummary,
    ) -> Result<Self> {
        ranges.check(config.num_hidden_layers, config.num_attention_heads, config.head_dim)?;
        let streams = ranges.layers.iter().flat_map(|layer| [&layer.middle_residual, &layer.residual]);
        if let Some(bounds) = streams.into_iter().find(|bounds| bounds.len() != config.hidden_size) {
            return Err(Error::Plan {
                why: format!("bounds of {} features, the model has {}", bounds.len(), config.hidden_size),
                remedy: "calibrate this model: cachemir calibrate --model DIR".to_owned(),
            });
        }
        let layers = ranges
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| LayerFunctions::new(config, index, layer, accuracy, bootstrap))
            .collect::<Result<_>>()?;
        let final_norm = norm(ranges.final_norm, config.rms_norm_eps, accuracy.final_norm)?;
        let room = bootstrap.output_level.0.saturating_sub(bootstrap.minimum_input_level.0);
        let needed = norm_levels(&final_norm);
        if needed > bootstrap.output_level.0 {
            return Err(too_deep("final norm", needed, room));
        }
        Ok(Self {
            embedding: ranges.embedding,
            input_level: bootstrap.output_level,
            highest: bootstrap.output_level,
            layers,
            final_norm,
            final_schedule: LayerSchedule::default(),
            head: HeadSide::Client,
        })
    }

    /// The same functions with the output head on `side`.
    ///
    /// # Errors
    /// [`Error::Plan`] when the final norm leaves it no level.
    pub fn with_head(mut self, side: HeadSide) -> Result<Self> {
        let needed = norm_levels(&self.final_norm) + side.level().0;
        if needed > self.highest.0 {
            return Err(too_deep("final norm and output head", needed, self.highest.0));
        }
        self.head = side;
        Ok(self)
    }

    /// The same functions at the levels of `placement`, bootstrapped where it says. The layers are followed by the final
    /// norm.
    ///
    /// # Errors
    /// [`Error::Plan`] when it has another number of layers, does not hold every module, or bootstraps where the decoder
    /// cannot. (Levels that do not fit show in [`crate::decoder::keys::plan_keys`], before any key is made.)
    pub fn placed(mut self, placement: &Plan) -> Result<Self> {
        let refuse = |why: String| Error::Plan {
            why,
            remedy: "make the plan for this model with `cachemir plan --model DIR`".to_owned(),
        };
        if placement.layers.len() != self.layers.len() + 1 {
            return Err(refuse(format!(
                "it has {} layers, the model has {} and a final norm",
                placement.layers.len(),
                self.layers.len()
            )));
        }
        // The bootstrap before a layer happens at the end of the one before it.
        let mut ends: Vec<Option<Refresh>> = Vec::with_capacity(placement.layers.len());
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let (schedule, before) = layer.schedule.placed(placement.layer(index)?)?;
            let run = |module: Module| {
                let missing = || refuse(format!("layer {index} has no module `{}`", module.name()));
                schedule.level(module).ok_or_else(missing)
            };
            for module in Module::LAYER {
                run(module)?;
            }
            (layer.key_level, layer.value_level) = (run(Module::Scores)?, run(Module::Values)?);
            layer.schedule = schedule;
            ends.push(before);
        }
        let (schedule, before) = self.final_schedule.placed(placement.layer(self.layers.len())?)?;
        self.final_schedule = schedule;
        ends.push(before);
        if ends.first().copied().flatten().is_some() {
            return Err(refuse("it bootstraps what enters the first layer".to_owned()));
        }
        for (layer, end) in self.layers.iter_mut().zip(ends.into_iter().skip(1)) {
            layer.schedule.residual = end;
        }
        self.input_level = placement.entry_level;
        Ok(self)
    }

    /// Bootstrap points of one whole decode step.
    #[must_use]
    pub fn refreshes_per_token(&self) -> usize {
        self.layers.iter().map(|layer| layer.schedule.refreshes().count()).sum()
    }

    /// Bootstraps of one whole decode step: the iterations of all its bootstrap points.
    #[must_use]
    pub fn bootstraps_per_token(&self) -> usize {
        let refreshes = self.layers.iter().flat_map(|layer| layer.schedule.refreshes());
        refreshes.map(|(_, refresh)| refresh.iterations).sum()
    }
}

impl LayerFunctions {
    /// Whether its levels leave one for each mask that takes the tokens of a wave apart, under bootstraps to at most
    /// `highest`: of what leaves the norm when that is bootstrapped, of the softmax's weights, and of its quotient.
    pub(crate) fn has_level_for_waves(&self, highest: Level) -> bool {
        // Levels of a plan by hand have them.
        let level = |module: Module| self.schedule.level(module).map(|level| level.0);
        let above = |upper: Module, depth: usize, lower: Module| match (level(upper), level(lower)) {
            (Some(upper), Some(lower)) => upper > lower + depth,
            _ => true,
        };
        let normed = match self.schedule.refresh(Module::QueryKeyValue) {
            Some(refresh) => refresh.level.0 + refresh.iterations <= highest.0,
            None => true,
        };
        let softmax = &self.attention.softmax;
        normed
            && above(Module::Exponential, softmax.exponential.levels(), Module::Values)
            && above(Module::DivideLast, softmax.after.steps.len(), Module::Output)
    }

    fn new(
        config: &LlamaConfig,
        index: usize,
        ranges: &LayerRanges,
        accuracy: Accuracy,
        bootstrap: BootstrapSummary,
    ) -> Result<Self> {
        let (top, bottom) = (bootstrap.output_level.0, bootstrap.minimum_input_level.0);
        let site = |name: &str| format!("layer {index} {name}");
        let input_norm = norm(ranges.input_norm, config.rms_norm_eps, accuracy.norm)?;
        let post_norm = norm(ranges.post_norm, config.rms_norm_eps, accuracy.norm)?;
        let gate_peak = silu(ranges.gate.high).abs().max(silu(ranges.gate.low).abs()).max(0.3);
        let gate = fit_silu(ranges.gate, accuracy.silu, gate_peak)?;
        let full = Refresh { level: bootstrap.output_level, iterations: 1 };
        // Product and RoPE (or the mask of the values) below the norm; below those the scores with their mask, or the
        // weighted values with theirs and one product.
        let fits = norm_levels(&input_norm) + 5 + bottom <= top;
        // Softmax weights meet the cached values at the values' level, so these need not stand above the weights.
        let exponential = SoftmaxExponential::new(ranges, accuracy)?;
        // One level more, for the mask that takes the tokens of a wave apart.
        let cache = if fits { norm_levels(&input_norm) + 2 } else { exponential.function.levels() + 1 };
        let stretches = [
            ("norm", norm_levels(&input_norm)),
            ("norm, projections and scores", cache + 3),
            ("norm and gate projections", norm_levels(&post_norm) + 2),
            ("SiLU and down projection", gate.levels() + 3),
        ];
        for (name, levels) in stretches {
            if levels + bottom > top {
                return Err(too_deep(&site(name), levels, top - bottom));
            }
        }
        let cache_level = Level(top - cache);
        // Above the cache: the mask that takes tokens apart, the product and RoPE.
        let level = Level((cache_level.0 + 3).min(top));
        let normed = (!fits).then_some(Refresh { level, iterations: 1 });
        let denominator_level = top.saturating_sub(exponential.function.levels() + 1);
        let division_gap = denominator_level.saturating_sub(cache_level.0.saturating_sub(2));
        let (attention, numerator) =
            AttentionFunctions::new(&site("softmax"), ranges, exponential, accuracy, bootstrap, cache_level)?;
        let gate_refresh = Refresh { level: Level(bottom + gate.levels() + 3), iterations: 1 };
        let refreshes = [
            (Module::QueryKeyValue, normed),
            (Module::Exponential, Some(full)),
            (Module::DivideLast, Some(numerator)),
            (Module::PostNormSquare, Some(full)),
            (Module::Activation, Some(gate_refresh)),
        ];
        let refreshes = refreshes.into_iter().filter_map(|(module, refresh)| Some((module, refresh?)));
        Ok(Self {
            input_norm,
            attention,
            middle_residual: ranges.middle_residual.clone(),
            post_norm,
            schedule: LayerSchedule::by_hand(refreshes, Some(full)),
            gate,
            gate_peak,
            up: ranges.up,
            residual: ranges.residual.clone(),
            key_level: cache_level,
            value_level: cache_level,
            division_gap,
        })
    }
}

/// exp of one layer's softmax, over the scores of all its heads.
struct SoftmaxExponential {
    function: Exponential,
    /// Scores, shifted so that the largest D of every head is 1.
    scores: Interval,
    /// How far below 1 a D may lie, in nats.
    widest: f64,
}

impl SoftmaxExponential {
    fn new(ranges: &LayerRanges, accuracy: Accuracy) -> Result<Self> {
        // Offsets put the largest D of every head at 1; no score exceeds the logarithm of its D.
        let heads = &ranges.heads;
        let shifted = |bound: fn(&Interval) -> f64| {
            heads.iter().map(move |head| bound(&head.scores) - head.log_denominator.high)
        };
        let scores = Interval::new(
            shifted(|scores| scores.low).fold(f64::INFINITY, f64::min),
            shifted(|scores| scores.high).fold(f64::NEG_INFINITY, f64::max),
        )?;
        let widths = heads.iter().map(|head| head.log_denominator.high - head.log_denominator.low);
        let widest = widths.fold(1.0, f64::max);
        let function = Exponential::fit_relative(scores, widest, accuracy.exponential)?;
        Ok(Self { function, scores, widest })
    }
}

impl AttentionFunctions {
    fn new(
        site: &str,
        ranges: &LayerRanges,
        exponential: SoftmaxExponential,
        accuracy: Accuracy,
        bootstrap: BootstrapSummary,
        cache_level: Level,
    ) -> Result<(Self, Refresh)> {
        let (top, bottom) = (bootstrap.output_level.0, bootstrap.minimum_input_level.0);
        let SoftmaxExponential { function: exponential, scores, widest } = exponential;
        let heads = &ranges.heads;
        // The denominators stand one level below exp; the numerator two below the cache. Factors wait for the
        // numerator when that is lower, which costs one level.
        let denominator = top
            .checked_sub(exponential.levels() + 1)
            .filter(|level| *level > bottom + 1)
            .ok_or_else(|| too_deep(site, exponential.levels() + 3, top - bottom))?;
        let numerator = cache_level.0.saturating_sub(2).min(denominator);
        let before = if numerator >= denominator { denominator - bottom } else { denominator - bottom - 1 };
        let low = (-widest).exp();
        let mut refresh = Refresh { level: bootstrap.output_level, iterations: 1 };
        let mut softmax = split_softmax(site, &exponential, low, accuracy.inverse, before, refresh, bottom)?;
        if softmax.after.low < SMALLEST_REFRESHED {
            refresh = Refresh { level: Level(top - 1), iterations: 2 };
            softmax = split_softmax(site, &exponential, low, accuracy.inverse, before, refresh, bottom)?;
        }
        let largest = (-scores.high).exp();
        let value_factors: Vec<f64> =
            heads.iter().map(|head| softmax.first_gain() / (largest * head.value)).collect();
        let output_factors = value_factors.iter().map(|factor| softmax.gain() / (largest * factor)).collect();
        let functions = Self {
            softmax,
            shifts: heads.iter().map(|head| head.shift.clone()).collect(),
            square_shifts: heads.iter().map(|head| head.square_shift.clone()).collect(),
            offsets: heads.iter().map(|head| head.offset + head.log_denominator.high).collect(),
            largest_denominator: largest,
            value_factors,
            output_factors,
        };
        Ok((functions, refresh))
    }
}

/// Below it a half-iterated denominator is refreshed in two iterations: a bootstrap is good for 19 bits in its worst slot
/// and 23 in the mean, and a denominator must come out of it with a relative error below 1/80 and 1/1000.
const SMALLEST_REFRESHED: f64 = 1.0 / 6000.0;

/// The softmax whose denominators range over [`low`, 1], with at most `before` iterations up to `refresh`.
fn split_softmax(
    site: &str,
    exponential: &Exponential,
    low: f64,
    error: f64,
    before: usize,
    refresh: Refresh,
    bottom: usize,
) -> Result<DeferredSoftmax> {
    // After the refresh: the iterations, the mask that takes the tokens of a wave apart, the output projection and its mask.
    let after = refresh.level.0.saturating_sub(bottom + 3);
    let iterations = RelaxedInverse::fit(low, error)?.steps.len().max(2);
    let (low, iterations) = if iterations <= before + after {
        (low, iterations)
    } else {
        // Too few levels for the whole interval: its lower end is given up, where the inverse then only
        // underestimates.
        let mut kept = low;
        while RelaxedInverse::new(kept, before + after)?.worst_error > error {
            kept *= 1.25;
            if kept > low * 1e3 {
                return Err(too_deep(site, iterations, before + after));
            }
        }
        (kept, before + after)
    };
    let before = before.min(iterations - 1);
    DeferredSoftmax::new(exponential.clone(), low, before, iterations - before)
}

/// 1/√ over the mean squares of `range`, ε included.
fn norm(range: Interval, epsilon: f64, accuracy: f64) -> Result<InverseSquareRoot> {
    InverseSquareRoot::polynomial(Interval::new(range.low + epsilon, range.high + epsilon)?, accuracy)
}

fn too_deep(site: &str, needed: usize, given: usize) -> Error {
    Error::Plan {
        why: format!("{site}: {needed} levels between two bootstraps, one gives {given}"),
        remedy: "use parameters with more levels after a bootstrap, or allow a larger error".to_owned(),
    }
}
