//! The ranges that the decoder's functions are fitted to ([`crate::decoder::functions`]), margins included.
//!
//! Nothing here is secret: ranges are statistics of public calibration texts.

use crate::circuits::approximation::Interval;

/// Ranges of a whole model: what calibration saw, widened by its margins.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DecoderRanges {
    /// Largest magnitude of an embedding.
    pub embedding: f64,
    /// Ranges by layer.
    pub layers: Vec<LayerRanges>,
    /// Mean square before the final norm, ε included.
    pub final_norm: Interval,
}

/// Ranges of one layer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LayerRanges {
    /// Mean square before attention, ε included.
    pub input_norm: Interval,
    /// Query heads.
    pub heads: Vec<HeadRanges>,
    /// Largest magnitude of each feature of the residual stream between attention and MLP, `hidden_size` of them.
    /// With one bound for all, a few massive features would take up the whole range of a bootstrap and leave its
    /// noise to the others.
    pub middle_residual: Vec<f64>,
    /// Mean square before the MLP, ε included.
    pub post_norm: Interval,
    /// Gates, before SiLU.
    pub gate: Interval,
    /// Largest magnitude of the up projection.
    pub up: f64,
    /// Largest magnitude of each feature of the residual stream after the layer, `hidden_size` of them.
    pub residual: Vec<f64>,
}

/// Ranges of one query head. log D of a query q is predicted by q·(w + u ⊙ q)/√hd + b, so that D of the shifted scores
/// stays near 1; w is subtracted from the cached keys, u ⊙ q from the keys as this query sees them, b from the scores.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HeadRanges {
    /// w: head_dim values, in the rotated basis.
    pub shift: Vec<f64>,
    /// u: head_dim values, in the rotated basis; all zero where squares do not help.
    pub square_shift: Vec<f64>,
    /// b.
    pub offset: f64,
    /// Shifted scores x = q·(k − w − u ⊙ q)/√hd − b.
    pub scores: Interval,
    /// log D of the shifted scores, head-room at the top included.
    pub log_denominator: Interval,
    /// Largest magnitude of a value of the KV head it reads, those of the public prefix included.
    pub value: f64,
}

impl HeadRanges {
    /// q·(w + u ⊙ q)/√hd + b: what is subtracted from every score of the query q (after RoPE, not divided by √hd),
    /// which has as many values as the head.
    #[must_use]
    pub fn shift_of(&self, query: impl Iterator<Item = f32>) -> f64 {
        score_shift(&self.shift, &self.square_shift, self.offset, query)
    }
}

/// q·(w + u ⊙ q)/√hd + b of a query q: w is `shift`, u is `square_shift` and b `offset`.
pub(crate) fn score_shift(
    shift: &[f64],
    square_shift: &[f64],
    offset: f64,
    query: impl Iterator<Item = f32>,
) -> f64 {
    let scale = (shift.len().max(1) as f64).sqrt();
    shift.iter().zip(square_shift).zip(query).fold(offset, |sum, ((weight, square_weight), q)| {
        let q = f64::from(q);
        sum + q * (weight + square_weight * q) / scale
    })
}
