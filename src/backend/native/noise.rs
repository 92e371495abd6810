//! The noise that theory predicts for the native backend.
//!
//! Errors of coefficients are taken as independent; a coefficient error of variance v gives the real part of a slot
//! the variance v·N/2, and its imaginary part the same. The conformance suite holds measured noise against these
//! numbers, and the simulator draws from them ([`noise_model`]), so that a circuit's precision can be predicted
//! without encrypting.

use crate::backend::clear::NoiseModel;
use crate::bootstrapping::BootstrapParameters;
use crate::ckks::Parameters;
use crate::contract::{Level, Result};

/// Variance of the error of fresh encryptions and keys.
const ERROR_VARIANCE: f64 = crate::ring::ERROR_VARIANCE as f64;
/// Variance of a coefficient of the uniform ternary secret.
const SECRET_VARIANCE: f64 = 2.0 / 3.0;

fn degree(parameters: &Parameters) -> f64 {
    parameters.ring().degree() as f64
}

/// Standard deviation of the real part of a slot's error after encryption under the secret key, in units of 1/scale:
/// the error itself, and the rounding of the encoder.
#[must_use]
pub fn encryption_deviation(parameters: &Parameters) -> f64 {
    ((ERROR_VARIANCE + 1.0 / 12.0) * degree(parameters) / 2.0).sqrt()
}

/// Standard deviation of the real part of what a key switch (rotation, relinearization, conjugation) at `level` adds
/// to a slot, in units of 1/scale.
///
/// A digit of primes Q_d leaves ModUp as a sum of α terms uniform in ±Q_d/2, so it has variance α·Q_d²/12 a
/// coefficient; its product with an error of variance 10 is divided by P. Dividing by P rounds both halves by a sum
/// of α uniform terms each, the second times a ternary secret of variance 2/3.
///
/// # Errors
/// [`crate::Error::LevelOutOfRange`].
pub fn key_switch_deviation(parameters: &Parameters, level: Level) -> Result<f64> {
    let degree = degree(parameters);
    let special = parameters.literal().special_primes;
    let log2_special = parameters.log2_qp(0, special)?;
    let limbs = parameters.limbs(level)?;
    let mut switched = 0.0;
    for start in (0..limbs).step_by(special) {
        let end = limbs.min(start + special);
        let log2_digit = parameters.log2_qp(end, 0)? - parameters.log2_qp(start, 0)?;
        switched += degree * ERROR_VARIANCE * (end - start) as f64 / 12.0
            * (2.0 * (log2_digit - log2_special)).exp2();
    }
    let rounded = special as f64 * rounding_variance(degree);
    Ok(((switched + rounded) * degree / 2.0).sqrt())
}

/// Standard deviation of the real part of what a rescale adds to a slot, in units of 1/scale after it: both halves are
/// rounded, the second times the secret.
#[must_use]
pub fn rescale_deviation(parameters: &Parameters) -> f64 {
    let degree = degree(parameters);
    (rounding_variance(degree) * degree / 2.0).sqrt()
}

/// Variance of c_0 + c_1·s when both halves are rounded to integers.
fn rounding_variance(degree: f64) -> f64 {
    (1.0 + degree * SECRET_VARIANCE) / 12.0
}

/// The simulator's noise for `parameters`: key switches as at the highest level, the noisiest. No bootstrapping.
///
/// # Errors
/// [`crate::Error::LevelOutOfRange`] for a chain that lacks the levels which are measured.
pub fn noise_model(parameters: &Parameters, seed: u64) -> Result<NoiseModel> {
    Ok(NoiseModel {
        seed,
        encryption: encryption_deviation(parameters),
        key_switch: key_switch_deviation(parameters, parameters.chain().max_level())?,
        rescale: rescale_deviation(parameters),
        bootstrap_relative: 0.0,
        bootstrap_absolute: 0.0,
    })
}

/// The simulator's noise for circuits between the bootstraps of `n16`, which are wrong by 2^−`bootstrap_bits`
/// (standard deviation of a real or imaginary part): key switches as at the level a bootstrap returns to. Builds the
/// ring of `n16` to read its primes: some seconds.
///
/// # Errors
/// [`crate::Error::Parameters`] and [`crate::Error::Insecure`] when the literals of `n16` make no parameters
/// ([`Parameters::new`]); [`crate::Error::LevelOutOfRange`] for a chain that lacks the levels which are measured.
pub fn noise_model_n16(bootstrap_bits: f64, seed: u64) -> Result<NoiseModel> {
    let bootstrapping = BootstrapParameters::n16();
    let level = Level(bootstrapping.output_level());
    let parameters = Parameters::new(bootstrapping.chain)?;
    Ok(NoiseModel {
        key_switch: key_switch_deviation(&parameters, level)?,
        bootstrap_absolute: (-bootstrap_bits).exp2(),
        ..noise_model(&parameters, seed)?
    })
}
