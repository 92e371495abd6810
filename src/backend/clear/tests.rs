//! The simulator under the conformance suite: exact, and with noise held against its own model.

use super::{ClearClient, ClearParameters, NoiseModel};
use crate::backend::conformance::{Backend, BootstrapUnderTest, PredictedNoise};
use crate::contract::{BootstrapRequest, BootstrapSummary, Level, LevelChain};

const BOOTSTRAPPING: BootstrapSummary =
    BootstrapSummary { output_level: Level(3), minimum_input_level: Level(1), bound: 1.0 };

fn parameters(slots: usize) -> ClearParameters {
    ClearParameters::new(slots, 5, 40).unwrap()
}

fn requests(slots: usize) -> Vec<BootstrapRequest> {
    vec![
        BootstrapRequest { level: Level(3), slots, iterations: 1 },
        BootstrapRequest { level: Level(2), slots: slots / 8, iterations: 1 },
        BootstrapRequest { level: Level(0), slots: 1, iterations: 2 },
    ]
}

mod exact {
    use super::*;
    use crate::backend::conformance::{bootstrapping_conformance_tests, conformance_tests};

    struct Exact;

    impl Backend for Exact {
        type Client = ClearClient;
        const PRECISION_BITS: f64 = 48.0;

        fn client() -> ClearClient {
            ClearClient::new(parameters(256))
        }

        fn bootstrapping() -> Option<BootstrapUnderTest<ClearClient>> {
            Some(BootstrapUnderTest {
                client: ClearClient::new(parameters(256).with_bootstrapping(BOOTSTRAPPING)),
                requests: requests(256),
                precision_bits: 48.0,
            })
        }
    }

    conformance_tests!(Exact);
    bootstrapping_conformance_tests!(Exact);
}

mod noisy {
    use super::*;
    use crate::backend::conformance::{bootstrapping_conformance_tests, conformance_tests};

    const NOISE: NoiseModel = NoiseModel {
        seed: 3,
        encryption: 400.0,
        key_switch: 900.0,
        rescale: 100.0,
        bootstrap_relative: 1e-6,
        bootstrap_absolute: 1e-7,
    };

    struct Noisy;

    impl Backend for Noisy {
        type Client = ClearClient;
        // Six standard deviations of the largest noise at scale 2^40.
        const PRECISION_BITS: f64 = 27.5;

        fn client() -> ClearClient {
            ClearClient::new(parameters(512).with_noise(NOISE))
        }

        fn predicted_noise(_chain: &LevelChain) -> Option<PredictedNoise> {
            Some(PredictedNoise {
                fresh: NOISE.encryption,
                rotation: Box::new(|_| NOISE.key_switch),
                relinearization: Box::new(|_| NOISE.key_switch),
            })
        }

        fn bootstrapping() -> Option<BootstrapUnderTest<ClearClient>> {
            let parameters = parameters(512).with_bootstrapping(BOOTSTRAPPING).with_noise(NOISE);
            Some(BootstrapUnderTest {
                client: ClearClient::new(parameters),
                requests: requests(512),
                precision_bits: 16.0,
            })
        }
    }

    conformance_tests!(Noisy);
    bootstrapping_conformance_tests!(Noisy);
}
