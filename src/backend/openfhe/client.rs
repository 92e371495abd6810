//! The side with the secret key.

use std::sync::Arc;

use cxx::UniquePtr;

use super::bridge::ffi;
use super::ciphertext::OpenFheCiphertext;
use super::engine::{Engine, NAME, StoredKeys};
use super::evaluator::OpenFheEvaluator;
use super::library::call;
use super::parameters::OpenFheParameters;
use crate::contract::checks::{check_key_request, check_values};
use crate::contract::{
    BootstrapSummary, Client, Complex64, Error, KeyRequest, Level, LevelChain, Result, normalize_step,
};

/// Holds the secret key of an OpenFHE engine.
pub struct OpenFheClient {
    engine: Arc<Engine>,
    secret: UniquePtr<ffi::SecretKey>,
    tag: Arc<str>,
    keys: Arc<StoredKeys>,
}

impl OpenFheClient {
    /// Generates context and secret key.
    ///
    /// # Errors
    /// [`Error::Parameters`], [`Error::Foreign`].
    pub fn new(parameters: OpenFheParameters) -> Result<Self> {
        let engine = Arc::new(Engine::new(parameters)?);
        let secret = call("generate secret key", || ffi::generate_secret_key(engine.context()))?;
        let tag: Arc<str> = call("key tag", || ffi::key_tag(&secret))?.into();
        Ok(Self { engine, secret, keys: StoredKeys::new(Arc::clone(&tag)), tag })
    }

    /// The parameters.
    #[must_use]
    pub fn parameters(&self) -> &OpenFheParameters {
        &self.engine.parameters
    }

    /// log2 of the product of all primes, special ones included: what security is judged by.
    #[must_use]
    pub fn log2_qp(&self) -> f64 {
        self.engine.log2_qp()
    }

    /// Levels and canonical scales.
    #[must_use]
    pub fn chain(&self) -> &LevelChain {
        &self.engine.chain
    }

    /// What bootstrapping offers; `None` without it.
    #[must_use]
    pub fn bootstrapping(&self) -> Option<BootstrapSummary> {
        self.engine.bootstrapping
    }

    /// Upper bound of the bytes of the evaluation keys of `request`, known before they are generated. OpenFHE's keys
    /// reach over the whole chain whatever level is asked for.
    #[must_use]
    pub fn predicted_key_bytes(&self, request: &KeyRequest) -> u64 {
        let bootstrapping: usize = match (&self.engine.parameters.bootstrapping, &request.bootstrapping) {
            (Some(boot), Some(keys)) => {
                keys.periods(self.engine.slots()).into_iter().map(|period| boot.rotation_keys(period)).sum()
            }
            _ => 0,
        };
        let switching = request.rotations.len()
            + bootstrapping
            + usize::from(request.relinearization.is_some() || bootstrapping > 0)
            + usize::from(request.conjugation.is_some());
        let limbs = self.engine.moduli.len() + self.engine.special_moduli.len();
        let polynomial = 2 * self.engine.slots() * std::mem::size_of::<u64>();
        (switching * 2 * self.engine.parameters.digits as usize * limbs * polynomial) as u64
    }

    /// Number of special primes.
    #[must_use]
    pub fn special_limbs(&self) -> usize {
        self.engine.special_moduli.len()
    }

    /// Number of evaluation keys OpenFHE stores for this secret key.
    ///
    /// # Errors
    /// [`Error::Foreign`].
    pub fn stored_keys(&self) -> Result<u64> {
        call("count keys", || ffi::count_keys(&self.tag))
    }

    fn generate(&self, request: &KeyRequest) -> Result<()> {
        let context = self.engine.context();
        if request.relinearization.is_some() {
            call("relinearization key", || ffi::generate_relinearization_key(context, &self.secret))?;
        }
        let slots = self.engine.slots();
        let steps: Vec<i32> = request
            .rotations
            .keys()
            .filter_map(|step| i32::try_from(normalize_step(i64::try_from(*step).ok()?, slots)).ok())
            .filter(|step| *step != 0)
            .collect();
        call("rotation keys", || ffi::generate_rotation_keys(context, &self.secret, &steps))?;
        if request.conjugation.is_some() {
            call("conjugation key", || ffi::generate_conjugation_key(context, &self.secret))?;
        }
        for period in request.bootstrapping.iter().flat_map(|boot| boot.periods(self.engine.slots())) {
            let slots = self.engine.prepare_bootstrap(period)?;
            // Relinearization is part of evaluating the sine.
            call("relinearization key", || ffi::generate_relinearization_key(context, &self.secret))?;
            call("bootstrapping keys", || ffi::generate_bootstrap_keys(context, &self.secret, slots))?;
        }
        Ok(())
    }
}

impl Client for OpenFheClient {
    type Evaluator = OpenFheEvaluator;

    fn slots(&self) -> usize {
        self.engine.slots()
    }

    fn encrypt(&self, values: &[Complex64], level: Level) -> Result<OpenFheCiphertext> {
        let limbs = self.engine.limbs(level, "encrypt")?;
        let scale = self.engine.chain.canonical_scale(level)?;
        check_values("encrypt", &self.engine.chain, self.engine.slots(), values, level, scale)?;
        let numbers: Vec<f64> = values.iter().flat_map(|value| [value.re, value.im]).collect();
        let inner = call("encrypt", || {
            let plaintext = ffi::encode(self.engine.context(), &numbers, scale.0, limbs)?;
            ffi::encrypt(self.engine.context(), &self.secret, &plaintext)
        })?;
        Ok(OpenFheCiphertext { inner, level, scale, tag: Arc::clone(&self.tag) })
    }

    fn decrypt(&self, ciphertext: &OpenFheCiphertext) -> Result<Vec<Complex64>> {
        if ciphertext.tag != self.tag {
            return Err(Error::ParameterMismatch {
                operation: "decrypt",
                given: format!("key {}", ciphertext.tag),
                wanted: format!("key {}", self.tag),
            });
        }
        let numbers = call("decrypt", || {
            ffi::decrypt(self.engine.context(), &self.secret, &ciphertext.inner, ciphertext.scale.0)
        })?;
        Ok(numbers
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [re, im] => Some(Complex64::new(*re, *im)),
                _ => None,
            })
            .collect())
    }

    fn evaluator(&self, request: &KeyRequest) -> Result<OpenFheEvaluator> {
        let bootstrapping = self.engine.parameters.bootstrapping.is_some();
        check_key_request(NAME, &self.engine.chain, bootstrapping, request)?;
        let holder = self.keys.hold(|| self.generate(request))?;
        Ok(OpenFheEvaluator::new(Arc::clone(&self.engine), request.clone(), Arc::clone(&self.tag), holder))
    }
}
