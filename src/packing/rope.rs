//! Rotary position embedding with one rotation.
//!
//! In a [`HeadLayout`] the partner j ± head_dim/2 of the model's `rotate_half` is exactly S/2 slots away, both ways, so
//! one rotation serves both halves: y = x ⊙ cos + rot(x, S/2) ⊙ (∓ sin). The tables are zero between the values, which
//! replaces the mask a product's output needs, and carry any factor (1/√head_dim for queries).
//!
//! In the complex form of a [`HeadLayout`] (beyond the paper) the partners share a slot, z = x_j + i·x_{j +
//! head_dim/2}, and the embedding is the product with e^{iθ}: one plaintext, no rotation.

use crate::contract::{CiphertextInfo, Complex64, Diagonal, Error, Evaluator, LinearTransform, Result};

use super::sums::signed;
use super::{HeadForm, HeadLayout, Packed};

/// Rotary position embedding of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    frequencies: Vec<f64>,
    maximum_positions: usize,
}

impl Rope {
    /// The usual frequencies θ^(−2j/head_dim), for positions below `maximum_positions`.
    #[must_use]
    pub fn new(head_dim: usize, theta: f64, maximum_positions: usize) -> Self {
        let frequency = |j: usize| theta.powf(-2.0 * j as f64 / head_dim as f64);
        Self { frequencies: (0..head_dim / 2).map(frequency).collect(), maximum_positions }
    }

    /// Given frequencies, one for each of the head_dim/2 pairs (models that stretch their context).
    #[must_use]
    pub fn with_frequencies(frequencies: Vec<f64>, maximum_positions: usize) -> Self {
        Self { frequencies, maximum_positions }
    }

    /// cos and sin of pair `pair` at `position`.
    fn angle(&self, pair: usize, position: usize) -> (f64, f64) {
        let angle = position as f64 * self.frequencies.get(pair).copied().unwrap_or(0.0);
        (angle.cos(), angle.sin())
    }

    fn check(&self, head_dim: usize, position: usize) -> Result<()> {
        if self.frequencies.len() * 2 != head_dim {
            return Err(Error::Shape {
                operation: "rope",
                what: format!("{} frequencies for a head dimension of {head_dim}", self.frequencies.len()),
                remedy: "give one frequency per pair of dimensions".to_owned(),
            });
        }
        if position >= self.maximum_positions {
            return Err(Error::Shape {
                operation: "rope",
                what: format!("position {position} of at most {}", self.maximum_positions),
                remedy: "declare a longer context, or shorten the text".to_owned(),
            });
        }
        Ok(())
    }

    /// Rotates clear features (heads of `head_dim` values one after the other) to `position`, in place of what
    /// [`Rope::apply`] does to ciphertexts.
    ///
    /// # Errors
    /// [`Error::Shape`] for a position past the maximum, or features that are no whole heads.
    pub fn apply_clear(&self, features: &[f64], position: usize) -> Result<Vec<f64>> {
        let half = self.frequencies.len();
        self.check(2 * half, position)?;
        if half == 0 || !features.len().is_multiple_of(2 * half) {
            return Err(Error::Shape {
                operation: "rope",
                what: format!("{} features for heads of {} values", features.len(), 2 * half),
                remedy: "give whole heads".to_owned(),
            });
        }
        let mut rotated = Vec::with_capacity(features.len());
        for head in features.chunks_exact(2 * half) {
            let (low, high) = head.split_at(half);
            let pairs = || low.iter().zip(high).enumerate().map(|(j, pair)| (self.angle(j, position), pair));
            rotated.extend(pairs().map(|((cos, sin), (x, y))| x * cos - y * sin));
            rotated.extend(pairs().map(|((cos, sin), (x, y))| y * cos + x * sin));
        }
        Ok(rotated)
    }

    /// x rotated to `position`, times `factor`, all slots between the values cleared. `x` may hold junk; its offset
    /// stays. One hoisted rotation and two plaintext products, or one plaintext product in the complex form; one level;
    /// canonical scale stays canonical.
    ///
    /// # Errors
    /// [`Error::Shape`] for another layout or a position past the maximum; errors of the evaluator.
    pub fn apply<E: Evaluator>(
        &self,
        evaluator: &E,
        heads: &HeadLayout,
        x: &Packed<E::Ciphertext>,
        position: usize,
        factor: f64,
    ) -> Result<Packed<E::Ciphertext>> {
        self.apply_scaled(evaluator, heads, x, position, |_, _| factor)
    }

    /// A key rotated to `position`, times `factor`, all slots between the values cleared; level, scale and cost of
    /// [`Rope::apply`]. In the complex form the K cache keeps conjugates: `x` is z̄, and the result conj(e^{iθ}·z) ·
    /// `factor`.
    ///
    /// # Errors
    /// [`Error::Shape`] for another layout or a position past the maximum; errors of the evaluator.
    pub fn apply_key<E: Evaluator>(
        &self,
        evaluator: &E,
        heads: &HeadLayout,
        x: &Packed<E::Ciphertext>,
        position: usize,
        factor: f64,
    ) -> Result<Packed<E::Ciphertext>> {
        match heads.form() {
            HeadForm::Real => self.apply(evaluator, heads, x, position, factor),
            HeadForm::Complex => self.apply_complex(evaluator, heads, x, position, |_, _| factor, -1.0),
        }
    }

    /// x ⊙ e^{±iθ}·factor on the complex form, the sign of the angle being `sign`.
    fn apply_complex<E: Evaluator>(
        &self,
        evaluator: &E,
        heads: &HeadLayout,
        x: &Packed<E::Ciphertext>,
        position: usize,
        factor: impl Fn(usize, usize) -> f64,
        sign: f64,
    ) -> Result<Packed<E::Ciphertext>> {
        self.check(heads.head_dim(), position)?;
        let offset = x.layout.offset();
        x.require(&heads.vector().at_offset(offset)?.junk(), "rope")?;
        let half = heads.head_blocks();
        for head in 0..heads.heads() {
            for j in 0..half {
                let (low, high) = (factor(head, j), factor(head, j + half));
                if low.to_bits() != high.to_bits() {
                    return Err(Error::Shape {
                        operation: "rope",
                        what: format!(
                            "head {head} scales dimension {j} by {low} and its partner {} by {high}",
                            j + half
                        ),
                        remedy: "scale both dimensions of a complex pair alike, or keep heads real"
                            .to_owned(),
                    });
                }
            }
        }
        let table = heads.values(offset, |head, j| {
            let (cos, sin) = self.angle(j % half, position);
            factor(head, j) * if j < half { cos } else { sign * sin }
        });
        Ok(Packed::new(evaluator.mul_values(&x.ciphertext, &table)?, x.layout.clean()))
    }

    /// x rotated to `position`, each (head, dimension) of the rotated values times its own `factor`, in the complex
    /// form one for both dimensions of a pair; all slots between the values cleared. Level, scale and cost of
    /// [`Rope::apply`].
    ///
    /// # Errors
    /// [`Error::Shape`] for another layout, a position past the maximum, or factors that differ inside a complex pair;
    /// errors of the evaluator.
    pub fn apply_scaled<E: Evaluator>(
        &self,
        evaluator: &E,
        heads: &HeadLayout,
        x: &Packed<E::Ciphertext>,
        position: usize,
        factor: impl Fn(usize, usize) -> f64,
    ) -> Result<Packed<E::Ciphertext>> {
        if heads.form() == HeadForm::Complex {
            return self.apply_complex(evaluator, heads, x, position, factor, 1.0);
        }
        self.check(heads.head_dim(), position)?;
        let offset = x.layout.offset();
        x.require(&heads.vector().at_offset(offset)?.junk(), "rope")?;
        let half = heads.head_dim() / 2;
        let cos = heads.values(offset, |head, j| factor(head, j) * self.angle(j % half, position).0);
        let sin = heads.values(offset, |head, j| {
            let sin = factor(head, j) * self.angle(j % half, position).1;
            if j < half { -sin } else { sin }
        });
        let lazy = |table: Vec<Complex64>| Diagonal::Lazy(Box::new(move || table.clone()));
        let transform: LinearTransform<'_, E::Plaintext> =
            LinearTransform::from_diagonals(vec![(0, lazy(cos)), (signed(heads.slots() / 2), lazy(sin))]);
        let scale = evaluator.chain().canonical_scale(x.ciphertext.level())?;
        let y = evaluator.rescale(&evaluator.linear_transform(&x.ciphertext, &transform, scale)?)?;
        Ok(Packed::new(y, x.layout.clean()))
    }
}
