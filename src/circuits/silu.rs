//! SiLU, x/(1 + e^(−x)), by one polynomial over an asymmetric interval.
//!
//! At the argument zero the polynomial is off by its error, not zero: slots that carry no value must be masked, or
//! multiplied by something that is zero there (the up projection of SwiGLU).

use super::approximation::{Approximation, ErrorMeasure, Interval};
use crate::contract::Result;

/// x/(1 + e^(−x)).
#[must_use]
pub fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// SiLU over `interval` with the least depth for an absolute error of `target`, divided by `normaliser` so that later
/// products stay small. Levels ⌈log2(degree + 1)⌉; outside the interval the polynomial grows without bound.
///
/// # Errors
/// [`crate::Error::Plan`] when degree 255 does not reach the target ([`Approximation::fit`]).
pub fn fit_silu(interval: Interval, target: f64, normaliser: f64) -> Result<Approximation> {
    Approximation::fit(|x| silu(x) / normaliser, interval, ErrorMeasure::Absolute, target / normaliser)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_for_an_error_of_three_thousandths_grow_with_the_interval() {
        for (low, high, degree) in [(-4.0, 5.0, 15), (-8.0, 9.0, 31), (-15.0, 16.0, 63)] {
            let fit = fit_silu(Interval::new(low, high).unwrap(), 3e-3, 1.0).unwrap();
            assert!(fit.degree() <= degree, "{low} .. {high}: degree {}", fit.degree());
        }
    }
}
