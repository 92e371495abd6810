//! 1/√x: one polynomial over narrow ranges, a polynomial and Newton steps over wide ones.
//!
//! Results are normalised to 1 at the lower end, √(low/x), so that they never exceed 1; the factor √low is folded into
//! the weights that follow.

use super::approximation::{Approximation, ErrorMeasure, Interval};
use crate::contract::{Complex64, Evaluator, Result};

/// 1/√x over an interval.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InverseSquareRoot {
    /// √(low/x), relative error.
    pub start: Approximation,
    /// Newton steps y ← y(3 − (x/low)·y²)/2 after it; two levels each.
    pub newton_steps: usize,
    /// Worst relative error of the whole.
    pub worst_error: f64,
}

impl InverseSquareRoot {
    /// One polynomial of the least depth for a relative error of `target`.
    ///
    /// # Errors
    /// [`crate::Error::Plan`] when degree 255 does not reach the target ([`Approximation::fit`]).
    pub fn polynomial(interval: Interval, target: f64) -> Result<Self> {
        let start =
            Approximation::fit(|x| (interval.low / x).sqrt(), interval, ErrorMeasure::Relative, target)?;
        let worst_error = start.worst_error;
        Ok(Self { start, newton_steps: 0, worst_error })
    }

    /// A polynomial and the number of Newton steps with the least depth together for a relative error of `target`. A
    /// relative error δ of y becomes (3/2)δ² in a step, so wide intervals profit. The polynomial alone wins ties.
    ///
    /// # Errors
    /// [`crate::Error::Plan`] when nothing reaches the target ([`Approximation::fit`]).
    pub fn fit(interval: Interval, target: f64) -> Result<Self> {
        let mut best: Option<Self> = None;
        let mut start_target = target;
        let mut failure = None;
        for newton_steps in 0..4 {
            let function = |x: f64| (interval.low / x).sqrt();
            match Approximation::fit(function, interval, ErrorMeasure::Relative, start_target) {
                Ok(start) => {
                    let worst_error = (0..newton_steps)
                        .fold(start.worst_error, |error: f64, _| 1.5 * error * error + 0.5 * error.powi(3));
                    let candidate = Self { start, newton_steps, worst_error };
                    if best.as_ref().is_none_or(|best| candidate.levels() < best.levels()) {
                        best = Some(candidate);
                    }
                }
                Err(error) => failure = Some(error),
            }
            start_target = (start_target / 2.0).sqrt().min(0.4);
        }
        match (best, failure) {
            (Some(best), _) => Ok(best),
            (None, Some(failure)) => Err(failure),
            (None, None) => Self::polynomial(interval, target),
        }
    }

    /// Levels from the unit variable to the result.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.start.levels() + 2 * self.newton_steps
    }

    /// Interval of x.
    #[must_use]
    pub fn interval(&self) -> Interval {
        self.start.interval
    }

    /// What the circuit computes for x, in f64: about √(low/x).
    #[must_use]
    pub fn value(&self, x: f64) -> f64 {
        let ratio = x / self.start.interval.low;
        (0..self.newton_steps).fold(self.start.value(x), |y, _| y * (3.0 - ratio * y * y) / 2.0)
    }

    /// Newton steps on `y` ≈ √(low/x), given the unit variable `unit` of x at any level not below `y`'s. Two levels a
    /// step: y ← 1.5·y − y²·(y·x/(2·low)).
    ///
    /// # Errors
    /// [`crate::Error::LevelExhausted`] with too few levels, [`crate::Error::EvaluationKey`] without a relinearization
    /// key.
    pub fn refine<E: Evaluator>(
        &self,
        evaluator: &E,
        unit: &E::Ciphertext,
        y: &E::Ciphertext,
    ) -> Result<E::Ciphertext> {
        use crate::contract::CiphertextInfo;
        let interval = self.start.interval;
        let mut y = y.clone();
        if self.newton_steps == 0 {
            return Ok(y);
        }
        // x/(2 low) from the unit variable; its own level lies above, so the constant product is free.
        let half_width = (interval.high - interval.low) / (4.0 * interval.low);
        let scaled = evaluator.mul_scalar(unit, Complex64::new(half_width, 0.0))?;
        let centre = (interval.high + interval.low) / (4.0 * interval.low);
        let half_ratio = evaluator.add_constant(&scaled, Complex64::new(centre, 0.0))?;
        for _ in 0..self.newton_steps {
            let square = evaluator.square(&y)?;
            let product = evaluator.mul(&y, &evaluator.lower(&half_ratio, y.level())?)?;
            let cube = evaluator.mul(&square, &product)?;
            let three_halves = evaluator.mul_scalar(&y, Complex64::new(1.5, 0.0))?;
            y = evaluator.sub(&evaluator.lower(&three_halves, cube.level())?, &cube)?;
        }
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn the_fit_keeps_its_error_over_narrow_and_wide_intervals(low in 1e-3f64..10.0, log_ratio in 0.3f64..9.0) {
            let high = low * log_ratio.exp2();
            let root = InverseSquareRoot::fit(Interval::new(low, high).unwrap(), 1e-3).unwrap();
            for i in 0..=1000 {
                let x = low * (high / low).powf(f64::from(i) / 1000.0);
                let error = (root.value(x) / (low / x).sqrt() - 1.0).abs();
                prop_assert!(error <= 1.02e-3, "x = {x:e}: error {error:e}, degree {}", root.start.degree());
            }
        }
    }

    #[test]
    fn levels_follow_the_ratio_of_the_interval() {
        for (ratio, levels) in [(4.0, 3), (17.0, 4), (46.0, 5), (270.0, 7)] {
            let root = InverseSquareRoot::polynomial(Interval::new(1.0, ratio).unwrap(), 3e-3).unwrap();
            assert!(root.levels() <= levels, "ratio {ratio}: {} levels", root.levels());
        }
    }
}
