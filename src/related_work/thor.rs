//! The diagonal packing of THOR, to compare with: a layer over all n tokens at once, no KV cache.
//!
//! Diagonal l of head h holds X\[t, (h, (t + l) mod head_dim)\] at token t. A ciphertext takes S/n diagonals: slot
//! (l·Hc + h)·n + t for Hc = S/(n·head_dim) heads. Products with weights rotate by whole diagonals (baby and giant
//! steps) and fold two output ciphertexts into one complex product; Q·Kᵀ and P·V rotate K and V once per distance δ
//! between tokens by δ diagonals and δ tokens in one step, which causality makes exact: the slots that would wrap are
//! those the causal mask clears. Written from the idea of the method, not from its program: THOR (secure transformer
//! inference with homomorphic encryption), without its complex folding of Q·Kᵀ and P·V.

use crate::contract::{CiphertextInfo, Complex64, Error, Evaluator, Result};

use super::moai::{products, required};
use crate::packing::{Split, Weights, signed, sum_strided};

/// Diagonal packing of `tokens` tokens and heads of `head_dim` features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thor {
    slots: usize,
    tokens: usize,
    head_dim: usize,
}

impl Thor {
    /// Packing into `slots` slots.
    ///
    /// # Errors
    /// [`Error::Shape`] when a size is no power of two or one head of all tokens exceeds the slots.
    pub fn new(slots: usize, tokens: usize, head_dim: usize) -> Result<Self> {
        let sizes = [slots, tokens, head_dim];
        if !sizes.iter().all(|size| size.is_power_of_two()) || tokens.saturating_mul(head_dim) > slots {
            return Err(Error::Shape {
                operation: "diagonal packing",
                what: format!("{tokens} tokens of {head_dim} values per head in {slots} slots"),
                remedy: "pad to powers of two whose product fits the slots".to_owned(),
            });
        }
        Ok(Self { slots, tokens, head_dim })
    }

    /// Diagonals per ciphertext, S/n.
    #[must_use]
    pub fn diagonals(&self) -> usize {
        self.slots / self.tokens
    }

    /// Heads per ciphertext.
    #[must_use]
    pub fn heads(&self) -> usize {
        self.diagonals() / self.head_dim
    }

    /// Ciphertexts for `features` features.
    #[must_use]
    pub fn ciphertexts(&self, features: usize) -> usize {
        features.div_ceil(self.heads() * self.head_dim)
    }

    /// Feature at diagonal `diagonal` of ciphertext `number`, token `token`.
    fn feature(&self, number: usize, diagonal: usize, token: usize) -> usize {
        let (l, head) = (diagonal / self.heads(), diagonal % self.heads());
        (number * self.heads() + head) * self.head_dim + (token + l) % self.head_dim
    }

    /// Slot vectors of `rows` (one row of features per token).
    #[must_use]
    #[cfg(test)]
    pub fn pack(&self, rows: &[Vec<f64>]) -> Vec<Vec<Complex64>> {
        let features = rows.iter().map(Vec::len).max().unwrap_or(0);
        (0..self.ciphertexts(features))
            .map(|number| {
                (0..self.slots)
                    .map(|slot| {
                        let (diagonal, token) = (slot / self.tokens, slot % self.tokens);
                        let feature = self.feature(number, diagonal, token);
                        let value = rows.get(token).and_then(|row| row.get(feature));
                        Complex64::new(value.copied().unwrap_or(0.0), 0.0)
                    })
                    .collect()
            })
            .collect()
    }

    /// Rows of `features` features out of the slot vectors of [`Thor::pack`].
    #[must_use]
    #[cfg(test)]
    pub fn unpack(&self, slots: &[Vec<Complex64>], features: usize) -> Vec<Vec<f64>> {
        let mut rows = vec![vec![0.0; features]; self.tokens];
        for (number, slots) in slots.iter().enumerate() {
            for (slot, value) in slots.iter().enumerate() {
                let (diagonal, token) = (slot / self.tokens, slot % self.tokens);
                let feature = self.feature(number, diagonal, token);
                if let Some(entry) = rows.get_mut(token).and_then(|row| row.get_mut(feature)) {
                    *entry = value.re;
                }
            }
        }
        rows
    }

    /// X·W: S/n plaintexts per input ciphertext and pair of output ciphertexts, one level; one conjugation per pair.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of ciphertexts; errors of the evaluator.
    pub fn product<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &[E::Ciphertext],
        weights: &dyn Weights,
    ) -> Result<Vec<E::Ciphertext>> {
        if x.len() != self.ciphertexts(weights.inputs()) {
            return Err(Error::Shape {
                operation: "diagonal product",
                what: format!("{} ciphertexts for {} inputs", x.len(), weights.inputs()),
                remedy: "pack all features".to_owned(),
            });
        }
        let split = Split::cheapest(self.diagonals());
        let baby_steps: Vec<i64> = (0..split.babies).map(|baby| signed(baby * self.tokens)).collect();
        let mut babies = Vec::with_capacity(x.len());
        for x in x {
            babies.push(evaluator.rotate_many(x, &baby_steps)?);
        }
        let outputs = self.ciphertexts(weights.outputs());
        let mut results = Vec::with_capacity(outputs);
        for output in (0..outputs).step_by(2) {
            let folded = output + 1 < outputs;
            let sum = self.product_pair(evaluator, &babies, weights, output, folded, split)?;
            if folded {
                let conjugate = evaluator.conjugate(&sum)?;
                results.push(evaluator.add(&sum, &conjugate)?);
                results.push(evaluator.mul_by_i(&evaluator.sub(&conjugate, &sum)?)?);
            } else {
                results.push(sum);
            }
        }
        Ok(results)
    }

    /// Output ciphertext `output`, with the next one as its imaginary part (both halved) when `folded`.
    fn product_pair<E: Evaluator>(
        &self,
        evaluator: &E,
        babies: &[Vec<E::Ciphertext>],
        weights: &dyn Weights,
        output: usize,
        folded: bool,
        split: Split,
    ) -> Result<E::Ciphertext> {
        let mut parts = Vec::with_capacity(split.giants);
        for giant in 0..split.giants {
            let shift = giant * split.babies;
            let mut sum: Option<E::Ciphertext> = None;
            for (number, babies) in babies.iter().enumerate() {
                for (baby, x) in babies.iter().enumerate().take(self.diagonals() - shift) {
                    let values = self.plaintext(weights, number, output, folded, baby, shift);
                    let scale = evaluator.chain().canonical_scale(x.level())?;
                    let term = evaluator.mul_plain(x, &evaluator.encode(&values, x.level(), scale)?)?;
                    sum = Some(match sum {
                        Some(sum) => evaluator.add(&sum, &term)?,
                        None => term,
                    });
                }
            }
            parts.push((evaluator.rescale(&required(sum)?)?, signed(shift * self.tokens)));
        }
        let terms: Vec<(&E::Ciphertext, i64)> = parts.iter().map(|(sum, step)| (sum, *step)).collect();
        evaluator.rotate_sum(&terms)
    }

    /// Plaintext that meets baby `baby` of input ciphertext `number`, right of the giant rotation by `shift` diagonals.
    fn plaintext(
        &self,
        weights: &dyn Weights,
        number: usize,
        output: usize,
        folded: bool,
        baby: usize,
        shift: usize,
    ) -> Vec<Complex64> {
        let diagonals = self.diagonals();
        (0..self.slots)
            .map(|slot| {
                let (place, token) = (slot / self.tokens, slot % self.tokens);
                let input = self.feature(number, (place + baby) % diagonals, token);
                let column = (place + diagonals - shift) % diagonals;
                let weight = |output| weights.weight(input, self.feature(output, column, token));
                if folded {
                    Complex64::new(0.5 * weight(output), 0.5 * weight(output + 1))
                } else {
                    Complex64::new(weight(output), 0.0)
                }
            })
            .collect()
    }

    /// Step that brings diagonal l + δ of token t − δ to diagonal l of token t.
    fn step(&self, distance: usize) -> i64 {
        signed(distance % self.head_dim * self.heads() * self.tokens) - signed(distance)
    }

    /// Q·Kᵀ · `factor` of all heads: `[δ][ciphertext]` holds at token t the score against token t − δ, repeated over
    /// the diagonals of the head, zero for t < δ. Per distance and ciphertext one product, one hoisted rotation,
    /// log2(head_dim) rotations, one mask; two levels.
    ///
    /// # Errors
    /// [`Error::Shape`] when Q and K differ in ciphertexts; errors of the evaluator.
    pub fn scores<E: Evaluator>(
        &self,
        evaluator: &E,
        queries: &[E::Ciphertext],
        keys: &[E::Ciphertext],
        factor: f64,
    ) -> Result<Vec<Vec<E::Ciphertext>>> {
        if queries.len() != keys.len() {
            return Err(Error::Shape {
                operation: "diagonal scores",
                what: format!("{} ciphertexts of Q, {} of K", queries.len(), keys.len()),
                remedy: "pack Q and K alike".to_owned(),
            });
        }
        let steps: Vec<i64> = (0..self.tokens).map(|distance| self.step(distance)).collect();
        let mut scores: Vec<Vec<E::Ciphertext>> = vec![Vec::with_capacity(keys.len()); self.tokens];
        for (query, key) in queries.iter().zip(keys) {
            let turned = evaluator.rotate_many(key, &steps)?;
            for (distance, (key, scores)) in turned.iter().zip(&mut scores).enumerate() {
                let product = evaluator.mul(query, key)?;
                let step = signed(self.heads() * self.tokens);
                let sum = sum_strided(evaluator, &product, self.head_dim, step)?;
                let mask: Vec<Complex64> = (0..self.slots)
                    .map(|slot| Complex64::new(if slot % self.tokens < distance { 0.0 } else { factor }, 0.0))
                    .collect();
                scores.push(evaluator.mul_values(&sum, &mask)?);
            }
        }
        Ok(scores)
    }

    /// P·V of all heads, packed as V: per distance and ciphertext one product and one hoisted rotation, one
    /// relinearization per ciphertext; one level.
    ///
    /// # Errors
    /// [`Error::Shape`] when P does not have n distances; errors of the evaluator.
    pub fn weighted_values<E: Evaluator>(
        &self,
        evaluator: &E,
        weights: &[Vec<E::Ciphertext>],
        values: &[E::Ciphertext],
    ) -> Result<Vec<E::Ciphertext>> {
        if weights.len() != self.tokens || weights.iter().any(|row| row.len() != values.len()) {
            return Err(Error::Shape {
                operation: "diagonal weighted values",
                what: format!("{} distances for {} tokens", weights.len(), self.tokens),
                remedy: "give one ciphertext per distance and ciphertext of V".to_owned(),
            });
        }
        let steps: Vec<i64> = (0..self.tokens).map(|distance| self.step(distance)).collect();
        let mut sums = Vec::with_capacity(values.len());
        for (number, value) in values.iter().enumerate() {
            let turned = evaluator.rotate_many(value, &steps)?;
            let pairs = weights.iter().filter_map(|row| row.get(number)).zip(&turned);
            sums.push(products(evaluator, pairs)?);
        }
        Ok(sums)
    }
}
