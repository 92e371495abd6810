//! The native client behind the contract.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::NativeEvaluator;
use crate::bootstrapping::{BootstrapParameters, Bootstrapper, ModRaise};
use crate::ckks::{Ciphertext, CkksClient, CkksEvaluator, EvaluationKeys, Parameters, SecretKey};
use crate::contract::checks::no_bootstrapping;
use crate::contract::{Client, Complex64, KeyRequest, Level, Result};
use crate::ring::Randomness;

/// Holder of the secret key of the native backend.
pub struct NativeClient {
    inner: CkksClient,
    bootstrapping: Option<BootstrapParameters>,
}

impl NativeClient {
    /// Client with a fresh secret key from the operating system's entropy.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] never in practice: the limbs exist.
    pub fn new(parameters: Arc<Parameters>) -> Result<Self> {
        Ok(Self { inner: CkksClient::new(parameters, Randomness::from_system())?, bootstrapping: None })
    }

    /// Client whose secret key follows from `seed`, for reproducible tests only.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] never in practice: the limbs exist.
    pub fn from_insecure_fixed_seed(parameters: Arc<Parameters>, seed: u64) -> Result<Self> {
        let inner = CkksClient::new(parameters, Randomness::from_insecure_fixed_seed(seed))?;
        Ok(Self { inner, bootstrapping: None })
    }

    /// Client under the chain of `bootstrapping`, which its evaluators then offer; fixed `seed` for tests only.
    ///
    /// # Errors
    /// [`crate::Error::Parameters`] for literals that make no parameters and for a bootstrap that does not fit them,
    /// [`crate::Error::Insecure`] when the claimed security does not hold: errors of [`Parameters::new`] and
    /// [`BootstrapParameters::check`].
    pub fn with_bootstrapping(
        bootstrapping: BootstrapParameters,
        insecure_fixed_seed: Option<u64>,
    ) -> Result<Self> {
        bootstrapping.check()?;
        let parameters = Arc::new(Parameters::new(bootstrapping.chain.clone())?);
        let client = match insecure_fixed_seed {
            Some(seed) => Self::from_insecure_fixed_seed(parameters, seed)?,
            None => Self::new(parameters)?,
        };
        Ok(Self { bootstrapping: Some(bootstrapping), ..client })
    }

    /// Client under the chain of `bootstrapping` with a secret key stored before by [`NativeClient::secret_to_bytes`];
    /// fresh randomness otherwise.
    ///
    /// # Errors
    /// [`crate::Error::Format`] for bytes that are damaged or of other parameters; errors of
    /// [`NativeClient::with_bootstrapping`].
    pub fn with_stored_secret(bootstrapping: BootstrapParameters, secret: &[u8]) -> Result<Self> {
        bootstrapping.check()?;
        let parameters = Arc::new(Parameters::new(bootstrapping.chain.clone())?);
        let secret = SecretKey::from_bytes(&parameters, secret)?;
        let inner = CkksClient::with_secret(parameters, secret, Randomness::from_system());
        Ok(Self { inner, bootstrapping: Some(bootstrapping) })
    }

    /// The secret key in its container, to be kept by the client alone; wiped when dropped.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] for a secret without coefficients, which a client never holds
    /// ([`SecretKey::to_bytes`]).
    pub fn secret_to_bytes(&self) -> Result<Zeroizing<Vec<u8>>> {
        self.inner.secret().to_bytes(self.inner.parameters())
    }

    /// The bootstrapping parameters, when there are any.
    #[must_use]
    pub fn bootstrapping(&self) -> Option<&BootstrapParameters> {
        self.bootstrapping.as_ref()
    }

    /// Bytes of the evaluation keys of `request`, those of bootstrapping included, known before they are generated.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for bootstrapping under parameters without it; errors of the slot counts.
    pub fn predicted_key_bytes(&self, request: &KeyRequest) -> Result<u64> {
        let parameters = self.inner.parameters();
        let mut bytes = EvaluationKeys::predicted_bytes(parameters, &self.full_request(request)?)?;
        if let (Some(bootstrapping), Some(keys)) = (&self.bootstrapping, &request.bootstrapping) {
            bytes += ModRaise::predicted_bytes(parameters, bootstrapping, !keys.few.is_empty())?;
        }
        Ok(bytes)
    }

    /// `request` with the rotation, relinearization and conjugation keys that its bootstraps use.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for bootstrapping under parameters without it; errors of the slot counts.
    pub fn full_request(&self, request: &KeyRequest) -> Result<KeyRequest> {
        let mut full = request.clone();
        if let Some(keys) = &request.bootstrapping {
            let bootstrapping = self.bootstrapping.as_ref().ok_or_else(|| no_bootstrapping("native"))?;
            full.merge(&Bootstrapper::key_request(self.inner.parameters(), bootstrapping, keys)?);
        }
        Ok(full)
    }

    /// The scheme's client underneath.
    #[must_use]
    pub fn ckks(&self) -> &CkksClient {
        &self.inner
    }
}

impl Client for NativeClient {
    type Evaluator = NativeEvaluator;

    fn slots(&self) -> usize {
        self.inner.parameters().slots()
    }

    fn encrypt(&self, values: &[Complex64], level: Level) -> Result<Ciphertext> {
        self.inner.encrypt(values, level)
    }

    fn decrypt(&self, ciphertext: &Ciphertext) -> Result<Vec<Complex64>> {
        self.inner.decrypt(ciphertext)
    }

    fn evaluator(&self, request: &KeyRequest) -> Result<NativeEvaluator> {
        let full = self.full_request(request)?;
        let bootstrapper = match (&self.bootstrapping, &request.bootstrapping) {
            (Some(bootstrapping), Some(keys)) => {
                Some(Bootstrapper::generate(&self.inner, bootstrapping, keys)?)
            }
            _ => None,
        };
        let keys = self.inner.evaluation_keys(&full)?;
        let parameters = Arc::clone(self.inner.parameters());
        let levelled = CkksEvaluator::new(parameters, Arc::clone(self.inner.encoder()), keys);
        Ok(NativeEvaluator::new(levelled, bootstrapper))
    }
}
