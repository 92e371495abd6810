//! The matrices of the encrypted decoder, with every constant factor folded in.
//!
//! Vectors travel scaled: each feature of the residual stream divided by its bound, norms without their γ and constants, values and
//! numerators by the factors of the plan. The factors meet here, in rows and columns of the weights, and cost nothing.

use std::sync::Arc;

use ndarray::Array2;

use crate::circuits::approximation::Interval;
use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::contract::{Complex64, Error, Evaluator, Level, Result};
use crate::packing::{
    AttentionPlan, AttentionShape, CacheBounds, FnWeights, Grouping, Order, OutputForm, Packed, Prepared,
    Product, ProductGeometry, Term, VectorLayout,
};

use crate::decoder::plan::LayerFunctions;
use crate::model::config::LlamaConfig;
use crate::model::weights::LayerWeights;

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
    /// Those of [`AttentionPlan::new`].
    pub fn attention(&self, key_level: Level, value_level: Level) -> Result<AttentionPlan> {
        let bounds = CacheBounds { maximum_tokens: self.context, key_level, value_level };
        AttentionPlan::new(self.hidden.slots(), self.ring, self.shape, Grouping::Duplicated, bounds)
    }
}

/// What the features of the stored residual stream, each divided by its bound, are multiplied by before they are squared, so
/// that the sum of squares plus a constant is the unit variable of the norm's polynomial over `interval`.
pub(crate) fn norm_slopes(interval: Interval, bounds: &[f64]) -> Vec<f64> {
    let slope = (interval.unit_slope() / bounds.len().max(1) as f64).sqrt();
    bounds.iter().map(|bound| slope * bound).collect()
}

/// What the features of the stored stream, times the root of `norm`, must be multiplied by to be x/√(mean square + ε).
pub(crate) fn norm_factors(norm: &InverseSquareRoot, bounds: &[f64]) -> Vec<f64> {
    bounds.iter().map(|bound| bound / norm.interval().low.sqrt()).collect()
}

/// What an update is multiplied by to join the stored stream.
fn update_factors(bounds: &[f64]) -> Vec<f64> {
    bounds.iter().map(|bound| 1.0 / bound).collect()
}

/// The products of one layer.
pub struct LayerProducts {
    /// Queries, keys and values share a geometry and so a prepared input.
    pub query: Product,
    /// See `query`; repeated for every query head.
    pub key: Product,
    /// See `query`; repeated, times the value factors.
    pub value: Product,
    /// Output projection.
    pub output: Product,
    /// up/(2·bound) + i·(unit variable of the gate, without its constant)/2.
    pub up_gate: Product,
    /// Down projection.
    pub down: Product,
}

impl LayerProducts {
    /// Key and value at `offset` and the query of one prepared input, baby rotations shared.
    ///
    /// # Errors
    /// Those of [`Product::apply_shared`].
    pub fn query_key_value<E: Evaluator>(
        &self,
        evaluator: &E,
        prepared: &Prepared<E::Ciphertext>,
        offset: usize,
    ) -> Result<[Packed<E::Ciphertext>; 3]> {
        let products = [(&self.key, offset), (&self.value, offset), (&self.query, 0)];
        let applied = Product::apply_shared(evaluator, prepared, &products)?;
        <[Packed<E::Ciphertext>; 3]>::try_from(applied)
            .map_err(|applied| Error::Internal(format!("{} results of 3 products", applied.len())))
    }

    /// Layout of up and gate: clean.
    pub fn intermediate(&self) -> VectorLayout {
        self.up_gate.geometry().output().clean()
    }

    /// Products of `weights` with the factors of `functions` folded in; the features of the residual stream enter divided by
    /// `entering`.
    ///
    /// # Errors
    /// [`Error::Shape`] when a product does not fit the slots.
    pub(crate) fn new(
        config: &LlamaConfig,
        layout: &DecoderLayout,
        attention: &AttentionPlan,
        functions: &LayerFunctions,
        weights: &LayerWeights,
        entering: &[f64],
    ) -> Result<Self> {
        let heads = attention.output_layout()?;
        let (hidden, order) = (layout.hidden, &layout.hidden_order);
        let head_dim = config.head_dim;
        let head_features = config.num_attention_heads * head_dim;
        let normed = |gamma: &ndarray::Array1<f32>, factors: Vec<f64>| -> Vec<f64> {
            gamma.iter().zip(factors).map(|(gamma, factor)| f64::from(*gamma) * factor).collect()
        };
        let ones = |count: usize| vec![1.0; count];
        let by_head = |factors: &[f64]| -> Vec<f64> {
            factors.iter().flat_map(|factor| std::iter::repeat_n(*factor, head_dim)).collect()
        };

        let projection = ProductGeometry::new(hidden, heads.values(), OutputForm::Spread)?;
        let input = normed(&weights.input_norm, norm_factors(&functions.input_norm, entering));
        let head_order = attention.output_order()?;
        // Row of the key and value matrices that a query head's row reads.
        let group = config.group_size();
        let shared = move |feature: usize| feature / head_dim / group * head_dim + feature % head_dim;
        let project =
            |matrix: &Array2<f32>, rows: Box<dyn Fn(usize) -> usize + Send + Sync>, factors: Vec<f64>| {
                let scaled = scaled(matrix, head_features, rows, input.clone(), factors);
                Product::new(projection, vec![Term::new(scaled, order.clone(), head_order.clone())])
            };
        let query = project(&weights.query, Box::new(|row| row), ones(head_features))?;
        let key = project(&weights.key, Box::new(shared), ones(head_features))?;
        let value = project(&weights.value, Box::new(shared), by_head(&functions.attention.value_factors))?;

        let back = ProductGeometry::new(heads.clean(), hidden.values(), OutputForm::Compact)?;
        let output = scaled(
            &weights.output,
            config.hidden_size,
            Box::new(|row| row),
            by_head(&functions.attention.output_factors),
            update_factors(&functions.middle_residual),
        );
        let output = Product::new(back, vec![Term::new(output, head_order, order.clone())])?;

        let widen = ProductGeometry::new(hidden, layout.intermediate_values, OutputForm::Spread)?;
        let wide = Order::plain(&widen.output(), config.intermediate_size);
        let input = normed(
            &weights.post_attention_norm,
            norm_factors(&functions.post_norm, &functions.middle_residual),
        );
        let inner = |matrix: &Array2<f32>, factor: f64, unit: Complex64| {
            let factors = vec![factor; config.intermediate_size];
            let scaled =
                scaled(matrix, config.intermediate_size, Box::new(|row| row), input.clone(), factors);
            Term::new(scaled, order.clone(), wide.clone()).times(unit)
        };
        let up = inner(&weights.up, 0.5 / functions.up, Complex64::new(1.0, 0.0));
        let gate = inner(&weights.gate, 0.5 * functions.gate.interval.unit_slope(), Complex64::I);
        let up_gate = Product::new(widen, vec![up, gate])?;

        let narrow = ProductGeometry::new(widen.output().clean(), hidden.values(), OutputForm::Compact)?;
        let down = scaled(
            &weights.down,
            config.hidden_size,
            Box::new(|row| row),
            vec![functions.up * functions.gate_peak; config.intermediate_size],
            update_factors(&functions.residual),
        );
        let down = Product::new(narrow, vec![Term::new(down, wide, order.clone())])?;
        Ok(Self { query, key, value, output, up_gate, down })
    }
}

/// `matrix` (row by output, read through `rows`) with factors of inputs and outputs.
fn scaled(
    matrix: &Array2<f32>,
    outputs: usize,
    rows: Box<dyn Fn(usize) -> usize + Send + Sync>,
    input_factors: Vec<f64>,
    output_factors: Vec<f64>,
) -> Arc<dyn crate::packing::Weights> {
    let inputs = matrix.ncols();
    let matrix = matrix.clone();
    Arc::new(FnWeights::new(inputs, outputs, move |input, output| {
        let entry = matrix.get((rows(output), input)).copied().map_or(0.0, f64::from);
        let factor = |factors: &[f64], index: usize| factors.get(index).copied().unwrap_or(0.0);
        entry * factor(&input_factors, input) * factor(&output_factors, output)
    }))
}
