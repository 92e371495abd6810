//! The conformance suite on small, insecure rings, and what is particular to OpenFHE: keys in process-wide maps.

use super::*;
use crate::backend::conformance::{
    Backend, BootstrapUnderTest, bootstrapping_conformance_tests, conformance_tests,
};
use crate::contract::{
    BootstrapRequest, CiphertextInfo, Client, Complex64, Error, Evaluator, KeyRequest, Level,
};

struct OpenFhe;

impl Backend for OpenFhe {
    type Client = OpenFheClient;

    const PRECISION_BITS: f64 = 24.0;

    fn client() -> OpenFheClient {
        OpenFheClient::new(OpenFheParameters::test()).unwrap()
    }

    fn bootstrapping() -> Option<BootstrapUnderTest<OpenFheClient>> {
        let client = OpenFheClient::new(OpenFheParameters::test_bootstrapping()).unwrap();
        let slots = client.slots();
        let requests = vec![
            BootstrapRequest::all(Level(6), slots),
            BootstrapRequest::all(Level(3), 64),
            BootstrapRequest::all(Level(5), 128).iterations(2),
        ];
        Some(BootstrapUnderTest { client, requests, precision_bits: 9.0, second_iteration_bits: 0.0 })
    }
}

conformance_tests!(OpenFhe);
bootstrapping_conformance_tests!(OpenFhe);

/// A ring of 512 slots: key generation in milliseconds.
fn tiny() -> OpenFheParameters {
    OpenFheParameters { log2_n: 10, levels: 4, ..OpenFheParameters::test() }
}

fn all_keys(slots: usize) -> KeyRequest {
    let mut request = KeyRequest::new();
    request.rotations(&[1, 2, -1], slots, Level(4)).relinearization(Level(4)).conjugation(Level(4));
    request
}

#[test]
fn keys_leave_the_maps_with_the_last_evaluator_in_any_order_of_drops() {
    for order in 0..3 {
        let (first, second) = (OpenFheClient::new(tiny()).unwrap(), OpenFheClient::new(tiny()).unwrap());
        let request = all_keys(first.slots());
        let a = first.evaluator(&request).unwrap();
        let again = first.evaluator(&request).unwrap();
        let b = second.evaluator(&request).unwrap();
        // Relinearization, three rotations, conjugation.
        assert_eq!(first.stored_keys().unwrap(), 5);
        assert_eq!(second.stored_keys().unwrap(), 5);
        assert!(b.key_bytes().unwrap() > 0);
        let ciphertext = first.encrypt(&[Complex64::new(0.5, 0.25)], Level(4)).unwrap();
        match order {
            0 => {
                drop(a);
                again.rotate(&ciphertext, 1).unwrap();
                drop((again, b));
            }
            1 => {
                drop((b, again));
                a.rotate(&ciphertext, 1).unwrap();
                drop(a);
            }
            _ => {
                drop((again, a, b));
            }
        }
        assert_eq!(first.stored_keys().unwrap(), 0, "order {order}");
        assert_eq!(second.stored_keys().unwrap(), 0, "order {order}");
        // A ciphertext outlives its evaluators; keys can be made again.
        let renewed = first.evaluator(&request).unwrap();
        assert_eq!(renewed.rotate(&ciphertext, 1).unwrap().level(), Level(4));
        drop(first);
        renewed.conjugate(&ciphertext).unwrap();
    }
}

#[test]
fn engines_on_several_threads_do_not_disturb_one_another() {
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            scope.spawn(move || {
                let client =
                    OpenFheClient::new(OpenFheParameters { log2_n: 9 + thread % 2, ..tiny() }).unwrap();
                let evaluator = client.evaluator(&all_keys(client.slots())).unwrap();
                let x: Vec<Complex64> = (0..client.slots())
                    .map(|i| Complex64::new((i as f64).sin(), f64::from(thread)))
                    .collect();
                let a = client.encrypt(&x, Level(4)).unwrap();
                let product = evaluator.mul(&a, &evaluator.rotate(&a, 1).unwrap()).unwrap();
                let got = client.decrypt(&product).unwrap();
                for (slot, value) in got.iter().enumerate() {
                    let expected = x[slot] * x[(slot + 1) % x.len()];
                    assert!(
                        (value - expected).norm() < 1e-5,
                        "thread {thread}, slot {slot}: {value}, {expected}"
                    );
                }
            });
        }
    });
}

#[test]
fn ciphertexts_and_plaintexts_of_another_engine_are_refused() {
    let (first, second) = (OpenFheClient::new(tiny()).unwrap(), OpenFheClient::new(tiny()).unwrap());
    let other = OpenFheClient::new(OpenFheParameters { log2_n: 11, ..tiny() }).unwrap();
    let evaluator = first.evaluator(&all_keys(first.slots())).unwrap();
    let x = [Complex64::new(1.0, 0.0)];
    let own = first.encrypt(&x, Level(4)).unwrap();
    for stranger in [second.encrypt(&x, Level(4)).unwrap(), other.encrypt(&x, Level(4)).unwrap()] {
        assert!(matches!(evaluator.add(&own, &stranger), Err(Error::ParameterMismatch { .. })));
        assert!(matches!(evaluator.tensor(&stranger, &stranger), Err(Error::ParameterMismatch { .. })));
        assert!(matches!(evaluator.rotate(&stranger, 1), Err(Error::ParameterMismatch { .. })));
        assert!(matches!(first.decrypt(&stranger), Err(Error::ParameterMismatch { .. })));
    }
    let keyless = other.evaluator(&KeyRequest::new()).unwrap();
    let scale = keyless.chain().canonical_scale(Level(4)).unwrap();
    let plaintext = keyless.encode(&x, Level(4), scale).unwrap();
    assert!(matches!(evaluator.mul_plain(&own, &plaintext), Err(Error::ParameterMismatch { .. })));
}

#[test]
fn an_exception_inside_openfhe_is_an_error_with_its_text() {
    // More digits than there are primes to divide among them: OpenFHE itself refuses that.
    let parameters = OpenFheParameters { digits: 40, ..tiny() };
    match OpenFheClient::new(parameters) {
        Err(Error::Foreign { library: "OpenFHE", message, .. }) => {
            assert!(message.starts_with("new context: "), "{message}");
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("40 digits of 5 primes were accepted"),
    }
}

#[test]
fn contexts_do_not_stay_behind_in_the_list_of_openfhe() {
    let before = listed_contexts().unwrap();
    let client = OpenFheClient::new(tiny()).unwrap();
    drop(client.evaluator(&all_keys(client.slots())).unwrap());
    drop(client);
    assert_eq!(listed_contexts().unwrap(), before);
}

/// A ring of 256 slots that bootstraps.
fn tiny_bootstrapping() -> OpenFheParameters {
    let base = OpenFheParameters::test_bootstrapping();
    let bootstrapping =
        base.bootstrapping.map(|boot| OpenFheBootstrapping { budget_encode: 2, budget_decode: 2, ..boot });
    OpenFheParameters { log2_n: 9, bootstrapping, ..base }
}

#[test]
fn bootstrapping_keys_are_as_many_as_predicted_at_most_and_leave_the_maps_too() {
    let client = OpenFheClient::new(tiny_bootstrapping()).unwrap();
    let mut request = KeyRequest::new();
    request.bootstrapping(client.slots()).bootstrapping(16).rotations(&[1, 5], client.slots(), Level(2));
    let evaluator = client.evaluator(&request).unwrap();
    let (bytes, predicted) = (evaluator.key_bytes().unwrap(), client.predicted_key_bytes(&request));
    assert!(bytes <= predicted && predicted <= 4 * bytes, "{bytes} bytes of keys, predicted {predicted}");
    drop(client);
    let tag = evaluator.tag.clone();
    assert!(super::library::call("count keys", || super::bridge::ffi::count_keys(&tag)).unwrap() > 4);
    drop(evaluator);
    assert_eq!(super::library::call("count keys", || super::bridge::ffi::count_keys(&tag)).unwrap(), 0);
}

#[test]
fn parameters_of_two_iterations_give_the_precise_mode_to_every_request() {
    let boot = tiny_bootstrapping().bootstrapping.unwrap();
    let precise = OpenFheParameters {
        log2_scale: 59,
        bootstrapping: Some(OpenFheBootstrapping { iterations: 2, ..boot }),
        ..tiny_bootstrapping()
    };
    let client = OpenFheClient::new(precise).unwrap();
    let (slots, summary) = (client.slots(), client.bootstrapping().unwrap());
    assert_eq!(summary.output_level, Level(precise.levels - 1));
    let mut request = KeyRequest::new();
    request.bootstrapping(slots);
    let evaluator = client.evaluator(&request).unwrap();
    // Uniform values, and the constant for which the sine is furthest from the straight line.
    let uniform: Vec<Complex64> = (0..slots).map(|slot| Complex64::new((slot as f64).sin(), 0.0)).collect();
    for values in [uniform, vec![Complex64::new(-1.0, 0.0); slots]] {
        let input = client.encrypt(&values, summary.minimum_input_level).unwrap();
        let output =
            evaluator.bootstrap(&input, &BootstrapRequest::all(summary.output_level, slots)).unwrap();
        let found = client.decrypt(&output).unwrap();
        let worst = found.iter().zip(&values).map(|(x, y)| (x - y).norm()).fold(0.0, f64::max);
        // One iteration gives some 15 to 20 bits, two were seen to give 33 or more.
        assert!(worst < 2f64.powi(-28), "two iterations: {:.1} bits", -worst.log2());
    }
}

#[test]
fn an_engine_that_lives_until_the_process_ends_does_not_crash_it() {
    static ENGINE: std::sync::OnceLock<(OpenFheClient, OpenFheEvaluator)> = std::sync::OnceLock::new();
    const CHILD: &str = "CACHEMIR_OPENFHE_EXIT_TEST";
    if std::env::var_os(CHILD).is_some() {
        // Statics are never dropped: OpenFHE's own destructors meet everything still in use.
        ENGINE.get_or_init(|| {
            let client = OpenFheClient::new(tiny()).unwrap();
            let evaluator = client.evaluator(&all_keys(client.slots())).unwrap();
            (client, evaluator)
        });
        return;
    }
    let name = "an_engine_that_lives_until_the_process_ends_does_not_crash_it";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("backend::openfhe::tests::{name}")])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
}

#[test]
fn an_exception_on_one_thread_leaves_the_others_at_work() {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                if thread % 2 == 0 {
                    let refused = OpenFheClient::new(OpenFheParameters { digits: 40, ..tiny() });
                    assert!(matches!(refused, Err(Error::Foreign { .. })), "thread {thread}");
                    return;
                }
                let client = OpenFheClient::new(tiny()).unwrap();
                let evaluator = client.evaluator(&all_keys(client.slots())).unwrap();
                let a = client.encrypt(&[Complex64::new(0.5, -0.25)], Level(4)).unwrap();
                let found = client.decrypt(&evaluator.conjugate(&a).unwrap()).unwrap();
                let error = (found[0] - Complex64::new(0.5, 0.25)).norm();
                assert!(error < 1e-6, "thread {thread}: off by {error:e}");
            });
        }
    });
}
