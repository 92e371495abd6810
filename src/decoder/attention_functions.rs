//! The softmax of one layer, fitted: exp, 1/D cut in two by a bootstrap, and the scales of values and outputs around
//! them.
//!
//! All heads share one exponential and one inverse: the offsets of the scores put the largest denominator of every
//! head at 1. Deferred softmax of [`crate::circuits::softmax`].

use crate::circuits::approximation::Interval;
use crate::circuits::exp::Exponential;
use crate::circuits::inverse::RelaxedInverse;
use crate::circuits::softmax::DeferredSoftmax;
use crate::contract::Result;

use crate::calibration::ranges::LayerRanges;
use crate::decoder::accuracy::Accuracy;
use crate::decoder::by_hand::{DivisionLevels, too_deep};
use crate::decoder::schedule::Refresh;

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

/// Below it a half-iterated denominator is refreshed in two iterations: a bootstrap is good for 19 bits in its worst
/// slot and 23 in the mean, and a denominator must come out of it with a relative error below 1/80 and 1/1000.
const SMALLEST_REFRESHED: f64 = 1.0 / 6000.0;
/// Most by which the lower end of a denominator's interval is raised when levels do not reach it.
const MOST_GIVEN_UP: f64 = 1e3;

/// exp of one layer's softmax, over the scores of all its heads.
pub(crate) struct SoftmaxExponential {
    pub(crate) function: Exponential,
    /// Scores, shifted so that the largest D of every head is 1.
    scores: Interval,
    /// How far below 1 a D may lie, in nats.
    widest: f64,
}

impl SoftmaxExponential {
    /// exp with a relative error of at most `accuracy.exponential` down to the smallest denominator of `ranges`.
    ///
    /// # Errors
    /// [`crate::Error::Plan`] when no polynomial reaches it.
    pub(crate) fn fit(ranges: &LayerRanges, accuracy: Accuracy) -> Result<Self> {
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
    /// The softmax of `ranges`, its 1/D cut in two by the levels of `division`, and the bootstrap between the halves.
    ///
    /// # Errors
    /// [`crate::Error::Plan`] when the levels do not hold the iterations.
    pub(crate) fn fit(
        site: &str,
        ranges: &LayerRanges,
        exponential: SoftmaxExponential,
        accuracy: Accuracy,
        division: &DivisionLevels,
    ) -> Result<(Self, Refresh)> {
        let SoftmaxExponential { function: exponential, scores, widest } = exponential;
        let heads = &ranges.heads;
        let low = (-widest).exp();
        let mut refresh = division.once;
        let mut softmax = split_softmax(site, &exponential, low, accuracy.inverse, division, refresh)?;
        if softmax.after.low < SMALLEST_REFRESHED {
            refresh = division.twice;
            softmax = split_softmax(site, &exponential, low, accuracy.inverse, division, refresh)?;
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

/// The softmax whose denominators range over [`low`, 1], cut in two by a bootstrap to `refresh`.
fn split_softmax(
    site: &str,
    exponential: &Exponential,
    low: f64,
    error: f64,
    division: &DivisionLevels,
    refresh: Refresh,
) -> Result<DeferredSoftmax> {
    let (before, after) = (division.before, division.after(refresh));
    let iterations = RelaxedInverse::fit(low, error)?.steps.len().max(2);
    let (low, iterations) = if iterations <= before + after {
        (low, iterations)
    } else {
        // Too few levels for the whole interval: its lower end is given up, where the inverse then only
        // underestimates.
        let mut kept = low;
        while RelaxedInverse::new(kept, before + after)?.worst_error > error {
            kept *= 1.25;
            if kept > low * MOST_GIVEN_UP {
                return Err(too_deep(&format!("{site} softmax"), iterations, before + after));
            }
        }
        (kept, before + after)
    };
    let before = before.min(iterations - 1);
    DeferredSoftmax::new(exponential.clone(), low, before, iterations - before)
}
