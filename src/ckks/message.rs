//! Messages of the client: slot values before encryption and after decryption, as polynomials that nobody else may see.
//!
//! Domains: evaluations before encryption; coefficients, in residues and then in f64, after decryption.

use zeroize::Zeroizing;

use super::encoding::EncodedCoefficients;
use super::rlwe::SecretPolynomial;
use super::{Encoder, Parameters};
use crate::contract::{Complex64, Error, Level, Result};
use crate::ring::{Coefficients, Evaluations, Prime, RingContext};

/// Primes whose product holds any message with its noise: three of 50 bits.
const MESSAGE_LIMBS: usize = 3;

/// At most S `values` encoded at `level` and its canonical scale. One FFT of S points, one NTT a limb; what it is
/// made of on the way is wiped, but for the scratch of the FFT.
///
/// # Errors
/// [`Error::TooManyValues`], [`Error::BadValue`], [`Error::LevelOutOfRange`].
pub(super) fn secret_message(
    parameters: &Parameters,
    encoder: &Encoder,
    values: &[Complex64],
    level: Level,
) -> Result<SecretPolynomial<Evaluations>> {
    let scale = parameters.chain().canonical_scale(level)?;
    let coefficients = EncodedCoefficients::new(parameters, encoder, "encrypt", values, level, scale)?;
    let message = coefficients.polynomial(parameters.ring(), parameters.limbs(level)?);
    coefficients.wipe();
    message.map(SecretPolynomial::new)
}

/// Limbs that a message is read from, of the `limbs` a ciphertext has.
pub(super) fn message_limbs(limbs: usize) -> usize {
    limbs.min(MESSAGE_LIMBS)
}

/// The N centred coefficients of a polynomial over a few primes of the chain, as f64: exact below 2^53, the nearest
/// f64 up to roundings above.
///
/// # Errors
/// [`Error::Internal`] for a row that has not N words.
pub(super) fn centred_coefficients(
    ring: &RingContext,
    polynomial: &SecretPolynomial<Coefficients>,
) -> Result<Zeroizing<Vec<f64>>> {
    // Garner: mixed-radix digits, each centred, so that the sum of digit · weight is the centred representative up to
    // ties.
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
    use crate::ring::{RnsPolynomial, primes_near};

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
