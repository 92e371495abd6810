//! exp by a low-degree polynomial of the halved argument and squarings.
//!
//! e^(x − high) = (p(x))^(2^s) with p ≈ e^((x − high)/2^s) on the interval. Squaring keeps the *relative* error small
//! where the result is small: an error ε of p becomes 2^s·ε·e^((high − x)/2^s), which is what a softmax needs when a
//! whole row lies far below the top. (1 + x/2^s)^(2^s), the usual choice, is both deeper and less exact.

use super::approximation::{Approximation, ErrorMeasure, Interval};
use crate::contract::{Evaluator, Result};

/// exp over an interval, normalised to 1 at its upper end.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Exponential {
    /// p over the interval of x.
    pub root: Approximation,
    /// Number of squarings s.
    pub squarings: usize,
}

impl Exponential {
    /// Over `interval`, with p of the least depth whose absolute error is at most `target` / 2^`squarings`: the result
    /// then has an absolute error of at most about `target` (relative to its top, 1).
    ///
    /// # Errors
    /// [`crate::Error::Plan`] when degree 255 does not reach the target ([`Approximation::fit`]).
    pub fn fit(interval: Interval, squarings: usize, target: f64) -> Result<Self> {
        let halving = (squarings as f64).exp2();
        let root = Approximation::fit(
            |x| ((x - interval.high) / halving).exp(),
            interval,
            ErrorMeasure::Absolute,
            target / halving,
        )?;
        Ok(Self { root, squarings })
    }

    /// Over `interval`, with a relative error of at most `target` for every x not more than `depth` below the upper
    /// end, and the fewest levels; of equally deep ones the one with most squarings: it has fewer products, and values
    /// that vanish at the lower end (1000 unused slots there must not add `target` to a sum as small as e^(−`depth`)).
    ///
    /// # Errors
    /// [`crate::Error::Plan`] when no number of squarings up to 5 reaches the target ([`Approximation::fit`]).
    pub fn fit_relative(interval: Interval, depth: f64, target: f64) -> Result<Self> {
        let mut best: Option<Self> = None;
        let mut failure = None;
        for squarings in 0..=5 {
            let halving = f64::from(squarings).exp2();
            let absolute = target * (-depth / halving).exp();
            match Self::fit(interval, squarings as usize, absolute) {
                Ok(fit) if 1e3 * fit.value(interval.low).abs() > target * (-depth).exp() => {}
                Ok(fit) if best.as_ref().is_none_or(|best| fit.levels() <= best.levels()) => best = Some(fit),
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
        }
        match (best, failure) {
            (Some(best), _) => Ok(best),
            (None, Some(failure)) => Err(failure),
            (None, None) => Self::fit(interval, 0, target),
        }
    }

    /// Levels the evaluation takes.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.root.levels() + self.squarings
    }

    /// What the circuit computes for x, in f64.
    #[must_use]
    pub fn value(&self, x: f64) -> f64 {
        (0..self.squarings).fold(self.root.value(x), |y, _| y * y)
    }

    /// Squares p(x), already evaluated, up to e^(x − high). One level a squaring.
    ///
    /// # Errors
    /// [`crate::Error::LevelExhausted`] with fewer levels than squarings, [`crate::Error::EvaluationKey`] without a
    /// relinearization key.
    pub fn square_up<E: Evaluator>(&self, evaluator: &E, root: &E::Ciphertext) -> Result<E::Ciphertext> {
        let mut power = root.clone();
        for _ in 0..self.squarings {
            power = evaluator.square(&power)?;
        }
        Ok(power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_target_holds_down_to_its_depth() {
        let exp = Exponential::fit_relative(Interval::new(-45.0, 11.0).unwrap(), 24.0, 1e-3).unwrap();
        assert!(exp.levels() <= 6, "{} levels, {} squarings", exp.levels(), exp.squarings);
        for index in 0..=240 {
            let x = 11.0 - f64::from(index) / 10.0;
            let error = (exp.value(x) / (x - 11.0).exp() - 1.0).abs();
            assert!(error < 1.1e-3, "x = {x}: {error:e}");
        }
    }

    #[test]
    fn the_relative_error_stays_small_far_below_the_top() {
        let interval = Interval::new(-45.0, 11.0).unwrap();
        let exp = Exponential::fit(interval, 2, 1e-6).unwrap();
        assert_eq!((exp.root.degree(), exp.levels()), (15, 6));
        for x in [11.0, 0.0, -8.0, -13.0] {
            let want = (x - 11.0f64).exp();
            let got = exp.value(x);
            assert!((got / want - 1.0).abs() < 1e-2, "x = {x}: {got:e} instead of {want:e}");
        }
        assert!(exp.value(-45.0).abs() < 1e-15, "unused slots at the bottom vanish: {:e}", exp.value(-45.0));
    }
}
