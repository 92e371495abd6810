//! The simulator under the conformance suite: exact, and with noise held against its own model.

use super::{ClearClient, ClearParameters, NoiseModel};
use crate::backend::conformance::{Backend, BootstrapUnderTest, PredictedNoise};
use crate::contract::{BootstrapRequest, BootstrapSummary, FewSummary, Level, LevelChain};

const BOOTSTRAPPING: BootstrapSummary = BootstrapSummary {
    output_level: Level(3),
    minimum_input_level: Level(1),
    bound: 1.0,
    few: Some(FewSummary { output_level: Level(4), minimum_input_level: Level(1), junk: 25.0 }),
};

fn parameters(slots: usize) -> ClearParameters {
    ClearParameters::new(slots, 5, 40).unwrap()
}

fn requests(slots: usize) -> Vec<BootstrapRequest> {
    vec![
        BootstrapRequest::all(Level(3), slots),
        BootstrapRequest::all(Level(2), slots / 8),
        BootstrapRequest::all(Level(0), 1).iterations(2),
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
                second_iteration_bits: 0.0,
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
                second_iteration_bits: 4.0,
            })
        }
    }

    conformance_tests!(Noisy);
    bootstrapping_conformance_tests!(Noisy);
}

/// What the simulator alone can do: dry runs, seeds, ranges.
mod simulator {
    use proptest::prelude::*;

    use super::*;
    use crate::contract::{Client, Complex64, Error, Evaluator, KeyRequest, OccupiedSlots, normalize_step};

    /// A circuit with choices: rotations, hoisted rotations and products at falling levels.
    fn circuit<E: Evaluator>(e: &E, x: &E::Ciphertext, steps: &[i64]) -> crate::Result<E::Ciphertext> {
        let mut x = x.clone();
        for (index, step) in steps.iter().enumerate() {
            x = match index % 4 {
                0 => e.rotate(&x, *step)?,
                1 => e.rotate_many(&x, &[*step, 0, -step])?.swap_remove(2),
                2 => e.conjugate(&e.rotate_sum(&[(&x, *step), (&x, 1)])?)?,
                _ => e.square(&x)?,
            };
        }
        Ok(x)
    }

    proptest! {
        #[test]
        fn the_keys_of_a_dry_run_suffice_and_none_can_be_left_out(
            steps in prop::collection::vec(-70i64..70, 1..12)
        ) {
            let client = ClearClient::new(parameters(64));
            let x = client.encrypt(&[Complex64::new(0.5, 0.0)], Level(5)).unwrap();
            let dry = client.dry_run();
            let expected = circuit(&dry, &x, &steps).unwrap();
            let keys = dry.recorded();
            let evaluator = client.evaluator(&keys).unwrap();
            prop_assert_eq!(circuit(&evaluator, &x, &steps).unwrap(), expected);
            for (step, level) in &keys.rotations {
                prop_assert_eq!(normalize_step(*step as i64, 64), *step);
                let mut fewer = keys.clone();
                fewer.rotations.remove(step);
                let without = client.evaluator(&fewer).unwrap();
                let refused = matches!(circuit(&without, &x, &steps), Err(Error::RotationKey { .. }));
                prop_assert!(refused, "step {step} is not needed");
                if *level > Level(0) {
                    let mut lower = keys.clone();
                    lower.rotations.insert(*step, Level(level.0 - 1));
                    let short = client.evaluator(&lower).unwrap();
                    let refused = matches!(circuit(&short, &x, &steps), Err(Error::RotationKey { .. }));
                    prop_assert!(refused, "step {step} is not needed up to level {level}");
                }
            }
        }

        #[test]
        fn equal_seeds_give_equal_noise_and_other_seeds_other_noise(seed in 0u64..1000) {
            let model = |seed| NoiseModel {
                seed,
                encryption: 10.0,
                key_switch: 10.0,
                rescale: 10.0,
                bootstrap_relative: 0.0,
                bootstrap_absolute: 0.0,
            };
            let run = |seed| {
                let client = ClearClient::new(parameters(64).with_noise(model(seed)));
                let x = client.encrypt(&[Complex64::new(0.5, 0.0)], Level(5)).unwrap();
                circuit(&client.dry_run(), &x, &[1, 2, 3, 4, 5]).unwrap()
            };
            prop_assert_eq!(run(seed), run(seed));
            prop_assert_ne!(run(seed), run(seed + 1));
        }
    }

    #[test]
    fn bootstrapping_out_of_range_is_reported_with_both_numbers() {
        let client = ClearClient::new(parameters(64).with_bootstrapping(BOOTSTRAPPING));
        let large = client.encrypt(&[Complex64::new(0.0, -1.5)], Level(1)).unwrap();
        let request = BootstrapRequest::all(Level(3), 64);
        let error = client.dry_run().bootstrap(&large, &request).unwrap_err();
        assert!(matches!(error, Error::OutOfInterval { .. }), "{error}");
        assert!(error.to_string().contains("1.5") && error.to_string().contains("bound 1.0"), "{error}");
        let complex = client.encrypt(&[Complex64::new(0.0, -0.5)], Level(1)).unwrap();
        let request = request.real(true);
        let error = client.dry_run().bootstrap(&complex, &request).unwrap_err().to_string();
        assert!(error.contains("imaginary") && error.contains("0.5"), "{error}");
    }

    #[test]
    fn what_a_bootstrap_of_few_values_loses_is_reported_or_junk() {
        let client = ClearClient::new(parameters(64).with_bootstrapping(BOOTSTRAPPING));
        let slots = OccupiedSlots::new(vec![3, 40]).unwrap();
        let mut values = vec![Complex64::ZERO; 64];
        values[3] = Complex64::new(0.5, 0.25);
        values[40] = Complex64::new(-0.75, 0.0);
        let request = BootstrapRequest::few(Level(4), slots.clone());
        let clean = client.encrypt(&values, Level(1)).unwrap();
        let evaluator = client.dry_run();
        let found = client.decrypt(&evaluator.bootstrap(&clean, &request).unwrap()).unwrap();
        assert!(found[3] == values[3] && found[40] == values[40]);
        let junk: Vec<f64> = (0..64).filter(|s| ![3, 40].contains(s)).map(|s| found[s].norm()).collect();
        assert!(junk.iter().all(|size| *size > 0.0 && *size < 36.0), "{junk:?}");
        assert!(junk.iter().sum::<f64>() / 62.0 > 10.0, "a consumer that forgets the mask notices");
        assert_eq!(BOOTSTRAPPING.few_values(&found, &slots).unwrap(), [values[3], values[40]]);
        values[41] = Complex64::new(0.01, 0.0);
        let beside = client.encrypt(&values, Level(1)).unwrap();
        let error = evaluator.bootstrap(&beside, &request).unwrap_err().to_string();
        assert!(error.contains("should be zero") && error.contains("0.01"), "{error}");
        let error =
            evaluator.bootstrap(&clean, &BootstrapRequest::all(Level(3), 32)).unwrap_err().to_string();
        assert!(error.contains("should repeat"), "{error}");
    }

    #[test]
    fn keys_for_bootstrapping_need_parameters_with_bootstrapping() {
        let mut request = KeyRequest::new();
        request.bootstrapping(64);
        let result = ClearClient::new(parameters(64)).evaluator(&request);
        assert!(matches!(result, Err(Error::Unsupported { backend: "clear", .. })));
    }

    #[test]
    fn unusable_parameters_are_refused_with_their_numbers() {
        for (slots, log2_scale) in [(0, 40), (1, 40), (48, 40), (64, 9), (64, 61)] {
            let error = ClearParameters::new(slots, 3, log2_scale).unwrap_err().to_string();
            assert!(error.contains(&slots.to_string()) && error.contains(&log2_scale.to_string()), "{error}");
        }
    }
}
