//! Slot values to residues of a polynomial.
//!
//! [`Encoder`] gives real coefficients rounded to integers; here they are reduced modulo every prime of a level and
//! transformed. Domains: coefficients in f64 and in residues, then evaluations.

use zeroize::Zeroize;

use super::{Encoder, Parameters};
use crate::contract::checks::check_values;
use crate::contract::{Complex64, Level, Result, Scale};
use crate::ring::{Evaluations, Limb, RingContext, RnsPolynomial};

/// Largest coefficient that the f64 kernels reduce exactly.
const EXACT_COEFFICIENT: f64 = 4_503_599_627_370_496.0; // 2^52

/// The N integer coefficients of an encoded vector, as f64, ready to be reduced limb by limb.
pub(super) struct EncodedCoefficients {
    values: Vec<f64>,
    /// Whether all are small enough for the f64 kernels.
    exact: bool,
}

impl EncodedCoefficients {
    /// Encodes at most S `values` at `scale`, checked against the modulus at `level`. One complex FFT of S points.
    ///
    /// # Errors
    /// [`crate::Error::TooManyValues`], [`crate::Error::BadValue`], [`crate::Error::ScaleOutOfRange`] and
    /// [`crate::Error::LevelOutOfRange`] for what cannot be encoded ([`check_values`]).
    pub(super) fn new(
        parameters: &Parameters,
        encoder: &Encoder,
        operation: &'static str,
        values: &[Complex64],
        level: Level,
        scale: Scale,
    ) -> Result<Self> {
        check_values(operation, parameters.chain(), parameters.slots(), values, level, scale)?;
        let values = encoder.encode(values, scale.0)?;
        let exact = values.iter().all(|c| c.abs() < EXACT_COEFFICIENT);
        Ok(Self { values, exact })
    }

    /// Evaluations modulo one prime: `row` is overwritten. One NTT.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] for a limb that does not exist.
    pub(super) fn fill_row(&self, ring: &RingContext, limb: Limb, row: &mut [u64]) -> Result<()> {
        let prime = ring.prime(limb)?;
        if self.exact {
            ring.kernels().reduce_floats(prime, row, &self.values);
        } else {
            for (out, c) in row.iter_mut().zip(&self.values) {
                *out = prime.reduce_wide(*c as i128);
            }
        }
        ring.plan(limb)?.forward(row);
        Ok(())
    }

    /// Evaluations over the lowest `limbs` primes of the chain. One NTT a limb.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] for limbs that do not exist.
    pub(super) fn polynomial(&self, ring: &RingContext, limbs: usize) -> Result<RnsPolynomial<Evaluations>> {
        let mut polynomial = RnsPolynomial::unspecified(ring, limbs, 0);
        polynomial.fill(ring, |limb, _, row| self.fill_row(ring, limb, row))?;
        Ok(polynomial)
    }

    /// Overwrites the coefficients, when they are a client's secret.
    pub(super) fn wipe(mut self) {
        self.values.zeroize();
    }
}
