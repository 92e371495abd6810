//! What the encrypted decoder runs by: the functions of every layer ([`crate::decoder::functions`]), where they
//! bootstrap and at which levels they run.
//!
//! A plan is made from ranges ([`crate::calibration::ranges`]) and the levels a bootstrap gives, with bootstraps
//! placed by hand (`decoder::by_hand`). A placement ([`crate::decoder::placement`]) then moves them
//! ([`DecoderPlan::placed`]).

use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::contract::{BootstrapSummary, Error, Level, Result};
use crate::placement::Plan;

use crate::calibration::ranges::DecoderRanges;
use crate::decoder::by_hand::{norm_levels, too_deep};
use crate::decoder::functions::fit_norm;
use crate::decoder::head_side::HeadSide;
use crate::decoder::schedule::{LayerSchedule, Refresh};
use crate::decoder::step::Step;
use crate::model::config::LlamaConfig;

pub use crate::decoder::accuracy::Accuracy;
use crate::decoder::functions::LayerFunctions;

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
    /// Levels at which it runs: those of the steps of an input norm.
    pub final_schedule: LayerSchedule,
    /// Which side applies the output head.
    pub head: HeadSide,
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
    /// [`Error::Plan`] when the ranges belong to another model, a function cannot be approximated, or a stretch
    /// between two bootstraps needs more levels than one gives.
    pub fn new(
        config: &LlamaConfig,
        ranges: &DecoderRanges,
        accuracy: Accuracy,
        bootstrap: BootstrapSummary,
    ) -> Result<Self> {
        ranges.check(config)?;
        let layers = ranges
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| LayerFunctions::fit(index, layer, accuracy, bootstrap))
            .collect::<Result<_>>()?;
        let final_norm = fit_norm(ranges.final_norm, accuracy.final_norm)?;
        let room = bootstrap.output_level.0.saturating_sub(bootstrap.minimum_input_level.0);
        let needed = norm_levels(final_norm.levels());
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

    /// This plan with the output head on `side`.
    ///
    /// # Errors
    /// [`Error::Plan`] when the final norm leaves it no level.
    pub fn with_head(mut self, side: HeadSide) -> Result<Self> {
        let needed = norm_levels(self.final_norm.levels()) + side.level().0;
        if needed > self.highest.0 {
            return Err(too_deep("final norm and output head", needed, self.highest.0));
        }
        self.head = side;
        Ok(self)
    }

    /// This plan with its functions at the levels of `placement`, bootstrapped where it says; a placement holds the
    /// layers and then the final norm.
    ///
    /// # Errors
    /// [`Error::Plan`] when it has another number of layers, does not hold every step, or bootstraps where the
    /// decoder cannot. (Levels that do not fit show in [`crate::decoder::keys::plan_keys`], before any key is made.)
    pub fn placed(mut self, placement: &Plan) -> Result<Self> {
        let refuse = |why: String| Error::Plan { why, remedy: "make a plan for this model".to_owned() };
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
            let run = |step: Step| {
                let missing = || refuse(format!("layer {index} has no step `{}`", step.name()));
                schedule.level(step).ok_or_else(missing)
            };
            for step in Step::LAYER {
                run(step)?;
            }
            (layer.key_level, layer.value_level) = (run(Step::Scores)?, run(Step::Values)?);
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
        let level = |step: Step| self.schedule.level(step).map(|level| level.0);
        let above = |upper: Step, depth: usize, lower: Step| match (level(upper), level(lower)) {
            (Some(upper), Some(lower)) => upper > lower + depth,
            _ => true,
        };
        let normed = match self.schedule.refresh(Step::QueryKeyValue) {
            Some(refresh) => refresh.level.0 + refresh.iterations <= highest.0,
            None => true,
        };
        let softmax = &self.attention.softmax;
        normed
            && above(Step::Exponential, softmax.exponential.levels(), Step::Values)
            && above(Step::DivideLast, softmax.after.steps.len(), Step::Output)
    }
}
