//! Parameters of bootstrapping, and the moduli chain they ask for.
//!
//! # Order of the steps: SlotsToCoeffs first
//! A ciphertext at level 3 goes through SlotsToCoeffs down to level 0, ModRaise to the top, CoeffsToSlots, EvalMod. The
//! values then stand in *coefficients* when the modulus wraps, one value a coefficient, so
//! * the error of EvalMod meets each value as it is: one bound holds for every kind of input. (With SlotsToCoeffs last,
//!   a constant vector has one coefficient of the size of the scale and uniform slots have many of 2^-8 of it: the sine
//!   error depends on the input, and StC multiplies the noise of EvalMod by √N = 2^8.)
//! * SlotsToCoeffs works on 4 limbs instead of some 17: nearly free in time, keys of one digit;
//! * three levels at the bottom are reserved for it ([`crate::contract::BootstrapSummary::minimum_input_level`]).
//!
//! # EvalMod: complex exponential, two harmonics
//! E = exp(2πi·x) from a Chebyshev series of exp(2πi·x/8) (degree 31, 5 levels) and three squarings; then x mod 1 ≈
//! (a_1·Im E + a_2·Im E²)/2π with one more level. Squarings double the error where cosine double angles multiply it by
//! up to 4 each; the second harmonic cancels the cubic term of the sine for one level, where an arcsine of degree 3
//! takes two (of degree 7 three).
//!
//! # What was considered
//! Simulated at N = 2^16 with the rounding noise of a dense secret, (60.3·2^8)/scale per rescale, h = 32; bits, mean /
//! worst of 2^15 slots. MR is log2(q0/Δ) for values in [−1, 1]; the fit is minimax over that range.
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
//! MR 7 is chosen over 6 for its smaller sine error. The harmonics are fitted for magnitudes up to 1 (root mean square
//! error 2^-27; 2^-23.3 at the bound 1.125): what they are wrong by is the same amount for the same value every time,
//! so that over a chain of bootstraps it adds up linearly instead of as √k. Fitted up to 2 (2^-21) that was most of the
//! error of a chain, fitted to the least maximum up to 1.125 (2^-25) 7 % of it after 32. Levels of two primes are not
//! needed: no prime exceeds 2^50.
//!
//! # Overflow
//! I = (⟨c, s⟩ − m)/q0 is a sum of h + 1 = 33 values in [−1/2, 1/2]: |I| ≤ 16 always. P(|I| ≥ 16) = 2^-121.7 a
//! coefficient, 2^-105.7 a bootstrap at N = 2^16. Beyond the interval ±15.1 the series is continued and loses precision
//! (about 2^-9 at 16) but does not explode: there is no catastrophic overflow.

use super::few;
use crate::ckks::ParametersLiteral;
use crate::contract::{BootstrapSummary, Error, FewSummary, Level, Result};

/// What the steps of a bootstrap are.
#[derive(Clone, Debug, PartialEq)]
pub struct BootstrapParameters {
    /// The chain.
    pub chain: ParametersLiteral,
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
    /// Butterfly stages merged into each level of SlotsToCoeffs, in order of use.
    pub slots_to_coeffs: Vec<usize>,
    /// Bootstraps of few values; `None` where the top level is too narrow for a dense transform.
    pub few: Option<FewParameters>,
}

/// What differs in bootstraps of few values ([`super::few`]): one level for each transform, and an interval that holds
/// junk.
#[derive(Clone, Debug, PartialEq)]
pub struct FewParameters {
    /// Half-width K of the interval of EvalMod; degree and squarings are those of all slots.
    pub interval: f64,
}

impl BootstrapParameters {
    /// Levels of the chain.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.chain.stretches.iter().map(|stretch| stretch.levels).sum()
    }

    /// log2 of the probability that some coefficient leaves the interval in one bootstrap: N·P(|I| ≥ 16) for h = 32,
    /// where I is the rounded sum of 33 uniform values (exact Irwin–Hall tail). Precision degrades there; nothing else
    /// happens.
    #[must_use]
    pub fn log2_failure(&self) -> f64 {
        log2_irwin_hall_tail(self.ephemeral_weight + 1, self.interval.floor() + 0.5)
            + f64::from(self.chain.log2_n)
    }

    /// Level that a bootstrap of few values reaches, where there is one: one level for CoeffsToSlots.
    #[must_use]
    pub fn few_output_level(&self) -> Option<usize> {
        self.few.as_ref()?;
        self.levels().checked_sub(self.eval_mod_levels() + 1)
    }

    /// What a backend offers under these parameters.
    #[must_use]
    pub fn summary(&self) -> BootstrapSummary {
        let few = self.few_output_level().map(|level| FewSummary {
            output_level: Level(level),
            minimum_input_level: Level(1),
            junk: few::JUNK_SHARE * f64::from(self.log2_message_ratio).exp2(),
        });
        BootstrapSummary {
            output_level: Level(self.output_level()),
            minimum_input_level: Level(self.minimum_input_level()),
            bound: self.bound,
            few,
        }
    }

    /// Level a value has when all slots were bootstrapped.
    #[must_use]
    pub fn output_level(&self) -> usize {
        self.levels().saturating_sub(self.eval_mod_levels() + self.coeffs_to_slots.len())
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
        let stages = self.chain.log2_n.saturating_sub(1) as usize;
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
        if self.levels() < needed {
            return bad(format!("{} levels, bootstrapping alone takes {needed}", self.levels()));
        }
        if self.chain.base_bits.len() != 1 {
            return bad(format!("{} primes at level 0, ModRaise reads one", self.chain.base_bits.len()));
        }
        Ok(())
    }
}

/// log2 P(|U_1 + … + U_n| ≥ t) for U_i uniform in [−1/2, 1/2]: twice the Irwin–Hall tail, whose first term x^n/n! with
/// x = n/2 − t is corrected by the alternating sum while it is accurate; −∞ beyond the support.
#[must_use]
pub fn log2_irwin_hall_tail(n: usize, t: f64) -> f64 {
    let reach = n as f64 / 2.0 - t;
    if reach <= 0.0 {
        return f64::NEG_INFINITY;
    }
    // Terms relative to the first: C(n, k)·(1 − k/x)^n.
    let mut sum = 0.0;
    let mut binomial = 1.0;
    for k in 0..n {
        let left = 1.0 - k as f64 / reach;
        if left <= 0.0 {
            break;
        }
        let term = binomial * left.powi(n as i32);
        sum += if k % 2 == 0 { term } else { -term };
        binomial *= (n - k) as f64 / (k + 1) as f64;
    }
    let log2_factorial: f64 = (1..=n).map(|k| (k as f64).log2()).sum();
    1.0 + n as f64 * reach.log2() - log2_factorial + sum.log2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ckks::Parameters;

    #[test]
    fn the_n16_chain_leaves_thirteen_levels_below_the_limit() {
        let parameters = BootstrapParameters::n16();
        parameters.check().unwrap();
        assert_eq!(parameters.output_level(), 16);
        assert_eq!(parameters.output_level() - parameters.minimum_input_level(), 13);
        // Building the real chain at N = 2^16 also checks the limit of every key; here the sum of its bits.
        let bits: f64 = parameters.chain.stretches.iter().map(|s| s.levels as f64 * s.log2_scale).sum();
        let log2_qp = bits + 9.0 * 49.9;
        assert!(log2_qp <= 1747.0, "log2(QP) = {log2_qp}");
    }

    #[test]
    fn the_failure_probability_is_that_of_the_irwin_hall_law() {
        let log2_failure = BootstrapParameters::n16().log2_failure();
        // 2·(1^33/33!) = 2^-121.7 at t = 15.5, times 2^16.
        assert!((log2_failure + 105.7).abs() < 0.1, "2^{log2_failure}");
        assert!((log2_irwin_hall_tail(33, 13.5) + 69.404).abs() < 0.01);
        assert_eq!(log2_irwin_hall_tail(33, 16.5), f64::NEG_INFINITY);
    }

    #[test]
    fn test_presets_are_consistent() {
        for log2_n in [9, 12, 13] {
            let parameters = BootstrapParameters::test(log2_n, 4);
            parameters.check().unwrap();
            let built = Parameters::new(parameters.chain.clone()).unwrap();
            assert_eq!(built.chain().max_level().0, parameters.levels());
        }
    }
}
