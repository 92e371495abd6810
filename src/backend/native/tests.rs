//! The conformance suite on the native backend, and the noise that theory predicts.

use std::sync::Arc;

use super::{NativeClient, test_levelled};
use crate::backend::conformance::{Backend, PredictedNoise, conformance_tests};
use crate::ckks::Parameters;
use crate::contract::{Level, LevelChain};

/// N = 2^11, six levels of 41 bits, three special primes: two to three digits.
struct Native;

const LOG2_N: u32 = 11;
const LEVELS: usize = 6;
const ERROR_VARIANCE: f64 = 10.0;

fn parameters() -> Parameters {
    Parameters::new(test_levelled(LOG2_N, LEVELS)).unwrap()
}

/// Standard deviation of the real part of a slot's error after a key switch, in units of 1/scale.
///
/// A digit of primes Q_d leaves ModUp as a sum of α terms uniform in ±Q_d/2, so it has variance α·Q_d²/12 a coefficient;
/// its product with an error of variance 10 is divided by P. Dividing by P rounds both halves by a sum of α uniform
/// terms each, the second times a ternary secret of variance 2/3.
fn key_switch_deviation(parameters: &Parameters, level: Level) -> f64 {
    let degree = f64::from(1u32 << LOG2_N);
    let special = parameters.literal().special_primes;
    let log2_special = parameters.log2_qp(0, special).unwrap();
    let limbs = parameters.limbs(level).unwrap();
    let switched: f64 = (0..limbs)
        .step_by(special)
        .map(|start| {
            let end = limbs.min(start + special);
            let log2_digit = parameters.log2_qp(end, 0).unwrap() - parameters.log2_qp(start, 0).unwrap();
            degree * ERROR_VARIANCE * (end - start) as f64 / 12.0 * (2.0 * (log2_digit - log2_special)).exp2()
        })
        .sum();
    let rounded = special as f64 / 12.0 * (1.0 + degree * 2.0 / 3.0);
    ((switched + rounded) * degree / 2.0).sqrt()
}

impl Backend for Native {
    type Client = NativeClient;

    const PRECISION_BITS: f64 = 27.0;

    fn client() -> NativeClient {
        NativeClient::from_insecure_fixed_seed(Arc::new(parameters()), 7).unwrap()
    }

    fn predicted_noise(_: &LevelChain) -> Option<PredictedNoise> {
        let degree = f64::from(1u32 << LOG2_N);
        let (rotation, relinearization) = (parameters(), parameters());
        Some(PredictedNoise {
            fresh: ((ERROR_VARIANCE + 1.0 / 12.0) * degree / 2.0).sqrt(),
            rotation: Box::new(move |level| key_switch_deviation(&rotation, level)),
            relinearization: Box::new(move |level| key_switch_deviation(&relinearization, level)),
        })
    }
}

conformance_tests!(Native);
