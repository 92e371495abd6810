//! 1/x over wide intervals: Goldschmidt's iteration with relaxation factors, one level an iteration.
//!
//! With w = k·x the step x ← w(2 − w), y ← k·y(2 − w) keeps y/x fixed and drives x to 1; k > 1 lifts small x by nearly
//! 4 an iteration, as much as any polynomial of that depth can (relaxation as in THOR, Moon et al. 2024, for inverse
//! square roots). In e = 1 − w this reads e ← (1 − k') + k'·e² and y ← k·y(1 + e): with e = c·f and constants c chosen
//! backwards from the last step, no constant costs a level: f ← f² − b, y ← y·(f + a), all other factors in one
//! [`RelaxedInverse::gain`] that the caller folds into later weights.
//!
//! The numerator rides along: a value o multiplied by every f + a becomes o/x up to the gain. Below its interval the
//! result is too small, harmlessly; above the top (x > 1 here) it diverges, hence head-room at the top.

use super::approximation::Interval;
use crate::contract::{Complex64, Error, Evaluator, Result};

/// One iteration in terms of f.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RelaxedStep {
    /// a: the numerator is multiplied by f + a.
    pub addend: f64,
    /// b: the next f is f² − b; zero in the last step, which needs no next one.
    pub shift: f64,
    /// Factor by which f + a must be multiplied to be this step's factor of 1/x.
    pub gain: f64,
}

/// The constants of a relaxed inverse over x ∈ [low, 1].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RelaxedInverse {
    /// Lower end of the interval; the upper end is 1.
    pub low: f64,
    /// Slope of the first f, which is `offset` + `slope`·x.
    pub slope: f64,
    /// Value at x = 0 of the first f, which is `offset` + `slope`·x.
    pub offset: f64,
    /// The iterations.
    pub steps: Vec<RelaxedStep>,
    /// Largest relative error over [low, 1], found on a logarithmic grid.
    pub worst_error: f64,
}

impl RelaxedInverse {
    /// Constants of `iterations` steps over [`low`, 1]. Depth: the numerator ends `iterations` levels below the first
    /// f.
    ///
    /// # Errors
    /// [`Error::Plan`] when `low` is outside (0, 1) or there is no iteration.
    pub fn new(low: f64, iterations: usize) -> Result<Self> {
        Interval::new(low, 1.0)?;
        if low <= 0.0 || iterations == 0 {
            return Err(Error::Plan {
                why: format!("{iterations} iterations of 1/x over {low:e} .. 1"),
                remedy: "use a positive lower bound and at least one iteration".to_owned(),
            });
        }
        // k puts both ends of the current interval at the same next value.
        let mut bottom = low;
        let relaxations: Vec<f64> = (0..iterations)
            .map(|_| {
                let k = 2.0 / (1.0 + bottom);
                let w = k * bottom;
                bottom = w * (2.0 - w);
                k
            })
            .collect();
        // `entering` is c before the step; `next_scale` that of the step after it.
        let mut steps = Vec::with_capacity(iterations);
        let (mut next_scale, mut next_relaxation) = (None, 1.0);
        for k in relaxations.iter().rev() {
            let entering: f64 = next_scale.map_or(1.0, |next: f64| (next / next_relaxation).sqrt());
            let shift = next_scale.map_or(0.0, |next| (next_relaxation - 1.0) / next);
            steps.push(RelaxedStep { addend: 1.0 / entering, shift, gain: k * entering });
            (next_scale, next_relaxation) = (Some(entering), *k);
        }
        steps.reverse();
        let scale = next_scale.unwrap_or(1.0);
        let mut inverse =
            Self { low, slope: -next_relaxation / scale, offset: 1.0 / scale, steps, worst_error: 0.0 };
        inverse.worst_error = (0..=4000)
            .map(|index| low.powf(f64::from(index) / 4000.0))
            .map(|x| (inverse.value(x) * x - 1.0).abs())
            .fold(0.0, f64::max);
        Ok(inverse)
    }

    /// The fewest iterations whose worst relative error is at most `target`.
    ///
    /// # Errors
    /// [`Error::Plan`] when 64 iterations do not reach it.
    pub fn fit(low: f64, target: f64) -> Result<Self> {
        for iterations in 1..=64 {
            let inverse = Self::new(low, iterations)?;
            if inverse.worst_error <= target {
                return Ok(inverse);
            }
        }
        Err(Error::Plan {
            why: format!("64 iterations do not reach an error of {target:e} on {low:e} .. 1"),
            remedy: "allow more error, or raise the lower bound".to_owned(),
        })
    }

    /// The iteration cut in two, `before` and `after` a refresh: `before` steps from [`low`, 1], and `after` steps over
    /// what they leave, [low·v, 1] with v their value at the lower end. x·before(x) enters the second part.
    ///
    /// # Errors
    /// [`Error::Plan`] when `low` is outside (0, 1) or there is no iteration.
    pub fn split(low: f64, before: usize, after: usize) -> Result<(Self, Self)> {
        let first = Self::new(low, before)?;
        let second = Self::new(low * first.value(low), after)?;
        Ok((first, second))
    }

    /// Factor by which the product of the first `steps` factors f + a must still be multiplied to be the partial
    /// inverse; with all of them, 1/x.
    #[must_use]
    pub fn gain(&self, steps: usize) -> f64 {
        self.steps.iter().take(steps).map(|step| step.gain).product()
    }

    /// What the circuit computes for x, in f64.
    #[must_use]
    pub fn value(&self, x: f64) -> f64 {
        let mut f = self.slope.mul_add(x, self.offset);
        let mut product = 1.0;
        for step in &self.steps {
            product *= (f + step.addend) * step.gain;
            f = f.mul_add(f, -step.shift);
        }
        product
    }
}

impl RelaxedStep {
    /// f + a where `places` is 1, and f (zero there) where it is 0: the factor of the numerator, and its mask. Level
    /// and scale unchanged.
    ///
    /// # Errors
    /// [`Error::ScaleOutOfRange`] for a constant that does not fit the scale ([`Evaluator::add_values`]).
    pub fn factor<E: Evaluator>(
        &self,
        evaluator: &E,
        f: &E::Ciphertext,
        places: &[Complex64],
    ) -> Result<E::Ciphertext> {
        let addends: Vec<Complex64> = places.iter().map(|place| place * self.addend).collect();
        evaluator.add_values(f, &addends)
    }

    /// The next f: f² − b where `places` is 1, f² (zero stays zero) where it is 0. One level, one product.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`] at level 0, [`Error::EvaluationKey`] without a relinearization key.
    pub fn advance<E: Evaluator>(
        &self,
        evaluator: &E,
        f: &E::Ciphertext,
        places: &[Complex64],
    ) -> Result<E::Ciphertext> {
        let shifts: Vec<Complex64> = places.iter().map(|place| -place * self.shift).collect();
        evaluator.add_values(&evaluator.square(f)?, &shifts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::clear::{ClearClient, ClearParameters};
    use crate::contract::{CiphertextInfo, Client, Level};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_iteration_inverts_its_interval_and_only_underestimates_below_it(
            log_low in -9.0f64..-0.5, iterations in 4usize..24
        ) {
            let low = 10f64.powf(log_low);
            let inverse = RelaxedInverse::new(low, iterations).unwrap();
            // 1 − x is rounded to 2^-53, which is so much of x.
            let rounding = |x: f64| 1e-15 / x;
            for i in 1..=200 {
                let x = low * f64::from(i) / 200.0;
                let product = inverse.value(x) * x;
                prop_assert!(
                    product <= 1.0 + inverse.worst_error + rounding(x),
                    "x = {x:e}: 1 + {:e}, worst error {:e}", product - 1.0, inverse.worst_error
                );
            }
            let longer = RelaxedInverse::new(low, iterations + 2).unwrap();
            let rounding = rounding(low);
            prop_assert!(
                longer.worst_error <= inverse.worst_error + rounding,
                "{:e} after {:e}, {iterations} iterations over {low:e}", longer.worst_error, inverse.worst_error
            );
        }
    }

    #[test]
    fn each_iteration_widens_the_interval_by_nearly_four() {
        for (low, most) in [(1e-2, 8), (1e-4, 11), (1e-7, 16), (4e-11, 22)] {
            let inverse = RelaxedInverse::fit(low, 3e-3).unwrap();
            assert!(inverse.steps.len() <= most, "{low:e}: {} iterations", inverse.steps.len());
        }
    }

    #[test]
    fn on_ciphertexts_it_takes_a_level_an_iteration_and_divides_the_numerator() {
        let inverse = RelaxedInverse::new(1e-4, 11).unwrap();
        let client = ClearClient::new(ClearParameters::new(16, 12, 42).unwrap());
        let evaluator = client.dry_run();
        let xs: Vec<f64> = (0..8).map(|i| 1e-4f64.powf(f64::from(i) / 7.0)).collect();
        let start: Vec<Complex64> =
            xs.iter().map(|x| Complex64::new(inverse.offset + inverse.slope * x, 0.0)).collect();
        let places = vec![Complex64::new(1.0, 0.0); 8];
        let mut f = client.encrypt(&start, Level(12)).unwrap();
        let mut o = client.encrypt(&vec![Complex64::new(0.5, 0.0); 16], Level(12)).unwrap();
        for step in &inverse.steps {
            let factor = step.factor(&evaluator, &f, &places).unwrap();
            o = evaluator.mul(&o, &factor).unwrap();
            f = step.advance(&evaluator, &f, &places).unwrap();
        }
        assert_eq!(o.level(), Level(1));
        let decrypted = client.decrypt(&o).unwrap();
        for (slot, x) in xs.iter().enumerate() {
            let got = decrypted[slot].re * inverse.gain(inverse.steps.len()) * x / 0.5;
            assert!((got - 1.0).abs() < 2.0 * inverse.worst_error + 1e-6, "x = {x:e}: {got}");
        }
        assert!(decrypted[8..].iter().all(|z| z.norm() == 0.0), "slots outside stay zero");
    }
}
