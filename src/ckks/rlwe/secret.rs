//! Secrets: polynomials that wipe themselves, and the secret key. Client side only; nothing on the evaluator's side can
//! name them.

use zeroize::{Zeroize, Zeroizing};

use crate::ckks::Parameters;
use crate::contract::Result;
use crate::ring::{
    Automorphism, Coefficients, Domain, Evaluations, Limb, Randomness, RingContext, RnsPolynomial,
    sample_sparse_ternary, sample_ternary,
};

/// A polynomial that nobody but the holder of the secret key may see: the secret, its square and images, an ephemeral
/// secret, the randomness of a public-key encryption, a message before encryption or after decryption.
///
/// Its words are wiped before their buffer returns to the pool. Neither `Clone` nor printed; what reads it borrows
/// its rows.
pub(crate) struct SecretPolynomial<D: Domain>(RnsPolynomial<D>);

impl<D: Domain> SecretPolynomial<D> {
    /// Takes a polynomial into its care: from now on it is wiped when dropped.
    pub(crate) fn new(polynomial: RnsPolynomial<D>) -> Self {
        Self(polynomial)
    }

    /// The polynomial, to compute with. What is computed from it is the caller's to keep secret.
    pub(crate) fn polynomial(&self) -> &RnsPolynomial<D> {
        &self.0
    }

    /// The row of one limb.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the polynomial does not have it.
    pub(crate) fn row(&self, ring: &RingContext, limb: Limb) -> Result<&[u64]> {
        self.0.row(ring, limb)
    }

    /// Takes the polynomial out; nothing secret remains behind.
    fn take(mut self, ring: &RingContext) -> RnsPolynomial<D> {
        std::mem::replace(&mut self.0, RnsPolynomial::zero(ring, 0, 0))
    }
}

impl SecretPolynomial<Evaluations> {
    /// The polynomial of small signed coefficients, as evaluations over `chain_limbs` primes of the chain and
    /// `special_limbs` special ones. One NTT a limb.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when there are not N coefficients.
    pub(crate) fn from_signed(
        ring: &RingContext,
        coefficients: &[i64],
        chain_limbs: usize,
        special_limbs: usize,
    ) -> Result<Self> {
        RnsPolynomial::<Coefficients>::from_signed(ring, coefficients, chain_limbs, special_limbs)?
            .into_evaluations(ring)
            .map(Self)
    }

    /// s², over the limbs of s.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] never in practice: the limbs exist.
    pub(crate) fn square(&self, ring: &RingContext) -> Result<Self> {
        self.0.mul(ring, &self.0).map(Self)
    }

    /// The image under an automorphism.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] never in practice: the limbs exist.
    pub(crate) fn image(&self, ring: &RingContext, automorphism: &Automorphism) -> Result<Self> {
        self.0.automorphism(ring, automorphism).map(Self)
    }

    /// c_0 + c_1·s on the lowest `limbs` primes, the phase of a ciphertext: its message with its noise.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when a half lacks a limb.
    pub(crate) fn phase(
        &self,
        ring: &RingContext,
        c0: &RnsPolynomial<Evaluations>,
        c1: &RnsPolynomial<Evaluations>,
        limbs: usize,
    ) -> Result<Self> {
        let mut phase = Self(c0.truncate(ring, limbs)?);
        phase.0.multiply_accumulate(ring, c1, &self.0)?;
        Ok(phase)
    }

    /// The polynomial as coefficients, in place. One inverse NTT a limb.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] never in practice: the limbs exist.
    pub(crate) fn into_coefficients(self, ring: &RingContext) -> Result<SecretPolynomial<Coefficients>> {
        self.take(ring).into_coefficients(ring).map(SecretPolynomial)
    }
}

impl<D: Domain> Drop for SecretPolynomial<D> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A ternary secret s, as coefficients and as evaluations over all primes. Wiped when dropped, neither `Clone` nor
/// printed.
pub struct SecretKey {
    coefficients: Zeroizing<Vec<i64>>,
    evaluations: SecretPolynomial<Evaluations>,
}

impl SecretKey {
    /// A uniform ternary secret.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] never in practice: the limbs exist.
    pub fn generate(parameters: &Parameters, randomness: &mut Randomness) -> Result<Self> {
        Self::from_coefficients(parameters, sample_ternary(parameters.ring().degree(), randomness))
    }

    /// An ephemeral sparse ternary secret of Hamming weight `weight`, for sparse-secret encapsulation only: its keys
    /// must stay below a much smaller modulus.
    ///
    /// # Errors
    /// [`crate::Error::Parameters`] when the weight exceeds the degree.
    pub fn generate_sparse(
        parameters: &Parameters,
        weight: usize,
        randomness: &mut Randomness,
    ) -> Result<Self> {
        Self::from_coefficients(
            parameters,
            sample_sparse_ternary(parameters.ring().degree(), weight, randomness)?,
        )
    }

    /// The secret of known coefficients, to read a stored key.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when there are not N coefficients.
    pub fn from_coefficients(parameters: &Parameters, coefficients: Zeroizing<Vec<i64>>) -> Result<Self> {
        let ring = parameters.ring();
        let evaluations =
            SecretPolynomial::from_signed(ring, &coefficients, ring.chain_limbs(), ring.special_limbs())?;
        Ok(Self { coefficients, evaluations })
    }

    /// The ternary coefficients.
    #[must_use]
    pub fn coefficients(&self) -> &[i64] {
        &self.coefficients
    }

    /// The secret as evaluations over all primes.
    pub(crate) fn evaluations(&self) -> &SecretPolynomial<Evaluations> {
        &self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::primes_near;

    /// Buffers of dropped secrets come back from the pool as zeros. Other tests use the same pool and may have been
    /// there in between, hence the tries; without wiping none of them would find zeros.
    #[test]
    fn dropped_secrets_are_wiped_before_their_buffer_is_used_again() {
        // Large enough to be pooled.
        let chain = primes_near(2f64.powi(49), 14, 3, &[]).unwrap();
        let ring = RingContext::new(14, &chain, &[]).unwrap();
        let coefficients = sample_ternary(ring.degree(), &mut Randomness::from_insecure_fixed_seed(8));
        let wiped = (0..64).any(|_| {
            let secret = SecretPolynomial::from_signed(&ring, &coefficients, 3, 0).unwrap();
            let square = secret.square(&ring).unwrap().into_coefficients(&ring).unwrap();
            let places = [secret.0.words().as_ptr(), square.0.words().as_ptr()];
            assert!(secret.0.words().iter().any(|word| *word != 0));
            drop((secret, square));
            let stale = RnsPolynomial::<Evaluations>::unspecified(&ring, 3, 0);
            places.contains(&stale.words().as_ptr()) && stale.words().iter().all(|word| *word == 0)
        });
        assert!(wiped, "no buffer of a dropped secret came back as zeros");
    }
}
