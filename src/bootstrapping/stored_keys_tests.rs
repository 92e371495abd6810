//! Keys that went over a wire bootstrap as those that did not; everything else is refused.

use std::sync::Arc;

use super::{BootstrapParameters, Bootstrapper};
use crate::backend::native::{NativeClient, NativeEvaluator};
use crate::ckks::Parameters;
use crate::contract::{
    BootstrapKeys, BootstrapRequest, Client, Complex64, Error, Evaluator, FewValues, KeyRequest, Level,
    OccupiedSlots,
};

fn client() -> (BootstrapParameters, NativeClient) {
    let parameters = BootstrapParameters::test(9, 1);
    let client = NativeClient::with_bootstrapping(parameters.clone(), Some(5)).unwrap();
    (parameters, client)
}

#[test]
fn an_evaluator_made_from_bytes_alone_bootstraps_to_the_same_ciphertext() {
    let (parameters, client) = client();
    let mut request = KeyRequest::new();
    let layout = OccupiedSlots::new(vec![0, 1, 64, 65]).unwrap();
    let few = FewValues { slots: layout.clone(), real: true };
    request.bootstrapping(16).bootstrapping(client.slots()).bootstrapping_few(&few);
    let evaluator = client.evaluator(&request).unwrap();
    let mut bytes = Vec::new();
    evaluator.write_to(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, evaluator.stored_bytes().unwrap());
    let encrypt = |values: &[Complex64]| {
        evaluator.ciphertext_to_bytes(&client.encrypt(values, Level(2)).unwrap()).unwrap()
    };
    let values = [Complex64::new(0.5, -0.25), Complex64::new(0.5, 0.0)];
    let (input, real) = (encrypt(&values[..1]), encrypt(&values[1..]));

    // The other side: parameters and bytes.
    let server = NativeEvaluator::read_from(&parameters, bytes.as_slice()).unwrap();
    assert_eq!(server.key_bytes(), evaluator.key_bytes());
    let level = Level(parameters.output_level());
    let asked = [
        (BootstrapRequest::all(level, client.slots()), &input, values[0]),
        (BootstrapRequest::few(level, layout).real(true), &real, values[1]),
    ];
    for (ask, input, wanted) in asked {
        let there = server.bootstrap(&server.ciphertext_from_bytes(input).unwrap(), &ask).unwrap();
        let here = evaluator.bootstrap(&evaluator.ciphertext_from_bytes(input).unwrap(), &ask).unwrap();
        let there = server.ciphertext_to_bytes(&there).unwrap();
        assert!(there == evaluator.ciphertext_to_bytes(&here).unwrap(), "another ciphertext");
        let found = client.decrypt(&evaluator.ciphertext_from_bytes(&there).unwrap()).unwrap();
        assert!((found[0] - wanted).norm() < 1e-4, "{}", found[0]);
    }
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
    let few = FewValues { slots: OccupiedSlots::new(vec![3, 5, 40]).unwrap(), real: false };
    let wanted = BootstrapKeys { slots: [16, 64].into(), few: [few].into() };
    let keys = Bootstrapper::generate(client.ckks(), &parameters, &wanted).unwrap();
    let mut bytes = Vec::new();
    Bootstrapper::write_to(Some(&keys), &ring, &mut bytes).unwrap();
    let read = |bytes: &[u8]| Bootstrapper::read_from(&ring, &parameters, bytes);
    assert_eq!(read(&bytes).unwrap().unwrap().contents(), wanted);
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
