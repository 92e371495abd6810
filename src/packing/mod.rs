//! Slot layouts and the linear algebra on them.
//!
//! After Cachemir (arXiv 2602.11470): interleaved replicated packing for matrix products ([`Product`]) and the
//! encrypted KV cache. Every vector is a [`Packed`] ciphertext; everything is generic over
//! [`crate::contract::Evaluator`].

mod attention;
mod attention_scores;
mod attention_values;
mod attention_wave;
mod bundle;
mod cache;
mod cache_bytes;
pub mod complex;
mod folding;
mod geometry;
mod grouping;
mod heads;
mod layout;
mod lm_head;
mod order;
mod packed;
mod product;
mod product_choice;
mod rope;
mod scores;
mod split;
mod sums;
mod wave;
mod weights;

pub use attention::{AttentionPlan, AttentionShape, CacheBounds};
pub use attention_scores::ScoreQuery;
pub use bundle::Bundle;
pub use cache::{CacheLayout, KeyValueCache};
pub use folding::{FoldedGeometry, FoldedProduct, Folding};
pub use geometry::{OutputForm, ProductCounts, ProductGeometry};
pub use grouping::Grouping;
pub use heads::{HeadForm, HeadLayout};
pub use layout::{OtherSlots, VectorLayout};
pub use lm_head::LmHead;
pub use order::Order;
pub use packed::Packed;
pub use product::{EncodedProduct, Prepared, Product};
pub use product_choice::{
    BlockShape, SHAPE_NAMES, cheapest_product, diagonal_product, folded_product, mixed_radix_product,
    named_shape, padded_product,
};
pub use rope::Rope;
pub use scores::ScoreLayout;
pub use split::Split;
pub use sums::{shift_right, signed, sum_landing, sum_rotations, sum_steps, sum_strided};
pub use wave::Wave;
pub use weights::{DenseWeights, FnWeights, ScaledInputs, Term, Weights};

#[cfg(test)]
mod tests;
