//! The integer parts that EvalMod removes, seen by the holder of the secret key. A diagnostic: a server cannot compute
//! it.
//!
//! After ModRaise a coefficient is m + q0·I, |m| < q0/2. I is the rounded sum of h + 1 values uniform in [−1/2, 1/2]
//! (Irwin–Hall); EvalMod is built for |I| ≤ K.

use std::collections::BTreeMap;

use super::log2_irwin_hall_tail;
use crate::ckks::{Ciphertext, CkksClient};
use crate::contract::{Error, Result};
use crate::ring::Limb;

/// Counts of the integer parts of all coefficients of a ciphertext just raised.
///
/// # Errors
/// [`Error::LevelExhausted`] at level 0, where no integer part exists.
pub fn integer_parts(client: &CkksClient, raised: &Ciphertext) -> Result<BTreeMap<i64, usize>> {
    if raised.c0.chain_limbs() < 2 {
        return Err(Error::LevelExhausted { operation: "integer parts", level: raised.level, needed: 1 });
    }
    let ring = client.parameters().ring();
    // Two primes hold any m + q0·I with |I| < q1/2.
    let phase = client.phase(raised, 2)?;
    let message = phase.polynomial();
    let (first, second) = (ring.prime(Limb::Chain(0))?, ring.prime(Limb::Chain(1))?);
    let inverse = second.inv(second.reduce(first.value()));
    let mut counts = BTreeMap::new();
    let rows = message.row(ring, Limb::Chain(0))?.iter().zip(message.row(ring, Limb::Chain(1))?);
    for (low, high) in rows {
        // x = m + q0·I with m = x mod q0 centred, so I = (x − m)/q0 modulo q1.
        let m = second.reduce_signed(first.centred(*low));
        let integer = second.centred(second.mul(second.sub(*high, m), inverse));
        *counts.entry(integer).or_insert(0) += 1;
    }
    Ok(counts)
}

/// Expected number of coefficients with |I| ≥ k among `coefficients`, for an ephemeral secret of weight `weight`.
#[must_use]
pub fn expected_at_least(weight: usize, k: u32, coefficients: usize) -> f64 {
    if k == 0 {
        return coefficients as f64;
    }
    log2_irwin_hall_tail(weight + 1, f64::from(k) - 0.5).exp2() * coefficients as f64
}
