//! Weighted sums over the encrypted KV cache: the weights, rotated by whole head blocks, are multiplied with the V
//! lanes and summed over tokens; and the sums of the weights, which the softmax divides by.

use crate::circuits::complex_parts::twice_real_part;
use crate::contract::{Complex64, Error, Evaluator, Level, Result};

use super::cache::Stored;
use super::sums::{signed, sum_strided};
use super::{AttentionPlan, KeyValueCache, Packed};

impl AttentionPlan {
    /// Σ_token weight · V for all query heads, in [`AttentionPlan::output_layout`]: clean. `weights` are one
    /// ciphertext per segment in the score layout; what stands at unused slots does not matter. They are lowered to
    /// the cache's `value_level` (one above it when compact); the result stands two levels below `value_level`.
    ///
    /// Cost per query vector and segment: C ciphertext products, about 2√C rotations, as many relinearizations as
    /// giants; one sum over G slots and one mask per query vector (two when it is a pair), one conjugation when there
    /// are pairs.
    ///
    /// # Errors
    /// [`Error::Shape`] for a cache of another layout or the wrong number of segments; errors of the evaluator.
    pub fn weighted_values<E: Evaluator>(
        &self,
        evaluator: &E,
        weights: &[E::Ciphertext],
        cache: &KeyValueCache<E::Ciphertext>,
    ) -> Result<Packed<E::Ciphertext>> {
        cache.require(&self.cache)?;
        let segments = self.score_layout().segments(cache.tokens()).max(1);
        self.check_count("weighted values", "segments of weights", weights.len(), segments)?;
        let mut values = Vec::with_capacity(self.queries());
        for query in 0..self.queries() {
            let mut sum: Option<E::Ciphertext> = None;
            for (weights, lanes) in weights.iter().zip(&cache.lanes) {
                // A compact cache takes one level more, for the mask in `query_weights`.
                let level =
                    if self.group() == 1 { self.cache.value_level.0 } else { self.cache.value_level.0 + 1 };
                let weights = evaluator.lower(weights, Level(level))?;
                let weights = self.query_weights(evaluator, &weights, query)?;
                let part = self.lanes_product(evaluator, &weights, lanes)?;
                sum = Some(match sum {
                    Some(sum) => evaluator.add(&sum, &part)?,
                    None => part,
                });
            }
            let sum = sum.ok_or_else(|| Error::Internal("weighted values of no segment".to_owned()))?;
            // What each slot holds is of one token: summed over the G tokens once, after all segments.
            values.push(sum_strided(evaluator, &sum, self.stored().tokens(), 1)?);
        }
        self.gather(evaluator, &values, 1.0)
    }

    /// Σ_token weight · factor for each of `factors` and all query heads, in [`AttentionPlan::output_layout`]: clean,
    /// the sum of a head at each of its values (real in the complex form, too), ready to divide the weighted values.
    /// `weights` must be zero at the slots of no token. One level below the weights, two when compact; a mask a
    /// factor.
    ///
    /// # Errors
    /// [`Error::Shape`] without weights; errors of the evaluator.
    pub fn denominators<E: Evaluator>(
        &self,
        evaluator: &E,
        weights: &[E::Ciphertext],
        factors: &[f64],
    ) -> Result<Vec<Packed<E::Ciphertext>>> {
        let mut weights = weights.iter();
        let mut all = weights.next().cloned().ok_or_else(|| Error::Shape {
            operation: "softmax denominators",
            what: "0 segments of weights".to_owned(),
            remedy: "give one ciphertext per segment".to_owned(),
        })?;
        for segment in weights {
            all = evaluator.add(&all, segment)?;
        }
        let mut sums = Vec::with_capacity(self.queries());
        for query in 0..self.queries() {
            let weights = self.query_weights(evaluator, &all, query)?;
            let step = signed(self.stored().head_block());
            let blocks = sum_strided(evaluator, &weights, self.score_layout().lanes(), step)?;
            sums.push(sum_strided(evaluator, &blocks, self.stored().tokens(), 1)?);
        }
        factors.iter().map(|factor| self.gather(evaluator, &sums, *factor)).collect()
    }

    /// The weights query vector `query` multiplies the lanes with, repeated with the period of the lanes: the weights
    /// themselves when duplicated; P_a + i·P_b of a pair, or the P of one head, when compact (one plaintext product,
    /// one level, a rotation per doubling of the groups).
    fn query_weights<E: Evaluator>(
        &self,
        evaluator: &E,
        weights: &E::Ciphertext,
        query: usize,
    ) -> Result<E::Ciphertext> {
        let group = self.group();
        if group == 1 {
            return Ok(weights.clone());
        }
        let layout = self.score_layout();
        let blocks_of_group = layout.lanes() * self.stored().head_block();
        let mut mask = vec![Complex64::ZERO; self.stored().slots()];
        for (number, part) in mask.chunks_exact_mut(blocks_of_group).enumerate() {
            let member = number % layout.group_blocks();
            if self.members_of(query).contains(&member) {
                let imaginary = member > self.members() * query;
                part.fill(if imaginary { Complex64::I } else { Complex64::new(1.0, 0.0) });
            }
        }
        let masked = evaluator.mul_values(weights, &mask)?;
        sum_strided(evaluator, &masked, layout.group_blocks(), signed(blocks_of_group))
    }

    /// Σ_i rot(weights, i head blocks) ⊙ lane i. One level.
    fn lanes_product<E: Evaluator>(
        &self,
        evaluator: &E,
        weights: &E::Ciphertext,
        lanes: &[Stored<E::Ciphertext>],
    ) -> Result<E::Ciphertext> {
        let split = self.cache.split();
        let block = self.stored().head_block();
        let steps: Vec<i64> = (0..split.babies).map(|baby| signed(baby * block)).collect();
        let babies = evaluator.rotate_many(weights, &steps)?;
        let mut inner = Vec::with_capacity(split.giants);
        for (giant, lanes) in lanes.chunks(split.babies).enumerate() {
            let mut tensors: Option<E::Tensor> = None;
            let mut plain: Option<E::Ciphertext> = None;
            for (weights, lane) in babies.iter().zip(lanes) {
                match lane {
                    Stored::Encrypted(lane) => {
                        let tensor = evaluator.tensor(weights, lane)?;
                        tensors = Some(match tensors {
                            Some(sum) => evaluator.add_tensor(&sum, &tensor)?,
                            None => tensor,
                        });
                    }
                    Stored::Public(values) => {
                        let product = evaluator.mul_values(weights, values)?;
                        plain = Some(match plain {
                            Some(sum) => evaluator.add(&sum, &product)?,
                            None => product,
                        });
                    }
                }
            }
            let encrypted = match tensors {
                Some(sum) => Some(evaluator.rescale(&evaluator.relinearize(&sum)?)?),
                None => None,
            };
            let sum = match (encrypted, plain) {
                (Some(a), Some(b)) => evaluator.add(&a, &b)?,
                (Some(sum), None) | (None, Some(sum)) => sum,
                (None, None) => return Err(Error::Internal("a segment without lanes".to_owned())),
            };
            inner.push((sum, signed(giant * split.babies * block)));
        }
        let terms: Vec<(&E::Ciphertext, i64)> = inner.iter().map(|(sum, step)| (sum, *step)).collect();
        evaluator.rotate_sum(&terms)
    }

    /// One vector of all query heads out of one value per query vector (junk elsewhere), times `factor`: real out of
    /// pairs. One level.
    fn gather<E: Evaluator>(
        &self,
        evaluator: &E,
        values: &[E::Ciphertext],
        factor: f64,
    ) -> Result<Packed<E::Ciphertext>> {
        let (vector, group) = (self.stored().vector(), self.group());
        let spacing = vector.gap() / group;
        let mut sum: Option<E::Ciphertext> = None;
        for member in 0..group {
            let value = values.get(member / self.members()).ok_or_else(|| {
                Error::Internal(format!("member {member} of {} query vectors", values.len()))
            })?;
            // Clears the partial sums beside the values, and makes of a pair the one member wanted; it then moves to
            // its place.
            let mask: Vec<Complex64> =
                vector.mask(factor).into_iter().map(|entry| entry * self.pick(member)).collect();
            let placed = evaluator.rotate(&evaluator.mul_values(value, &mask)?, -signed(member * spacing))?;
            sum = Some(match sum {
                Some(sum) => evaluator.add(&sum, &placed)?,
                None => placed,
            });
        }
        let sum = sum.ok_or_else(|| Error::Internal("a group of 0 query heads".to_owned()))?;
        let sum = if self.pairs() { twice_real_part(evaluator, &sum)? } else { sum };
        Ok(Packed::new(sum, self.output_layout()?))
    }
}
