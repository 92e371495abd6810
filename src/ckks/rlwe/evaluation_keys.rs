//! The evaluation keys of one client: relinearization, conjugation and rotation keys, each up to its own level.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::galois::GaloisKey;
use super::key_switching_key::KeySwitchingKey;
use super::secret::SecretKey;
use crate::ckks::Parameters;
use crate::contract::checks::{check_evaluation_key, check_rotation_key};
use crate::contract::{Error, KeyRequest, Level, Result};
use crate::ring::{Randomness, conjugation_element, rotation_element};

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
                let secret = secret.evaluations();
                let limbs = parameters.limbs(level)?;
                let key = KeySwitchingKey::generate(
                    ring,
                    &secret.square(ring)?,
                    secret,
                    limbs,
                    special,
                    randomness,
                )?;
                Ok((key, level))
            })
            .transpose()?;
        let conjugation = request
            .conjugation
            .map(|level| {
                GaloisKey::generate(parameters, secret, conjugation_element(ring.log2_n()), level, randomness)
            })
            .transpose()?;
        let rotations = request
            .rotations
            .iter()
            .map(|(step, level)| {
                let element = rotation_element(*step, ring.log2_n());
                Ok((*step, Arc::new(GaloisKey::generate(parameters, secret, element, *level, randomness)?)))
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

    /// The key of the rotation by a nonzero `step`, usable at `level`.
    ///
    /// # Errors
    /// [`Error::RotationKey`].
    pub(crate) fn rotation(&self, step: usize, level: Level) -> Result<&GaloisKey> {
        let key = self.rotations.get(&step);
        check_rotation_key(step, level, key.map(|key| key.level))?;
        key.map(AsRef::as_ref).ok_or(Error::RotationKey { step, level, available: None })
    }

    /// The conjugation key, usable at `level`.
    ///
    /// # Errors
    /// [`Error::EvaluationKey`].
    pub(crate) fn conjugation(&self, level: Level) -> Result<&GaloisKey> {
        const KEY: &str = "conjugation";
        check_evaluation_key(KEY, level, self.conjugation.as_ref().map(|key| key.level))?;
        self.conjugation.as_ref().ok_or(Error::EvaluationKey { key: KEY, level })
    }

    /// The relinearization key, usable at `level`.
    ///
    /// # Errors
    /// [`Error::EvaluationKey`].
    pub(crate) fn relinearization(&self, level: Level) -> Result<&KeySwitchingKey> {
        const KEY: &str = "relinearization";
        check_evaluation_key(KEY, level, self.relinearization.as_ref().map(|(_, top)| *top))?;
        self.relinearization.as_ref().map(|(key, _)| key).ok_or(Error::EvaluationKey { key: KEY, level })
    }
}
