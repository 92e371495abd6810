//! Stored evaluation keys: round trip, and everything that can be wrong with the bytes.

use std::sync::Arc;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::ckks::{
    CkksClient, CkksEvaluator, EvaluationKeys, Parameters, ParametersLiteral, Security, Stretch,
};
use crate::contract::{Complex64, Evaluator, KeyRequest, Level};
use crate::ring::Randomness;

fn client(log2_n: u32) -> CkksClient {
    let literal = ParametersLiteral {
        name: "test",
        log2_n,
        base_bits: vec![49.9],
        stretches: vec![Stretch { levels: 3, log2_scale: 41.0, primes_per_level: 1 }],
        special_primes: 2,
        special_bits: 49.9,
        security: Security::InsecureForTests,
    };
    CkksClient::new(Arc::new(Parameters::new(literal).unwrap()), Randomness::from_insecure_fixed_seed(4))
        .unwrap()
}

fn request() -> KeyRequest {
    let mut request = KeyRequest::new();
    request.rotation(1, Level(3)).rotation(7, Level(0)).relinearization(Level(2)).conjugation(Level(1));
    request
}

fn stored(client: &CkksClient, request: &KeyRequest) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.evaluation_keys(request).unwrap().write_to(client.parameters(), &mut bytes).unwrap();
    bytes
}

fn refused(client: &CkksClient, bytes: &[u8]) -> String {
    match EvaluationKeys::read_from(client.parameters(), bytes) {
        Err(error) => error.to_string(),
        Ok(keys) => panic!("accepted as {:?}", keys.contents()),
    }
}

/// The bytes with `value` at `offset` and a checksum that fits again: what a forger sends.
fn forged(bytes: &[u8], offset: usize, value: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    let covered = bytes.len() - 32;
    let checksum = Sha256::digest(&bytes[..covered]);
    bytes[covered..].copy_from_slice(&checksum);
    bytes
}

#[test]
fn stored_evaluation_keys_come_back_and_compute_the_same() {
    let client = client(8);
    let parameters = client.parameters();
    let keys = client.evaluation_keys(&request()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    keys.save(parameters, &path).unwrap();
    // Over a file that is there already, and nothing else is left in the folder.
    keys.save(parameters, &path).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, EvaluationKeys::stored_bytes(parameters, &request()).unwrap());
    // Uniform halves stay seeds.
    assert!((bytes.len() as u64) < keys.bytes() / 2 + 1000, "{} for {}", bytes.len(), keys.bytes());
    let read = EvaluationKeys::load(parameters, &path).unwrap();
    assert_eq!((read.contents(), read.bytes()), (request(), keys.bytes()));
    let mut again = Vec::new();
    read.write_to(parameters, &mut again).unwrap();
    assert!(again == bytes, "written back differently");
    let evaluator = |keys| CkksEvaluator::new(Arc::clone(parameters), Arc::clone(client.encoder()), keys);
    let (before, after) = (evaluator(keys), evaluator(read));
    let values: Vec<Complex64> = (0..128).map(|k| Complex64::new(f64::from(k).sin(), 0.1)).collect();
    for level in [0, 1] {
        let x = client.encrypt(&values, Level(level)).unwrap();
        let bytes = |evaluator: &CkksEvaluator| {
            let mut results = vec![evaluator.rotate(&x, 1).unwrap(), evaluator.conjugate(&x).unwrap()];
            // A square at level 0 would not fit the modulus.
            if level > 0 {
                results.push(evaluator.relinearize(&evaluator.tensor(&x, &x).unwrap()).unwrap());
            }
            results.iter().map(|one| evaluator.ciphertext_to_bytes(one).unwrap()).collect::<Vec<_>>()
        };
        assert!(bytes(&before) == bytes(&after), "results differ at level {level}");
        assert_eq!(after.rotate(&x, 7).is_ok(), level == 0, "the key of step 7 ends at level 0");
    }
}

#[test]
fn no_keys_at_all_are_stored_and_read() {
    let client = client(5);
    let bytes = stored(&client, &KeyRequest::new());
    let read = EvaluationKeys::read_from(client.parameters(), bytes.as_slice()).unwrap();
    assert_eq!(read.contents(), KeyRequest::new());
}

#[test]
fn truncated_keys_are_refused_at_every_length() {
    let client = client(5);
    let bytes = stored(&client, &request());
    for length in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
        let error = refused(&client, &bytes[..length]);
        assert!(error.contains("wanted at offset"), "{length} of {} bytes: {error}", bytes.len());
    }
}

#[test]
fn flipped_bits_and_trailing_bytes_are_refused() {
    let client = client(5);
    let bytes = stored(&client, &request());
    for position in (0..bytes.len()).step_by(101).chain(0..200) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1 << (position % 8);
        refused(&client, &damaged);
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(refused(&client, &longer).contains("more bytes follow"));
}

#[test]
fn keys_of_other_parameters_and_other_objects_are_refused() {
    let (small, large) = (client(5), client(6));
    assert!(refused(&large, &stored(&small, &request())).contains("parameters"), "other parameters");
    let secret = small.secret().to_bytes(small.parameters()).unwrap();
    assert!(refused(&small, &secret).contains("secret key"), "a secret key");
}

/// Sizes, roles, steps, levels and residues that no writer writes, under a checksum that fits. Offsets: 48 bytes of
/// header, five lengths, then the table with 24 bytes an entry, then the first key.
#[test]
fn oversized_and_impossible_numbers_are_refused_before_anything_is_allocated_for_them() {
    let client = client(5);
    let bytes = stored(&client, &request());
    let (lengths, table) = (48, 48 + 5 * 8);
    let key = table + 4 * 24;
    for (what, offset, value, words) in [
        ("table length", lengths, u64::MAX, "table of"),
        ("key length", lengths + 8, u64::MAX, "which takes"),
        ("key length", lengths + 16, 8, "which takes"),
        ("role", table, 3, "role of a key is 3"),
        ("step of a single key", table + 8, 1, "rotation step is 1"),
        ("level", table + 16, 1 << 40, "level of a key"),
        ("order", table + 24, 0, "after"),
        ("rotation step", table + 2 * 24 + 8, 16, "rotation step is 16"),
        ("rotation by nothing", table + 2 * 24 + 8, 0, "step 0"),
        ("limbs", key, u64::MAX, "limbs at level"),
        ("residue", key + 48, u64::MAX, ""),
    ] {
        let error = refused(&client, &forged(&bytes, offset, value));
        assert!(error.contains(words), "{what}: {error}");
    }
    // A number of sections that the parameters do not allow, and one that no container allows.
    for (sections, words) in [(19u32, "19 sections"), (u32::MAX, "sections")] {
        let mut many = bytes.clone();
        many[12..16].copy_from_slice(&sections.to_le_bytes());
        let error = refused(&client, &many);
        assert!(error.contains(words), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_request_comes_back(
        steps in proptest::collection::btree_map(1usize..16, 0usize..4, 0..6),
        relinearization in proptest::option::of(0usize..4), conjugation in proptest::option::of(0usize..4),
    ) {
        let client = client(5);
        let request = KeyRequest {
            rotations: steps.into_iter().map(|(step, level)| (step, Level(level))).collect(),
            relinearization: relinearization.map(Level),
            conjugation: conjugation.map(Level),
            bootstrapping: None,
        };
        let bytes = stored(&client, &request);
        prop_assert_eq!(bytes.len() as u64, EvaluationKeys::stored_bytes(client.parameters(), &request).unwrap());
        let read = EvaluationKeys::read_from(client.parameters(), bytes.as_slice()).unwrap();
        prop_assert_eq!(read.contents(), request);
    }
}
