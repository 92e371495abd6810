//! Encryption and decryption: what only the holder of the secret key, or for encryption of its public key, can do.

use std::sync::Arc;

use super::{Ciphertext, Encoder, EvaluationKeys, Parameters, SecretKey};
use crate::contract::{CiphertextInfo, Complex64, Error, KeyRequest, Level, Result, Scale};
use crate::ring::{
    Coefficients, Evaluations, Limb, Randomness, RnsPolynomial, sample_error, sample_ternary, uniform_limb,
};

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
    randomness: std::sync::Mutex<Randomness>,
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
        Self { parameters, encoder, secret, randomness: std::sync::Mutex::new(randomness) }
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
        self.randomness.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fork()
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
        let ring = self.parameters.ring();
        let (b, a) = self.encrypt_zero(ring.chain_limbs())?;
        Ok(PublicKey { b, a })
    }

    /// Encrypts at most S values at `level` and its canonical scale, under the secret key.
    ///
    /// # Errors
    /// [`Error::TooManyValues`], [`Error::BadValue`], [`Error::LevelOutOfRange`].
    pub fn encrypt(&self, values: &[Complex64], level: Level) -> Result<Ciphertext> {
        let ring = self.parameters.ring();
        let scale = self.parameters.chain().canonical_scale(level)?;
        let message = encode_polynomial(&self.parameters, &self.encoder, "encrypt", values, level, scale)?;
        let (b, a) = self.encrypt_zero(self.parameters.limbs(level)?)?;
        Ok(Ciphertext { c0: b.add(ring, &message)?, c1: a, level, scale })
    }

    /// Decrypts to S values.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`] for a ciphertext with another number of limbs than its level has here.
    pub fn decrypt(&self, ciphertext: &Ciphertext) -> Result<Vec<Complex64>> {
        let ring = self.parameters.ring();
        let limbs = self.parameters.limbs(ciphertext.level)?;
        if ciphertext.c0.words().len() != limbs * ring.degree() {
            return Err(Error::ParameterMismatch {
                operation: "decrypt",
                given: format!("{} words", ciphertext.c0.words().len()),
                wanted: format!("{} limbs of {} words", limbs, ring.degree()),
            });
        }
        let mut message = ciphertext.c0.clone();
        message.multiply_accumulate(ring, &ciphertext.c1, self.secret.evaluations())?;
        let coefficients = signed_coefficients(&self.parameters, message)?;
        self.encoder.decode(&coefficients, ciphertext.scale().0)
    }

    /// An encryption of zero over the lowest `limbs` primes.
    fn encrypt_zero(&self, limbs: usize) -> Result<(RnsPolynomial<Evaluations>, RnsPolynomial<Evaluations>)> {
        let ring = self.parameters.ring();
        let mut randomness = self.fork_randomness();
        let error = sample_error(ring.degree(), &mut randomness)?;
        let mut b =
            RnsPolynomial::<Coefficients>::from_signed(ring, &error, limbs, 0)?.into_evaluations(ring)?;
        let seed = randomness.seed();
        let mut a = RnsPolynomial::zero(ring, limbs, 0);
        a.fill(ring, |limb, prime, row| {
            uniform_limb(&seed, 0, limb, prime, row);
            Ok(())
        })?;
        let secret = self.secret.evaluations();
        b.fill(ring, |limb, prime, row| {
            let mut product = vec![0u64; row.len()];
            ring.kernels().multiply(prime, &mut product, a.row(ring, limb)?, secret.row(ring, limb)?);
            let error = row.to_vec();
            ring.kernels().sub(prime, row, &error, &product);
            Ok(())
        })?;
        Ok((b, a))
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
        let message = encode_polynomial(parameters, encoder, "encrypt", values, level, scale)?;
        let small = |coefficients: &[i64]| -> Result<RnsPolynomial<Evaluations>> {
            RnsPolynomial::<Coefficients>::from_signed(ring, coefficients, limbs, 0)?.into_evaluations(ring)
        };
        let mask = small(&sample_ternary(ring.degree(), randomness))?;
        let mut c0 = small(&sample_error(ring.degree(), randomness)?)?.add(ring, &message)?;
        let mut c1 = small(&sample_error(ring.degree(), randomness)?)?;
        c0.multiply_accumulate(ring, &self.b, &mask)?;
        c1.multiply_accumulate(ring, &self.a, &mask)?;
        Ok(Ciphertext { c0, c1, level, scale })
    }
}

/// Largest coefficient that the f64 kernels reduce exactly.
const EXACT_COEFFICIENT: f64 = 4_503_599_627_370_496.0; // 2^52

/// One limb of encoded coefficients: reduced modulo its prime and transformed.
pub(super) fn fill_evaluations(
    parameters: &Parameters,
    limb: Limb,
    coefficients: &[f64],
    exact: bool,
    row: &mut [u64],
) -> Result<()> {
    let ring = parameters.ring();
    let prime = ring.prime(limb)?;
    if exact {
        ring.kernels().reduce_floats(prime, row, coefficients);
    } else {
        for (out, c) in row.iter_mut().zip(coefficients) {
            *out = prime.reduce_wide(*c as i128);
        }
    }
    ring.plan(limb)?.forward(row);
    Ok(())
}

/// Whether all coefficients are small enough for the f64 kernels.
pub(super) fn coefficients_are_exact(coefficients: &[f64]) -> bool {
    coefficients.iter().all(|c| c.abs() < EXACT_COEFFICIENT)
}

/// Encoded coefficients of `values` at `scale`, checked against the modulus at `level`.
pub(super) fn encode_coefficients(
    parameters: &Parameters,
    encoder: &Encoder,
    operation: &'static str,
    values: &[Complex64],
    level: Level,
    scale: Scale,
) -> Result<Vec<f64>> {
    let log2_modulus = parameters.chain().log2_modulus(level)?;
    if !(scale.0.is_finite() && scale.0 >= 1.0) || scale.log2() >= log2_modulus {
        return Err(Error::ScaleOutOfRange { operation, scale, log2_modulus, level });
    }
    if values.len() > parameters.slots() {
        return Err(Error::TooManyValues { operation, given: values.len(), slots: parameters.slots() });
    }
    let bound = (log2_modulus - 1.0 - scale.log2()).exp2();
    for (index, value) in values.iter().enumerate() {
        if !(value.re.abs() <= bound && value.im.abs() <= bound) {
            return Err(Error::BadValue { operation, index, value: value.to_string(), bound });
        }
    }
    encoder.encode(values, scale.0)
}

/// Encodes to evaluations over the primes of `level`.
pub(super) fn encode_polynomial(
    parameters: &Parameters,
    encoder: &Encoder,
    operation: &'static str,
    values: &[Complex64],
    level: Level,
    scale: Scale,
) -> Result<RnsPolynomial<Evaluations>> {
    let coefficients = encode_coefficients(parameters, encoder, operation, values, level, scale)?;
    let exact = coefficients_are_exact(&coefficients);
    let ring = parameters.ring();
    let mut polynomial = RnsPolynomial::zero(ring, parameters.limbs(level)?, 0);
    polynomial.fill(ring, |limb, _, row| fill_evaluations(parameters, limb, &coefficients, exact, row))?;
    Ok(polynomial)
}

/// The centred coefficients of a polynomial, as f64. Uses at most the three lowest limbs: messages and noise are far
/// smaller than their product.
fn signed_coefficients(parameters: &Parameters, polynomial: RnsPolynomial<Evaluations>) -> Result<Vec<f64>> {
    let ring = parameters.ring();
    let limbs = polynomial.chain_limbs().min(3);
    let polynomial = polynomial.truncate(ring, limbs)?.into_coefficients(ring)?;
    let primes = (0..limbs).map(|index| ring.prime(Limb::Chain(index))).collect::<Result<Vec<_>>>()?;
    let rows: Vec<&[u64]> = polynomial.rows(ring).map(|(_, row)| row).collect();
    let mut result = Vec::with_capacity(ring.degree());
    for k in 0..ring.degree() {
        // Garner: mixed-radix digits, each centred, so that the sum is the centred representative up to ties.
        let mut digits: Vec<i64> = Vec::with_capacity(limbs);
        let mut value = 0.0f64;
        for (index, (prime, row)) in primes.iter().zip(&rows).enumerate() {
            let mut residue = row.get(k).copied().unwrap_or(0);
            for (digit, earlier) in digits.iter().zip(&primes) {
                residue = prime.sub(residue, prime.reduce_signed(*digit));
                residue = prime.mul(residue, prime.inv(prime.reduce(earlier.value())));
            }
            let digit = prime.centred(residue);
            let weight: f64 = primes.iter().take(index).map(|p| p.value() as f64).product();
            value += digit as f64 * weight;
            digits.push(digit);
        }
        result.push(value);
    }
    Ok(result)
}
