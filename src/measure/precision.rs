//! Precision in bits: −log2 of the absolute error.

use serde::{Deserialize, Serialize};

use crate::contract::{Complex64, Error, Result};

/// Bits above which an error counts as zero: f64 cannot tell smaller ones from its own rounding.
const MOST_BITS: f64 = 60.0;

/// Which parts of complex slots carry data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Real and imaginary parts.
    Complex,
    /// Real parts only.
    Real,
}

/// How near values came to those wanted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Precision {
    /// −log2 of the largest error of any part of any slot, at most 60.
    pub min_bits: f64,
    /// Mean over the parts of all slots of −log2 of their error, each at most 60.
    pub mean_bits: f64,
    /// Root of the mean square of the errors.
    pub rms_error: f64,
}

impl Precision {
    /// Precision of decrypted slots. Real and imaginary parts count as values of their own.
    ///
    /// # Errors
    /// [`Error::Shape`] when the two slices differ in length or are empty; [`Error::BadValue`] when a found slot is
    /// NaN or infinite.
    pub fn of_slots(found: &[Complex64], wanted: &[Complex64], parts: Parts) -> Result<Self> {
        if found.len() != wanted.len() {
            return Err(Error::Shape {
                operation: "precision",
                what: format!("{} slots found, {} wanted", found.len(), wanted.len()),
                remedy: "compare as many slots as were computed".to_owned(),
            });
        }
        let count = match parts {
            Parts::Complex => 2,
            Parts::Real => 1,
        };
        let errors: Vec<f64> = found
            .iter()
            .zip(wanted)
            .flat_map(|(found, wanted)| {
                let error = found - wanted;
                [error.re, error.im].into_iter().take(count)
            })
            .collect();
        Self::of_errors(&errors)
    }

    /// Precision from errors of either sign.
    ///
    /// # Errors
    /// [`Error::Shape`] without any error; [`Error::BadValue`] when one is NaN or infinite.
    pub fn of_errors(errors: &[f64]) -> Result<Self> {
        if errors.is_empty() {
            return Err(Error::Shape {
                operation: "precision",
                what: "no values to compare".to_owned(),
                remedy: "compare at least one slot".to_owned(),
            });
        }
        let (mut min_bits, mut sum_bits, mut squares) = (MOST_BITS, 0.0, 0.0);
        for (index, error) in errors.iter().enumerate() {
            if !error.is_finite() {
                let (value, bound) = (error.to_string(), f64::MAX);
                return Err(Error::BadValue { operation: "precision", index, value, bound });
            }
            let bits = -error.abs().max((-MOST_BITS).exp2()).log2();
            min_bits = min_bits.min(bits);
            sum_bits += bits;
            squares += error * error;
        }
        let count = errors.len() as f64;
        Ok(Self { min_bits, mean_bits: sum_bits / count, rms_error: (squares / count).sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_worst_part_and_of_the_mean() {
        let wanted = [Complex64::new(1.0, 2.0), Complex64::new(0.0, 0.0)];
        let found = [Complex64::new(1.0 + 0.25, 2.0 - 0.5), Complex64::new(0.0625, 0.0)];
        let complex = Precision::of_slots(&found, &wanted, Parts::Complex).unwrap();
        assert_eq!((complex.min_bits, complex.mean_bits), (1.0, (2.0 + 1.0 + 4.0 + 60.0) / 4.0));
        let mean_square = (0.25f64.powi(2) + 0.5f64.powi(2) + 0.0625f64.powi(2)) / 4.0;
        assert!((complex.rms_error - mean_square.sqrt()).abs() < 1e-15, "{complex:?}");
        let real = Precision::of_slots(&found, &wanted, Parts::Real).unwrap();
        assert_eq!((real.min_bits, real.mean_bits), (2.0, 3.0));
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let one = [Complex64::new(f64::NAN, 0.0)];
        assert!(Precision::of_slots(&one, &[], Parts::Real).unwrap_err().to_string().contains("1 slots"));
        assert!(Precision::of_slots(&[], &[], Parts::Real).is_err());
        let error = Precision::of_slots(&one, &[Complex64::ZERO], Parts::Real).unwrap_err().to_string();
        assert!(error.contains("NaN") && error.contains("index 0"), "{error}");
    }
}
