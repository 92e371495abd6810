//! The native client behind the contract.

use std::sync::Arc;

use crate::ckks::{Ciphertext, CkksClient, CkksEvaluator, Parameters};
use crate::contract::{Client, Complex64, Error, KeyRequest, Level, Result};
use crate::ring::Randomness;

/// Holder of the secret key of the native backend.
pub struct NativeClient {
    inner: CkksClient,
}

impl NativeClient {
    /// Client with a fresh secret key from the operating system's entropy.
    ///
    /// # Errors
    /// [`Error::Internal`] never in practice: the limbs exist.
    pub fn new(parameters: Arc<Parameters>) -> Result<Self> {
        Ok(Self { inner: CkksClient::new(parameters, Randomness::from_system())? })
    }

    /// Client whose secret key follows from `seed`, for reproducible tests only.
    ///
    /// # Errors
    /// [`Error::Internal`] never in practice: the limbs exist.
    pub fn from_insecure_fixed_seed(parameters: Arc<Parameters>, seed: u64) -> Result<Self> {
        Ok(Self { inner: CkksClient::new(parameters, Randomness::from_insecure_fixed_seed(seed))? })
    }

    /// The scheme's client underneath.
    #[must_use]
    pub fn ckks(&self) -> &CkksClient {
        &self.inner
    }
}

impl Client for NativeClient {
    type Evaluator = CkksEvaluator;

    fn slots(&self) -> usize {
        self.inner.parameters().slots()
    }

    fn encrypt(&self, values: &[Complex64], level: Level) -> Result<Ciphertext> {
        self.inner.encrypt(values, level)
    }

    fn decrypt(&self, ciphertext: &Ciphertext) -> Result<Vec<Complex64>> {
        self.inner.decrypt(ciphertext)
    }

    fn evaluator(&self, request: &KeyRequest) -> Result<CkksEvaluator> {
        if request.bootstrapping.is_some() {
            return Err(Error::Unsupported {
                backend: "native",
                operation: "bootstrap under levelled parameters".to_owned(),
                remedy: "use a preset with bootstrapping".to_owned(),
            });
        }
        let keys = self.inner.evaluation_keys(request)?;
        Ok(CkksEvaluator::new(Arc::clone(self.inner.parameters()), Arc::clone(self.inner.encoder()), keys))
    }
}
