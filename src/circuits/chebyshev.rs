//! Chebyshev series of real functions: fit, error, evaluation in the clear.
//!
//! A function f on [a, b] becomes f(x) ≈ Σ c_k T_k(t), t = (2x − a − b)/(b − a) in [−1, 1]. Everything here is f64 in
//! the clear; [`super::evaluate_series`] evaluates the same coefficients on a ciphertext that holds t.

use crate::contract::{Complex64, Error, Result};

/// Highest degree that [`ChebyshevSeries::fit`] accepts: no circuit is deeper than 16 levels.
const MAX_DEGREE: usize = (1 << 16) - 1;

/// A truncated Chebyshev series on an interval.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ChebyshevSeries {
    coefficients: Vec<f64>,
    lower: f64,
    upper: f64,
}

impl ChebyshevSeries {
    /// Series with the given coefficients of T_0, T_1, … on [`lower`, `upper`].
    ///
    /// # Errors
    /// [`Error::Shape`] without coefficients, with one that is not finite, or with an empty interval.
    pub fn new(coefficients: Vec<f64>, lower: f64, upper: f64) -> Result<Self> {
        check_interval(lower, upper)?;
        if coefficients.is_empty() || coefficients.len() > MAX_DEGREE + 1 {
            return Err(Error::Shape {
                operation: "Chebyshev series",
                what: format!("{} coefficients", coefficients.len()),
                remedy: format!("give between 1 and {}", MAX_DEGREE + 1),
            });
        }
        if let Some((index, value)) = coefficients.iter().enumerate().find(|(_, c)| !c.is_finite()) {
            return Err(not_finite("Chebyshev series", index, *value));
        }
        Ok(Self { coefficients, lower, upper })
    }

    /// Fits `function` on [`lower`, `upper`] with a series of `degree`: the Chebyshev projection, computed from four
    /// times as many nodes as coefficients, so that what is cut off is not folded back. Within a small factor of the
    /// minimax error for smooth functions (Trefethen, *Approximation Theory and Practice*, ch. 4 and 16).
    ///
    /// # Errors
    /// [`Error::Shape`] for an empty interval or a degree above 65535; [`Error::BadValue`] when the function is not
    /// finite at a node.
    pub fn fit(function: impl Fn(f64) -> f64, lower: f64, upper: f64, degree: usize) -> Result<Self> {
        check_interval(lower, upper)?;
        if degree > MAX_DEGREE {
            return Err(Error::Shape {
                operation: "Chebyshev fit",
                what: format!("degree {degree}"),
                remedy: format!("use a degree of at most {MAX_DEGREE}"),
            });
        }
        let nodes = 4 * (degree + 1);
        let mut values = Vec::with_capacity(nodes);
        for index in 0..nodes {
            let t = (std::f64::consts::PI * (index as f64 + 0.5) / nodes as f64).cos();
            let value = function(from_unit(t, lower, upper));
            if !value.is_finite() {
                return Err(not_finite("Chebyshev fit", index, value));
            }
            values.push(value);
        }
        let coefficients = (0..=degree)
            .map(|k| {
                let sum: f64 = values
                    .iter()
                    .enumerate()
                    .map(|(index, value)| {
                        // The angle is reduced exactly in integers: cos has period 4·nodes in k·(2·index + 1).
                        let turn = (k * (2 * index + 1)) % (4 * nodes);
                        value * (std::f64::consts::PI * turn as f64 / (2 * nodes) as f64).cos()
                    })
                    .sum();
                sum * if k == 0 { 1.0 } else { 2.0 } / nodes as f64
            })
            .collect();
        Self::new(coefficients, lower, upper)
    }

    /// The series of least degree of the form 2^k − 1 (the largest degree for its depth k) whose error, sampled at
    /// 16 points a coefficient, is at most `error`.
    ///
    /// # Errors
    /// [`Error::Plan`] when degree 2^`max_depth` − 1 does not reach the error; [`Error::Shape`] for an empty interval,
    /// [`Error::BadValue`] for a function that is not finite at a node ([`Self::fit`]).
    pub fn fit_to_error(
        function: impl Fn(f64) -> f64,
        lower: f64,
        upper: f64,
        error: f64,
        max_depth: usize,
    ) -> Result<Self> {
        let mut reached = f64::INFINITY;
        for depth in 1..=max_depth.min(12) {
            let series = Self::fit(&function, lower, upper, (1 << depth) - 1)?;
            reached = series.max_error(&function, 16 << depth);
            if reached <= error {
                return Ok(series);
            }
        }
        Err(Error::Plan {
            why: format!(
                "a Chebyshev series of depth {max_depth} on [{lower}, {upper}] has error {reached:e}, wanted {error:e}"
            ),
            remedy: "allow more depth, a larger error, or a narrower interval".to_owned(),
        })
    }

    /// Coefficients of T_0, T_1, ….
    #[must_use]
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// Lower end of the interval.
    #[must_use]
    pub fn lower(&self) -> f64 {
        self.lower
    }

    /// Upper end of the interval.
    #[must_use]
    pub fn upper(&self) -> f64 {
        self.upper
    }

    /// Degree: index of the last coefficient, zero or not.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.coefficients.len().saturating_sub(1)
    }

    /// x ↦ t = (2x − a − b)/(b − a), as (factor, offset) with t = factor·x + offset.
    #[must_use]
    pub fn to_unit(&self) -> (f64, f64) {
        let width = self.upper - self.lower;
        (2.0 / width, -(self.lower + self.upper) / width)
    }

    /// Value at `x` by Clenshaw's recurrence. Outside the interval the polynomial is continued, as on ciphertexts.
    #[must_use]
    pub fn evaluate(&self, x: f64) -> f64 {
        let (factor, offset) = self.to_unit();
        clenshaw(&self.coefficients, factor.mul_add(x, offset))
    }

    /// Largest |f − series| over `samples` + 1 equidistant points of the interval, its ends included.
    pub fn max_error(&self, function: impl Fn(f64) -> f64, samples: usize) -> f64 {
        let samples = samples.max(1);
        (0..=samples)
            .map(|index| {
                let x = self.lower + (self.upper - self.lower) * index as f64 / samples as f64;
                (function(x) - self.evaluate(x)).abs()
            })
            .fold(0.0, f64::max)
    }

    /// The coefficients as complex numbers, for [`super::evaluate_series`].
    #[must_use]
    pub fn complex_coefficients(&self) -> Vec<Complex64> {
        self.coefficients.iter().map(|c| Complex64::new(*c, 0.0)).collect()
    }
}

/// Σ c_k T_k(t) by Clenshaw's recurrence.
pub(super) fn clenshaw(coefficients: &[f64], t: f64) -> f64 {
    let (mut next, mut after) = (0.0, 0.0);
    for c in coefficients.iter().skip(1).rev() {
        (next, after) = (c + 2.0 * t * next - after, next);
    }
    coefficients.first().copied().unwrap_or(0.0) + t * next - after
}

fn from_unit(t: f64, lower: f64, upper: f64) -> f64 {
    0.5 * ((upper - lower) * t + lower + upper)
}

fn check_interval(lower: f64, upper: f64) -> Result<()> {
    if lower.is_finite() && upper.is_finite() && lower < upper {
        return Ok(());
    }
    Err(Error::Shape {
        operation: "Chebyshev series",
        what: format!("interval [{lower}, {upper}]"),
        remedy: "give finite ends, the lower one first".to_owned(),
    })
}

fn not_finite(operation: &'static str, index: usize, value: f64) -> Error {
    Error::BadValue { operation, index, value: value.to_string(), bound: f64::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_polynomial_is_its_own_fit(
            coefficients in proptest::collection::vec(-1.0..1.0f64, 1..40), lower in -8.0..8.0f64, width in 0.1..16.0f64,
        ) {
            let degree = coefficients.len() - 1;
            let series = ChebyshevSeries::new(coefficients, lower, lower + width).unwrap();
            let fitted = ChebyshevSeries::fit(|x| series.evaluate(x), lower, lower + width, degree).unwrap();
            for (a, b) in series.coefficients().iter().zip(fitted.coefficients()) {
                prop_assert!((a - b).abs() < 1e-12, "{a} against {b}");
            }
        }
    }

    #[test]
    fn exp_on_the_unit_interval_converges_geometrically() {
        for (degree, bound) in [(3, 7e-3), (7, 3e-7), (15, 1e-14)] {
            let series = ChebyshevSeries::fit(f64::exp, -1.0, 1.0, degree).unwrap();
            let error = series.max_error(f64::exp, 1000);
            assert!(error < bound, "degree {degree}: error {error:e}");
        }
    }

    #[test]
    fn fit_to_error_takes_the_least_depth() {
        let series = ChebyshevSeries::fit_to_error(f64::exp, -1.0, 1.0, 1e-6, 8).unwrap();
        assert_eq!(series.degree(), 7);
        assert!(ChebyshevSeries::fit_to_error(|x| x.abs(), -1.0, 1.0, 1e-9, 5).is_err());
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(ChebyshevSeries::fit(f64::exp, 1.0, 1.0, 3).is_err());
        assert!(ChebyshevSeries::fit(|x| 1.0 / (x - x), 0.0, 1.0, 3).is_err());
        assert!(ChebyshevSeries::fit(f64::exp, 0.0, 1.0, usize::MAX).is_err());
        assert!(ChebyshevSeries::new(vec![], 0.0, 1.0).is_err());
        assert!(ChebyshevSeries::new(vec![f64::NAN], 0.0, 1.0).is_err());
    }
}
