//! How near one model's answers are to another's: top-1 agreement, KL divergence, perplexity, logit error.
//!
//! Positions are compared teacher-forced: both models saw the same tokens. KL is D(exact ‖ other) in nats.

use ndarray::ArrayView1;
use serde::Serialize;

use crate::model::reference::argmax;

/// What two models answer behind the same tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PositionFidelity {
    /// Whether both prefer the same token.
    pub agrees: bool,
    /// KL divergence of the other model from the exact one, in nats.
    pub kl: f64,
    /// Largest difference of a logit.
    pub logit_max_error: f64,
    /// Root mean square of the differences of the logits.
    pub logit_rms_error: f64,
}

impl PositionFidelity {
    /// Compares the logits of one position. A value that is not finite counts as disagreement with infinite
    /// divergence and errors.
    #[must_use]
    pub fn new(exact: ArrayView1<'_, f32>, other: ArrayView1<'_, f32>) -> Self {
        Self::between(&Logits::new(exact), &Logits::new(other))
    }

    fn between(exact: &Logits<'_>, other: &Logits<'_>) -> Self {
        let (exact_log_sum, other_log_sum) = (exact.log_sum, other.log_sum);
        let (exact, other) = (exact.values, other.values);
        if !other.iter().all(|value| value.is_finite()) {
            let infinite = f64::INFINITY;
            return Self {
                agrees: false,
                kl: infinite,
                logit_max_error: infinite,
                logit_rms_error: infinite,
            };
        }
        let (mut kl, mut largest, mut squares) = (0.0, 0.0f64, 0.0);
        for (exact, other) in exact.iter().zip(other.iter()) {
            let log_exact = f64::from(*exact) - exact_log_sum;
            let log_other = f64::from(*other) - other_log_sum;
            kl += log_exact.exp() * (log_exact - log_other);
            let error = f64::from((exact - other).abs());
            largest = largest.max(error);
            squares += error * error;
        }
        Self {
            agrees: argmax(exact) == argmax(other),
            // Rounding may leave a tiny negative sum; a NaN must not pass for agreement.
            kl: if kl.is_finite() { kl.max(0.0) } else { f64::INFINITY },
            logit_max_error: largest,
            logit_rms_error: (squares / exact.len().max(1) as f64).sqrt(),
        }
    }
}

/// Logits of one position, and the logarithm of the sum of their exponentials.
struct Logits<'a> {
    values: ArrayView1<'a, f32>,
    log_sum: f64,
}

impl<'a> Logits<'a> {
    fn new(values: ArrayView1<'a, f32>) -> Self {
        Self { values, log_sum: log_sum_exp(values) }
    }

    /// −log of the probability of `token`; infinite for one outside the vocabulary.
    fn loss(&self, token: u32) -> f64 {
        self.values.get(token as usize).map_or(f64::INFINITY, |logit| self.log_sum - f64::from(*logit))
    }
}

/// Sums over compared positions; see the methods for the figures.
#[derive(Clone, Debug, Default)]
pub struct Fidelity {
    positions: usize,
    agreeing: usize,
    kl_sum: f64,
    kl_max: f64,
    logit_error_max: f64,
    next_tokens: usize,
    exact_loss: f64,
    other_loss: f64,
}

/// The figures of a comparison, as reports name them.
#[derive(Clone, Debug, Serialize)]
pub struct FidelitySummary {
    /// Positions compared.
    pub positions: usize,
    /// Share of positions at which both prefer the same token.
    pub top1: f64,
    /// Mean KL divergence in nats.
    pub kl_mean: f64,
    /// Largest KL divergence in nats.
    pub kl_max: f64,
    /// Perplexity of the exact model on the tokens that followed.
    pub perplexity_exact: f64,
    /// Perplexity of the other one.
    pub perplexity_approx: f64,
    /// Largest difference of a logit.
    pub logit_max_error: f64,
}

impl Fidelity {
    /// Compares the logits of one position; `next` is the token that follows in the text, when there is one.
    ///
    /// A value that is not finite counts as disagreement with infinite divergence.
    pub fn add(&mut self, exact: ArrayView1<'_, f32>, other: ArrayView1<'_, f32>, next: Option<u32>) {
        let (exact, other) = (Logits::new(exact), Logits::new(other));
        let position = PositionFidelity::between(&exact, &other);
        self.positions += 1;
        self.agreeing += usize::from(position.agrees);
        self.kl_sum += position.kl;
        self.kl_max = self.kl_max.max(position.kl);
        self.logit_error_max = self.logit_error_max.max(position.logit_max_error);
        if let Some(next) = next {
            self.next_tokens += 1;
            self.exact_loss += exact.loss(next);
            // Infinite also where a value is not finite.
            self.other_loss += if position.kl.is_finite() { other.loss(next) } else { f64::INFINITY };
        }
    }

    /// The figures so far; means over nothing are NaN.
    pub fn summary(&self) -> FidelitySummary {
        let positions = self.positions as f64;
        FidelitySummary {
            positions: self.positions,
            top1: self.agreeing as f64 / positions,
            kl_mean: self.kl_sum / positions,
            kl_max: self.kl_max,
            perplexity_exact: (self.exact_loss / self.next_tokens as f64).exp(),
            perplexity_approx: (self.other_loss / self.next_tokens as f64).exp(),
            logit_max_error: self.logit_error_max,
        }
    }
}

fn log_sum_exp(values: ArrayView1<'_, f32>) -> f64 {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = values.iter().map(|value| f64::from(value - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, array};

    #[test]
    fn equal_logits_agree_everywhere_up_to_a_constant() {
        let mut fidelity = Fidelity::default();
        let logits: Array1<f32> = array![1.0, 3.0, -2.0];
        fidelity.add(logits.view(), (&logits + 5.0).view(), Some(1));
        let summary = fidelity.summary();
        assert_eq!(summary.top1, 1.0);
        assert!(summary.kl_mean < 1e-6, "{}", summary.kl_mean);
        assert!((summary.perplexity_exact / summary.perplexity_approx - 1.0).abs() < 1e-6);
        assert_eq!(summary.logit_max_error, 5.0);
    }

    #[test]
    fn divergence_of_two_coins_is_the_textbook_value() {
        let mut fidelity = Fidelity::default();
        // Probabilities (1/2, 1/2) against (3/4, 1/4): KL = ln 2 − ln(3)/2.
        fidelity.add(array![0.0f32, 0.0].view(), array![3f32.ln(), 0.0].view(), None);
        let wanted = 2f64.ln() - 3f64.ln() / 2.0;
        assert!((fidelity.summary().kl_mean - wanted).abs() < 1e-6, "{}", fidelity.summary().kl_mean);
    }

    #[test]
    fn a_value_that_is_not_finite_is_a_disagreement() {
        let mut fidelity = Fidelity::default();
        fidelity.add(array![0.0f32, 1.0].view(), array![f32::NAN, 1.0].view(), Some(0));
        let summary = fidelity.summary();
        assert_eq!(
            (summary.top1, summary.kl_max, summary.perplexity_approx),
            (0.0, f64::INFINITY, f64::INFINITY)
        );
    }
}
