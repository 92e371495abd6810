//! The conformance suite on the native backend, and the noise that theory predicts.

use std::sync::Arc;

use super::{NativeClient, encryption_deviation, key_switch_deviation, test_levelled};
use crate::backend::conformance::{Backend, PredictedNoise, conformance_tests};
use crate::ckks::Parameters;
use crate::contract::LevelChain;

/// N = 2^11, six levels of 41 bits, three special primes: two to three digits.
struct Native;

const LOG2_N: u32 = 11;
const LEVELS: usize = 6;

fn parameters() -> Parameters {
    Parameters::new(test_levelled(LOG2_N, LEVELS)).unwrap()
}

impl Backend for Native {
    type Client = NativeClient;

    const PRECISION_BITS: f64 = 27.0;

    fn client() -> NativeClient {
        NativeClient::from_insecure_fixed_seed(Arc::new(parameters()), 7).unwrap()
    }

    fn predicted_noise(_: &LevelChain) -> Option<PredictedNoise> {
        let (rotation, relinearization) = (parameters(), parameters());
        Some(PredictedNoise {
            fresh: encryption_deviation(&rotation),
            rotation: Box::new(move |level| key_switch_deviation(&rotation, level).unwrap()),
            relinearization: Box::new(move |level| key_switch_deviation(&relinearization, level).unwrap()),
        })
    }
}

conformance_tests!(Native);
