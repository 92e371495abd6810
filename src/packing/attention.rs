//! Attention over the encrypted KV cache, apart from the softmax function.
//!
//! Scores: q is copied over the token slots, multiplied with every K ciphertext, summed over head dimensions (a
//! cyclic sum, so the result stands in every head block) and masked into its place of a score ciphertext. Weighted
//! values: the weights, rotated by whole head blocks, are multiplied with the V lanes and summed over tokens.
//!
//! With grouped queries the cache either repeats every KV head for each of its query heads (*duplicated*, as the
//! paper), or keeps KV heads once (*compact*, beyond the paper): then two query heads of one KV head travel as real
//! and imaginary part, q_a + i·q_b against a real cache, for one ciphertext product.
//!
//! In the complex form of heads (beyond the paper) z_q = q_j + i·q_{j + head_dim/2} meets conj(z_k), and the score is
//! the real part of the sum: half the K ciphertexts, lanes and products. The weights stay real and the values
//! complex, z_v = v_j + i·v_{j + head_dim/2}; the output projection takes them by row halves.

use crate::contract::{Complex64, Error, Level, Result};

use super::{CacheLayout, Grouping, HeadForm, HeadLayout, Order, ScoreLayout};

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
    pub(super) cache: CacheLayout,
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
    pub(super) fn group(&self) -> usize {
        self.shape.heads / self.stored().heads()
    }

    /// Query heads of a group that share a query vector: a pair in the real form.
    pub(super) fn members(&self) -> usize {
        match self.stored().form() {
            HeadForm::Real => 2,
            HeadForm::Complex => 1,
        }
    }

    /// Number of query vectors: one when duplicated, one per pair of query heads of a group when compact, one per
    /// query head of a group when compact and complex.
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

    /// Features of the K and V projections in the stored heads: the real part, and the imaginary part in the complex
    /// form (of V; K is stored as the conjugate).
    #[must_use]
    pub fn kv_orders(&self) -> (Order, Option<Order>) {
        self.stored().orders(|head, dimension| Some(self.kv_feature(head, dimension)))
    }

    /// Layout of weighted values and denominators: all query heads in one vector, clean; real, or complex as the
    /// stored heads are. When compact, member r of a group stands r·G/g slots after its KV head.
    ///
    /// # Errors
    /// [`Error::Shape`] when the heads of a group do not fit the gap of a stored head ([`super::VectorLayout::new`]).
    pub fn output_layout(&self) -> Result<super::VectorLayout> {
        let (vector, group) = (self.stored().vector(), self.group());
        super::VectorLayout::new(vector.slots(), vector.ring(), vector.values() * group, vector.gap() / group)
    }

    /// Features (head · head_dim + dimension) of [`AttentionPlan::output_layout`], the imaginary parts of the complex
    /// form left out.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is no such layout ([`AttentionPlan::output_layout`]).
    pub fn output_order(&self) -> Result<Order> {
        Ok(self.output_orders()?.0)
    }

    /// Features (head · head_dim + dimension) of [`AttentionPlan::output_layout`]: the real parts, and the imaginary
    /// parts in the complex form.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is no such layout ([`AttentionPlan::output_layout`]).
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
    pub(super) fn pairs(&self) -> bool {
        self.group() > 1 && self.stored().form() == HeadForm::Real
    }

    /// Factors that pick member `member` of a group out of a complex pair, before twice the real part is taken; 1 when
    /// no query vector is a pair.
    pub(super) fn pick(&self, member: usize) -> Complex64 {
        match (self.pairs(), member % 2) {
            (false, _) => Complex64::new(1.0, 0.0),
            (true, 0) => Complex64::new(0.5, 0.0),
            (true, _) => Complex64::new(0.0, -0.5),
        }
    }

    /// Factors that pick the score of member `member` out of a complex pair, before twice the real part is taken: those
    /// of [`AttentionPlan::pick`] for real heads, 1/2 in the complex form, where a score is the real part of a sum.
    pub(super) fn pick_score(&self, member: usize) -> Complex64 {
        match self.stored().form() {
            HeadForm::Real => self.pick(member),
            HeadForm::Complex => Complex64::new(0.5, 0.0),
        }
    }

    /// Query heads of a group in query vector `query`.
    pub(super) fn members_of(&self, query: usize) -> std::ops::Range<usize> {
        let members = self.members();
        members * query..(members * (query + 1)).min(self.group())
    }

    pub(super) fn check_count(
        &self,
        operation: &'static str,
        what: &str,
        given: usize,
        wanted: usize,
    ) -> Result<()> {
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
