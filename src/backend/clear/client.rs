//! The client of the simulator.

use std::sync::Arc;

use super::ciphertext::ClearCiphertext;
use super::evaluator::ClearEvaluator;
use super::noise::NoiseSource;
use super::parameters::ClearParameters;
use crate::contract::checks::check_values;
use crate::contract::{CiphertextInfo, Client, Complex64, Error, KeyRequest, Level, Result};

/// Client of the simulator. Holds no secret: nothing is encrypted.
pub struct ClearClient {
    parameters: Arc<ClearParameters>,
    noise: Option<NoiseSource>,
}

impl ClearClient {
    /// Client for `parameters`.
    #[must_use]
    pub fn new(parameters: ClearParameters) -> Self {
        let noise = parameters.noise.map(NoiseSource::of_client);
        Self { parameters: Arc::new(parameters), noise }
    }

    /// A ciphertext without slot values, at the canonical scale of `level`. Operations on it keep levels and scales,
    /// record keys and are refused as on any other, but compute nothing and never ask for a lazy diagonal: to count
    /// vectors too large to compute.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for a level outside the chain.
    pub fn encrypt_blank(&self, level: Level) -> Result<ClearCiphertext> {
        Ok(ClearCiphertext::new(Vec::new(), level, self.parameters.chain.canonical_scale(level)?))
    }

    /// Evaluator that has every key and records which ones are used; see [`ClearEvaluator::recorded`].
    #[must_use]
    pub fn dry_run(&self) -> ClearEvaluator {
        ClearEvaluator::dry_run((*self.parameters).clone())
    }
}

impl Client for ClearClient {
    type Evaluator = ClearEvaluator;

    fn slots(&self) -> usize {
        self.parameters.slots
    }

    fn encrypt(&self, values: &[Complex64], level: Level) -> Result<ClearCiphertext> {
        let scale = self.parameters.chain.canonical_scale(level)?;
        check_values("encrypt", &self.parameters.chain, self.parameters.slots, values, level, scale)?;
        let mut slots = values.to_vec();
        slots.resize(self.parameters.slots, Complex64::ZERO);
        if let Some(noise) = &self.noise {
            noise.encryption(&mut slots, scale);
        }
        Ok(ClearCiphertext::new(slots, level, scale))
    }

    fn decrypt(&self, ciphertext: &ClearCiphertext) -> Result<Vec<Complex64>> {
        if ciphertext.values().len() != self.parameters.slots {
            return Err(Error::ParameterMismatch {
                operation: "decrypt",
                given: format!("{} slots", ciphertext.values().len()),
                wanted: format!("{} slots", self.parameters.slots),
            });
        }
        self.parameters.chain.check(ciphertext.level(), "decrypt")?;
        Ok(ciphertext.values().to_vec())
    }

    fn evaluator(&self, request: &KeyRequest) -> Result<ClearEvaluator> {
        ClearEvaluator::with_keys((*self.parameters).clone(), request.clone())
    }
}
