//! Parameters of bootstrapping, and the moduli chain they ask for.
//!
//! # Order of the steps: SlotsToCoeffs first
//! A ciphertext at level 3 goes through SlotsToCoeffs down to level 0, ModRaise to the top, CoeffsToSlots, EvalMod. The
//! values then stand in *coefficients* when the modulus wraps, one value a coefficient, so
//! * the error of EvalMod meets each value as it is: one bound holds for every kind of input. (With SlotsToCoeffs last, a
//!   constant vector has one coefficient of the size of the scale and uniform slots have many of 2^-8 of it: the sine
//!   error depends on the input, and StC multiplies the noise of EvalMod by √N = 2^8.)
//! * SlotsToCoeffs works on 4 limbs instead of some 17: nearly free in time, keys of one digit;
//! * three levels at the bottom are reserved for it ([`crate::contract::BootstrapSummary::minimum_input_level`]).
//!
//! # EvalMod: complex exponential, two harmonics
//! E = exp(2πi·x) from a Chebyshev series of exp(2πi·x/8) (degree 31, 5 levels) and three squarings; then
//! x mod 1 ≈ (a_1·Im E + a_2·Im E²)/2π with one more level. Squarings double the error where cosine double angles multiply
//! it by up to 4 each; the second harmonic cancels the cubic term of the sine for one level, where an arcsine of degree 3
//! takes two (of degree 7 three).
//!
//! # What was considered
//! Simulated at N = 2^16 with the rounding noise of a dense secret, (60.3·2^8)/scale per rescale, h = 32; bits, mean / worst
//! of 2^15 slots. MR is log2(q0/Δ) for values in [−1, 1]; the fit is minimax over that range.
//!
//! | EvalMod | levels × bits | MR | uniform | constant 1 | 0.577 everywhere |
//! |---|---|---|---|---|---|
//! | cosine, double angle 3 | 8 × 50 = 400 | 9 | 18.3 / 16.6 | 17.3 / 16.5 | 17.4 / 16.5 |
//! | the same | 8 × 50 = 400 | 11 | 20.2 / 15.7 | 20.2 / 15.5 | 20.2 / 15.4 |
//! | exponential, one harmonic | 8 × 50 = 400 | 10 | 20.3 / 18.2 | 19.4 / 18.1 | 19.4 / 18.1 |
//! | the same | 8 × 50 = 400 | 11 | 20.9 / 17.9 | 20.8 / 17.7 | 20.8 / 17.7 |
//! | exponential, two harmonics | 9 × 45 = 405 | 6 | 21.0 / 17.9 | 20.9 / 17.8 | 21.0 / 17.9 |
//! | the same | 9 × 46 = 414 | 6 | 21.9 / 18.9 | 21.8 / 18.7 | 22.0 / 18.9 |
//! | the same | 9 × 48 = 432 | 5 | 19.3 / 18.2 | 18.3 / 18.2 | 22.4 / 21.2 |
//! | the same | 9 × 48 = 432 | 6 | 23.2 / 20.5 | 22.6 / 20.3 | 24.0 / 20.9 |
//! | **the same (chosen)** | 9 × 48 = 432 | 7 | 23.0 / 19.9 | 23.0 / 19.8 | 23.0 / 20.0 |
//! | the same | 9 × 50 = 450 | 7 | 24.9 / 21.8 | 24.9 / 21.8 | 25.0 / 21.8 |
//! | the same, degree 63, two squarings | 9 × 48 = 432 | 6 | 23.0 / 19.9 | 22.5 / 19.8 | 23.5 / 19.8 |
//!
//! MR 7 is chosen over 6 so that values up to 2 in magnitude survive (error 2^-21 there). Levels of two primes are not
//! needed: no prime exceeds 2^50.
//!
//! # Overflow
//! I = (⟨c, s⟩ − m)/q0 is a sum of h + 1 = 33 values in [−1/2, 1/2]: |I| ≤ 16 always. P(|I| ≥ 16) = 2^-121.7 a coefficient,
//! 2^-105.7 a bootstrap at N = 2^16. Beyond the interval ±15.1 the series is continued and loses precision (about 2^-9 at
//! 16) but does not explode: there is no catastrophic overflow.

use crate::contract::{Error, Result};

/// Consecutive levels with primes of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stretch {
    /// What the levels are for.
    pub purpose: &'static str,
    /// Number of levels.
    pub levels: usize,
    /// Bits of the one prime of each level.
    pub prime_bits: u32,
}

/// Moduli chain from the bottom up: base prime, stretches of levels, special primes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainLayout {
    /// log2 of the ring degree N.
    pub log2_n: usize,
    /// Bits of q0, the prime left at level 0.
    pub base_bits: u32,
    /// Stretches, the lowest first.
    pub stretches: Vec<Stretch>,
    /// Number of special primes P of key switching.
    pub special_primes: usize,
    /// Bits of each special prime.
    pub special_bits: u32,
    /// log2 of the canonical scale of the application levels.
    pub log2_scale: u32,
}

impl ChainLayout {
    /// Levels in all.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.stretches.iter().map(|stretch| stretch.levels).sum()
    }

    /// log2 of Q, the product of all primes a ciphertext may have.
    #[must_use]
    pub fn log2_q(&self) -> u32 {
        self.base_bits
            + self.stretches.iter().map(|stretch| stretch.levels as u32 * stretch.prime_bits).sum::<u32>()
    }

    /// log2 of QP, an upper bound (every prime is below its power of two).
    #[must_use]
    pub fn log2_qp(&self) -> u32 {
        self.log2_q() + self.special_primes as u32 * self.special_bits
    }

    /// Digits of a key switch at the top: ⌈limbs / special primes⌉.
    #[must_use]
    pub fn digits(&self) -> usize {
        (self.levels() + 1).div_ceil(self.special_primes.max(1))
    }
}

/// What the steps of a bootstrap are.
#[derive(Clone, Debug, PartialEq)]
pub struct BootstrapParameters {
    /// The chain.
    pub chain: ChainLayout,
    /// Hamming weight of the ephemeral secret around ModRaise.
    pub ephemeral_weight: usize,
    /// Special primes (of `chain.special_bits`) of the switch to the ephemeral secret at level 0.
    pub ephemeral_special_primes: usize,
    /// log2(q0/Δ) for a value of 1.
    pub log2_message_ratio: u32,
    /// Largest magnitude of a real or imaginary part that keeps the precision.
    pub bound: f64,
    /// Half-width K of the interval of EvalMod.
    pub interval: f64,
    /// Degree of the Chebyshev series of the exponential.
    pub degree: usize,
    /// Squarings after the series.
    pub squarings: usize,
    /// Butterfly stages (powers of two of the radix) merged into each level of CoeffsToSlots, in order of use.
    pub coeffs_to_slots: Vec<usize>,
    /// The same for SlotsToCoeffs.
    pub slots_to_coeffs: Vec<usize>,
}

impl BootstrapParameters {
    /// N = 2^16, 128-bit security with a dense ternary secret.
    ///
    /// log2(QP) = 50 + 3·42 + 13·42 + 9·48 + 4·46 + 8·50 = 1738 ≤ 1747; 30 limbs in 4 digits. The ephemeral key (h = 32)
    /// lives at 100 bits (limit 345). A bootstrap takes a value at level 3 or above and returns level 16: 13 levels
    /// between bootstraps. Precision: see the module header.
    #[must_use]
    pub fn n16() -> Self {
        Self {
            chain: ChainLayout {
                log2_n: 16,
                base_bits: 50,
                stretches: vec![
                    Stretch { purpose: "SlotsToCoeffs", levels: 3, prime_bits: 42 },
                    Stretch { purpose: "application", levels: 13, prime_bits: 42 },
                    Stretch { purpose: "EvalMod", levels: 9, prime_bits: 48 },
                    Stretch { purpose: "CoeffsToSlots", levels: 4, prime_bits: 46 },
                ],
                special_primes: 8,
                special_bits: 50,
                log2_scale: 42,
            },
            coeffs_to_slots: vec![4, 4, 4, 3],
            slots_to_coeffs: vec![5, 5, 5],
            ..Self::test(16, 0)
        }
    }

    /// Insecure parameters for tests: N = 2^`log2_n` (small), `application_levels` between bootstraps.
    #[must_use]
    pub fn test(log2_n: usize, application_levels: usize) -> Self {
        let stages = log2_n.saturating_sub(1);
        Self {
            chain: ChainLayout {
                log2_n,
                base_bits: 50,
                stretches: vec![
                    Stretch { purpose: "SlotsToCoeffs", levels: 2, prime_bits: 42 },
                    Stretch { purpose: "application", levels: application_levels, prime_bits: 42 },
                    Stretch { purpose: "EvalMod", levels: 9, prime_bits: 48 },
                    Stretch { purpose: "CoeffsToSlots", levels: 2, prime_bits: 46 },
                ],
                special_primes: 6,
                special_bits: 50,
                log2_scale: 42,
            },
            ephemeral_weight: 32,
            ephemeral_special_primes: 1,
            log2_message_ratio: 7,
            bound: 2.0,
            interval: 15.1,
            degree: 31,
            squarings: 3,
            coeffs_to_slots: vec![stages.div_ceil(2), stages / 2],
            slots_to_coeffs: vec![stages.div_ceil(2), stages / 2],
        }
    }

    /// Level a bootstrapped value has.
    #[must_use]
    pub fn output_level(&self) -> usize {
        self.chain.levels().saturating_sub(self.eval_mod_levels() + self.coeffs_to_slots.len())
    }

    /// Lowest level of an input: what SlotsToCoeffs consumes.
    #[must_use]
    pub fn minimum_input_level(&self) -> usize {
        self.slots_to_coeffs.len()
    }

    /// Levels of EvalMod: series, squarings, second harmonic.
    #[must_use]
    pub fn eval_mod_levels(&self) -> usize {
        crate::circuits::depth(self.degree) + self.squarings + 1
    }

    /// That levels, stages and sizes fit together.
    ///
    /// # Errors
    /// [`Error::Parameters`] naming what does not.
    pub fn check(&self) -> Result<()> {
        let bad = |what: String| {
            Err(Error::Parameters {
                what,
                remedy: "use a preset, or make the stages of both transforms sum to log2(N) − 1 and the chain long enough"
                    .to_owned(),
            })
        };
        let stages = self.chain.log2_n.saturating_sub(1);
        for (name, merged) in
            [("CoeffsToSlots", &self.coeffs_to_slots), ("SlotsToCoeffs", &self.slots_to_coeffs)]
        {
            if merged.iter().sum::<usize>() != stages || merged.contains(&0) {
                return bad(format!(
                    "{name} merges stages {merged:?}, N = 2^{} has {stages}",
                    self.chain.log2_n
                ));
            }
        }
        let needed = self.eval_mod_levels() + self.coeffs_to_slots.len() + self.slots_to_coeffs.len();
        if self.chain.levels() < needed {
            return bad(format!("{} levels, bootstrapping alone takes {needed}", self.chain.levels()));
        }
        if self.log2_message_ratio >= self.chain.base_bits {
            return bad(format!(
                "message ratio 2^{} of q0 = 2^{}",
                self.log2_message_ratio, self.chain.base_bits
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_n16_chain_stays_below_the_limit_and_leaves_thirteen_levels() {
        let parameters = BootstrapParameters::n16();
        parameters.check().unwrap();
        assert!(parameters.chain.log2_qp() <= 1747, "log2(QP) = {}", parameters.chain.log2_qp());
        assert_eq!(parameters.output_level(), 16);
        assert_eq!(parameters.output_level() - parameters.minimum_input_level(), 13);
        assert_eq!(parameters.chain.digits(), 4);
    }

    #[test]
    fn test_presets_are_consistent() {
        for log2_n in [10, 12, 13] {
            BootstrapParameters::test(log2_n, 4).check().unwrap();
        }
    }
}
