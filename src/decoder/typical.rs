//! A decoder for a shape without weights that nobody has calibrated: to count with, never to generate with.
//!
//! Its ranges are like those of a middle layer of SmolLM2-135M-Instruct; what functions cost depends on ranges only,
//! and what products cost on shapes only.

use crate::backend::clear::ClearParameters;
use crate::calibration::ranges::{DecoderRanges, HeadRanges, LayerRanges};
use crate::circuits::approximation::Interval;
use crate::contract::{BootstrapSummary, Result};
use crate::decoder::Decoder;
use crate::decoder::count::StepCounter;
use crate::decoder::placement::TokensOfCache;
use crate::decoder::plan::{Accuracy, DecoderPlan};
use crate::model::config::LlamaConfig;
use crate::placement::LayerTemplate;

/// Ranges of a model of shape `config` as if all its layers were a middle one of SmolLM2: norms of degree 31, exp of
/// degree 7 and three squarings, 13 iterations of the inverse, SiLU of degree 31.
///
/// # Errors
/// [`crate::Error::Shape`] never in practice.
pub fn typical_ranges(config: &LlamaConfig) -> Result<DecoderRanges> {
    let stream = vec![64.0; config.hidden_size];
    let head = HeadRanges {
        shift: vec![0.0; config.head_dim],
        square_shift: vec![0.0; config.head_dim],
        offset: 0.0,
        scores: Interval::new(-36.0, 0.0)?,
        log_denominator: Interval::new(-14.0, 0.0)?,
        value: 4.0,
    };
    let layer = LayerRanges {
        input_norm: Interval::new(0.1, 12.0)?,
        heads: vec![head; config.num_attention_heads],
        middle_residual: stream.clone(),
        post_norm: Interval::new(0.1, 12.0)?,
        gate: Interval::new(-10.0, 10.0)?,
        up: 16.0,
        residual: stream,
    };
    Ok(DecoderRanges {
        embedding: 1.0,
        layers: vec![layer; config.num_hidden_layers],
        final_norm: Interval::new(2.0, 60.0)?,
    })
}

/// A layer of the decoder for a model of shape `config` in `slots` slots, counted step by step: what one token behind
/// `tokens.cached` others takes, under bootstraps of `bootstrap`. Every plaintext is encoded at its use.
///
/// # Errors
/// [`crate::Error::Shape`] when the model does not fit the slots; [`crate::Error::Plan`] when its functions are too
/// deep for the bootstraps.
pub fn typical_layer(
    config: &LlamaConfig,
    slots: usize,
    tokens: TokensOfCache,
    bootstrap: BootstrapSummary,
) -> Result<LayerTemplate> {
    // Any chain of that many levels: counts know no bits.
    let chain = ClearParameters::new(slots, bootstrap.output_level.0, 42)?.chain;
    // All layers are alike.
    let config = LlamaConfig { num_hidden_layers: 1, ..config.clone() };
    let functions = DecoderPlan::new(&config, &typical_ranges(&config)?, Accuracy::default(), bootstrap)?;
    let decoder = Decoder::without_weights(&config, functions, slots, tokens.context)?;
    StepCounter::new(&decoder, &chain, bootstrap, tokens.cached, 1)?.template(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Level;
    use crate::related_work::formulas::ModelShape;

    #[test]
    fn typical_functions_are_of_the_degrees_that_calibration_finds_in_a_middle_layer() {
        let config = ModelShape::named("smollm2-135m").unwrap().llama(64).unwrap();
        let bootstrap = BootstrapSummary {
            output_level: Level(16),
            minimum_input_level: Level(3),
            bound: 1.0,
            few: None,
        };
        let ranges = typical_ranges(&config).unwrap();
        let plan = DecoderPlan::new(&config, &ranges, Accuracy::default(), bootstrap).unwrap();
        let layer = &plan.layers[7];
        let softmax = &layer.attention.softmax;
        let iterations = softmax.before.steps.len() + softmax.after.steps.len();
        let exponential = (softmax.exponential.root.degree(), softmax.exponential.squarings);
        assert_eq!((layer.input_norm.start.degree(), layer.post_norm.start.degree()), (31, 31));
        assert_eq!((exponential, iterations, layer.gate.degree()), ((7, 3), 13, 31));
    }

    #[test]
    fn a_layer_of_llama_3_8b_is_counted_and_keeps_its_work_when_the_context_grows() {
        let shape = ModelShape::named("llama-3-8b").unwrap();
        let bootstrap = BootstrapSummary {
            output_level: Level(16),
            minimum_input_level: Level(3),
            bound: 1.0,
            few: None,
        };
        let layer = |context: usize| {
            let tokens = TokensOfCache { cached: context - 1, context };
            typical_layer(&shape.llama(context).unwrap(), 1 << 15, tokens, bootstrap).unwrap().work()
        };
        let (short, long) = (layer(64), layer(512));
        // 8 tokens in a K ciphertext: a product each for the scores, and one a lane for the values.
        assert_eq!(long.ciphertext_products - short.ciphertext_products, 2.0 * (64.0 - 8.0));
        // q, k, v and the output (512 each), up with gate and down (4 values a block: 2048 each), the rest masks.
        assert!((6144.0..6400.0).contains(&short.plaintext_products), "{short:?}");
    }
}
