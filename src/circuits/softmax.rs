//! Softmax with the division deferred behind the product with the values, and complex refreshes.
//!
//! The scores arrive as the unit variable of the exponential, already shifted (an affine function of the query, folded
//! into the cached keys, predicts log D). P = exp stays un-normalised; its sums D and its product with the values, the
//! numerator, then go through the relaxed inverse ([`super::inverse`]) together, so that one complex bootstrap refreshes
//! both half way, when the spread of D has shrunk by 4 an iteration. After Cachemir (arXiv 2602.11470), which divides
//! first, and THOR's relaxed iterations; deferring is ours.

use super::evaluate_series;
use super::exp::Exponential;
use super::inverse::RelaxedInverse;
use crate::contract::{CiphertextInfo, Complex64, Error, Evaluator, Result};

/// z = x + i·y of two real ciphertexts at one level and scale. Free.
///
/// # Errors
/// Those of [`Evaluator::add`].
pub fn join_complex<E: Evaluator>(
    evaluator: &E,
    re: &E::Ciphertext,
    im: &E::Ciphertext,
) -> Result<E::Ciphertext> {
    evaluator.add(re, &evaluator.mul_by_i(im)?)
}

/// Twice the real and twice the imaginary part; level and scale unchanged, one conjugation. The factor 2 is the
/// caller's to fold.
///
/// # Errors
/// Those of [`Evaluator::conjugate`].
pub fn split_complex<E: Evaluator>(
    evaluator: &E,
    z: &E::Ciphertext,
) -> Result<(E::Ciphertext, E::Ciphertext)> {
    let conjugate = evaluator.conjugate(z)?;
    Ok((evaluator.add(z, &conjugate)?, evaluator.mul_by_i(&evaluator.sub(&conjugate, z)?)?))
}

/// exp and the relaxed inverse of one softmax.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DeferredSoftmax {
    /// exp over the interval of the shifted scores, 1 at its top.
    pub exponential: Exponential,
    /// 1/x over D divided by its largest value, per head.
    pub inverse: RelaxedInverse,
}

impl DeferredSoftmax {
    /// P of unit scores: [`Exponential::levels`] levels. Slots at −1 give e^(low − high), negligible: unused slots are
    /// put there instead of being masked.
    ///
    /// # Errors
    /// Those of [`evaluate_series`] and [`Evaluator::square`].
    pub fn weights<E: Evaluator>(&self, evaluator: &E, scores: &E::Ciphertext) -> Result<E::Ciphertext> {
        let coefficients = self.exponential.root.complex_coefficients();
        let root = evaluate_series(evaluator, scores, &coefficients, None)?;
        self.exponential.square_up(evaluator, &root)
    }

    /// Iterations before the refresh.
    fn first(&self) -> Result<usize> {
        self.inverse.doubled_before.ok_or_else(|| Error::Plan {
            why: "the inverse of a softmax is not split at a refresh".to_owned(),
            remedy: "give RelaxedInverse::new the step before which it is refreshed".to_owned(),
        })
    }

    /// Runs the iterations before the refresh on the first f and the numerator o: f and o at one level, ready for
    /// [`join_complex`]. `places` is 1 at the slots of the result, 0 elsewhere; o may have junk elsewhere and comes out
    /// clean, f must be clean.
    ///
    /// When o stands below f (values are cached low), the factors are multiplied among themselves until they come down
    /// to o, which costs one level more than the iterations.
    ///
    /// # Errors
    /// [`Error::Plan`] for an inverse without a refresh; those of the evaluator's products.
    pub fn before_refresh<E: Evaluator>(
        &self,
        evaluator: &E,
        f: E::Ciphertext,
        o: E::Ciphertext,
        places: &[Complex64],
    ) -> Result<(E::Ciphertext, E::Ciphertext)> {
        let first = self.first()?;
        let (mut f, mut o) = (f, o);
        // Product of the factors that o has not taken yet.
        let mut pending: Option<E::Ciphertext> = None;
        for step in self.inverse.steps.iter().take(first) {
            let factor = step.factor(evaluator, &f, places)?;
            let product = match pending.take() {
                Some(pending) => multiply(evaluator, &pending, &factor)?,
                None => factor,
            };
            if product.level() <= o.level() {
                o = multiply(evaluator, &o, &product)?;
            } else {
                pending = Some(product);
            }
            f = step.advance(evaluator, &f, places)?;
        }
        if let Some(pending) = pending {
            o = multiply(evaluator, &o, &pending)?;
        }
        evaluator.align(&f, &o)
    }

    /// Runs the iterations after the refresh on doubled f and o; returns the quotient up to
    /// [`RelaxedInverse::gain`] (and the doubling), one level an iteration.
    ///
    /// # Errors
    /// [`Error::Plan`] for an inverse without a refresh; those of the evaluator's products.
    pub fn after_refresh<E: Evaluator>(
        &self,
        evaluator: &E,
        f: E::Ciphertext,
        o: E::Ciphertext,
        places: &[Complex64],
    ) -> Result<E::Ciphertext> {
        let (first, last) = (self.first()?, self.inverse.steps.len() - 1);
        let (mut f, mut o) = (f, o);
        for (index, step) in self.inverse.steps.iter().enumerate().skip(first) {
            o = multiply(evaluator, &o, &step.factor(evaluator, &f, places)?)?;
            if index < last {
                f = step.advance(evaluator, &f, places)?;
            }
        }
        Ok(o)
    }

    /// Quotient in f64 for one denominator relative to its largest value: what a numerator is divided by, inverted.
    #[must_use]
    pub fn inverse_value(&self, relative_denominator: f64) -> f64 {
        self.inverse.value(relative_denominator)
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
        let summary = BootstrapSummary { output_level: Level(13), minimum_input_level: Level(0), bound: 1.0 };
        let client = ClearClient::new(ClearParameters::new(16, 13, 42).unwrap().with_bootstrapping(summary));
        let evaluator = client.dry_run();
        let places = vec![Complex64::new(1.0, 0.0); 8];
        for (f_level, o_level, first, left) in [(6, 3, 5, 0), (6, 6, 5, 1), (6, 6, 6, 0), (5, 2, 4, 0)] {
            let softmax = DeferredSoftmax {
                exponential: Exponential::fit(Interval::new(-8.0, 0.0).unwrap(), 1, 1e-4).unwrap(),
                inverse: RelaxedInverse::new(1e-5, 13, Some(first)).unwrap(),
            };
            let xs: Vec<f64> = (0..8).map(|i| 1e-5f64.powf(f64::from(i) / 7.0)).collect();
            let start = |x: &f64| Complex64::new(softmax.inverse.offset + softmax.inverse.slope * x, 0.0);
            let f = client.encrypt(&xs.iter().map(start).collect::<Vec<_>>(), Level(f_level)).unwrap();
            // The numerator is a quarter of the denominator, scaled so that it stays below one.
            let half = softmax.inverse.gain(first);
            let o: Vec<Complex64> =
                (0..16).map(|i| Complex64::new(xs.get(i).map_or(0.3, |x| x * half / 4.0), 0.0)).collect();
            let o = client.encrypt(&o, Level(o_level)).unwrap();
            let (f, o) = softmax.before_refresh(&evaluator, f, o, &places).unwrap();
            assert_eq!((f.level(), o.level()), (Level(left), Level(left)));
            let z = join_complex(&evaluator, &f, &o).unwrap();
            let request = BootstrapRequest { level: Level(13), slots: 16, iterations: 1 };
            let (f, o) = split_complex(&evaluator, &evaluator.bootstrap(&z, request).unwrap()).unwrap();
            let o = softmax.after_refresh(&evaluator, f, o, &places).unwrap();
            let gain = softmax.inverse.gain(13) / (2.0 * half);
            let decrypted = client.decrypt(&o).unwrap();
            for (slot, x) in xs.iter().enumerate() {
                let got = decrypted[slot].re * gain;
                assert!((got - 0.25).abs() < 2e-3, "x = {x:e}: {got}");
            }
            assert!(decrypted[8..].iter().all(|z| z.norm() == 0.0), "junk is gone");
        }
    }
}
