//! The evaluation keys of one client: relinearization, conjugation and rotation keys, each up to its own level.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{KeySwitchingKey, Parameters, SecretKey};
use crate::contract::{Error, KeyRequest, Level, Result};
use crate::ring::{Automorphism, Randomness, conjugation_element, rotation_element};

/// Key of one automorphism.
///
/// The key goes from s to φ^{-1}(s), so that the automorphism is applied once, after the division by P, instead of to
/// every digit before.
pub(crate) struct GaloisKey {
    pub(crate) key: KeySwitchingKey,
    pub(crate) automorphism: Automorphism,
    pub(crate) level: Level,
}

/// Everything an evaluator needs; no secret. Without any key by default.
#[derive(Default)]
pub struct EvaluationKeys {
    pub(super) relinearization: Option<(KeySwitchingKey, Level)>,
    pub(super) conjugation: Option<GaloisKey>,
    pub(super) rotations: BTreeMap<usize, Arc<GaloisKey>>,
}

impl EvaluationKeys {
    /// Generates what `request` asks for (bootstrapping keys apart).
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for levels outside the chain.
    pub fn generate(
        parameters: &Parameters,
        secret: &SecretKey,
        request: &KeyRequest,
        randomness: &mut Randomness,
    ) -> Result<Self> {
        let ring = parameters.ring();
        let special = ring.special_limbs();
        let relinearization = request
            .relinearization
            .map(|level| -> Result<_> {
                let square = secret.evaluations().mul(ring, secret.evaluations())?;
                let limbs = parameters.limbs(level)?;
                let key = KeySwitchingKey::generate(ring, &square, secret, limbs, special, randomness)?;
                Ok((key, level))
            })
            .transpose()?;
        let conjugation = request
            .conjugation
            .map(|level| {
                galois_key(parameters, secret, conjugation_element(ring.log2_n()), level, randomness)
            })
            .transpose()?;
        let rotations = request
            .rotations
            .iter()
            .map(|(step, level)| {
                let element = rotation_element(*step, ring.log2_n());
                Ok((*step, Arc::new(galois_key(parameters, secret, element, *level, randomness)?)))
            })
            .collect::<Result<BTreeMap<_, _>>>()?;
        Ok(Self { relinearization, conjugation, rotations })
    }

    /// Bytes of the keys of `request` in memory, known before they are generated.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for levels outside the chain.
    pub fn predicted_bytes(parameters: &Parameters, request: &KeyRequest) -> Result<u64> {
        let ring = parameters.ring();
        request
            .rotations
            .values()
            .chain(request.relinearization.iter())
            .chain(request.conjugation.iter())
            .map(|level| {
                let limbs = parameters.limbs(*level)?;
                Ok(KeySwitchingKey::predicted_bytes(ring.degree(), limbs, ring.special_limbs()))
            })
            .sum()
    }

    /// Bytes these keys hold in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.rotations.values().map(|key| key.key.bytes()).sum::<u64>()
            + self.conjugation.as_ref().map_or(0, |key| key.key.bytes())
            + self.relinearization.as_ref().map_or(0, |(key, _)| key.bytes())
    }

    /// The key of the rotation by `step`, usable at `level`.
    ///
    /// # Errors
    /// [`Error::RotationKey`].
    pub(crate) fn rotation(&self, step: usize, level: Level) -> Result<&GaloisKey> {
        let key = self.rotations.get(&step);
        key.filter(|key| key.level >= level).map(AsRef::as_ref).ok_or(Error::RotationKey {
            step,
            level,
            available: key.map(|key| key.level),
        })
    }

    /// The conjugation key, usable at `level`.
    ///
    /// # Errors
    /// [`Error::EvaluationKey`].
    pub(crate) fn conjugation(&self, level: Level) -> Result<&GaloisKey> {
        let usable = self.conjugation.as_ref().filter(|key| key.level >= level);
        usable.ok_or(Error::EvaluationKey { key: "conjugation", level })
    }

    /// The relinearization key, usable at `level`.
    ///
    /// # Errors
    /// [`Error::EvaluationKey`].
    pub(crate) fn relinearization(&self, level: Level) -> Result<&KeySwitchingKey> {
        let usable = self.relinearization.as_ref().filter(|(_, top)| *top >= level);
        usable.map(|(key, _)| key).ok_or(Error::EvaluationKey { key: "relinearization", level })
    }
}

/// Key of the automorphism of `element`, from s to φ^{-1}(s), up to `level`.
fn galois_key(
    parameters: &Parameters,
    secret: &SecretKey,
    element: u64,
    level: Level,
    randomness: &mut Randomness,
) -> Result<GaloisKey> {
    let ring = parameters.ring();
    let log2_n = ring.log2_n();
    // g^{-1} modulo 2N: the group has exponent N/2, so g^{N/2 − 1} is the inverse.
    let modulus = 2u64 << log2_n;
    let inverse = (0..ring.degree() / 2 - 1).fold(1u64, |product, _| product * element % modulus);
    let target = SecretKey::image(secret, ring, &Automorphism::new(inverse, log2_n))?;
    let limbs = parameters.limbs(level)?;
    let key = KeySwitchingKey::generate(
        ring,
        secret.evaluations(),
        &target,
        limbs,
        ring.special_limbs(),
        randomness,
    )?;
    Ok(GaloisKey { key, automorphism: Automorphism::new(element, log2_n), level })
}
