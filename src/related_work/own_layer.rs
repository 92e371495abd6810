//! The layer that the decoder runs, for a shape without weights, beside those it is compared with.

use crate::contract::{BootstrapSummary, Result};
use crate::decoder::placement::TokensOfCache;
use crate::decoder::typical::typical_layer;
use crate::placement::{BootstrapCosts, LayerTemplate};
use crate::related_work::formulas::ModelShape;

/// The decoder's layer for a model of `shape` that generates the last token of `context`, with the functions of a
/// middle layer of SmolLM2, counted step by step under bootstraps to the levels of `costs`.
///
/// * `kept_encoded`: whether plaintexts stay encoded in memory; otherwise every product with one encodes it first.
///
/// # Errors
/// [`crate::Error::Shape`] for a shape that is no Llama or does not fit `slots`; [`crate::Error::Plan`] when its
/// functions are too deep for the bootstraps.
pub fn own_layer(
    shape: &ModelShape,
    slots: usize,
    context: usize,
    kept_encoded: bool,
    costs: &BootstrapCosts,
) -> Result<LayerTemplate> {
    shape.check(slots)?;
    let context = context.max(1);
    let bootstrap = BootstrapSummary {
        output_level: costs.output_level()?,
        minimum_input_level: costs.minimum_input_level,
        bound: 1.0,
        few: None,
    };
    let tokens = TokensOfCache { cached: context - 1, context };
    let mut layer = typical_layer(&shape.llama(context)?, slots, tokens, bootstrap)?;
    if kept_encoded {
        for stage in layer.operations.iter_mut().flat_map(|operation| &mut operation.stages) {
            stage.encodings = 0.0;
        }
    }
    Ok(layer)
}
