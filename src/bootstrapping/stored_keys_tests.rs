//! Keys that went over a wire bootstrap as those that did not; everything else is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{BootstrapParameters, Bootstrapper};
use crate::backend::native::{NativeClient, NativeEvaluator};
use crate::ckks::Parameters;
use crate::contract::{BootstrapRequest, Client, Complex64, Error, Evaluator, KeyRequest, Level};

fn client() -> (BootstrapParameters, NativeClient) {
    let parameters = BootstrapParameters::test(9, 1);
    let client = NativeClient::with_bootstrapping(parameters.clone(), Some(5)).unwrap();
    (parameters, client)
}

#[test]
fn an_evaluator_made_from_bytes_alone_bootstraps_to_the_same_ciphertext() {
    let (parameters, client) = client();
    let mut request = KeyRequest::new();
    request.bootstrapping(16).bootstrapping(client.slots());
    let evaluator = client.evaluator(&request).unwrap();
    let mut bytes = Vec::new();
    evaluator.write_to(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, evaluator.stored_bytes().unwrap());
    let input = client.encrypt(&[Complex64::new(0.5, -0.25)], Level(2)).unwrap();
    let input = evaluator.ciphertext_to_bytes(&input).unwrap();

    // The other side: parameters and bytes.
    let server = NativeEvaluator::read_from(&parameters, bytes.as_slice()).unwrap();
    assert_eq!(server.key_bytes(), evaluator.key_bytes());
    let ask = BootstrapRequest {
        level: Level(parameters.output_level()),
        slots: client.slots(),
        iterations: 1,
        real: false,
    };
    let there = server.bootstrap(&server.ciphertext_from_bytes(&input).unwrap(), ask).unwrap();
    let here = evaluator.bootstrap(&evaluator.ciphertext_from_bytes(&input).unwrap(), ask).unwrap();
    let there = server.ciphertext_to_bytes(&there).unwrap();
    assert!(there == evaluator.ciphertext_to_bytes(&here).unwrap(), "another ciphertext");
    let found = client.decrypt(&evaluator.ciphertext_from_bytes(&there).unwrap()).unwrap();
    assert!((found[0] - Complex64::new(0.5, -0.25)).norm() < 1e-4, "{}", found[0]);
}

#[test]
fn keys_without_bootstrapping_say_so() {
    let (parameters, client) = client();
    let mut request = KeyRequest::new();
    request.rotation(3, Level(1));
    let mut bytes = Vec::new();
    client.evaluator(&request).unwrap().write_to(&mut bytes).unwrap();
    let server = NativeEvaluator::read_from(&parameters, bytes.as_slice()).unwrap();
    assert!(server.bootstrapping().is_none());
}

#[test]
fn damaged_cut_and_foreign_keys_are_refused() {
    let (parameters, client) = client();
    let ring = Arc::new(Parameters::new(parameters.chain.clone()).unwrap());
    let keys = Bootstrapper::generate(client.ckks(), &parameters, &BTreeSet::from([16, 64])).unwrap();
    let mut bytes = Vec::new();
    Bootstrapper::write_to(Some(&keys), &ring, &mut bytes).unwrap();
    let read = |bytes: &[u8]| Bootstrapper::read_from(&ring, &parameters, bytes);
    assert_eq!(read(&bytes).unwrap().unwrap().slots().collect::<Vec<_>>(), [16, 64]);
    for length in (0..bytes.len()).step_by(bytes.len() / 50) {
        assert!(read(&bytes[..length]).is_err(), "{length} bytes of {}", bytes.len());
    }
    for position in (0..bytes.len()).step_by(bytes.len() / 97) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 4;
        assert!(read(&damaged).is_err(), "a bit of byte {position}");
    }
    let other = BootstrapParameters::test(9, 2);
    let foreign = Arc::new(Parameters::new(other.chain.clone()).unwrap());
    let error = Bootstrapper::read_from(&foreign, &other, bytes.as_slice()).err().unwrap();
    assert!(matches!(error, Error::ParameterMismatch { .. }), "{error}");
    // A secret key in the place of evaluation keys.
    let secret = client.secret_to_bytes().unwrap();
    let error = NativeEvaluator::read_from(&parameters, secret.as_slice()).err().unwrap().to_string();
    assert!(error.contains("secret key"), "{error}");
}
