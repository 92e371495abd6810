//! Scores q·kᵀ over the encrypted KV cache.
//!
//! q is copied over the token slots, multiplied with every K ciphertext, summed over head dimensions (a cyclic sum,
//! so the result stands in every head block) and masked into its place of a score ciphertext.

use crate::circuits::complex_parts::twice_real_part;
use crate::contract::{Complex64, Error, Evaluator, Result};

use super::cache::Stored;
use super::sums::{signed, sum_strided};
use super::{AttentionPlan, HeadForm, KeyValueCache, Packed};

/// The query of one token, and what it meets.
#[derive(Debug)]
pub struct ScoreQuery<'a, C> {
    /// Query vectors of the token: clean, after RoPE.
    pub vectors: &'a [Packed<C>],
    /// Subtracted from every key, laid out like the query: q·(k − s). Only where every query head has its own keys,
    /// and conjugated as they are in the complex form.
    pub subtracted: Option<&'a Packed<C>>,
    /// Tokens it sees, from the first of the cache on: later ones get no score.
    pub tokens: usize,
    /// The only copy of the score layout to keep, for a [`super::Wave`]; all without it.
    pub copy: Option<usize>,
}

impl AttentionPlan {
    /// q·kᵀ · `factor` for all tokens of the cache: one ciphertext per segment, laid out by
    /// [`AttentionPlan::score_layout`], zero wherever no score is. `queries` are clean, after RoPE, at the cache's
    /// `key_level` or above; the scores stand two levels below it at the canonical scale.
    ///
    /// Cost per query vector: a replication over G tokens; per K ciphertext one ciphertext product (a plaintext
    /// product for public tokens), log2(head blocks) rotations and a mask. One conjugation per segment when compact
    /// or complex.
    ///
    /// # Errors
    /// [`Error::Shape`] for a cache of another layout, an empty cache, or the wrong number of queries; those of the
    /// evaluator.
    pub fn scores<E: Evaluator>(
        &self,
        evaluator: &E,
        queries: &[Packed<E::Ciphertext>],
        cache: &KeyValueCache<E::Ciphertext>,
        factor: f64,
    ) -> Result<Vec<E::Ciphertext>> {
        let query = ScoreQuery { vectors: queries, subtracted: None, tokens: cache.tokens(), copy: None };
        self.scores_of(evaluator, &query, cache, factor)
    }

    /// q·(k − s)ᵀ · `factor` of one token with those it sees: what [`AttentionPlan::scores`] gives, of the tokens and
    /// in the copy that `query` names. With something to subtract, one replication and one product more.
    ///
    /// # Errors
    /// [`Error::Shape`] for more tokens than the cache holds, or something to subtract from shared keys; errors of
    /// [`AttentionPlan::scores`].
    pub fn scores_of<E: Evaluator>(
        &self,
        evaluator: &E,
        query: &ScoreQuery<'_, E::Ciphertext>,
        cache: &KeyValueCache<E::Ciphertext>,
        factor: f64,
    ) -> Result<Vec<E::Ciphertext>> {
        cache.require(&self.cache)?;
        let ScoreQuery { vectors, subtracted, tokens, copy } = *query;
        self.check_count("attention scores", "query vectors", vectors.len(), self.queries())?;
        if tokens == 0 || tokens > cache.tokens() {
            return Err(Error::Shape {
                operation: "attention scores",
                what: format!("a query for {tokens} tokens, the cache holds {} tokens", cache.tokens()),
                remedy: "append the token itself before it attends".to_owned(),
            });
        }
        if subtracted.is_some() {
            self.check_count("attention scores", "query heads with shifted keys", self.group(), 1)?;
        }
        let (stored, layout) = (self.stored(), self.score_layout());
        let mut scores: Vec<Option<E::Ciphertext>> = vec![None; layout.segments(tokens)];
        for (vector, q) in vectors.iter().enumerate() {
            let replicated = |x: &Packed<E::Ciphertext>| {
                x.require(&stored.vector(), "attention scores")?;
                let x = evaluator.lower(&x.ciphertext, self.cache.key_level)?;
                // The query stands at one slot of each gap: copied to the slots of all G tokens of a K ciphertext.
                sum_strided(evaluator, &x, stored.tokens(), -1)
            };
            let q = replicated(q)?;
            // q·(k − s) = q·k − q·s: one product for all K ciphertexts, as s is the same for every token.
            let correction = match subtracted {
                Some(subtracted) => Some(evaluator.mul(&q, &replicated(subtracted)?)?),
                None => None,
            };
            for (number, key) in cache.keys.iter().take(tokens.div_ceil(stored.tokens())).enumerate() {
                let product = match key {
                    Stored::Encrypted(key) => evaluator.mul(&q, key)?,
                    Stored::Public(values) => evaluator.mul_values(&q, values)?,
                };
                let product = match &correction {
                    Some(correction) => evaluator.sub(&product, correction)?,
                    None => product,
                };
                // Over the dimensions of a head: q·k of every token, in every head block, as the sum is cyclic.
                let sum =
                    sum_strided(evaluator, &product, stored.head_blocks(), signed(stored.head_block()))?;
                // The second level: the mask keeps the tokens that are seen, at the place of this K ciphertext in its
                // segment.
                let mut mask = self.score_mask(vector, number, tokens, factor);
                if let Some(copy) = copy {
                    layout.keep_copy(&mut mask, copy);
                }
                let placed = evaluator.mul_values(&sum, &mask)?;
                let entry = scores
                    .get_mut(number / layout.lanes())
                    .ok_or_else(|| Error::Internal(format!("K ciphertext {number} of {tokens} tokens")))?;
                *entry = Some(match entry.take() {
                    Some(sum) => evaluator.add(&sum, &placed)?,
                    None => placed,
                });
            }
        }
        // The masks hold the factors that make every score a real part: one conjugation for a whole segment.
        let complex = self.pairs() || stored.form() == HeadForm::Complex;
        scores
            .into_iter()
            .flatten()
            .map(|score| if complex { twice_real_part(evaluator, &score) } else { Ok(score) })
            .collect()
    }

    /// Mask that puts the products of query vector `query` with K ciphertext `number` in their place.
    fn score_mask(&self, query: usize, number: usize, tokens: usize, factor: f64) -> Vec<Complex64> {
        let (layout, group) = (self.score_layout(), self.group());
        let per_key = self.stored().tokens();
        let mut mask = vec![Complex64::ZERO; self.stored().slots()];
        let in_segment = number % layout.lanes() * per_key;
        let valid = tokens.saturating_sub(number * per_key).min(per_key);
        for stored_head in 0..self.stored().heads() {
            for member in self.members_of(query) {
                for token in in_segment..in_segment + valid {
                    for slot in layout.slots(token, stored_head * group + member) {
                        if let Some(entry) = mask.get_mut(slot) {
                            *entry = self.pick_score(member) * factor;
                        }
                    }
                }
            }
        }
        mask
    }
}
