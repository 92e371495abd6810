//! The key of one automorphism.
//!
//! A rotation left by k is X → X^g with g = 5^k modulo 2N, conjugation X → X^{−1}. The automorphism φ turns an
//! encryption under s into one under φ(s), from which a key switch leads back. Keys here lead from s to φ^{−1}(s)
//! instead, so that φ is applied once, after the division by P, and not to every digit before.

use super::key_switching_key::KeySwitchingKey;
use super::secret::SecretKey;
use crate::ckks::Parameters;
use crate::contract::{Level, Result};
use crate::ring::{Automorphism, Randomness, inverse_element};

/// The key of one automorphism φ, from s to φ^{−1}(s), up to a level.
pub(crate) struct GaloisKey {
    pub(crate) key: KeySwitchingKey,
    pub(crate) automorphism: Automorphism,
    pub(crate) level: Level,
}

impl GaloisKey {
    /// Key of X → X^`element`, usable up to `level`.
    ///
    /// # Errors
    /// [`crate::Error::LevelOutOfRange`] for a level outside the chain.
    pub(super) fn generate(
        parameters: &Parameters,
        secret: &SecretKey,
        element: u64,
        level: Level,
        randomness: &mut Randomness,
    ) -> Result<Self> {
        let ring = parameters.ring();
        let log2_n = ring.log2_n();
        let secret = secret.evaluations();
        let image = secret.image(ring, &Automorphism::new(inverse_element(element, log2_n), log2_n))?;
        let limbs = parameters.limbs(level)?;
        let key = KeySwitchingKey::generate(ring, secret, &image, limbs, ring.special_limbs(), randomness)?;
        Ok(Self { key, automorphism: Automorphism::new(element, log2_n), level })
    }
}
