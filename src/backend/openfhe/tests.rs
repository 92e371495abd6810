//! Tests on small, insecure rings.

use proptest::prelude::*;

use super::*;
use crate::contract::{
    BootstrapRequest, CiphertextInfo, Client, Complex64, Diagonal, Error, Evaluator, GiantStep, KeyRequest,
    Level, LinearTransform,
};

fn values(slots: usize, seed: u64) -> Vec<Complex64> {
    use rand::{Rng, SeedableRng};
    let mut generator = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..slots)
        .map(|_| Complex64::new(generator.random_range(-1.0..1.0), generator.random_range(-1.0..1.0)))
        .collect()
}

/// −log2 of the largest difference.
fn bits(got: &[Complex64], wanted: &[Complex64]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    -got.iter().zip(wanted).map(|(x, y)| (x - y).norm()).fold(0.0, f64::max).log2()
}

#[test]
fn a_full_bootstrap_restores_the_levels_it_promises() {
    let client = OpenFheClient::new(OpenFheParameters::test_bootstrapping()).unwrap();
    let slots = client.slots();
    let mut request = KeyRequest::new();
    request.bootstrapping(slots);
    let evaluator = client.evaluator(&request).unwrap();
    let summary = evaluator.bootstrapping().unwrap();
    let x = values(slots, 1);
    let a = client.encrypt(&x, Level(1)).unwrap();
    let started = std::time::Instant::now();
    let refreshed = evaluator
        .bootstrap(&a, BootstrapRequest { level: summary.output_level, slots, iterations: 1 })
        .unwrap();
    eprintln!("{:?}", started.elapsed());
    assert_eq!(refreshed.level(), summary.output_level);
    let precision = bits(&client.decrypt(&refreshed).unwrap(), &x);
    assert!(precision > 10.0, "{precision} bits");
}
