//! Reproducible slot values to measure with.

use std::collections::BTreeMap;
use std::str::FromStr;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::contract::{Complex64, Error, Result};

/// Values whose real and imaginary parts are uniform in [−1, 1), the same for the same seed.
#[must_use]
pub fn uniform(count: usize, seed: u64) -> Vec<Complex64> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut number = || generator.random_range(-1.0..1.0);
    (0..count).map(|_| Complex64::new(number(), number())).collect()
}

/// A kind of input for a bootstrap: errors of EvalMod and of the transforms meet each kind differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Both parts uniform in [−1, 1).
    Uniform,
    /// 1 + i everywhere: one large coefficient.
    Constant,
    /// 1 + i in the first half, −1 − i in the second.
    Halves,
    /// 1 in one slot, 0 elsewhere.
    OneHot,
    /// Uniform in every 32nd slot, 0 elsewhere: as between replicated copies.
    Interleaved,
    /// Sums over 64 values in all their 64 slots, as after an inner product.
    Replicated,
    /// Real parts uniform, imaginary parts 0, bootstrapped as real slots.
    Real,
}

impl Input {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Uniform,
        Self::Constant,
        Self::Halves,
        Self::OneHot,
        Self::Interleaved,
        Self::Replicated,
        Self::Real,
    ];

    /// Name in reports and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Constant => "constant",
            Self::Halves => "halves",
            Self::OneHot => "one_hot",
            Self::Interleaved => "interleaved",
            Self::Replicated => "replicated",
            Self::Real => "real",
        }
    }

    /// `count` values of this kind, real and imaginary parts within ±1, the same for the same seed.
    #[must_use]
    pub fn values(self, count: usize, seed: u64) -> Vec<Complex64> {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let mut uniform =
            || Complex64::new(generator.random_range(-1.0..=1.0), generator.random_range(-1.0..=1.0));
        let one = Complex64::new(1.0, 1.0);
        let slots = 0..count;
        match self {
            Self::Uniform => slots.map(|_| uniform()).collect(),
            Self::Constant => vec![one; count],
            Self::Halves => slots.map(|slot| if slot < count / 2 { one } else { -one }).collect(),
            Self::OneHot => {
                let hot = count / 3;
                slots.map(|slot| Complex64::from(if slot == hot { 1.0 } else { 0.0 })).collect()
            }
            Self::Real => slots.map(|_| Complex64::from(uniform().re)).collect(),
            Self::Interleaved => {
                slots.map(|slot| if slot.is_multiple_of(32) { uniform() } else { Complex64::ZERO }).collect()
            }
            Self::Replicated => {
                let mut sums = BTreeMap::new();
                // Of the size that a sum of 64 random products of normalised vectors has.
                let mut sum = || (0..64).map(|_| uniform()).sum::<Complex64>() / 64.0_f64.sqrt() / 4.0;
                slots.map(|slot| *sums.entry(slot / 64).or_insert_with(&mut sum)).collect()
            }
        }
    }
}

impl std::fmt::Display for Input {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Input {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|input| input.name() == name).ok_or_else(|| Error::Shape {
            operation: "bench bootstrap",
            what: format!("no input is called `{name}`"),
            remedy: format!("use {}", Self::ALL.map(Self::name).join(", ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_stays_in_the_unit_square_and_is_found_by_its_name() {
        for input in Input::ALL {
            let values = input.values(96, 3);
            assert_eq!((values.len(), &values), (96, &input.values(96, 3)), "{input}");
            assert!(values.iter().all(|value| value.re.abs() <= 1.0 && value.im.abs() <= 1.0), "{input}");
            assert!(values.iter().any(|value| value.norm() > 0.0), "{input}");
            assert_eq!(input.name().parse::<Input>().unwrap(), input);
        }
        assert!("gauss".parse::<Input>().unwrap_err().to_string().contains("one_hot"));
        assert!(Input::Real.values(64, 1).iter().all(|value| value.im == 0.0));
    }
}
