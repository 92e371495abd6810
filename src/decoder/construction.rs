//! Making a [`Decoder`] of weights and functions, or of functions alone to count with.

use std::sync::Arc;

use crate::contract::{Error, Result};
use crate::decoder::Decoder;
use crate::decoder::functions::LayerFunctions;
use crate::decoder::head::EncryptedHead;
use crate::decoder::head_side::HeadSide;
use crate::decoder::layer::{Block, Body, Layer, Shared};
use crate::decoder::layout::DecoderLayout;
use crate::decoder::plan::DecoderPlan;
use crate::decoder::products::LayerProducts;
use crate::model::config::LlamaConfig;
use crate::model::weights::Weights;
use crate::packing::{AttentionPlan, Wave};

impl Decoder {
    /// Decoder of `weights` under `plan` in `slots` slots, for sequences of at most `context` tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] when the model does not fit the slots; [`Error::Model`] for unusable weights; [`Error::Plan`]
    /// for a plan for a model of another shape.
    pub fn new(weights: &Weights, plan: DecoderPlan, slots: usize, context: usize) -> Result<Self> {
        let config = weights.config().clone();
        let layout = DecoderLayout::new(&config, slots, context)?;
        let products = |index: usize, functions: &LayerFunctions, attention: &AttentionPlan| {
            let (entering, weights) = (plan.entering(index, config.hidden_size), weights.layer(index)?);
            LayerProducts::new(&config, &layout, attention, functions, &weights, &entering).map(Arc::new)
        };
        let blocks = blocks(&config, &layout, &plan, products)?;
        let entering = plan.entering(plan.layers.len(), config.hidden_size);
        let head = match plan.head {
            HeadSide::Client => None,
            HeadSide::Server => {
                Some(Arc::new(EncryptedHead::new(weights, &layout, &plan.final_norm, &entering)?))
            }
        };
        Ok(Self::of(config, layout, plan, blocks, head))
    }

    /// Decoder that costs what one of a model of shape `config` costs, whatever its weights, which are zero: to count
    /// with and to plan keys with, not to generate with.
    ///
    /// # Errors
    /// [`Error::Shape`] when the model does not fit the slots; [`Error::Plan`] for a plan for a model of another
    /// shape.
    pub fn without_weights(
        config: &LlamaConfig,
        plan: DecoderPlan,
        slots: usize,
        context: usize,
    ) -> Result<Self> {
        let layout = DecoderLayout::new(config, slots, context)?;
        let mut shared: Option<Arc<LayerProducts>> = None;
        let products = |_: usize, _: &LayerFunctions, attention: &AttentionPlan| match &shared {
            Some(products) => Ok(products.clone()),
            None => {
                let products = Arc::new(LayerProducts::without_weights(config, &layout, attention)?);
                shared = Some(products.clone());
                Ok(products)
            }
        };
        let blocks = blocks(config, &layout, &plan, products)?;
        let head = match plan.head {
            HeadSide::Client => None,
            HeadSide::Server => {
                let (vocabulary, hidden) = (config.vocab_size, config.hidden_size);
                Some(Arc::new(EncryptedHead::without_weights(vocabulary, hidden, &layout)?))
            }
        };
        Ok(Self::of(config.clone(), layout, plan, blocks, head))
    }

    fn of(
        config: LlamaConfig,
        layout: DecoderLayout,
        plan: DecoderPlan,
        blocks: Vec<Block>,
        head: Option<Arc<EncryptedHead>>,
    ) -> Self {
        let layers = blocks.into_iter().enumerate().map(|(index, block)| Layer {
            norm: block.functions.input_norm.clone(),
            entering: plan.entering(index, config.hidden_size),
            schedule: block.functions.schedule.clone(),
            body: Body::Block(Box::new(block)),
        });
        let layers = layers.collect();
        let end = Layer {
            norm: plan.final_norm.clone(),
            entering: plan.entering(plan.layers.len(), config.hidden_size),
            schedule: plan.final_schedule.clone(),
            body: Body::End(head),
        };
        Self { shared: Shared::new(&config, layout), config, plan, layers, end }
    }

    /// The output head, where the plan puts it on the server.
    #[must_use]
    pub fn head(&self) -> Option<&EncryptedHead> {
        match &self.end.body {
            Body::End(head) => head.as_deref(),
            Body::Block(_) => None,
        }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &DecoderPlan {
        &self.plan
    }

    /// The shape of the model.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Layouts of the vectors.
    #[must_use]
    pub fn layout(&self) -> &DecoderLayout {
        &self.shared.layout
    }

    /// Attention and MLP of every layer.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.layers.iter().filter_map(|layer| match &layer.body {
            Body::Block(block) => Some(block.as_ref()),
            Body::End(_) => None,
        })
    }

    /// Tokens of a prompt that can go through [`Decoder::step_wave`] together: as many as fit one ciphertext of every
    /// kind; 1 where the plan leaves no level to take them apart.
    #[must_use]
    pub fn wave_capacity(&self) -> usize {
        let hidden = Wave::capacity(&self.layout().hidden);
        let fits = self.blocks().fold(hidden, |fits, block| {
            fits.min(block.attention.wave_capacity()).min(Wave::capacity(&block.products.intermediate()))
        });
        let levels = self.blocks().all(|block| block.functions.has_level_for_waves(self.plan.highest));
        if levels { fits.max(1) } else { 1 }
    }

    /// Positions at which, together, a token uses every rotation that any position uses.
    ///
    /// # Errors
    /// [`Error::Internal`] for a decoder without layers.
    pub(crate) fn positions_with_all_rotations(&self) -> Result<Vec<usize>> {
        let block =
            self.blocks().next().ok_or_else(|| Error::Internal("a decoder without layers".to_owned()))?;
        let last = block.attention.stored().tokens().min(self.layout().context) - 1;
        let highest = last.checked_ilog2().map_or(0, |bit| 1usize << bit);
        let mut positions = vec![0, highest.saturating_sub(1), highest];
        positions.dedup();
        Ok(positions)
    }
}

/// Attention and MLP of every layer of `plan`, with the products that `products` makes of its number, functions and
/// attention.
fn blocks(
    config: &LlamaConfig,
    layout: &DecoderLayout,
    plan: &DecoderPlan,
    mut products: impl FnMut(usize, &LayerFunctions, &AttentionPlan) -> Result<Arc<LayerProducts>>,
) -> Result<Vec<Block>> {
    if plan.layers.len() != config.num_hidden_layers {
        return Err(Error::Plan {
            why: format!("{} layers, the model has {}", plan.layers.len(), config.num_hidden_layers),
            remedy: "plan for this model".to_owned(),
        });
    }
    let block = |(index, functions): (usize, &LayerFunctions)| {
        let attention = layout.attention(functions.key_level, functions.value_level)?;
        let products = products(index, functions, &attention)?;
        Block::new(config, products, attention, functions.clone())
    };
    plan.layers.iter().enumerate().map(block).collect()
}
