//! Softmax with the division deferred behind the product with the values, and complex refreshes.
//!
//! The scores arrive as the unit variable of the exponential, already shifted (an affine function of the query, folded
//! into the cached keys, predicts log D). P = exp stays un-normalised; its sums D and its product with the values, the
//! numerator, then go through the relaxed inverse ([`super::inverse`]) together, so that one complex bootstrap
//! refreshes both half way, when the spread of D has shrunk by 4 an iteration. After Cachemir (arXiv 2602.11470), which
//! divides first, and THOR's relaxed iterations; deferring is ours.

pub use super::complex_parts::{join_complex, split_complex};
use super::evaluate_series;
use super::exp::Exponential;
use super::inverse::RelaxedInverse;
use crate::contract::{CiphertextInfo, Complex64, Evaluator, Result};

/// exp and the relaxed inverse of one softmax.
///
/// # Precision
/// Denominators D span up to 28 bits, noise is absolute. Three measures keep D exact *relative* to itself:
/// * exp comes out magnified by 4^n, n the iterations before the refresh, through the coefficients of its root;
/// * D is carried through these iterations like a numerator, multiplied by factors of a quarter, so that small values
///   neither grow nor shrink in the ciphertext; the f that the factors come from may be noisy: what it does to the
///   numerator it does to D as well, and the quotient does not see it;
/// * f starts afresh from the refreshed D.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DeferredSoftmax {
    /// exp over the interval of the shifted scores, 1 at its top.
    pub exponential: Exponential,
    /// Iterations before the refresh, from D divided by its largest value, per head.
    pub before: RelaxedInverse,
    /// Iterations after it, down to 1/D.
    pub after: RelaxedInverse,
}

/// The sums that a softmax divides by, in two scalings.
#[derive(Clone, Debug)]
pub struct Denominators<C> {
    /// First f of the iteration, a quarter of it: `offset` + `slope`·D.
    pub quarter: C,
    /// D magnified, as the numerator is.
    pub magnified: C,
}

impl DeferredSoftmax {
    /// Over denominators in [`low`, 1], with `before` iterations up to the refresh and `after` behind it.
    ///
    /// # Errors
    /// [`crate::Error::Plan`] when `low` is outside (0, 1) or there is no iteration
    /// ([`RelaxedInverse::split`]).
    pub fn new(exponential: Exponential, low: f64, before: usize, after: usize) -> Result<Self> {
        let (before, after) = RelaxedInverse::split(low, before, after)?;
        Ok(Self { exponential, before, after })
    }

    /// 4^n: factor of P beside exp.
    #[must_use]
    pub fn magnification(&self) -> f64 {
        4f64.powi(i32::try_from(self.before.steps.len()).unwrap_or(i32::MAX))
    }

    /// P, magnified, of unit scores: [`Exponential::levels`] levels. Slots at −1 give e^(low − high), negligible:
    /// unused slots are put there instead of being masked.
    ///
    /// # Errors
    /// [`crate::Error::LevelExhausted`] with too few levels, [`crate::Error::EvaluationKey`] without a relinearization
    /// key ([`evaluate_series`], [`Evaluator::square`]).
    pub fn weights<E: Evaluator>(&self, evaluator: &E, scores: &E::Ciphertext) -> Result<E::Ciphertext> {
        let halving = (-(self.exponential.squarings as f64)).exp2();
        let factor = self.magnification().powf(halving);
        let coefficients: Vec<Complex64> =
            self.exponential.root.complex_coefficients().iter().map(|c| c * factor).collect();
        let root = evaluate_series(evaluator, scores, &coefficients, None)?;
        self.exponential.square_up(evaluator, &root)
    }

    /// Factors of the sum of magnified weights, whose largest value (not magnified) is `largest`, for the two members
    /// of [`Denominators`].
    #[must_use]
    pub fn denominator_factors(&self, largest: f64) -> [f64; 2] {
        let gain = self.before.gain(self.before.steps.len());
        // Half of −slope·x of the second part, which is refreshed and doubled.
        let magnified = -self.after.slope / 2.0 * gain / largest;
        [self.before.slope / (4.0 * largest * self.magnification()), magnified]
    }

    /// What [`Denominators::quarter`] still lacks when it comes from the sums by its factor: added at `places`.
    #[must_use]
    pub fn quarter_offset(&self) -> f64 {
        self.before.offset / 4.0
    }

    /// Runs the iterations before the refresh; returns half the first f of the second part, an affine function of D
    /// within ±1, and the numerator o at one level, ready for [`join_complex`]. `places` is 1 at the slots of the
    /// result, 0 elsewhere; o may have junk elsewhere and comes out clean, the denominators must be clean.
    ///
    /// When o stands below f (values are cached low), the factors are multiplied among themselves until they come down
    /// to o, which costs one level more than the iterations.
    ///
    /// # Errors
    /// [`crate::Error::LevelExhausted`] with too few levels, [`crate::Error::EvaluationKey`] without a relinearization
    /// key.
    pub fn before_refresh<E: Evaluator>(
        &self,
        evaluator: &E,
        denominators: Denominators<E::Ciphertext>,
        o: E::Ciphertext,
        places: &[Complex64],
    ) -> Result<(E::Ciphertext, E::Ciphertext)> {
        let at_places = |value: f64| places.iter().map(|place| place * value).collect::<Vec<_>>();
        let Denominators { mut quarter, magnified: mut d } = denominators;
        let mut o = o;
        // Product of the factors that o has not taken yet.
        let mut pending: Option<E::Ciphertext> = None;
        let last = self.before.steps.len().saturating_sub(1);
        for (index, step) in self.before.steps.iter().enumerate() {
            let factor = evaluator.add_values(&quarter, &at_places(step.addend / 4.0))?;
            d = multiply(evaluator, &d, &factor)?;
            if index < last {
                // (f/4)² · 4 = f²/4.
                let square = evaluator.mul_integer(&evaluator.square(&quarter)?, 4)?;
                quarter = evaluator.add_values(&square, &at_places(-step.shift / 4.0))?;
            }
            let product = match pending.take() {
                Some(pending) => multiply(evaluator, &pending, &factor)?,
                None => factor,
            };
            if product.level() <= o.level() {
                o = multiply(evaluator, &o, &product)?;
            } else {
                pending = Some(product);
            }
        }
        if let Some(pending) = pending {
            o = multiply(evaluator, &o, &pending)?;
        }
        let offsets = at_places(self.after.offset / 2.0);
        let f = evaluator.add_values(&evaluator.negate(&d)?, &offsets)?;
        evaluator.align(&f, &o)
    }

    /// Runs the iterations after the refresh on the doubled f and o; returns the quotient up to
    /// [`DeferredSoftmax::gain`], one level an iteration.
    ///
    /// # Errors
    /// [`crate::Error::LevelExhausted`] with too few levels, [`crate::Error::EvaluationKey`] without a relinearization
    /// key.
    pub fn after_refresh<E: Evaluator>(
        &self,
        evaluator: &E,
        f: E::Ciphertext,
        o: E::Ciphertext,
        places: &[Complex64],
    ) -> Result<E::Ciphertext> {
        let (mut f, mut o) = (f, o);
        let last = self.after.steps.len().saturating_sub(1);
        for (index, step) in self.after.steps.iter().enumerate() {
            o = multiply(evaluator, &o, &step.factor(evaluator, &f, places)?)?;
            if index < last {
                f = step.advance(evaluator, &f, places)?;
            }
        }
        Ok(o)
    }

    /// Gain of the first part. A numerator multiplied by it beforehand is refreshed within the magnitude of its
    /// quotient.
    #[must_use]
    pub fn first_gain(&self) -> f64 {
        self.before.gain(self.before.steps.len())
    }

    /// What the result of [`DeferredSoftmax::after_refresh`] must still be multiplied by, the doubling included.
    #[must_use]
    pub fn gain(&self) -> f64 {
        self.first_gain() * self.after.gain(self.after.steps.len()) / 2.0
    }
}

fn multiply<E: Evaluator>(evaluator: &E, a: &E::Ciphertext, b: &E::Ciphertext) -> Result<E::Ciphertext> {
    let (a, b) = evaluator.align(a, b)?;
    evaluator.mul(&a, &b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::clear::{ClearClient, ClearParameters};
    use crate::circuits::approximation::Interval;
    use crate::contract::{BootstrapRequest, BootstrapSummary, Client, Level};

    #[test]
    fn numerator_and_denominator_meet_at_one_level_whichever_starts_lower() {
        let summary = BootstrapSummary {
            output_level: Level(13),
            minimum_input_level: Level(0),
            bound: 1.0,
            few: None,
        };
        let client = ClearClient::new(ClearParameters::new(16, 13, 42).unwrap().with_bootstrapping(summary));
        let evaluator = client.dry_run();
        let places = vec![Complex64::new(1.0, 0.0); 8];
        for (d_level, o_level, before, left) in [(6, 3, 5, 0), (6, 6, 5, 1), (6, 6, 6, 0), (5, 2, 4, 0)] {
            let exponential = Exponential::fit(Interval::new(-8.0, 0.0).unwrap(), 1, 1e-4).unwrap();
            let softmax = DeferredSoftmax::new(exponential, 1e-5, before, 13 - before).unwrap();
            let xs: Vec<f64> = (0..8).map(|i| 1e-5f64.powf(f64::from(i) / 7.0)).collect();
            let encrypt = |values: &mut dyn Iterator<Item = f64>, level| {
                let values: Vec<_> = values.map(|value| Complex64::new(value, 0.0)).collect();
                client.encrypt(&values, Level(level)).unwrap()
            };
            let [quarter, magnified] = softmax.denominator_factors(1.0);
            let size = softmax.magnification();
            let denominators = Denominators {
                quarter: encrypt(
                    &mut xs.iter().map(|x| softmax.quarter_offset() + quarter * size * x),
                    d_level,
                ),
                magnified: encrypt(&mut xs.iter().map(|x| magnified * size * x), d_level),
            };
            // The numerator is a quarter of the denominator; junk beside it.
            let first = softmax.first_gain();
            let o = (0..16).map(|i| xs.get(i).map_or(0.3, |x| x * size * first / 4.0));
            let o = encrypt(&mut o.into_iter(), o_level);
            let (f, o) = softmax.before_refresh(&evaluator, denominators, o, &places).unwrap();
            assert_eq!((f.level(), o.level()), (Level(left), Level(left)));
            let z = join_complex(&evaluator, &f, &o).unwrap();
            let entering = client.decrypt(&z).unwrap();
            assert!(entering.iter().all(|z| z.re.abs() <= 1.0 && z.im.abs() <= 1.0), "{entering:?}");
            let request = BootstrapRequest::all(Level(13), 16);
            let (f, o) = split_complex(&evaluator, &evaluator.bootstrap(&z, &request).unwrap()).unwrap();
            let o = softmax.after_refresh(&evaluator, f, o, &places).unwrap();
            let gain = softmax.gain() / first;
            let decrypted = client.decrypt(&o).unwrap();
            for (slot, x) in xs.iter().enumerate() {
                let got = decrypted[slot].re * gain;
                assert!((got - 0.25).abs() < 2e-3, "x = {x:e}: {got}");
            }
            assert!(decrypted[8..].iter().all(|z| z.norm() == 0.0), "junk is gone");
        }
    }
}
