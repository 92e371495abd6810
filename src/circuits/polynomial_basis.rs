//! Chebyshev polynomials T_k(x) of a ciphertext, each computed once.
//!
//! T_{a+b} = 2·T_a·T_b − T_{|a−b|} with a the largest power of two below a+b, so that T_k stands ⌈log2 k⌉ levels below
//! x. The subtrahend is brought to the scale of the product by a constant −1 rounded at exactly that scale, before the
//! rescale: no operation ever meets another scale. Scales follow s_{a+b} = s_a·s_b/q and stay near the canonical one
//! inside a stretch of equal primes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::contract::{CiphertextInfo, Complex64, Error, Evaluator, Level, LinearTerm, Result};

/// T_1 = x and every T_k computed so far, shared by all polynomials evaluated at x.
pub struct ChebyshevBasis<'e, E: Evaluator> {
    evaluator: &'e E,
    powers: BTreeMap<usize, E::Ciphertext>,
}

impl<'e, E: Evaluator> ChebyshevBasis<'e, E> {
    /// Basis of `x`, whose slots are in [−1, 1]; any level and scale.
    pub fn new(evaluator: &'e E, x: E::Ciphertext) -> Self {
        Self { evaluator, powers: BTreeMap::from([(1, x)]) }
    }

    /// The evaluator this basis computes with.
    pub fn evaluator(&self) -> &'e E {
        self.evaluator
    }

    /// Level of x.
    ///
    /// # Errors
    /// [`Error::Internal`] if x is missing, which construction rules out.
    pub fn level(&self) -> Result<Level> {
        Ok(self.get(1)?.level())
    }

    /// T_k(x), k ≥ 1, at level(x) − ⌈log2 k⌉. Computes what is missing: one product and one relinearization for each.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`] when x has too few levels; errors of the evaluator.
    pub fn compute(&mut self, k: usize) -> Result<&E::Ciphertext> {
        if !self.powers.contains_key(&k) {
            let (a, b) = split(k);
            self.compute(a)?;
            self.compute(b)?;
            if a != b {
                self.compute(a - b)?;
            }
            let power = self.product(a, b)?;
            self.powers.insert(k, power);
        }
        self.get(k)
    }

    /// T_k at `level`, limbs dropped; T_k must be computed already.
    pub(super) fn at(&self, k: usize, level: Level) -> Result<Cow<'_, E::Ciphertext>> {
        let power = self.get(k)?;
        if power.level() == level {
            return Ok(Cow::Borrowed(power));
        }
        Ok(Cow::Owned(self.evaluator.drop_level(power, level)?))
    }

    pub(super) fn get(&self, k: usize) -> Result<&E::Ciphertext> {
        self.powers.get(&k).ok_or_else(|| Error::Internal(format!("T_{k} used before it was computed")))
    }

    /// 2·T_a·T_b − T_{a−b}, rescaled.
    fn product(&self, a: usize, b: usize) -> Result<E::Ciphertext> {
        let evaluator = self.evaluator;
        let level = self.get(a)?.level().min(self.get(b)?.level());
        level.below("Chebyshev power")?;
        let doubled =
            evaluator.linear_combination(&[LinearTerm::integer(2, self.get(a)?)], Complex64::ZERO, level)?;
        let right = self.at(b, level)?;
        let product = evaluator.tensor(&doubled, &right)?;
        let minus = Complex64::new(-1.0, 0.0);
        if a == b {
            return evaluator.relinearize_and_rescale(&product, &[], minus);
        }
        let subtrahend = LinearTerm::at_scale(minus, self.get(a - b)?, product.scale());
        evaluator.relinearize_and_rescale(&product, &[subtrahend], Complex64::ZERO)
    }
}

/// k = a + b with a ≥ b: halves for a power of two, otherwise the largest power of two below k and the rest.
pub(super) fn split(k: usize) -> (usize, usize) {
    let power = (k / 2 + 1).next_power_of_two();
    let a = if k.is_power_of_two() { k / 2 } else { power };
    (a, k - a)
}

/// Adds to `wanted` everything that computing T_k computes on the way, T_1 included.
pub(super) fn close(wanted: &mut std::collections::BTreeSet<usize>, k: usize) {
    if k == 0 || !wanted.insert(k) || k == 1 {
        return;
    }
    let (a, b) = split(k);
    close(wanted, a);
    close(wanted, b);
    close(wanted, a - b);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_keep_the_least_depth() {
        fn depth(k: usize) -> u32 {
            if k == 1 {
                return 0;
            }
            let (a, b) = split(k);
            assert!(a >= b && b >= 1 && a + b == k, "{k} = {a} + {b}");
            1 + depth(a).max(depth(b))
        }
        for k in 2..300usize {
            assert_eq!(depth(k), k.next_power_of_two().trailing_zeros(), "T_{k}");
        }
    }
}
