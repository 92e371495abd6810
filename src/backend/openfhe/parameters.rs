//! Parameters of an OpenFHE engine.

use crate::contract::{Error, Result};

/// How OpenFHE bootstraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OpenFheBootstrapping {
    /// Levels spent on CoeffsToSlots; clamped to log2 of the slots.
    pub budget_encode: u32,
    /// Levels spent on SlotsToCoeffs; clamped to log2 of the slots.
    pub budget_decode: u32,
    /// Bits by which OpenFHE shrinks the message against q_0 before it bootstraps, at least `log2_base − log2_scale`.
    pub correction_factor: u32,
    /// Bits of precision the first of two iterations is trusted for.
    pub iteration_precision: u32,
    /// Iterations of every bootstrap at least: 1, or 2 so that requests for one iteration are met with two as well, at
    /// twice the time and one level less afterwards (16 to 20 bits become 33).
    pub iterations: u32,
}

impl OpenFheBootstrapping {
    /// Upper bound of the number of rotation keys for ciphertexts of `slots` slots: baby and giant steps of every level
    /// of both transforms (OpenFHE's split of 2^(r+1) − 1 diagonals when r stages share a level), conjugation, and the
    /// two keys around ModRaise.
    pub(super) fn rotation_keys(&self, slots: usize) -> usize {
        let stages = slots.max(2).ilog2();
        let steps = |budget: u32| -> usize {
            let budget = budget.clamp(1, stages);
            let merged = stages.div_ceil(budget);
            let diagonals = (2usize << merged) - 1;
            let giants = 1usize << (merged / 2 + 1 + u32::from(diagonals > 7));
            budget as usize * (giants + (diagonals + 1).div_ceil(giants))
        };
        steps(self.budget_encode) + steps(self.budget_decode) + 3
    }
}

/// Ring, chain, key switching and bootstrapping of an OpenFHE engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OpenFheParameters {
    /// log2 of the ring degree N; there are N/2 slots.
    pub log2_n: u32,
    /// Levels a program can use: with bootstrapping those left after it, otherwise all.
    pub levels: usize,
    /// Bits of the rescaling primes (at most 59), so of the canonical scales.
    pub log2_scale: u32,
    /// Bits of q_0 (at most 60).
    pub log2_base: u32,
    /// Digits of hybrid key switching (dnum).
    pub digits: u32,
    /// Bootstrapping, if any. With it the secret is sparse (Hamming weight 192) and another one of weight 32 is used
    /// around ModRaise; without it the secret is uniform ternary.
    pub bootstrapping: Option<OpenFheBootstrapping>,
}

impl OpenFheParameters {
    /// A small ring for tests (2048 slots): **no security**.
    #[must_use]
    pub fn test() -> Self {
        Self { log2_n: 12, levels: 8, log2_scale: 45, log2_base: 55, digits: 3, bootstrapping: None }
    }

    /// A small ring with bootstrapping for tests (2048 slots): **no security**.
    #[must_use]
    pub fn test_bootstrapping() -> Self {
        Self {
            log2_n: 12,
            levels: 6,
            log2_scale: 52,
            log2_base: 60,
            digits: 3,
            bootstrapping: Some(OpenFheBootstrapping {
                budget_encode: 3,
                budget_decode: 3,
                correction_factor: 9,
                iteration_precision: 16,
                iterations: 1,
            }),
        }
    }

    /// A small ring for generation in tests (1024 slots): **no security**. 14 levels between bootstraps. One iteration
    /// gives 18 to 19 bits in the worst slot, which is enough for the bundled model; two give 34 (N = 2^11, uniform
    /// values and constants) for twice the time.
    #[must_use]
    pub fn test_generation() -> Self {
        Self {
            log2_n: 11,
            levels: 15,
            log2_scale: 59,
            log2_base: 60,
            digits: 3,
            bootstrapping: Some(OpenFheBootstrapping {
                budget_encode: 2,
                budget_decode: 2,
                correction_factor: 10,
                iteration_precision: 15,
                iterations: 1,
            }),
        }
    }

    /// That OpenFHE can make a scheme of these numbers.
    ///
    /// # Errors
    /// [`Error::Parameters`] with the number that is out of range.
    pub fn check(&self) -> Result<()> {
        let bad = |what: String, remedy: &str| Error::Parameters { what, remedy: remedy.to_owned() };
        if !(4..=17).contains(&self.log2_n) {
            return Err(bad(format!("N = 2^{}", self.log2_n), "use N = 2^4 to 2^17"));
        }
        if !(1..=80).contains(&self.levels) {
            return Err(bad(format!("{} levels", self.levels), "use 1 to 80"));
        }
        if !(20..=59).contains(&self.log2_scale) || !(self.log2_scale + 1..=60).contains(&self.log2_base) {
            return Err(bad(
                format!("scale of {} bits above a base of {} bits", self.log2_scale, self.log2_base),
                "use a scale of 20 to 59 bits and a base above it of at most 60",
            ));
        }
        if !(1..=64).contains(&self.digits) {
            return Err(bad(format!("{} digits", self.digits), "use 1 to 64"));
        }
        if let Some(boot) = self.bootstrapping {
            if boot.budget_encode == 0 || boot.budget_decode == 0 {
                return Err(bad(
                    "a level budget of 0".to_owned(),
                    "give each linear transform at least 1 level",
                ));
            }
            if !(1..=2).contains(&boot.iterations) || self.levels < boot.iterations as usize {
                return Err(bad(
                    format!("{} iterations with {} levels", boot.iterations, self.levels),
                    "use 1 or 2, and as many levels at least",
                ));
            }
            if boot.correction_factor < self.log2_base - self.log2_scale || boot.correction_factor > 20 {
                return Err(bad(
                    format!("correction factor {}", boot.correction_factor),
                    "use at least the base's bits minus the scale's, and at most 20",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_openfhe_cannot_use_are_refused_before_it_sees_them() {
        assert!(OpenFheParameters::test().check().is_ok());
        assert!(OpenFheParameters::test_bootstrapping().check().is_ok());
        assert!(OpenFheParameters::test_generation().check().is_ok());
        let base = OpenFheParameters::test();
        let boot = OpenFheParameters::test_bootstrapping().bootstrapping.unwrap();
        for bad in [
            OpenFheParameters { log2_n: 30, ..base },
            OpenFheParameters { levels: 0, ..base },
            OpenFheParameters { log2_scale: 60, ..base },
            OpenFheParameters { log2_base: 61, ..base },
            OpenFheParameters { digits: 0, ..base },
            OpenFheParameters { bootstrapping: Some(OpenFheBootstrapping { iterations: 3, ..boot }), ..base },
            OpenFheParameters {
                bootstrapping: Some(OpenFheBootstrapping { budget_decode: 0, ..boot }),
                ..base
            },
            OpenFheParameters {
                bootstrapping: Some(OpenFheBootstrapping { correction_factor: 3, ..boot }),
                ..base
            },
        ] {
            assert!(matches!(bad.check(), Err(Error::Parameters { .. })), "{bad:?}");
        }
    }
}
