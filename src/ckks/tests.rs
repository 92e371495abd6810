//! What the conformance suite cannot see: stored objects, key sizes, public-key encryption, double hoisting, security.

use std::sync::Arc;

use super::*;
use crate::contract::{
    CiphertextInfo, Complex64, Diagonal, Evaluator, GiantStep, KeyRequest, Level, LinearTransform,
};
use crate::ring::Randomness;

fn literal(levels: usize) -> ParametersLiteral {
    ParametersLiteral {
        name: "test",
        log2_n: 10,
        base_bits: vec![49.9],
        stretches: vec![Stretch { levels, log2_scale: 41.0, primes_per_level: 1 }],
        special_primes: 2,
        special_bits: 49.9,
        security: Security::InsecureForTests,
    }
}

fn client(levels: usize) -> CkksClient {
    let parameters = Arc::new(Parameters::new(literal(levels)).unwrap());
    CkksClient::new(parameters, Randomness::from_insecure_fixed_seed(11)).unwrap()
}

fn values(slots: usize) -> Vec<Complex64> {
    (0..slots).map(|k| Complex64::new((k as f64 * 0.7).sin(), (k as f64 * 1.3).cos())).collect()
}

fn worst(a: &[Complex64], b: &[Complex64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y).norm()).fold(0.0, f64::max)
}

#[test]
fn public_key_encryptions_decrypt() {
    let client = client(3);
    let key = client.public_key().unwrap();
    let values = values(512);
    for level in 0..=3 {
        let mut randomness = Randomness::from_insecure_fixed_seed(5);
        let ciphertext = key
            .encrypt(client.parameters(), client.encoder(), &values, Level(level), &mut randomness)
            .unwrap();
        let error = worst(&values, &client.decrypt(&ciphertext).unwrap());
        // e·u + e_0 + e_1·s: deviation sqrt(10 + 2·10·N·2/3) a coefficient, times sqrt(N/2) a slot, six of them, at
        // 2^41.
        let bound = 6.0 * (10.0f64 + 20.0 * 1024.0 * 2.0 / 3.0).sqrt() * 512f64.sqrt() * 1.5 / 41f64.exp2();
        assert!(error < bound, "level {level}: error 2^{:.1}, bound 2^{:.1}", error.log2(), bound.log2());
    }
}

#[test]
fn key_bytes_equal_the_prediction() {
    let client = client(5);
    let mut request = KeyRequest::new();
    request.rotation(1, Level(5)).rotation(7, Level(2)).relinearization(Level(4)).conjugation(Level(0));
    let predicted = EvaluationKeys::predicted_bytes(client.parameters(), &request).unwrap();
    let keys = client.evaluation_keys(&request).unwrap();
    assert_eq!(keys.bytes(), predicted);
    // A key up to a low level is smaller than one up to the top.
    let only = |level| {
        let mut request = KeyRequest::new();
        request.rotation(1, Level(level));
        EvaluationKeys::predicted_bytes(client.parameters(), &request).unwrap()
    };
    assert!(only(0) * 4 < only(5), "{} and {}", only(0), only(5));
}

#[test]
fn stored_objects_come_back() {
    let client = client(3);
    let parameters = client.parameters();
    let read = Parameters::from_bytes(&parameters.to_bytes().unwrap()).unwrap();
    assert_eq!(read.fingerprint(), parameters.fingerprint());
    let secret = SecretKey::from_bytes(parameters, &client.secret().to_bytes(parameters).unwrap()).unwrap();
    assert_eq!(secret.coefficients(), client.secret().coefficients());
    // A client around the stored secret decrypts what the first one encrypted.
    let again = CkksClient::with_secret(Arc::new(read), secret, Randomness::from_insecure_fixed_seed(1));
    let values = values(512);
    let ciphertext = client.encrypt(&values, Level(2)).unwrap();
    assert!(worst(&values, &again.decrypt(&ciphertext).unwrap()) < 1e-8);
    let mut request = KeyRequest::new();
    request.rotation(3, Level(2));
    let keys = client.evaluation_keys(&request).unwrap();
    let key = &keys.rotation(3, Level(2)).unwrap().key;
    let stored = key.to_bytes(parameters).unwrap();
    assert!((stored.len() as u64) < key.bytes() / 2 + 1000, "the uniform half is stored as a seed");
    let read = KeySwitchingKey::from_bytes(parameters, &stored).unwrap();
    assert!(read.digits() == key.digits(), "digits differ after the round trip");
    let evaluator = CkksEvaluator::new(Arc::clone(parameters), Arc::clone(client.encoder()), keys);
    let scale = evaluator.chain().canonical_scale(Level(1)).unwrap();
    let plaintext = evaluator.encode(&values, Level(1), scale).unwrap();
    let read = Plaintext::from_bytes(parameters, &plaintext.to_bytes(parameters).unwrap()).unwrap();
    assert!(read.polynomial == plaintext.polynomial && read.scale() == plaintext.scale());
}

#[test]
fn damaged_keys_and_parameters_are_refused() {
    let client = client(2);
    let parameters = client.parameters();
    let stored = client.secret().to_bytes(parameters).unwrap();
    for position in [0, 9, 20, 60, stored.len() - 1] {
        let mut damaged = stored.to_vec();
        damaged[position] ^= 4;
        assert!(SecretKey::from_bytes(parameters, &damaged).is_err(), "byte {position}");
    }
    let stored = parameters.to_bytes().unwrap();
    for length in 0..stored.len() {
        assert!(Parameters::from_bytes(&stored[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn double_and_single_hoisting_agree_with_the_dense_product() {
    let client = client(3);
    let slots = 512usize;
    let mut request = KeyRequest::new();
    request.rotations(&[1, 2, 3, 5, 16, 32, 48], slots, Level(3));
    let keys = client.evaluation_keys(&request).unwrap();
    let evaluator = CkksEvaluator::new(Arc::clone(client.parameters()), Arc::clone(client.encoder()), keys);
    let values = values(slots);
    let ciphertext = client.encrypt(&values, Level(3)).unwrap();
    let scale = evaluator.chain().canonical_scale(Level(3)).unwrap();
    let diagonal = |k: i64| -> Vec<Complex64> {
        (0..512)
            .map(|s| Complex64::new(((s * k + k) as f64 * 0.11).cos(), ((s + k) as f64 * 0.05).sin()))
            .collect()
    };
    // Few diagonals a baby step make double hoisting cheaper, many single hoisting.
    for giants in [vec![0], vec![0, 16], vec![0, 16, 32, 48]] {
        let babies = [0i64, 1, 2, 3, 5];
        let transform = LinearTransform {
            giants: giants
                .iter()
                .map(|giant| GiantStep {
                    step: *giant,
                    babies: babies
                        .iter()
                        .map(|baby| {
                            let key = giant + baby;
                            let lazy: Box<dyn Fn() -> Vec<Complex64> + Send + Sync> =
                                Box::new(move || diagonal(key));
                            (*baby, Diagonal::Lazy(lazy))
                        })
                        .collect(),
                })
                .collect(),
        };
        let result =
            evaluator.rescale(&evaluator.linear_transform(&ciphertext, &transform, scale).unwrap()).unwrap();
        let mut expected = vec![Complex64::ZERO; slots];
        for giant in &giants {
            for (s, out) in expected.iter_mut().enumerate() {
                let shifted = (s + *giant as usize) % slots;
                for baby in babies {
                    *out += diagonal(giant + baby)[shifted] * values[(shifted + baby as usize) % slots];
                }
            }
        }
        let error = worst(&expected, &client.decrypt(&result).unwrap());
        assert!(error < 2f64.powi(-24), "{} giants: error 2^{:.1}", giants.len(), error.log2());
    }
}

#[test]
fn unsafe_moduli_are_refused_with_both_numbers() {
    let mut unsafe_literal = literal(3);
    unsafe_literal.security = Security::Classical128;
    let error = Parameters::new(unsafe_literal).unwrap_err().to_string();
    assert!(error.contains("272") && error.contains("limit"), "{error}");
}
