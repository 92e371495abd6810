//! Bootstraps of few values on small rings, and the conformance suite for both kinds. Insecure parameters, fixed seeds.

use super::NativeClient;
use crate::backend::conformance::{Backend, BootstrapUnderTest, bootstrapping_conformance_tests};
use crate::bootstrapping::few::log2_junk_beyond;
use crate::bootstrapping::{BootstrapParameters, expected_at_least};
use crate::contract::{BootstrapRequest, Client, Complex64, FewValues, KeyRequest, Level, OccupiedSlots};

/// N = 2^9, four levels between bootstraps.
struct Native;

impl Backend for Native {
    type Client = NativeClient;
    const PRECISION_BITS: f64 = 27.0;

    fn client() -> NativeClient {
        Self::bootstrapping().unwrap().client
    }

    fn bootstrapping() -> Option<BootstrapUnderTest<NativeClient>> {
        let parameters = BootstrapParameters::test(9, 4);
        let top = Level(parameters.output_level());
        let client = NativeClient::with_bootstrapping(parameters, Some(21)).unwrap();
        let slots = client.slots();
        Some(BootstrapUnderTest {
            client,
            requests: vec![
                BootstrapRequest::all(top, slots),
                BootstrapRequest::all(Level(1), 32),
                BootstrapRequest::all(Level(top.0 - 1), slots).iterations(2),
            ],
            precision_bits: 18.0,
            second_iteration_bits: 7.0,
        })
    }
}

bootstrapping_conformance_tests!(Native);

#[test]
fn the_bytes_of_the_keys_of_few_values_are_known_beforehand() {
    let client = NativeClient::with_bootstrapping(BootstrapParameters::test(10, 3), Some(3)).unwrap();
    let slots = OccupiedSlots::new((0..64).map(|i| 8 * i).collect()).unwrap();
    let mut request = KeyRequest::new();
    request.bootstrapping_of(&BootstrapRequest::few(Level(0), slots).real(true));
    let evaluator = client.evaluator(&request).unwrap();
    assert_eq!(client.predicted_key_bytes(&request).unwrap(), evaluator.key_bytes());
    assert_eq!(evaluator.bootstrapper().unwrap().encoded_bytes(), 0, "diagonals are encoded at first use");
}

#[test]
fn values_and_junk_before_evalmod_follow_the_law() {
    let parameters = BootstrapParameters::test(10, 1);
    let client = NativeClient::with_bootstrapping(parameters.clone(), Some(5)).unwrap();
    let total = client.slots();
    let weight = parameters.ephemeral_weight;
    // 128 values, 4 slots each: whichever way combs are chosen, every junk slot meets parts of all output slots.
    let values =
        FewValues { slots: OccupiedSlots::new((0..total / 4).map(|i| 4 * i).collect()).unwrap(), real: true };
    let mut request = KeyRequest::new();
    request.bootstrapping_few(&values);
    let evaluator = client.evaluator(&request).unwrap();
    let bootstrapper = evaluator.bootstrapper().unwrap();
    let interval = parameters.few.as_ref().unwrap().interval;
    let slots: Vec<Complex64> = (0..total)
        .map(|s| Complex64::new(if s % 4 == 0 { (s % 61) as f64 / 30.0 - 1.0 } else { 0.0 }, 0.0))
        .collect();
    let (mut integers, mut junk) = (Vec::new(), Vec::new());
    for _ in 0..60 {
        let input = client.encrypt(&slots, Level(1)).unwrap();
        let seen = bootstrapper.before_reduction(evaluator.levelled(), &input, &values).unwrap();
        for (slot, x) in client.decrypt(&seen).unwrap().iter().enumerate() {
            let x = x.re * interval;
            if slot % 4 == 0 {
                // The value stands beside the integer, divided by the message ratio.
                let fraction = (x - x.round()) * 128.0;
                assert!((fraction - slots[slot].re).abs() < 2f64.powi(-17), "slot {slot}: {fraction}");
                integers.push(x.round());
            } else {
                junk.push(x);
            }
        }
    }
    for k in 0..7u32 {
        let count = |values: &[f64]| values.iter().filter(|x| x.abs() >= f64::from(k)).count() as f64;
        let expected = expected_at_least(weight, k, integers.len());
        let found = count(&integers);
        assert!(
            (found - expected).abs() <= 6.0 * expected.sqrt() + 6.0,
            "|I| ≥ {k}: {found} of {expected:.1}"
        );
        let bound = log2_junk_beyond(f64::from(k), weight, junk.len() as f64).exp2();
        println!("|J| ≥ {k}: {} of {}, at most {bound:.0}", count(&junk), junk.len());
        assert!(count(&junk) <= bound, "|J| ≥ {k}: more than {bound:.1}");
    }
    // As wide as the integers, and no wider.
    let variance = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64;
    let predicted = (weight as f64 + 1.0) / 12.0;
    assert!((variance(&integers) / predicted - 1.0).abs() < 0.06, "{}", variance(&integers));
    assert!((variance(&junk) / predicted - 1.0).abs() < 0.06, "{}", variance(&junk));
}
