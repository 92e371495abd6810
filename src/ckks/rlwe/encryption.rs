//! Encryptions of zero: the one place where an error is added to a product with the secret.
//!
//! Ciphertexts, public keys, key-switching keys and the keys of ModRaise are all b = −a·s + e plus a message: Δm for a
//! ciphertext, P·s' for a key. Data: evaluations.

use crate::contract::Result;
use crate::ring::{
    Coefficients, Evaluations, Limb, Prime, Randomness, RingContext, RnsPolynomial, Seed, sample_error,
    uniform_limb,
};

use super::secret::SecretPolynomial;

/// A uniform half by its public seed and its number: encryptions that share a seed have numbers of their own.
#[derive(Clone, Copy)]
pub(crate) struct UniformHalf<'a> {
    pub(crate) seed: &'a Seed,
    pub(crate) number: u32,
}

impl UniformHalf<'_> {
    /// The half a over the lowest `chain_limbs` primes of the chain and the first `special_limbs` special ones.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] for limbs that do not exist.
    pub(crate) fn expand(
        self,
        ring: &RingContext,
        chain_limbs: usize,
        special_limbs: usize,
    ) -> Result<RnsPolynomial<Evaluations>> {
        let mut a = RnsPolynomial::unspecified(ring, chain_limbs, special_limbs);
        a.fill(ring, |limb, prime, row| {
            uniform_limb(self.seed, self.number, limb, prime, row);
            Ok(())
        })?;
        Ok(a)
    }
}

/// (b, a) with b = −a·s + e for a uniform a, expanded from a public seed, and a fresh error e of standard deviation
/// √10.
pub(crate) struct EncryptionOfZero {
    pub(crate) b: RnsPolynomial<Evaluations>,
    pub(crate) a: RnsPolynomial<Evaluations>,
}

impl EncryptionOfZero {
    /// Encryption under `secret` over the lowest `chain_limbs` primes of the chain and the first `special_limbs`
    /// special ones. The error comes from `randomness`, which nobody else may know. Cost: one NTT a limb.
    ///
    /// The error is sampled into b and the product is added there, in place: nothing secret is left elsewhere.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the secret lacks a limb.
    pub(crate) fn new(
        ring: &RingContext,
        secret: &SecretPolynomial<Evaluations>,
        chain_limbs: usize,
        special_limbs: usize,
        uniform: UniformHalf<'_>,
        randomness: &mut Randomness,
    ) -> Result<Self> {
        let error = sample_error(ring.degree(), randomness)?;
        let mut b = RnsPolynomial::<Coefficients>::from_signed(ring, &error, chain_limbs, special_limbs)?
            .into_evaluations(ring)?;
        let a = uniform.expand(ring, chain_limbs, special_limbs)?;
        let kernels = ring.kernels();
        b.fill(ring, |limb, prime, row| {
            // −(a·s − e): two negations in place save a row for a·s.
            kernels.negate(prime, row);
            kernels.multiply_accumulate(prime, row, a.row(ring, limb)?, secret.row(ring, limb)?);
            kernels.negate(prime, row);
            Ok(())
        })?;
        Ok(Self { b, a })
    }
}

/// P modulo a prime, for P the product of a ring's first `special_limbs` special primes.
///
/// # Errors
/// [`crate::Error::Internal`] for special primes that do not exist.
pub(crate) fn special_product(ring: &RingContext, prime: &Prime, special_limbs: usize) -> Result<u64> {
    (0..special_limbs).try_fold(1, |product, index| {
        Ok(prime.mul(product, prime.reduce(ring.prime(Limb::Special(index))?.value())))
    })
}

/// b += P·secret on the given primes of the chain, with P the product of the special primes of b: the message of a
/// switching key. (Modulo the special primes P is zero.)
///
/// # Errors
/// [`crate::Error::Internal`] when the secret lacks one of these limbs.
pub(crate) fn add_special_multiple(
    ring: &RingContext,
    b: &mut RnsPolynomial<Evaluations>,
    secret: &SecretPolynomial<Evaluations>,
    chain: std::ops::Range<usize>,
) -> Result<()> {
    let special_limbs = b.special_limbs();
    b.fill(ring, |limb, prime, row| {
        if matches!(limb, Limb::Chain(index) if chain.contains(&index)) {
            let factor = special_product(ring, prime, special_limbs)?;
            ring.kernels().multiply_scalar_accumulate(prime, row, secret.row(ring, limb)?, factor);
        }
        Ok(())
    })
}
