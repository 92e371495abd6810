//! A generation against the exact model on the tokens it took itself: free-running, so that one wrong token would
//! also show in all that follow.

use std::cmp::Ordering;

use serde::Serialize;

use crate::contract::Result;

use crate::fidelity::agreement::PositionFidelity;
use crate::fidelity::shadow::StagePrecision;
use crate::generation::chat::{GenerationRequest, Token};
use crate::generation::sampling::Sampling;
use crate::model::block_functions::ExactFunctions;
use crate::model::prepared::PreparedModel;

/// Largest error of a logit of the bundled model.
const BUNDLED_LOGIT_ERROR: f64 = 0.05;
/// Largest error of a logit of any other model, whose logits have other sizes: as a share of their range.
const LOGIT_ERROR_OF_RANGE: f64 = 0.05;
/// Bits that each slot keeps in a native bootstrap at least.
const NATIVE_BOOTSTRAP_BITS: f64 = 13.5;

/// How large an error of a logit may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogitLimit {
    /// So much.
    Absolute(f64),
    /// So much of the least difference between the largest and the smallest logit at any position.
    ShareOfRange(f64),
}

/// What a run must keep to count as verified, beside the tokens that the exact model is sure of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VerificationLimits {
    /// Of every logit at every position.
    pub logit_error: LogitLimit,
    /// Bits that each slot keeps in each bootstrap at least; `None` where nobody promises a figure.
    pub bootstrap_bits: Option<f64>,
}

impl VerificationLimits {
    /// The limits of a run of the bundled model or another, on the native backend or another: a simulator's
    /// bootstraps are as wrong as they were asked to be, and OpenFHE promises no figure.
    #[must_use]
    pub fn of_run(bundled: bool, native: bool) -> Self {
        let logit_error = match bundled {
            true => LogitLimit::Absolute(BUNDLED_LOGIT_ERROR),
            false => LogitLimit::ShareOfRange(LOGIT_ERROR_OF_RANGE),
        };
        Self { logit_error, bootstrap_bits: native.then_some(NATIVE_BOOTSTRAP_BITS) }
    }
}

/// One new token beside what the exact model has at its place.
#[derive(Clone, Debug, Serialize)]
pub struct VerifiedPosition {
    /// Which of the new tokens, counted from 0.
    pub position: usize,
    /// The token that the run picked.
    pub token: u32,
    /// The exact model's greedy token behind the same tokens.
    pub exact_token: u32,
    /// Difference of the exact model's two largest logits.
    pub gap: f64,
    /// Logits against logits.
    #[serde(flatten)]
    pub fidelity: PositionFidelity,
}

/// A run against the exact model.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// What the exact model alone says greedily.
    pub reference_token_ids: Vec<u32>,
    /// Share of positions at which both prefer the same token.
    pub top1: f64,
    /// Largest difference of a logit.
    pub logit_max_error: f64,
    /// Root mean square of all differences of logits.
    pub logit_rms_error: f64,
    /// Least difference of the largest and the smallest logit of the exact model, over the positions.
    pub logit_range: f64,
    /// Mean KL divergence in nats.
    pub kl_mean: f64,
    /// Whose tokens both models saw: `free_running`, the run's own.
    pub mode: &'static str,
    /// The new tokens one by one.
    pub positions: Vec<VerifiedPosition>,
    /// Positions whose greedy token is not the exact model's although the gap exceeds twice the largest logit error.
    pub disagreements: Vec<String>,
}

impl Verification {
    /// Runs the exact model on the tokens of the run and compares logits at every generated position; `earlier` are
    /// new tokens that a run before this one made.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] for logits of another size; errors of the exact model.
    pub fn of_run(
        prepared: &PreparedModel,
        request: &GenerationRequest,
        earlier: &[u32],
        steps: &[Token],
    ) -> Result<Self> {
        let (model, mut cache) = (&prepared.model, prepared.prefix_cache.clone());
        let reference_token_ids =
            model.generate_greedy(&request.prompt, &mut cache.clone(), request.max_new_tokens)?;
        let mut pending = [request.prompt.as_slice(), earlier].concat();
        let mut positions = Vec::with_capacity(steps.len());
        let mut chosen = Vec::with_capacity(steps.len());
        let mut logit_range = f64::INFINITY;
        for (index, step) in steps.iter().enumerate() {
            let hidden = model.forward(&pending, &mut cache, &mut ExactFunctions)?;
            let logits = model.logits(&hidden);
            let exact = logits.row(logits.nrows() - 1);
            let (largest, second, smallest) = ends(exact.iter().copied());
            logit_range = logit_range.min(largest - smallest);
            let greedy = Sampling::greedy();
            positions.push(VerifiedPosition {
                position: earlier.len() + index,
                token: step.id,
                exact_token: greedy.pick(&exact.to_vec(), 0)?,
                gap: largest - second,
                fidelity: PositionFidelity::new(exact, ndarray::ArrayView1::from(&step.logits)),
            });
            chosen.push(greedy.pick(&step.logits, 0)?);
            pending = vec![step.id];
        }
        Ok(Self::of_positions(positions, &chosen, reference_token_ids, logit_range))
    }

    /// What the run did not keep of `limits`, in words; nothing when it is verified.
    #[must_use]
    pub fn failures(&self, stages: &[StagePrecision], limits: &VerificationLimits) -> Vec<String> {
        let mut failures = self.disagreements.clone();
        let allowed = match limits.logit_error {
            LogitLimit::Absolute(error) => error,
            LogitLimit::ShareOfRange(share) => share * self.logit_range,
        };
        // A NaN fails as well.
        if !matches!(self.logit_max_error.partial_cmp(&allowed), Some(Ordering::Less | Ordering::Equal)) {
            failures
                .push(format!("logit error {:.4}, at most {allowed:.4} is allowed", self.logit_max_error));
        }
        let promised = limits.bootstrap_bits.unwrap_or(f64::NEG_INFINITY);
        for stage in stages.iter().filter(|stage| -stage.bootstrap_error.log2() < promised) {
            failures.push(format!(
                "the bootstrap of layer {} {} kept {:.1} bits in its worst slot, {promised} are promised",
                stage.progress.layer,
                stage.progress.stage,
                -stage.bootstrap_error.log2()
            ));
        }
        failures
    }

    /// Sums up `positions`; `chosen` is what the run's logits say greedily at each.
    fn of_positions(
        positions: Vec<VerifiedPosition>,
        chosen: &[u32],
        reference_token_ids: Vec<u32>,
        logit_range: f64,
    ) -> Self {
        let count = positions.len().max(1) as f64;
        let mean = |value: fn(&PositionFidelity) -> f64| -> f64 {
            positions.iter().map(|position| value(&position.fidelity)).sum::<f64>() / count
        };
        let logit_max_error =
            positions.iter().map(|position| position.fidelity.logit_max_error).fold(0.0, f64::max);
        // Where the exact model's choice is closer than what the logits may be wrong by, either token is right.
        let wrong = |(position, chosen): &(&VerifiedPosition, &u32)| {
            **chosen != position.exact_token && position.gap > 2.0 * logit_max_error
        };
        let disagreements = positions
            .iter()
            .zip(chosen)
            .filter(wrong)
            .map(|(at, chosen)| {
                format!(
                    "new token {} is {chosen}, the exact model's is {} by a gap of {:.4}",
                    at.position, at.exact_token, at.gap
                )
            })
            .collect();
        Self {
            reference_token_ids,
            top1: mean(|fidelity| if fidelity.agrees { 1.0 } else { 0.0 }),
            logit_max_error,
            logit_rms_error: mean(|fidelity| fidelity.logit_rms_error.powi(2)).sqrt(),
            logit_range,
            kl_mean: mean(|fidelity| fidelity.kl),
            mode: "free_running",
            positions,
            disagreements,
        }
    }
}

/// The largest, the second largest and the smallest.
fn ends(logits: impl Iterator<Item = f32>) -> (f64, f64, f64) {
    logits.map(f64::from).fold(
        (f64::NEG_INFINITY, f64::NEG_INFINITY, f64::INFINITY),
        |(first, second, last), x| match x > first {
            true => (x, first, last.min(x)),
            false => (first, second.max(x), last.min(x)),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, array};

    fn position(exact: &Array1<f32>, other: &Array1<f32>) -> VerifiedPosition {
        let (largest, second, _) = ends(exact.iter().copied());
        VerifiedPosition {
            position: 0,
            token: 0,
            exact_token: 0,
            gap: largest - second,
            fidelity: PositionFidelity::new(exact.view(), other.view()),
        }
    }

    #[test]
    fn a_wrong_token_counts_where_the_exact_model_is_sure_and_not_where_either_is_right() {
        let (sure, close) = (array![3.0f32, 1.0, -1.0], array![1.0f32, 0.9, -1.0]);
        let (moved, swapped) = (array![2.9f32, 1.1, -1.0], array![0.9f32, 1.0, -1.0]);
        let both = vec![position(&sure, &moved), position(&close, &swapped)];
        let check = Verification::of_positions(both.clone(), &[1, 1], vec![], 4.0);
        assert_eq!(check.disagreements.len(), 1, "{check:?}");
        assert!(check.disagreements[0].contains("by a gap of 2.0000"), "{check:?}");
        assert_eq!(check.top1, 0.5);
        assert!((check.logit_max_error - 0.1).abs() < 1e-6, "{check:?}");
        assert!((check.logit_rms_error - (0.02f64 / 3.0).sqrt()).abs() < 1e-6, "{check:?}");
        assert!(Verification::of_positions(both, &[0, 1], vec![], 4.0).disagreements.is_empty());
    }

    #[test]
    fn limits_are_kept_or_named() {
        let check = Verification::of_positions(
            vec![position(&array![3.0f32, 1.0], &array![2.9f32, 1.0])],
            &[0],
            vec![],
            2.0,
        );
        let limits =
            VerificationLimits { logit_error: LogitLimit::Absolute(0.2), bootstrap_bits: Some(13.5) };
        let stage = |error: f64| StagePrecision {
            progress: crate::decoder::Progress {
                layer: 1,
                layers: 2,
                stage: "gate",
                iterations: 1,
                refreshed: true,
            },
            largest: 1.0,
            bootstrap_error: error,
            bootstrap_deviation: error,
            drift: error,
        };
        assert!(check.failures(&[stage(2f64.powi(-14))], &limits).is_empty());
        let bits = check.failures(&[stage(2f64.powi(-13))], &limits);
        assert!(bits.len() == 1 && bits[0].contains("layer 1 gate kept 13.0 bits"), "{bits:?}");
        for limit in [LogitLimit::Absolute(0.09), LogitLimit::ShareOfRange(0.04)] {
            let failures = check.failures(&[], &VerificationLimits { logit_error: limit, ..limits });
            assert!(failures.len() == 1 && failures[0].contains("logit error 0.1000"), "{failures:?}");
        }
        let broken = Verification { logit_max_error: f64::NAN, ..check };
        assert_eq!(broken.failures(&[], &limits).len(), 1);
    }

    #[test]
    fn logits_that_are_not_numbers_make_every_error_infinite() {
        let check = Verification::of_positions(
            vec![position(&array![1.0f32, 0.0], &array![f32::NAN, 0.0])],
            &[0],
            vec![],
            1.0,
        );
        assert_eq!((check.logit_max_error, check.kl_mean, check.top1), (f64::INFINITY, f64::INFINITY, 0.0));
    }
}
