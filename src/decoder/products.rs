//! The matrices of the encrypted decoder, with every constant factor folded in.
//!
//! Vectors travel scaled: each feature of the residual stream divided by its bound, norms without their γ and
//! constants, values and numerators by the factors of the plan. The factors meet here, in rows and columns of the
//! weights, and cost nothing.

use std::sync::Arc;

use ndarray::{Array1, Array2};

use crate::circuits::approximation::Interval;
use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::contract::{Complex64, Error, Evaluator, Result};
use crate::packing::{
    AttentionPlan, FnWeights, Order, OutputForm, Packed, Prepared, Product, ProductGeometry, Term,
    VectorLayout, Weights,
};

use crate::decoder::functions::LayerFunctions;
use crate::decoder::layout::DecoderLayout;
use crate::model::config::LlamaConfig;
use crate::model::weights::LayerWeights;

/// What the features of the stored residual stream, each divided by its bound, are multiplied by before they are
/// squared, so that the sum of squares plus a constant is the unit variable of the norm's polynomial over `interval`.
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
    /// Keys, repeated for every query head; see `query`.
    pub key: Product,
    /// Values, repeated for every query head, times the value factors; see `query`.
    pub value: Product,
    /// Output projection.
    pub output: Product,
    /// up/(2·bound) + i·(unit variable of the gate, without its constant)/2.
    pub up_gate: Product,
    /// Down projection.
    pub down: Product,
}

/// The matrices of one layer with all factors folded in, of one output feature a row.
struct Matrices {
    query: Arc<dyn Weights>,
    key: Arc<dyn Weights>,
    value: Arc<dyn Weights>,
    output: Arc<dyn Weights>,
    up: Arc<dyn Weights>,
    gate: Arc<dyn Weights>,
    down: Arc<dyn Weights>,
}

impl LayerProducts {
    /// Key and value at `offset` and the query at 0 of one prepared input, baby rotations shared.
    ///
    /// # Errors
    /// Errors of [`Product::apply_shared`].
    pub fn key_value_query<E: Evaluator>(
        &self,
        evaluator: &E,
        prepared: &Prepared<E::Ciphertext>,
        offset: usize,
    ) -> Result<[Packed<E::Ciphertext>; 3]> {
        shared(evaluator, prepared, [(&self.key, offset), (&self.value, offset), (&self.query, 0)])
    }

    /// Key and value at `offset` of one prepared input: of a token whose query nobody needs.
    ///
    /// # Errors
    /// Errors of [`Product::apply_shared`].
    pub fn key_value<E: Evaluator>(
        &self,
        evaluator: &E,
        prepared: &Prepared<E::Ciphertext>,
        offset: usize,
    ) -> Result<[Packed<E::Ciphertext>; 2]> {
        shared(evaluator, prepared, [(&self.key, offset), (&self.value, offset)])
    }

    /// Layout of up and gate: clean.
    #[must_use]
    pub fn intermediate(&self) -> VectorLayout {
        self.up_gate.geometry().output().clean()
    }

    /// Products of `weights` with the factors of `functions` folded in; the features of the residual stream enter
    /// divided by `entering`.
    ///
    /// # Errors
    /// [`Error::Shape`] when a product does not fit the slots, or a matrix or its factors have another size than the
    /// model.
    pub(crate) fn new(
        config: &LlamaConfig,
        layout: &DecoderLayout,
        attention: &AttentionPlan,
        functions: &LayerFunctions,
        weights: &LayerWeights,
        entering: &[f64],
    ) -> Result<Self> {
        Self::of(config, layout, attention, &Matrices::new(config, functions, weights, entering)?)
    }

    /// Products that cost what those of a model of shape `config` cost, whatever its weights: to count with.
    ///
    /// # Errors
    /// [`Error::Shape`] when a product does not fit the slots.
    pub(crate) fn without_weights(
        config: &LlamaConfig,
        layout: &DecoderLayout,
        attention: &AttentionPlan,
    ) -> Result<Self> {
        Self::of(config, layout, attention, &Matrices::zeros(config))
    }

    fn of(
        config: &LlamaConfig,
        layout: &DecoderLayout,
        attention: &AttentionPlan,
        matrices: &Matrices,
    ) -> Result<Self> {
        let heads = attention.output_layout()?;
        let (hidden, order, head_order) = (layout.hidden, &layout.hidden_order, attention.output_order()?);

        let projection = ProductGeometry::new(hidden, heads.values(), OutputForm::Spread)?;
        let project = |matrix: &Arc<dyn Weights>| {
            Product::new(projection, vec![Term::new(matrix.clone(), order.clone(), head_order.clone())])
        };
        let back = ProductGeometry::new(heads.clean(), hidden.values(), OutputForm::Compact)?;
        let output = Term::new(matrices.output.clone(), head_order.clone(), order.clone());

        let widen = ProductGeometry::new(hidden, layout.intermediate_values, OutputForm::Spread)?;
        let wide = Order::plain(&widen.output(), config.intermediate_size);
        let inner = |matrix: &Arc<dyn Weights>| Term::new(matrix.clone(), order.clone(), wide.clone());
        let narrow = ProductGeometry::new(widen.output().clean(), hidden.values(), OutputForm::Compact)?;
        let down = Term::new(matrices.down.clone(), wide.clone(), order.clone());

        Ok(Self {
            query: project(&matrices.query)?,
            key: project(&matrices.key)?,
            value: project(&matrices.value)?,
            output: Product::new(back, vec![output])?,
            up_gate: Product::new(
                widen,
                vec![inner(&matrices.up), inner(&matrices.gate).times(Complex64::I)],
            )?,
            down: Product::new(narrow, vec![down])?,
        })
    }
}

/// `N` products of one prepared input, each at its offset.
fn shared<E: Evaluator, const N: usize>(
    evaluator: &E,
    prepared: &Prepared<E::Ciphertext>,
    products: [(&Product, usize); N],
) -> Result<[Packed<E::Ciphertext>; N]> {
    let applied = Product::apply_shared(evaluator, prepared, &products)?;
    <[Packed<E::Ciphertext>; N]>::try_from(applied)
        .map_err(|applied| Error::Internal(format!("{} results of {N} products", applied.len())))
}

impl Matrices {
    fn new(
        config: &LlamaConfig,
        functions: &LayerFunctions,
        weights: &LayerWeights,
        entering: &[f64],
    ) -> Result<Self> {
        let head_dim = config.head_dim;
        let head_features = config.num_attention_heads * head_dim;
        let normed = |gamma: &Array1<f32>, factors: Vec<f64>| -> Vec<f64> {
            gamma.iter().zip(factors).map(|(gamma, factor)| f64::from(*gamma) * factor).collect()
        };
        let by_head = |factors: &[f64]| -> Vec<f64> {
            factors.iter().flat_map(|factor| std::iter::repeat_n(*factor, head_dim)).collect()
        };
        let straight: fn(usize) -> usize = |row| row;

        let input = normed(&weights.input_norm, norm_factors(&functions.input_norm, entering));
        // Row of the key and value matrices that a query head's row reads.
        let group = config.group_size();
        let grouped = move |row: usize| row / head_dim / group * head_dim + row % head_dim;
        let ones = vec![1.0; head_features];
        let value_factors = by_head(&functions.attention.value_factors);
        let output_factors = by_head(&functions.attention.output_factors);

        let middle = norm_factors(&functions.post_norm, &functions.middle_residual);
        let middle = normed(&weights.post_attention_norm, middle);
        let wide = |factor: f64| vec![factor; config.intermediate_size];
        let gate = 0.5 * functions.gate.interval.unit_slope();
        Ok(Self {
            query: scaled("query", &weights.query, straight, &input, &ones)?,
            key: scaled("key", &weights.key, grouped, &input, &ones)?,
            value: scaled("value", &weights.value, grouped, &input, &value_factors)?,
            output: scaled(
                "output",
                &weights.output,
                straight,
                &output_factors,
                &update_factors(&functions.middle_residual),
            )?,
            up: scaled("up", &weights.up, straight, &middle, &wide(0.5 / functions.up))?,
            gate: scaled("gate", &weights.gate, straight, &middle, &wide(gate))?,
            down: scaled(
                "down",
                &weights.down,
                straight,
                &wide(functions.up * functions.gate_peak),
                &update_factors(&functions.residual),
            )?,
        })
    }

    fn zeros(config: &LlamaConfig) -> Self {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let heads = config.num_attention_heads * config.head_dim;
        let zeros = |inputs: usize, outputs: usize| -> Arc<dyn Weights> {
            Arc::new(FnWeights::new(inputs, outputs, |_, _| 0.0))
        };
        Self {
            query: zeros(hidden, heads),
            key: zeros(hidden, heads),
            value: zeros(hidden, heads),
            output: zeros(heads, hidden),
            up: zeros(hidden, wide),
            gate: zeros(hidden, wide),
            down: zeros(wide, hidden),
        }
    }
}

/// `matrix` (an output feature a row, output o read from row `rows`(o)) with a factor for every input and output.
///
/// # Errors
/// [`Error::Shape`] when there is not one factor for each column, or a row is read that is not there.
fn scaled(
    name: &str,
    matrix: &Array2<f32>,
    rows: impl Fn(usize) -> usize + Send + Sync + 'static,
    inputs: &[f64],
    outputs: &[f64],
) -> Result<Arc<dyn Weights>> {
    let last = (0..outputs.len()).map(&rows).max();
    if inputs.len() != matrix.ncols() || last.is_none_or(|last| last >= matrix.nrows()) {
        return Err(Error::Shape {
            operation: "matrices of a layer",
            what: format!(
                "the {name} matrix has {} rows of {} values, for factors of {} inputs and rows up to {last:?}",
                matrix.nrows(),
                matrix.ncols(),
                inputs.len()
            ),
            remedy: "use weights and functions of one model".to_owned(),
        });
    }
    let (matrix, inputs, outputs) = (matrix.clone(), inputs.to_vec(), outputs.to_vec());
    Ok(Arc::new(FnWeights::new(inputs.len(), outputs.len(), move |input, output| {
        match (matrix.get((rows(output), input)), inputs.get(input), outputs.get(output)) {
            (Some(entry), Some(from), Some(to)) => f64::from(*entry) * from * to,
            // Never, by the check above; no encoder takes it.
            _ => f64::NAN,
        }
    })))
}
