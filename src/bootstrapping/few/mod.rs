//! Bootstraps of few values: one level for each transform, in and out of any layout, and one EvalMod.
//!
//! A decode step refreshes some 600 numbers. 2n real numbers fit the coefficients of X^(N/2n), a polynomial of a
//! subring whose slots repeat with period n. So dense n × n transforms spread their diagonals over the repetitions and
//! take n²/S plaintexts and *one level* each, the permutation into the decoder's layout included (ePrint 2026/1023 has
//! the idea; own derivation, `spec/sparse_bootstrap_reference.py`). ModRaise adds multiples of q0 to all N
//! coefficients; the trace removes those outside the subring: eight copies are summed by [`super::ModRaise`] itself,
//! the others by log2(S/8n) rotations. Real and imaginary parts lie side by side, so that EvalMod runs once. Order of
//! the steps as in [`super::BootstrapParameters`]: SlotsToCoeffs first.
//!
//! # Junk, and the probability that it does harm
//! Slots without a value hold *junk*: before EvalMod a form J = Re Σ_o β_o·z_o over parts of several values, z_o the n
//! slots of a period of (c_0 + c_1·s)/q0. Every slot o enters at most once, with |β_o| = 1/n as in the slot of a value,
//! and the real part of a circular variable has half its variance; so the variance of J is that of one coefficient or
//! less, (h + 1)/12 = 2.75 for the ephemeral secret of weight h = 32 (by Parseval the mean of |s|² over all slots is h,
//! whatever s). Unlike a coefficient, J is not bounded by (h + 1)/2 = 16.5. But it is a linear form of coefficients of
//! c_0 and c_1 uniform in ±q0/2, whose moment generating function is below exp(λ²/24) each; the sum is sub-Gaussian:
//!
//! > P(|J| ≥ x) ≤ 2·exp(−6x²/(h + 1)); for S slots log2 P ≤ 1 + log2 S − 0.262·x².
//!
//! What a large J does: errors of CKKS products and key switches are slot-local or independent of values, and EvalMod
//! runs some 800 bits above the scale, so a slot of size 2^k harms no other until somebody *masks* it: a plaintext of
//! scale 2^42 is wrong by 2^-36 in the slots that should be zero. Junk up to `JUNK_LIMIT` = 2^10 leaves 2^-26 there,
//! below the noise of a bootstrap. EvalMod of |x| ≤ K is at most 0.22·M = 28; beyond K the series grows: with K = 17.1,
//! degree 31 and three squarings it reaches 64 at ±20.6 and 2^10 at ±21.05. So a bootstrap fails with 2^(16 −
//! 0.262·21.05²) = 2^-100 at most ([`super::BootstrapParameters::log2_failure_few`]); slots of values never leave ±17,
//! |I| ≤ 16.5.
//!
//! Compared for nine levels (error of EvalMod on integers |I| ≤ 16 in bits of a value, and log2 of the probability
//! above):
//!
//! | degree, squarings | K | bits | log2 failure |
//! |---|---|---|---|
//! | 31, 3 | 15.1 | 28.9 (15.6 at 16) | −89 |
//! | 31, 3 | 16 | 26.2 | −93 |
//! | **31, 3 (chosen)** | 17.1 | 23.6 | −100 |
//! | 31, 3 | 18 | 21.2 | −108 |
//! | 63, 2 | 18 | 40.6 | −97 |
//! | 63, 2 | 20 | 39.6 | −119 |
//!
//! Degree 63 with two squarings is more exact and takes seven more products.
//!
//! # Precision
//! The diagonals of CoeffsToSlots are rounded: entries 1/n at scale s = Δ·q_top·n/(q0·K·S), summed over n terms of size
//! √(2n)·σ. For values this is 2^(36 − b) at N = 2^16 with b bits in the top level, whatever n; hence its 60 bits, two
//! primes of 30.

mod circuit;
mod combs;
mod plan;
mod transform;

pub use circuit::{EncodedFew, FewCircuit};
pub use plan::Reduction;

/// Largest magnitude of junk as a share of the message ratio, while EvalMod stays in its interval: the maximum of
/// a_1·sin θ + a_2·sin 2θ over 2π.
pub(super) const JUNK_SHARE: f64 = 0.22;

/// Junk beyond which the slots that a mask should clear disturb those beside them.
const JUNK_LIMIT: f64 = 1024.0;

/// log2 of a bound for the probability that junk in one of `slots` slots exceeds `reach`, the ephemeral secret of
/// weight `weight`; see the module header.
#[must_use]
pub fn log2_junk_beyond(reach: f64, weight: usize, slots: f64) -> f64 {
    1.0 + slots.log2() - 6.0 * reach * reach / (weight as f64 + 1.0) * std::f64::consts::LOG2_E
}

/// log2 of a bound for the probability that a bootstrap of few values fails: that junk somewhere reaches where
/// `magnitude`, that of EvalMod at x, exceeds 2^10.
#[must_use]
pub(super) fn log2_failure(magnitude: impl Fn(f64) -> f64, weight: usize, slots: f64) -> f64 {
    // In hundredths, from the origin on: nothing is assumed about how the series grows.
    let reach = (0..10_000).map(|step| f64::from(step) / 100.0).find(|x| magnitude(*x) > JUNK_LIMIT);
    reach.map_or(f64::NEG_INFINITY, |reach| log2_junk_beyond(reach, weight, slots))
}

#[cfg(test)]
mod tests;
