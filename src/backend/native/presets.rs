//! Named parameter sets.

use crate::ckks::{ParametersLiteral, Security, Stretch};

/// Insecure parameters for tests: N = 2^`log2_n`, `levels` levels at scale 2^41, three special primes of 50 bits.
/// log2(QP) = 50 + 41·levels + 150; no security is claimed.
#[must_use]
pub fn test_levelled(log2_n: u32, levels: usize) -> ParametersLiteral {
    ParametersLiteral {
        name: "test",
        log2_n,
        base_bits: vec![49.9],
        stretches: vec![Stretch { levels, log2_scale: 41.0, primes_per_level: 1 }],
        special_primes: 3,
        special_bits: 49.9,
        security: Security::InsecureForTests,
    }
}

/// log2 of a scale whose square still fits below the modulus at level 1, when the base has 49.9 bits: with as many bits
/// as the base, a product at level 1 would have no room.
pub const BELOW_THE_BASE: f64 = 49.6;

/// N = 2^16 without bootstrapping: base 50 bits, 23 levels of 50 bits, 8 special primes of 50 bits; log2(QP) ≈ 1590
/// against the limit of 1747 for a uniform ternary secret (128-bit classical). Used to measure key switching at 24
/// limbs and dnum 3: `cachemir bench ops --preset n16`.
#[must_use]
pub fn n16_levelled() -> ParametersLiteral {
    ParametersLiteral {
        name: "n16-levelled",
        log2_n: 16,
        base_bits: vec![49.9],
        stretches: vec![Stretch { levels: 23, log2_scale: BELOW_THE_BASE, primes_per_level: 1 }],
        special_primes: 8,
        special_bits: 49.9,
        security: Security::Classical128,
    }
}
