//! The secret key. Client side only; nothing on the evaluator's side can name it.

use zeroize::{Zeroize, Zeroizing};

use super::Parameters;
use crate::contract::Result;
use crate::ring::{
    Automorphism, Coefficients, Evaluations, Randomness, RingContext, RnsPolynomial, sample_sparse_ternary,
    sample_ternary,
};

/// A ternary secret, as evaluations over all primes. Wiped when dropped, neither `Clone` nor printed.
pub struct SecretKey {
    coefficients: Zeroizing<Vec<i64>>,
    evaluations: RnsPolynomial<Evaluations>,
}

impl SecretKey {
    /// A uniform ternary secret.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] never in practice: the limbs exist.
    pub fn generate(parameters: &Parameters, randomness: &mut Randomness) -> Result<Self> {
        Self::from_coefficients(parameters, sample_ternary(parameters.ring().degree(), randomness))
    }

    /// An ephemeral sparse ternary secret of Hamming weight `weight`, for sparse-secret encapsulation only: its keys must stay
    /// below a much smaller modulus.
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
        let evaluations = RnsPolynomial::<Coefficients>::from_signed(
            ring,
            &coefficients,
            ring.chain_limbs(),
            ring.special_limbs(),
        )?
        .into_evaluations(ring)?;
        Ok(Self { coefficients, evaluations })
    }

    /// The ternary coefficients.
    #[must_use]
    pub fn coefficients(&self) -> &[i64] {
        &self.coefficients
    }

    /// The image of the secret under an automorphism, itself a secret.
    pub(crate) fn image(&self, ring: &RingContext, automorphism: &Automorphism) -> Result<Self> {
        let evaluations = self.evaluations.automorphism(ring, automorphism)?;
        // Coefficients are not needed of an image: it only serves to make keys.
        Ok(Self { coefficients: Zeroizing::new(Vec::new()), evaluations })
    }

    /// The secret as evaluations over all primes.
    pub(crate) fn evaluations(&self) -> &RnsPolynomial<Evaluations> {
        &self.evaluations
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.evaluations.zeroize();
    }
}
