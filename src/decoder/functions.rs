//! The functions of the encrypted decoder, fitted once: 1/√x of every norm, exp and 1/D of every softmax, SiLU of
//! every gate, with the scales that go with them.
//!
//! They are fitted to the ranges of a calibration ([`crate::calibration::ranges`]) with one [`Accuracy`]. What the
//! decoder runs, what a plan prints ([`LayerFunctions::levels`]) and what the f64 twin evaluates
//! (`fidelity::approximated_model`) are these objects. Only the softmax depends on levels: how many
//! iterations of 1/D come before its bootstrap (`decoder::by_hand`).

use crate::circuits::approximation::{Approximation, Interval};
use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::circuits::silu::{fit_silu, silu};
use crate::contract::{BootstrapSummary, Level, Result};

use crate::calibration::ranges::LayerRanges;
use crate::decoder::accuracy::Accuracy;
use crate::decoder::attention_functions::{AttentionFunctions, SoftmaxExponential};
use crate::decoder::by_hand::{FunctionDepths, HandLevels};
use crate::decoder::schedule::LayerSchedule;

/// Functions and scales of one layer, and the levels they run at.
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

/// Levels that each function of a layer takes, masks and products around it aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FunctionLevels {
    /// 1/√ before attention.
    pub input_norm: usize,
    /// exp.
    pub exponential: usize,
    /// Iterations of 1/D before its bootstrap; beside the main path but for the numerator's part.
    pub inverse_before: usize,
    /// Iterations of 1/D after its bootstrap.
    pub inverse_after: usize,
    /// 1/√ before the MLP.
    pub post_norm: usize,
    /// SiLU.
    pub silu: usize,
}

/// Gates whose SiLU stays below it are not scaled up any further.
const SMALLEST_GATE_PEAK: f64 = 0.3;
/// 1/√x over `range` (mean squares, ε included), one polynomial with a relative error of at most `accuracy`.
///
/// # Errors
/// [`crate::Error::Plan`] when no polynomial up to degree 255 reaches it.
pub(crate) fn fit_norm(range: Interval, accuracy: f64) -> Result<InverseSquareRoot> {
    InverseSquareRoot::polynomial(range, accuracy)
}

impl LayerFunctions {
    /// The functions of layer `index`, bootstraps placed by hand under bootstraps of `bootstrap`.
    ///
    /// # Errors
    /// [`crate::Error::Plan`] when a function cannot be approximated, or a stretch between two bootstraps needs more
    /// levels than one gives.
    pub(crate) fn fit(
        index: usize,
        ranges: &LayerRanges,
        accuracy: Accuracy,
        bootstrap: BootstrapSummary,
    ) -> Result<Self> {
        let input_norm = fit_norm(ranges.input_norm, accuracy.norm)?;
        let post_norm = fit_norm(ranges.post_norm, accuracy.norm)?;
        let gate_peak = silu(ranges.gate.high).abs().max(silu(ranges.gate.low).abs()).max(SMALLEST_GATE_PEAK);
        let gate = fit_silu(ranges.gate, accuracy.silu, gate_peak)?;
        let exponential = SoftmaxExponential::fit(ranges, accuracy)?;
        let depths = FunctionDepths {
            input_norm: input_norm.levels(),
            exponential: exponential.function.levels(),
            post_norm: post_norm.levels(),
            silu: gate.levels(),
        };
        let site = format!("layer {index}");
        let hand = HandLevels::new(&site, depths, bootstrap)?;
        let (attention, numerator) =
            AttentionFunctions::fit(&site, ranges, exponential, accuracy, &hand.division)?;
        Ok(Self {
            input_norm,
            attention,
            middle_residual: ranges.middle_residual.clone(),
            post_norm,
            gate,
            gate_peak,
            up: ranges.up,
            residual: ranges.residual.clone(),
            schedule: hand.schedule(numerator),
            key_level: hand.cache_level,
            value_level: hand.cache_level,
            division_gap: hand.division.gap,
        })
    }

    /// Levels that each function takes.
    #[must_use]
    pub fn levels(&self) -> FunctionLevels {
        let softmax = &self.attention.softmax;
        FunctionLevels {
            input_norm: self.input_norm.levels(),
            exponential: softmax.exponential.levels(),
            inverse_before: softmax.before.steps.len(),
            inverse_after: softmax.after.steps.len(),
            post_norm: self.post_norm.levels(),
            silu: self.gate.levels(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::ranges::HeadRanges;
    use crate::contract::Error;

    const BOOTSTRAP: BootstrapSummary =
        BootstrapSummary { output_level: Level(13), minimum_input_level: Level(0), bound: 1.0, few: None };

    fn interval(low: f64, high: f64) -> Interval {
        Interval::new(low, high).unwrap()
    }

    fn head(offset: f64, lowest_score: f64, smallest: f64) -> HeadRanges {
        HeadRanges {
            shift: vec![0.0; 4],
            square_shift: vec![0.0; 4],
            offset,
            scores: interval(lowest_score, 0.0),
            log_denominator: interval(smallest, 0.0),
            value: 2.0,
        }
    }

    fn ranges(heads: Vec<HeadRanges>) -> LayerRanges {
        LayerRanges {
            input_norm: interval(0.05, 2.0),
            heads,
            middle_residual: vec![3.0; 4],
            post_norm: interval(0.3, 40.0),
            gate: interval(-8.0, 5.0),
            up: 7.0,
            residual: vec![4.0; 4],
        }
    }

    #[test]
    fn every_function_keeps_the_accuracy_asked_over_its_range() {
        let ranges = ranges(vec![head(1.0, -20.0, -6.0), head(-2.0, -25.0, -9.0)]);
        let accuracy =
            Accuracy { norm: 2e-3, exponential: 5e-4, inverse: 7e-4, silu: 2e-3, final_norm: 1e-4 };
        let functions = LayerFunctions::fit(0, &ranges, accuracy, BOOTSTRAP).unwrap();
        // A fit is levelled to 2 %.
        let slack = 1.03;
        let points = |range: Interval| (0..=997).map(move |i| range.from_unit(f64::from(i) / 498.5 - 1.0));
        for (norm, range) in
            [(&functions.input_norm, ranges.input_norm), (&functions.post_norm, ranges.post_norm)]
        {
            assert_eq!(norm.interval(), range);
            for x in points(range) {
                let error = (norm.value(x) * (x / range.low).sqrt() - 1.0).abs();
                assert!(error <= accuracy.norm * slack, "1/√{x}: {error:e}");
            }
        }
        assert_eq!(functions.gate.interval, ranges.gate);
        for x in points(ranges.gate) {
            let error = (functions.gate.value(x) * functions.gate_peak - silu(x)).abs();
            assert!(error <= accuracy.silu * slack, "SiLU({x}): {error:e}");
        }
        let softmax = &functions.attention.softmax;
        assert_eq!(softmax.exponential.root.interval, interval(-25.0, 0.0));
        for x in points(interval(-9.0, 0.0)) {
            let error = (softmax.exponential.value(x) / x.exp() - 1.0).abs();
            assert!(error <= accuracy.exponential * slack, "exp({x}): {error:e}");
        }
        for log in points(interval(-9.0, 0.0)) {
            let x = log.exp();
            let half = softmax.before.value(x);
            let error = (x * half * softmax.after.value(x * half) - 1.0).abs();
            assert!(error <= accuracy.inverse * slack, "1/{x:e}: {error:e}");
        }
    }

    #[test]
    fn levels_are_those_of_the_fitted_functions_and_less_accuracy_takes_no_more() {
        let ranges = ranges(vec![head(0.0, -20.0, -8.0)]);
        let levels = |factor: f64| {
            let Accuracy { norm, final_norm, exponential, inverse, silu } = Accuracy::default();
            let accuracy = Accuracy {
                norm: norm * factor,
                final_norm,
                exponential: exponential * factor,
                inverse: inverse * factor,
                silu: silu * factor,
            };
            LayerFunctions::fit(0, &ranges, accuracy, BOOTSTRAP).unwrap().levels()
        };
        let (fine, coarse) = (levels(1.0), levels(100.0));
        assert!(coarse.input_norm < fine.input_norm && coarse.post_norm <= fine.post_norm);
        assert!(coarse.silu < fine.silu);
        assert!(coarse.inverse_before + coarse.inverse_after < fine.inverse_before + fine.inverse_after);
        assert!(fine.inverse_before > 0 && fine.inverse_after > 0, "{fine:?}");
    }

    #[test]
    fn a_layer_deeper_than_a_bootstrap_is_refused_by_name_and_numbers() {
        let ranges = ranges(vec![head(0.0, -20.0, -8.0)]);
        let shallow = BootstrapSummary { output_level: Level(7), ..BOOTSTRAP };
        let error = LayerFunctions::fit(4, &ranges, Accuracy::default(), shallow).unwrap_err();
        assert!(matches!(error, Error::Plan { .. }));
        let text = error.to_string();
        assert!(text.contains("layer 4") && text.contains("gives 7"), "{text}");
    }
}
