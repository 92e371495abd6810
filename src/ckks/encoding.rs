//! Slot values to residues of a polynomial, and centred coefficients back from residues.
//!
//! [`Encoder`] gives real coefficients rounded to integers; here they are reduced modulo every prime of a level and
//! transformed. Domains: coefficients in f64 and in residues, then evaluations.

use zeroize::{Zeroize, Zeroizing};

use super::rlwe::SecretPolynomial;
use super::{Encoder, Parameters};
use crate::contract::checks::check_values;
use crate::contract::{Complex64, Error, Level, Result, Scale};
use crate::ring::{Coefficients, Evaluations, Limb, Prime, RingContext, RnsPolynomial};

/// Largest coefficient that the f64 kernels reduce exactly.
const EXACT_COEFFICIENT: f64 = 4_503_599_627_370_496.0; // 2^52

/// Primes whose product holds any message with its noise: three of 50 bits.
const MESSAGE_LIMBS: usize = 3;

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
    /// Those of [`check_values`].
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
    /// [`Error::Internal`] for a limb that does not exist.
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
    /// [`Error::Internal`] for limbs that do not exist.
    pub(super) fn polynomial(&self, ring: &RingContext, limbs: usize) -> Result<RnsPolynomial<Evaluations>> {
        let mut polynomial = RnsPolynomial::unspecified(ring, limbs, 0);
        polynomial.fill(ring, |limb, _, row| self.fill_row(ring, limb, row))?;
        Ok(polynomial)
    }

    /// Evaluations of a message that is a secret, as [`Self::polynomial`]; the coefficients are wiped.
    ///
    /// # Errors
    /// [`Error::Internal`] for limbs that do not exist.
    pub(super) fn into_secret(
        mut self,
        ring: &RingContext,
        limbs: usize,
    ) -> Result<SecretPolynomial<Evaluations>> {
        let message = self.polynomial(ring, limbs).map(SecretPolynomial::new);
        self.values.zeroize();
        message
    }
}

/// Limbs that a message is read from, of the `limbs` a ciphertext has.
pub(super) fn message_limbs(limbs: usize) -> usize {
    limbs.min(MESSAGE_LIMBS)
}

/// The N centred coefficients of a polynomial over a few primes of the chain, as f64: exact below 2^53, the nearest f64 up
/// to roundings above.
///
/// # Errors
/// [`Error::Internal`] for a row that has not N words.
pub(super) fn centred_coefficients(
    ring: &RingContext,
    polynomial: &SecretPolynomial<Coefficients>,
) -> Result<Zeroizing<Vec<f64>>> {
    // Garner: mixed-radix digits, each centred, so that the sum of digit · weight is the centred representative up to ties.
    let mut values = Zeroizing::new(vec![0.0; ring.degree()]);
    let mut digits: Vec<(&Prime, Zeroizing<Vec<i64>>)> = Vec::with_capacity(MESSAGE_LIMBS);
    let mut weight = 1.0;
    for (limb, row) in polynomial.polynomial().rows(ring) {
        if row.len() != ring.degree() {
            return Err(Error::Internal(format!(
                "a row of {} words for degree {}",
                row.len(),
                ring.degree()
            )));
        }
        let prime = ring.prime(limb)?;
        let mut residues = Zeroizing::new(row.to_vec());
        for (earlier, digits) in &digits {
            let inverse = prime.inv(prime.reduce(earlier.value()));
            for (residue, digit) in residues.iter_mut().zip(digits.iter()) {
                *residue = prime.mul(prime.sub(*residue, prime.reduce_signed(*digit)), inverse);
            }
        }
        let centred: Zeroizing<Vec<i64>> =
            Zeroizing::new(residues.iter().map(|residue| prime.centred(*residue)).collect());
        for (value, digit) in values.iter_mut().zip(centred.iter()) {
            *value += *digit as f64 * weight;
        }
        digits.push((prime, centred));
        weight *= prime.value() as f64;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;

    use super::*;
    use crate::ring::primes_near;

    #[test]
    fn centred_coefficients_are_the_integers_that_were_reduced() {
        let primes = primes_near(2f64.powi(49), 5, MESSAGE_LIMBS, &[]).unwrap();
        let ring = RingContext::new(5, &primes, &[]).unwrap();
        for limbs in 1..=MESSAGE_LIMBS {
            let modulus: BigInt = primes.iter().take(limbs).map(|p| BigInt::from(*p)).product();
            let half: BigInt = &modulus / 2;
            let integers: Vec<BigInt> = (0..32)
                .map(|k| match k {
                    0 => half.clone(),
                    1 => -half.clone(),
                    2 => BigInt::from(0),
                    _ => (BigInt::from(k) << (3 * k)) * if k % 2 == 0 { 1 } else { -1 } % &half,
                })
                .collect();
            let words: Vec<u64> = primes
                .iter()
                .take(limbs)
                .flat_map(|p| {
                    let p = BigInt::from(*p);
                    integers.iter().map(move |x| u64::try_from(((x % &p) + &p) % &p).unwrap())
                })
                .collect();
            let polynomial =
                SecretPolynomial::new(RnsPolynomial::from_words(&ring, words, limbs, 0).unwrap());
            let found = centred_coefficients(&ring, &polynomial).unwrap();
            for (index, (found, wanted)) in found.iter().zip(&integers).enumerate() {
                let wanted: f64 = wanted.to_string().parse().unwrap();
                let error = (found - wanted).abs() / wanted.abs().max(1.0);
                assert!(error < 2f64.powi(-50), "{limbs} limbs, coefficient {index}: {found} for {wanted}");
            }
        }
    }
}
