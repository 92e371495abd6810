//! Attention over the encrypted KV cache, apart from the softmax function.
//!
//! Scores: q is copied over the token slots, multiplied with every K ciphertext, summed over head dimensions (a cyclic
//! sum, so the result stands in every head block) and masked into its place of a score ciphertext. Weighted values: the
//! weights, rotated by whole head blocks, are multiplied with the V lanes and summed over tokens.
//!
//! With grouped queries the cache either repeats every KV head for each of its query heads (*duplicated*, as the paper),
//! or keeps KV heads once (*compact*, beyond the paper): then two query heads of one KV head travel as real and
//! imaginary part, q_a + i·q_b against a real cache, for one ciphertext product.
//!
//! In the complex form of heads (beyond the paper) z_q = q_j + i·q_{j + head_dim/2} meets conj(z_k), and the score is the real
//! part of the sum: half the K ciphertexts, lanes and products. The weights stay real and the values complex, z_v =
//! v_j + i·v_{j + head_dim/2}; the output projection takes them by row halves ([`super::BlockPlan::output`]).

use crate::circuits::complex_parts::twice_real_part;
use crate::contract::{Complex64, Error, Evaluator, Level, Result};

use super::cache::Stored;
use super::sums::{signed, sum_strided};
use super::{CacheLayout, Grouping, HeadForm, HeadLayout, KeyValueCache, Order, Packed, ScoreLayout};

/// Heads of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values per head, a power of two.
    pub head_dim: usize,
}

/// Size and levels of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheBounds {
    /// Tokens the cache may hold.
    pub maximum_tokens: usize,
    /// Level of the K ciphertexts, at least 2; scores come out two levels below.
    pub key_level: Level,
    /// Level of the V lanes, at least 2; weighted values come out two levels below.
    pub value_level: Level,
}

/// Attention of one layer shape: layouts, orders, and the products with the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionPlan {
    shape: AttentionShape,
    grouping: Grouping,
    cache: CacheLayout,
}

impl AttentionPlan {
    /// Plan in a ring of `ring` = head_dim · 2^e blocks, head_dim/2 · 2^e in the complex form.
    ///
    /// # Errors
    /// [`Error::Shape`] for heads that do not divide or do not fit, no tokens, and levels below 2.
    pub fn new(
        slots: usize,
        ring: usize,
        shape: AttentionShape,
        grouping: Grouping,
        bounds: CacheBounds,
    ) -> Result<Self> {
        let bad = |what: String, remedy: &str| Error::Shape {
            operation: "attention",
            what,
            remedy: remedy.to_owned(),
        };
        if shape.kv_heads == 0 || shape.heads == 0 || !shape.heads.is_multiple_of(shape.kv_heads) {
            return Err(bad(
                format!("{} query heads over {} KV heads", shape.heads, shape.kv_heads),
                "the number of query heads is a multiple of the number of KV heads",
            ));
        }
        if bounds.maximum_tokens == 0 || bounds.key_level < Level(2) || bounds.value_level < Level(2) {
            return Err(bad(
                format!(
                    "{} tokens with K at level {} and V at level {}",
                    bounds.maximum_tokens, bounds.key_level, bounds.value_level
                ),
                "hold at least one token, at levels of at least 2",
            ));
        }
        let group = shape.heads / shape.kv_heads;
        let (stored_heads, gap_multiple) =
            if grouping.is_compact() { (shape.kv_heads, group) } else { (shape.heads, 1) };
        let stored = match grouping.form() {
            HeadForm::Real => HeadLayout::new(slots, stored_heads, shape.head_dim, ring, gap_multiple)?,
            HeadForm::Complex => {
                HeadLayout::complex(slots, stored_heads, shape.head_dim, ring, gap_multiple)?
            }
        };
        let (groups, blocks) = ((shape.heads / stored_heads).next_power_of_two(), stored.head_blocks());
        if groups > blocks {
            return Err(bad(
                format!(
                    "{group} query heads per KV head at a head dimension of {} in {blocks} blocks",
                    shape.head_dim
                ),
                "duplicate the KV heads",
            ));
        }
        let lanes = bounds
            .maximum_tokens
            .div_ceil(stored.tokens())
            .checked_next_power_of_two()
            .map_or(blocks, |lanes| lanes.min(blocks))
            .min(blocks / groups);
        let cache = CacheLayout {
            scores: ScoreLayout::new(stored, shape.heads, lanes),
            maximum_tokens: bounds.maximum_tokens,
            key_level: bounds.key_level,
            value_level: bounds.value_level,
        };
        Ok(Self { shape, grouping, cache })
    }

    /// The heads.
    #[must_use]
    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    /// How the cache keeps grouped heads.
    #[must_use]
    pub fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// Layout of the cache.
    #[must_use]
    pub fn cache_layout(&self) -> CacheLayout {
        self.cache
    }

    /// Layout of the scores.
    #[must_use]
    pub fn score_layout(&self) -> ScoreLayout {
        self.cache.scores
    }

    /// Layout of stored heads: of q, k and v.
    #[must_use]
    pub fn stored(&self) -> HeadLayout {
        self.cache.scores.stored()
    }

    /// Query heads per stored head: 1 when duplicated.
    fn group(&self) -> usize {
        self.shape.heads / self.stored().heads()
    }

    /// Query heads of a group that share a query vector: a pair in the real form.
    fn members(&self) -> usize {
        match self.stored().form() {
            HeadForm::Real => 2,
            HeadForm::Complex => 1,
        }
    }

    /// Number of query vectors: one when duplicated, one per pair of query heads of a group when compact, one per query head
    /// of a group when compact and complex.
    #[must_use]
    pub fn queries(&self) -> usize {
        self.group().div_ceil(self.members())
    }

    /// Features of the query projection (head · head_dim + dimension) in query vector `query`: the real part, and the
    /// imaginary part where there is one (the other head of a pair, or the other half of the dimensions).
    #[must_use]
    pub fn query_orders(&self, query: usize) -> (Order, Option<Order>) {
        let (group, dim) = (self.group(), self.shape.head_dim);
        let orders =
            |member: usize| self.stored().orders(move |head, j| Some((head * group + member) * dim + j));
        match self.stored().form() {
            HeadForm::Real => (orders(2 * query).0, (2 * query + 1 < group).then(|| orders(2 * query + 1).0)),
            HeadForm::Complex => orders(query),
        }
    }

    /// KV feature (KV head · head_dim + dimension) of a stored head.
    #[must_use]
    pub fn kv_feature(&self, stored_head: usize, dimension: usize) -> usize {
        let per_kv_head = self.stored().heads() / self.shape.kv_heads;
        stored_head / per_kv_head * self.shape.head_dim + dimension
    }

    /// Features of the K and V projections in the stored heads: the real part, and the imaginary part in the complex form
    /// (of V; K is stored as the conjugate).
    #[must_use]
    pub fn kv_orders(&self) -> (Order, Option<Order>) {
        self.stored().orders(|head, dimension| Some(self.kv_feature(head, dimension)))
    }

    /// Layout of weighted values and denominators: all query heads in one vector, clean; real, or complex as the stored
    /// heads are. When compact, member r of a group stands r·G/g slots after its KV head.
    ///
    /// # Errors
    /// Those of [`super::VectorLayout::new`].
    pub fn output_layout(&self) -> Result<super::VectorLayout> {
        let (vector, group) = (self.stored().vector(), self.group());
        super::VectorLayout::new(vector.slots(), vector.ring(), vector.values() * group, vector.gap() / group)
    }

    /// Features (head · head_dim + dimension) of [`AttentionPlan::output_layout`], the imaginary parts of the complex form
    /// left out.
    ///
    /// # Errors
    /// Those of [`AttentionPlan::output_layout`].
    pub fn output_order(&self) -> Result<Order> {
        Ok(self.output_orders()?.0)
    }

    /// Features (head · head_dim + dimension) of [`AttentionPlan::output_layout`]: the real parts, and the imaginary parts
    /// in the complex form.
    ///
    /// # Errors
    /// Those of [`AttentionPlan::output_layout`].
    pub fn output_orders(&self) -> Result<(Order, Option<Order>)> {
        let (group, stored, layout) = (self.group(), self.stored(), self.output_layout()?);
        let low = stored.low();
        let order = |first: usize| {
            Order::from_fn(&layout, |r, q| {
                let head = q / group * low + r % low;
                let feature = (head * group + q % group) * self.shape.head_dim + first + r / low;
                (head < stored.heads()).then_some(feature)
            })
        };
        let imaginary = (stored.form() == HeadForm::Complex).then(|| order(stored.head_blocks()));
        Ok((order(0), imaginary))
    }

    /// Whether query vectors are pairs of heads.
    fn pairs(&self) -> bool {
        self.group() > 1 && self.stored().form() == HeadForm::Real
    }

    /// Factors that pick member `member` of a group out of a complex pair, before twice the real part is taken; 1 when
    /// no query vector is a pair.
    fn pick(&self, member: usize) -> Complex64 {
        match (self.pairs(), member % 2) {
            (false, _) => Complex64::new(1.0, 0.0),
            (true, 0) => Complex64::new(0.5, 0.0),
            (true, _) => Complex64::new(0.0, -0.5),
        }
    }

    /// As [`AttentionPlan::pick`], of a score: in the complex form it is the real part of a sum.
    fn pick_score(&self, member: usize) -> Complex64 {
        match self.stored().form() {
            HeadForm::Real => self.pick(member),
            HeadForm::Complex => Complex64::new(0.5, 0.0),
        }
    }

    /// q·kᵀ · `factor` for all tokens of the cache: one ciphertext per segment, laid out by
    /// [`AttentionPlan::score_layout`], zero wherever no score is. `queries` are clean, after RoPE, at the cache's
    /// `key_level` or above; the scores stand two levels below it at the canonical scale.
    ///
    /// Cost per query vector: a replication over G tokens; per K ciphertext one ciphertext product (a plaintext product
    /// for public tokens), log2(head blocks) rotations and a mask. One conjugation per segment when compact or complex.
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
        self.shifted_scores(evaluator, queries, None, cache, factor, None)
    }

    /// As [`AttentionPlan::scores`], with `subtracted`, laid out like the query, taken off every key: q·(k − s). Only where
    /// every query head has its own keys, and conjugated as they are in the complex form. One replication and one product
    /// more. With `copy` only that copy of the scores
    /// is kept, for a [`super::Wave`].
    ///
    /// # Errors
    /// Those of [`AttentionPlan::scores`]; [`Error::Shape`] for something to subtract from shared keys.
    pub fn shifted_scores<E: Evaluator>(
        &self,
        evaluator: &E,
        queries: &[Packed<E::Ciphertext>],
        subtracted: Option<&Packed<E::Ciphertext>>,
        cache: &KeyValueCache<E::Ciphertext>,
        factor: f64,
        copy: Option<usize>,
    ) -> Result<Vec<E::Ciphertext>> {
        cache.require(&self.cache)?;
        self.check_count("attention scores", "query vectors", queries.len(), self.queries())?;
        if subtracted.is_some() {
            self.check_count("attention scores", "query heads with shifted keys", self.group(), 1)?;
        }
        let (stored, layout) = (self.stored(), self.score_layout());
        let mut scores: Vec<Option<E::Ciphertext>> = vec![None; layout.segments(cache.tokens())];
        for (query, q) in queries.iter().enumerate() {
            let replicated = |vector: &Packed<E::Ciphertext>| {
                vector.require(&stored.vector(), "attention scores")?;
                let vector = evaluator.lower(&vector.ciphertext, self.cache.key_level)?;
                sum_strided(evaluator, &vector, stored.tokens(), -1)
            };
            let q = replicated(q)?;
            let correction = match subtracted {
                Some(subtracted) => Some(evaluator.mul(&q, &replicated(subtracted)?)?),
                None => None,
            };
            for (number, key) in cache.keys.iter().enumerate() {
                let product = match key {
                    Stored::Encrypted(key) => evaluator.mul(&q, key)?,
                    Stored::Public(values) => evaluator.mul_values(&q, values)?,
                };
                let product = match &correction {
                    Some(correction) => evaluator.sub(&product, correction)?,
                    None => product,
                };
                let sum =
                    sum_strided(evaluator, &product, stored.head_blocks(), signed(stored.head_block()))?;
                let mut mask = self.score_mask(query, number, cache.tokens(), factor);
                if let Some(copy) = copy {
                    layout.keep_copy(&mut mask, copy);
                }
                let placed = evaluator.mul_values(&sum, &mask)?;
                let entry = scores.get_mut(number / layout.lanes()).ok_or_else(|| {
                    Error::Internal(format!("K ciphertext {number} of {} tokens", cache.tokens()))
                })?;
                *entry = Some(match entry.take() {
                    Some(sum) => evaluator.add(&sum, &placed)?,
                    None => placed,
                });
            }
        }
        if scores.is_empty() {
            return Err(Error::Shape {
                operation: "attention scores",
                what: "the cache holds 0 tokens".to_owned(),
                remedy: "append the token itself before it attends".to_owned(),
            });
        }
        let complex = self.pairs() || stored.form() == HeadForm::Complex;
        scores
            .into_iter()
            .flatten()
            .map(|score| if complex { twice_real_part(evaluator, &score) } else { Ok(score) })
            .collect()
    }

    /// Query heads of a group in query vector `query`.
    fn members_of(&self, query: usize) -> std::ops::Range<usize> {
        let members = self.members();
        members * query..(members * (query + 1)).min(self.group())
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

    /// Σ_token weight · V for all query heads, in [`AttentionPlan::output_layout`]: clean. `weights` are one ciphertext per
    /// segment in the score layout; what stands at unused slots does not matter. They are lowered to the cache's
    /// `value_level` (one above it when compact); the result stands two levels below `value_level`.
    ///
    /// Cost per query vector and segment: C ciphertext products, about 2√C rotations, as many relinearizations as giants;
    /// one sum over G slots and one mask per query vector (two when it is a pair), one conjugation when there are pairs.
    ///
    /// # Errors
    /// [`Error::Shape`] for a cache of another layout or the wrong number of segments; those of the evaluator.
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
            values.push(sum_strided(evaluator, &sum, self.stored().tokens(), 1)?);
        }
        self.gather(evaluator, &values, 1.0)
    }

    /// Σ_token weight · factor for each of `factors` and all query heads, in [`AttentionPlan::output_layout`]: clean, the
    /// sum of a head at each of its values (real in the complex form, too), ready to divide the weighted values. `weights` must be zero at the slots of
    /// no token. One level below the weights, two when compact; a mask a factor.
    ///
    /// # Errors
    /// [`Error::Shape`] without weights; those of the evaluator.
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
    /// themselves when duplicated; P_a + i·P_b of a pair, or the P of one head, when compact (one plaintext product, one
    /// level, a rotation per doubling of the groups).
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

    /// One vector of all query heads out of one value per query vector (junk elsewhere), times `factor`: real out of pairs.
    /// One level.
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

    fn check_count(&self, operation: &'static str, what: &str, given: usize, wanted: usize) -> Result<()> {
        if given == wanted {
            return Ok(());
        }
        Err(Error::Shape {
            operation,
            what: format!("{given} {what}, wanted {wanted}"),
            remedy: "pass what the plan of this layer produced".to_owned(),
        })
    }
}
