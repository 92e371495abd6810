//! A generation against the exact model on the tokens it took itself: free-running, so that one wrong token would also show in
//! all that follow.

use serde::Serialize;

use crate::contract::Result;

use crate::fidelity::agreement::PositionFidelity;
use crate::generation::sampling::Sampling;
use crate::generation::session::{GeneratedToken, GenerationRequest};
use crate::model::block_functions::ExactFunctions;
use crate::model::prepared::PreparedModel;

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
    /// Runs the exact model on the tokens of the run and compares logits at every generated position; `earlier` are new tokens
    /// that a run before this one made.
    ///
    /// # Errors
    /// Those of the exact model; [`crate::Error::Internal`] for logits of another size.
    pub fn of_run(
        prepared: &PreparedModel,
        request: &GenerationRequest,
        earlier: &[u32],
        steps: &[GeneratedToken],
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
                token: step.token,
                exact_token: greedy.pick(&exact.to_vec(), 0)?,
                gap: largest - second,
                fidelity: PositionFidelity::new(exact, ndarray::ArrayView1::from(&step.logits)),
            });
            chosen.push(greedy.pick(&step.logits, 0)?);
            pending = vec![step.token];
        }
        Ok(Self::of_positions(positions, &chosen, reference_token_ids, logit_range))
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
