//! Encryption and decryption: what only the holder of the secret key, or for encryption of its public key, can do.

use std::sync::{Arc, Mutex, PoisonError};

use super::message::{centred_coefficients, message_limbs, secret_message};
use super::rlwe::{EncryptionOfZero, SecretPolynomial, UniformHalf};
use super::{Ciphertext, Encoder, EvaluationKeys, Parameters, SecretKey};
use crate::contract::{Complex64, Error, KeyRequest, Level, Result};
use crate::ring::{Coefficients, Evaluations, Randomness, RnsPolynomial, sample_error, sample_ternary};

/// A public encryption key: (b, a) with b = −a·s + e over the moduli chain.
#[derive(Clone, Debug)]
pub struct PublicKey {
    b: RnsPolynomial<Evaluations>,
    a: RnsPolynomial<Evaluations>,
}

/// Holder of the secret key.
pub struct CkksClient {
    parameters: Arc<Parameters>,
    encoder: Arc<Encoder>,
    secret: SecretKey,
    randomness: Mutex<Randomness>,
}

impl CkksClient {
    /// Client with a fresh secret key.
    ///
    /// # Errors
    /// [`Error::Internal`] never in practice: the limbs exist.
    pub fn new(parameters: Arc<Parameters>, mut randomness: Randomness) -> Result<Self> {
        let secret = SecretKey::generate(&parameters, &mut randomness)?;
        Ok(Self::with_secret(parameters, secret, randomness))
    }

    /// Client with a stored secret key.
    #[must_use]
    pub fn with_secret(parameters: Arc<Parameters>, secret: SecretKey, randomness: Randomness) -> Self {
        let encoder = Arc::new(Encoder::new(parameters.ring().log2_n()));
        Self { parameters, encoder, secret, randomness: Mutex::new(randomness) }
    }

    /// The parameters.
    #[must_use]
    pub fn parameters(&self) -> &Arc<Parameters> {
        &self.parameters
    }

    /// The encoder, shared with evaluators.
    #[must_use]
    pub fn encoder(&self) -> &Arc<Encoder> {
        &self.encoder
    }

    /// The secret key, to make further keys from it.
    #[must_use]
    pub fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// An independent generator for a task of its own.
    pub fn fork_randomness(&self) -> Randomness {
        self.randomness.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    /// Generates evaluation keys (bootstrapping keys apart).
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for levels outside the chain.
    pub fn evaluation_keys(&self, request: &KeyRequest) -> Result<EvaluationKeys> {
        EvaluationKeys::generate(&self.parameters, &self.secret, request, &mut self.fork_randomness())
    }

    /// A public encryption key.
    ///
    /// # Errors
    /// [`Error::Internal`] never in practice: the limbs exist.
    pub fn public_key(&self) -> Result<PublicKey> {
        let EncryptionOfZero { b, a } = self.encrypt_zero(self.parameters.ring().chain_limbs())?;
        Ok(PublicKey { b, a })
    }

    /// Encrypts at most S values at `level` and its canonical scale, under the secret key.
    ///
    /// # Errors
    /// [`Error::TooManyValues`], [`Error::BadValue`], [`Error::LevelOutOfRange`].
    pub fn encrypt(&self, values: &[Complex64], level: Level) -> Result<Ciphertext> {
        let ring = self.parameters.ring();
        let limbs = self.parameters.limbs(level)?;
        let scale = self.parameters.chain().canonical_scale(level)?;
        let message = secret_message(&self.parameters, &self.encoder, values, level)?;
        let EncryptionOfZero { mut b, a } = self.encrypt_zero(limbs)?;
        b.add_assign(ring, message.polynomial())?;
        Ok(Ciphertext { c0: b, c1: a, level, scale })
    }

    /// Decrypts to S values.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`] for a ciphertext with another number of limbs than its level has here.
    pub fn decrypt(&self, ciphertext: &Ciphertext) -> Result<Vec<Complex64>> {
        let ring = self.parameters.ring();
        let limbs = self.parameters.limbs(ciphertext.level)?;
        let halves = [&ciphertext.c0, &ciphertext.c1];
        if let Some(half) = halves.iter().find(|half| half.words().len() != limbs * ring.degree()) {
            return Err(Error::ParameterMismatch {
                operation: "decrypt",
                given: format!("{} words", half.words().len()),
                wanted: format!("{} limbs of {} words", limbs, ring.degree()),
            });
        }
        let coefficients = centred_coefficients(ring, &self.phase(ciphertext, message_limbs(limbs))?)?;
        self.encoder.decode(&coefficients, ciphertext.scale.0)
    }

    /// The phase c_0 + c_1·s of a ciphertext on the lowest `limbs` primes: its message with its noise, as coefficients.
    ///
    /// # Errors
    /// [`Error::Internal`] when the ciphertext has fewer limbs.
    pub(crate) fn phase(
        &self,
        ciphertext: &Ciphertext,
        limbs: usize,
    ) -> Result<SecretPolynomial<Coefficients>> {
        let ring = self.parameters.ring();
        let phase = self.secret.evaluations().phase(ring, &ciphertext.c0, &ciphertext.c1, limbs)?;
        phase.into_coefficients(ring)
    }

    /// An encryption of zero over the lowest `limbs` primes.
    fn encrypt_zero(&self, limbs: usize) -> Result<EncryptionOfZero> {
        let mut randomness = self.fork_randomness();
        let seed = randomness.seed();
        let uniform = UniformHalf { seed: &seed, number: 0 };
        let secret = self.secret.evaluations();
        EncryptionOfZero::new(self.parameters.ring(), secret, limbs, 0, uniform, &mut randomness)
    }
}

impl PublicKey {
    /// Encrypts at most S values at `level` and its canonical scale without the secret key:
    /// (b·u + e_0 + Δm, a·u + e_1) for a ternary u.
    ///
    /// # Errors
    /// [`Error::TooManyValues`], [`Error::BadValue`], [`Error::LevelOutOfRange`].
    pub fn encrypt(
        &self,
        parameters: &Parameters,
        encoder: &Encoder,
        values: &[Complex64],
        level: Level,
        randomness: &mut Randomness,
    ) -> Result<Ciphertext> {
        let ring = parameters.ring();
        let limbs = parameters.limbs(level)?;
        let scale = parameters.chain().canonical_scale(level)?;
        let message = secret_message(parameters, encoder, values, level)?;
        let ternary = sample_ternary(ring.degree(), randomness);
        let mask = SecretPolynomial::from_signed(ring, &ternary, limbs, 0)?;
        // The errors are sampled into the halves, where the rest covers them.
        let mut error = || -> Result<RnsPolynomial<Evaluations>> {
            let error = sample_error(ring.degree(), randomness)?;
            RnsPolynomial::<Coefficients>::from_signed(ring, &error, limbs, 0)?.into_evaluations(ring)
        };
        let (mut c0, mut c1) = (error()?, error()?);
        c0.add_assign(ring, message.polynomial())?;
        c0.multiply_accumulate(ring, &self.b, mask.polynomial())?;
        c1.multiply_accumulate(ring, &self.a, mask.polynomial())?;
        Ok(Ciphertext { c0, c1, level, scale })
    }
}
