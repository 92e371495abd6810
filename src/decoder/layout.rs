//! Where the vectors of the encrypted decoder lie in the slots.

use crate::contract::{Error, Level, Result};
use crate::model::config::LlamaConfig;
use crate::packing::{AttentionPlan, AttentionShape, CacheBounds, Grouping, Order, VectorLayout};

/// Layouts that all layers share, apart from the levels of their caches.
#[derive(Clone, Debug)]
pub struct DecoderLayout {
    /// Residual stream: clean.
    pub hidden: VectorLayout,
    /// Feature of every place of it.
    pub hidden_order: Order,
    /// Blocks of all layouts.
    pub ring: usize,
    /// Values per block of the MLP.
    pub intermediate_values: usize,
    /// Heads.
    pub shape: AttentionShape,
    /// Tokens of a sequence, prompt included.
    pub context: usize,
}

impl DecoderLayout {
    /// Layouts for a model in `slots` slots, for sequences of at most `context` tokens. The ring is head_dim times the
    /// largest power of two that divides the heads; hidden and intermediate dimensions are padded to its multiples.
    ///
    /// # Errors
    /// [`Error::Shape`] when the heads or the hidden vector do not fit the slots.
    pub fn new(config: &LlamaConfig, slots: usize, context: usize) -> Result<Self> {
        let ring = config.head_dim << config.num_attention_heads.trailing_zeros();
        let hidden = VectorLayout::compact(slots, ring, config.hidden_size.div_ceil(ring))?;
        if context == 0 || context > config.max_position_embeddings {
            return Err(Error::Shape {
                operation: "decoder",
                what: format!(
                    "a context of {context} tokens, the model was trained for {}",
                    config.max_position_embeddings
                ),
                remedy: "shorten the prompt or the number of new tokens".to_owned(),
            });
        }
        Ok(Self {
            hidden,
            hidden_order: Order::plain(&hidden, config.hidden_size),
            ring,
            intermediate_values: config.intermediate_size.div_ceil(ring),
            shape: AttentionShape {
                heads: config.num_attention_heads,
                kv_heads: config.num_key_value_heads,
                head_dim: config.head_dim,
            },
            context,
        })
    }

    /// Attention with keys and values cached at these levels.
    ///
    /// # Errors
    /// Errors of [`AttentionPlan::new`].
    pub fn attention(&self, key_level: Level, value_level: Level) -> Result<AttentionPlan> {
        let bounds = CacheBounds { maximum_tokens: self.context, key_level, value_level };
        AttentionPlan::new(self.hidden.slots(), self.ring, self.shape, Grouping::Duplicated, bounds)
    }
}
