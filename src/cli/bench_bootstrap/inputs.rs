//! Kinds of values that bootstraps are measured on: errors of some bootstraps depend on the input.

use std::collections::BTreeMap;

use crate::contract::Complex64;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Kinds of input, as the JSON report names them.
pub const INPUTS: [&str; 7] = ["uniform", "constant", "halves", "one_hot", "interleaved", "replicated", REAL];
/// Uniform real values, bootstrapped as such.
pub const REAL: &str = "real";

/// `count` values of the kind `input`, real and imaginary parts within ±1.
pub fn values(input: &str, count: usize, seed: u64) -> Vec<Complex64> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform =
        || Complex64::new(generator.random_range(-1.0..=1.0), generator.random_range(-1.0..=1.0));
    match input {
        "constant" => vec![Complex64::new(1.0, 1.0); count],
        "halves" => (0..count)
            .map(|s| if s < count / 2 { Complex64::new(1.0, 1.0) } else { Complex64::new(-1.0, -1.0) })
            .collect(),
        "one_hot" => (0..count)
            .map(|s| if s == count / 3 { Complex64::new(1.0, 0.0) } else { Complex64::ZERO })
            .collect(),
        REAL => (0..count).map(|_| Complex64::new(uniform().re, 0.0)).collect(),
        "interleaved" => (0..count).map(|s| if s % 32 == 0 { uniform() } else { Complex64::ZERO }).collect(),
        "replicated" => {
            // Sums over 64 values stand in all 64 slots, as after an inner product.
            let mut sums = BTreeMap::new();
            (0..count)
                .map(|s| {
                    *sums.entry(s / 64).or_insert_with(|| {
                        (0..64).map(|_| uniform()).sum::<Complex64>() / 64.0_f64.sqrt() / 4.0
                    })
                })
                .collect()
        }
        _ => (0..count).map(|_| uniform()).collect(),
    }
}
