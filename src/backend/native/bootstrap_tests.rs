//! Bootstrapping of the native backend on small rings. Insecure parameters, fixed seeds.

use super::NativeClient;
use crate::bootstrapping::{BootstrapParameters, expected_at_least, integer_parts};
use crate::contract::{
    BootstrapRequest, CiphertextInfo, Client, Complex64, Error, Evaluator, KeyRequest, Level, Refreshed,
};

/// −log2 of the errors of all real and imaginary parts: (smallest, mean).
fn precision(found: &[Complex64], wanted: &[Complex64]) -> (f64, f64) {
    let bits: Vec<f64> = found
        .iter()
        .zip(wanted)
        .flat_map(|(x, y)| [(x.re - y.re).abs(), (x.im - y.im).abs()])
        .map(|error| -error.max(2f64.powi(-60)).log2())
        .collect();
    (bits.iter().copied().fold(f64::INFINITY, f64::min), bits.iter().sum::<f64>() / bits.len() as f64)
}

fn values(slots: usize, total: usize) -> Vec<Complex64> {
    (0..total)
        .map(|s| s % slots)
        .map(|s| Complex64::new(((s * 29) % 64) as f64 / 32.0 - 1.0, ((s * 43) % 50) as f64 / 25.0 - 1.0))
        .collect()
}

#[test]
fn full_sparse_and_two_iteration_bootstraps_keep_their_precision() {
    let parameters = BootstrapParameters::test(10, 3);
    let client = NativeClient::with_bootstrapping(parameters.clone(), Some(7)).unwrap();
    let total = client.slots();
    let mut request = KeyRequest::new();
    request.bootstrapping(total).bootstrapping(32);
    let evaluator = client.evaluator(&request).unwrap();
    assert_eq!(client.predicted_key_bytes(&request).unwrap(), evaluator.key_bytes());
    let (bottom, top) = (Level(parameters.minimum_input_level()), Level(parameters.output_level()));
    // The fit for magnitudes up to 2 has an error of about 2^-21; means of 20 bits are what the preset promises.
    for (slots, level, iterations, real, worst, mean) in [
        (total, top, 1, false, 19.0, 20.0),
        (total, Level(top.0 - 2), 1, false, 19.0, 20.0),
        (32, top, 1, false, 19.0, 20.0),
        (total, Level(top.0 - 1), 2, false, 25.0, 28.0),
        (total, top, 1, true, 19.0, 20.0),
        (32, top, 1, true, 19.0, 20.0),
        (total, Level(top.0 - 1), 2, true, 25.0, 28.0),
    ] {
        let mut wanted = values(slots, total);
        if real {
            wanted.iter_mut().for_each(|value| value.im = 0.0);
        }
        let input = client.encrypt(&wanted, bottom).unwrap();
        let result = evaluator
            .bootstrap(&input, &BootstrapRequest::all(level, slots).iterations(iterations).real(real))
            .unwrap();
        assert_eq!(result.level(), level);
        assert!(result.scale().agrees_with(evaluator.chain().canonical_scale(level).unwrap()));
        let (low, average) = precision(&client.decrypt(&result).unwrap(), &wanted);
        assert!(
            low >= worst && average >= mean,
            "{slots} slots, {iterations} iterations, real {real}: worst {low:.1}, mean {average:.1} bits"
        );
    }
    // Again from a value just bootstrapped, lowered on the way.
    let wanted = values(total, total);
    let request = BootstrapRequest::all(top, total);
    let once = evaluator.bootstrap(&client.encrypt(&wanted, top).unwrap(), &request).unwrap();
    let twice = evaluator.bootstrap(&once, &request).unwrap();
    let (low, _) = precision(&client.decrypt(&twice).unwrap(), &wanted);
    assert!(low >= 18.5, "second bootstrap in a chain: worst {low:.1} bits");
}

/// Values beyond the bound in a few slots, among values within it.
#[test]
fn values_beyond_the_bound_are_reported_as_such_after_decryption() {
    let parameters = BootstrapParameters::test(9, 1);
    let client = NativeClient::with_bootstrapping(parameters.clone(), Some(11)).unwrap();
    let total = client.slots();
    let mut request = KeyRequest::new();
    request.bootstrapping(total);
    let evaluator = client.evaluator(&request).unwrap();
    let summary = evaluator.bootstrapping().unwrap();
    let request = BootstrapRequest::all(summary.output_level, total);
    let ratio = f64::from(parameters.log2_message_ratio).exp2();
    let refresh = |large: f64| {
        let mut input = values(total, total);
        input[3] = Complex64::new(large, 0.0);
        input[total - 1] = Complex64::new(0.5, -large);
        let input = client.encrypt(&input, summary.minimum_input_level).unwrap();
        evaluator.bootstrap(&input, &request).unwrap()
    };
    // At the bound itself: no alarm, and the values are right.
    let found = client.decrypt_bootstrapped(&refresh(summary.bound), summary).unwrap();
    assert!((found[3].re - summary.bound).abs() < 2f64.powi(-15), "{} at the bound", found[3]);
    for factor in [1.5, 2.0, 4.0, 16.0, 0.4 * ratio, 3.1 * ratio] {
        let large = factor * summary.bound;
        match client.decrypt_bootstrapped(&refresh(large), summary) {
            Err(Error::OutOfInterval { magnitude, bound, .. }) => {
                println!("{large:8.3} entered a bootstrap bounded by {bound}: reported as {magnitude:.3}");
                assert!(magnitude > bound && magnitude < 0.25 * ratio, "{large}: reported as {magnitude}");
                // Up to a few times the bound it comes out nearly as it went in.
                assert!(factor > 4.0 || (magnitude - large).abs() < 0.01, "{large}: reported as {magnitude}");
            }
            Err(other) => panic!("{large}: unexpected kind of error: {other}"),
            Ok(_) => panic!("{large} times the bound was not noticed"),
        }
    }
    // What cannot be seen, as documented: a multiple of the message ratio added to a value within the bound.
    assert!(client.decrypt_bootstrapped(&refresh(ratio + 0.25), summary).is_ok());
}

#[test]
fn bootstraps_that_cannot_be_done_name_the_remedy() {
    let parameters = BootstrapParameters::test(9, 1);
    let client = NativeClient::with_bootstrapping(parameters.clone(), Some(8)).unwrap();
    let mut request = KeyRequest::new();
    request.bootstrapping(16);
    let evaluator = client.evaluator(&request).unwrap();
    let top = Level(parameters.output_level());
    let input = client.encrypt(&[Complex64::ONE], Level(1)).unwrap();
    let ask = |level, slots, iterations| BootstrapRequest::all(level, slots).iterations(iterations);
    assert!(matches!(evaluator.bootstrap(&input, &ask(top, 16, 1)), Err(Error::LevelTooLow { .. })));
    let input = client.encrypt(&[Complex64::ONE], Level(2)).unwrap();
    assert!(matches!(
        evaluator.bootstrap(&input, &ask(Level(top.0 + 1), 16, 1)),
        Err(Error::LevelOutOfRange { .. })
    ));
    assert!(matches!(evaluator.bootstrap(&input, &ask(top, 64, 1)), Err(Error::EvaluationKey { .. })));
    assert!(matches!(evaluator.bootstrap(&input, &ask(top, 16, 3)), Err(Error::Unsupported { .. })));
    let levelled = client.evaluator(&KeyRequest::new()).unwrap();
    assert!(matches!(levelled.bootstrap(&input, &ask(top, 16, 1)), Err(Error::EvaluationKey { .. })));
}

#[test]
fn integer_parts_follow_the_irwin_hall_law() {
    let parameters = BootstrapParameters::test(10, 1);
    let client = NativeClient::with_bootstrapping(parameters.clone(), Some(9)).unwrap();
    let total = client.slots();
    let mut request = KeyRequest::new();
    request.bootstrapping(total);
    let evaluator = client.evaluator(&request).unwrap();
    let mut at_least = [0usize; 8];
    let rounds = 12;
    for _ in 0..rounds {
        let input = client.encrypt(&values(total, total), Level(2)).unwrap();
        let raised = evaluator
            .bootstrapper()
            .unwrap()
            .raised(evaluator.levelled(), &input, &Refreshed::All { period: total, real: false })
            .unwrap();
        for (integer, count) in integer_parts(client.ckks(), &raised).unwrap() {
            assert!(integer.abs() <= 16, "I = {integer} exceeds (h + 1)/2");
            for place in at_least.iter_mut().take(1 + integer.unsigned_abs().min(7) as usize) {
                *place += count;
            }
        }
    }
    let coefficients = rounds * 2 * total;
    assert_eq!(at_least[0], coefficients);
    for (k, count) in at_least.iter().enumerate() {
        let expected = expected_at_least(32, k as u32, coefficients);
        // Six standard deviations, and never less than a few counts.
        let slack = 6.0 * expected.sqrt() + 6.0;
        assert!((*count as f64 - expected).abs() <= slack, "|I| ≥ {k}: {count}, expected {expected:.1}");
    }
}
