//! Several vectors in one ciphertext, to bootstrap them together.
//!
//! A layout leaves room beside its values: a vector moved right by a few slots falls between those of another, and
//! every place holds two, as real and imaginary part. Functions that act slot by slot may run on the bundle itself.

use crate::circuits::complex_parts::{join_complex, split_complex};
use crate::contract::{Complex64, Error, Evaluator, Result};

use super::sums::signed;
use super::{Packed, VectorLayout};

/// `vectors` vectors of one clean layout in one ciphertext; vector v is the real (even v) or imaginary (odd v) part at
/// place v div 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bundle {
    layout: VectorLayout,
    vectors: usize,
}

impl Bundle {
    /// Bundle of `vectors` vectors in `layout`.
    ///
    /// # Errors
    /// [`Error::Shape`] for no vectors or more than [`Bundle::capacity`], a layout with junk or an offset.
    pub fn new(layout: VectorLayout, vectors: usize) -> Result<Self> {
        layout.require_clean("bundle")?;
        let capacity = Self::capacity(&layout);
        if vectors == 0 || vectors > capacity || layout.offset() != 0 {
            return Err(Error::Shape {
                operation: "bundle",
                what: format!("{vectors} vectors at offset {} where {capacity} fit", layout.offset()),
                remedy: "split them over several ciphertexts".to_owned(),
            });
        }
        Ok(Self { layout, vectors })
    }

    /// Vectors that fit one ciphertext of `layout`.
    #[must_use]
    pub fn capacity(layout: &VectorLayout) -> usize {
        2 * if layout.is_compact() { layout.block() / layout.values() } else { layout.gap() }
    }

    /// Slots from one place to the next.
    fn spacing(&self) -> usize {
        if self.layout.is_compact() { self.layout.values() } else { 1 }
    }

    /// Packs the vectors: one rotation per place after the first; level and scale stay. All at one level and scale.
    ///
    /// # Errors
    /// [`Error::Shape`] for the wrong number of vectors or another layout; errors of the evaluator.
    pub fn pack<E: Evaluator>(
        &self,
        evaluator: &E,
        vectors: &[Packed<E::Ciphertext>],
    ) -> Result<E::Ciphertext> {
        if vectors.len() != self.vectors {
            return Err(Error::Shape {
                operation: "bundle",
                what: format!("{} vectors for a bundle of {}", vectors.len(), self.vectors),
                remedy: "pack as many as the bundle was made for".to_owned(),
            });
        }
        let mut places = Vec::with_capacity(self.vectors.div_ceil(2));
        for (place, pair) in vectors.chunks(2).enumerate() {
            let mut sum: Option<E::Ciphertext> = None;
            for vector in pair {
                vector.require(&self.layout, "bundle")?;
                sum = Some(match sum {
                    None => vector.ciphertext.clone(),
                    Some(real) => join_complex(evaluator, &real, &vector.ciphertext)?,
                });
            }
            if let Some(sum) = sum {
                places.push((sum, -signed(place * self.spacing())));
            }
        }
        let terms: Vec<(&E::Ciphertext, i64)> = places.iter().map(|(sum, step)| (sum, *step)).collect();
        evaluator.rotate_sum(&terms)
    }

    /// The vectors again, each times `factor`, clean. One level (masks); one conjugation, and two hoisted rotations per
    /// place after the first.
    ///
    /// # Errors
    /// [`Error::EvaluationKey`] without a conjugation key, [`Error::RotationKey`] for a missing rotation,
    /// [`Error::LevelExhausted`] at level 0: errors of the evaluator.
    pub fn unpack<E: Evaluator>(
        &self,
        evaluator: &E,
        bundle: &E::Ciphertext,
        factor: f64,
    ) -> Result<Vec<Packed<E::Ciphertext>>> {
        let (real, imaginary) = split_complex(evaluator, bundle)?;
        let places = self.vectors.div_ceil(2);
        let steps: Vec<i64> = (0..places).map(|place| signed(place * self.spacing())).collect();
        let one_place = places == 1;
        let mask = self.layout.mask(factor / 2.0);
        let clean = |value: &E::Ciphertext| {
            // A single place is clean already; only the doubling of the conjugate sum is undone.
            let value = if one_place {
                evaluator.mul_scalar(value, Complex64::new(factor / 2.0, 0.0))?
            } else {
                evaluator.mul_values(value, &mask)?
            };
            Ok(Packed::new(value, self.layout))
        };
        let reals = evaluator.rotate_many(&real, &steps)?;
        let imaginary_steps = steps.get(..self.vectors / 2).unwrap_or_default();
        let imaginaries = evaluator.rotate_many(&imaginary, imaginary_steps)?;
        let mut vectors = Vec::with_capacity(self.vectors);
        for (place, real) in reals.iter().enumerate() {
            vectors.push(clean(real)?);
            if let Some(imaginary) = imaginaries.get(place) {
                vectors.push(clean(imaginary)?);
            }
        }
        Ok(vectors)
    }
}
