//! The column packing of MOAI, to compare with: a layer over all n tokens at once, no KV cache.
//!
//! One ciphertext per feature; slot t·B + b holds token t of sequence b, B = S/n sequences side by side (interleaved
//! batching: a rotation by whole tokens is cyclic). A single user fills one of the B sequences and pays for all.
//! Products with weights are scalar products without rotations; Q·Kᵀ gives one ciphertext per diagonal (distance
//! between the two tokens), which the product with V turns back into columns. Rotations follow baby and giant steps
//! over the distance. Written from the idea; causal, as a decoder needs it. Source of the method: MOAI
//! (module-optimizing architecture for non-interactive secure transformer inference).

use crate::contract::{CiphertextInfo, Complex64, Error, Evaluator, Result};

use crate::packing::{Weights, signed};

/// Column packing of `tokens` tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moai {
    slots: usize,
    tokens: usize,
}

impl Moai {
    /// Packing of `tokens` tokens (a power of two) into `slots` slots.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tokens are no power of two or exceed the slots.
    pub fn new(slots: usize, tokens: usize) -> Result<Self> {
        if !slots.is_power_of_two() || !tokens.is_power_of_two() || tokens > slots {
            return Err(Error::Shape {
                operation: "column packing",
                what: format!("{tokens} tokens in {slots} slots"),
                remedy: "pad the tokens to a power of two of at most the slots".to_owned(),
            });
        }
        Ok(Self { slots, tokens })
    }

    /// Sequences side by side, S/n.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.slots / self.tokens
    }

    /// Slot vectors of the columns of `rows` (one row of features per token), in sequence 0; missing tokens are zero.
    #[must_use]
    #[cfg(test)]
    pub fn pack(&self, rows: &[Vec<f64>]) -> Vec<Vec<Complex64>> {
        let features = rows.iter().map(Vec::len).max().unwrap_or(0);
        (0..features)
            .map(|feature| {
                let mut slots = vec![Complex64::ZERO; self.slots];
                for (slot, row) in slots.iter_mut().step_by(self.batch()).zip(rows) {
                    *slot = Complex64::new(row.get(feature).copied().unwrap_or(0.0), 0.0);
                }
                slots
            })
            .collect()
    }

    /// Values of sequence 0 by token, out of one slot vector.
    #[must_use]
    #[cfg(test)]
    pub fn read(&self, slots: &[Complex64]) -> Vec<f64> {
        slots.iter().step_by(self.batch()).take(self.tokens).map(|value| value.re).collect()
    }

    /// Baby steps over distances.
    fn babies(&self) -> usize {
        1 << self.tokens.ilog2().div_ceil(2)
    }

    /// Columns of X·W: inputs·outputs scalar products, no rotation, one level.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is not one column per input; errors of the evaluator.
    #[cfg(test)]
    pub fn product<E: Evaluator>(
        &self,
        evaluator: &E,
        columns: &[E::Ciphertext],
        weights: &dyn Weights,
    ) -> Result<Vec<E::Ciphertext>> {
        if columns.len() != weights.inputs() {
            return Err(Error::Shape {
                operation: "column product",
                what: format!("{} columns for {} inputs", columns.len(), weights.inputs()),
                remedy: "give one ciphertext per input feature".to_owned(),
            });
        }
        (0..weights.outputs())
            .map(|output| self.product_column(evaluator, columns, weights, output))
            .collect()
    }

    /// One column of [`Moai::product`].
    ///
    /// # Errors
    /// [`Error::Shape`] without columns; errors of the evaluator.
    pub fn product_column<E: Evaluator>(
        &self,
        evaluator: &E,
        columns: &[E::Ciphertext],
        weights: &dyn Weights,
        output: usize,
    ) -> Result<E::Ciphertext> {
        let mut sum: Option<E::Ciphertext> = None;
        for (input, column) in columns.iter().enumerate() {
            let scale = evaluator.chain().canonical_scale(column.level())?;
            let weight = Complex64::new(weights.weight(input, output), 0.0);
            let term = evaluator.mul_constant(column, weight, scale)?;
            sum = Some(match sum {
                Some(sum) => evaluator.add(&sum, &term)?,
                None => term,
            });
        }
        evaluator.rescale(&required(sum)?)
    }

    /// Q·Kᵀ · `factor` of one head: ciphertext δ holds, at token t, the score against token t − δ (zero for t < δ). n
    /// products per column of the head, about 2√n rotations per column and n more, two levels.
    ///
    /// # Errors
    /// [`Error::Shape`] when Q and K differ in columns or have none; errors of the evaluator.
    pub fn scores<E: Evaluator>(
        &self,
        evaluator: &E,
        queries: &[E::Ciphertext],
        keys: &[E::Ciphertext],
        factor: f64,
    ) -> Result<Vec<E::Ciphertext>> {
        if queries.len() != keys.len() {
            return Err(Error::Shape {
                operation: "column scores",
                what: format!("{} columns of Q, {} of K", queries.len(), keys.len()),
                remedy: "give the columns of one head".to_owned(),
            });
        }
        let (babies, batch) = (self.babies(), self.batch());
        let baby_steps: Vec<i64> = (0..babies).map(|baby| -signed(baby * batch)).collect();
        let giant_steps: Vec<i64> =
            (0..self.tokens / babies).map(|giant| signed(giant * babies * batch)).collect();
        let keys = rotate_all(evaluator, keys, &baby_steps)?;
        let queries = rotate_all(evaluator, queries, &giant_steps)?;
        let mut scores = Vec::with_capacity(self.tokens);
        for (giant, step) in giant_steps.iter().enumerate() {
            for baby in 0..babies {
                let pairs =
                    queries.iter().zip(&keys).filter_map(|(q, k)| Some((q.get(giant)?, k.get(baby)?)));
                let sum = evaluator.rotate(&products(evaluator, pairs)?, -step)?;
                let distance = giant * babies + baby;
                let mut mask = vec![Complex64::ZERO; self.slots];
                for entry in mask.iter_mut().skip(distance * batch) {
                    *entry = Complex64::new(factor, 0.0);
                }
                scores.push(evaluator.mul_values(&sum, &mask)?);
            }
        }
        Ok(scores)
    }

    /// Columns of P·V of one head from the diagonals of P and the columns of V. n products per column, one level.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are not n diagonals; errors of the evaluator.
    pub fn weighted_values<E: Evaluator>(
        &self,
        evaluator: &E,
        weights: &[E::Ciphertext],
        values: &[E::Ciphertext],
    ) -> Result<Vec<E::Ciphertext>> {
        if weights.len() != self.tokens {
            return Err(Error::Shape {
                operation: "column weighted values",
                what: format!("{} diagonals for {} tokens", weights.len(), self.tokens),
                remedy: "give one ciphertext per distance".to_owned(),
            });
        }
        let (babies, batch) = (self.babies(), self.batch());
        let baby_steps: Vec<i64> = (0..babies).map(|baby| -signed(baby * batch)).collect();
        let mut turned = Vec::with_capacity(weights.len());
        for (distance, weight) in weights.iter().enumerate() {
            turned.push(evaluator.rotate(weight, signed(distance / babies * babies * batch))?);
        }
        rotate_all(evaluator, values, &baby_steps)?
            .iter()
            .map(|value| {
                let mut parts = Vec::with_capacity(self.tokens / babies);
                for (giant, weights) in turned.chunks(babies).enumerate() {
                    let sum = products(evaluator, weights.iter().zip(value))?;
                    parts.push((sum, -signed(giant * babies * batch)));
                }
                let terms: Vec<(&E::Ciphertext, i64)> =
                    parts.iter().map(|(sum, step)| (sum, *step)).collect();
                evaluator.rotate_sum(&terms)
            })
            .collect()
    }
}

/// Every ciphertext rotated by every step, hoisted.
fn rotate_all<E: Evaluator>(
    evaluator: &E,
    ciphertexts: &[E::Ciphertext],
    steps: &[i64],
) -> Result<Vec<Vec<E::Ciphertext>>> {
    ciphertexts.iter().map(|ciphertext| evaluator.rotate_many(ciphertext, steps)).collect()
}

/// Σ a·b, relinearized once, rescaled.
pub(crate) fn products<'a, E: Evaluator>(
    evaluator: &E,
    pairs: impl Iterator<Item = (&'a E::Ciphertext, &'a E::Ciphertext)>,
) -> Result<E::Ciphertext>
where
    E::Ciphertext: 'a,
{
    let mut sum: Option<E::Tensor> = None;
    for (a, b) in pairs {
        let tensor = evaluator.tensor(a, b)?;
        sum = Some(match sum {
            Some(sum) => evaluator.add_tensor(&sum, &tensor)?,
            None => tensor,
        });
    }
    evaluator.rescale(&evaluator.relinearize(&required(sum)?)?)
}

/// The sum, or the error of an empty one.
pub(crate) fn required<T>(sum: Option<T>) -> Result<T> {
    sum.ok_or_else(|| Error::Shape {
        operation: "sum of products",
        what: "0 terms".to_owned(),
        remedy: "give at least one column".to_owned(),
    })
}
