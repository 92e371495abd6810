//! Weights of a linear layer, kept compact until they are encoded.

use std::sync::Arc;

use crate::contract::{Complex64, Error, Result};

use super::Order;

/// A matrix read entry by entry; y_o = Σ_i x_i · weight(i, o).
pub trait Weights: Send + Sync {
    /// Number of input features.
    fn inputs(&self) -> usize;
    /// Number of output features.
    fn outputs(&self) -> usize;
    /// Entry of an input and an output feature; zero outside the matrix.
    fn weight(&self, input: usize, output: usize) -> f64;
}

/// An f32 matrix as model files store it: row by row, one row per output.
#[derive(Clone, Debug)]
pub struct DenseWeights {
    inputs: usize,
    outputs: usize,
    values: Arc<[f32]>,
}

impl DenseWeights {
    /// Matrix of `outputs` rows of `inputs` values.
    ///
    /// # Errors
    /// [`Error::Shape`] when the number of values is not the product.
    pub fn new(inputs: usize, outputs: usize, values: impl Into<Arc<[f32]>>) -> Result<Self> {
        let values = values.into();
        if inputs.checked_mul(outputs) != Some(values.len()) {
            return Err(Error::Shape {
                operation: "weights",
                what: format!("{} values for {outputs} rows of {inputs}", values.len()),
                remedy: "give one value per input and output".to_owned(),
            });
        }
        Ok(Self { inputs, outputs, values })
    }
}

impl Weights for DenseWeights {
    fn inputs(&self) -> usize {
        self.inputs
    }
    fn outputs(&self) -> usize {
        self.outputs
    }
    fn weight(&self, input: usize, output: usize) -> f64 {
        if input >= self.inputs {
            return 0.0;
        }
        self.values.get(output * self.inputs + input).copied().map_or(0.0, f64::from)
    }
}

/// Weights computed by a function of (input, output).
pub struct FnWeights<F> {
    inputs: usize,
    outputs: usize,
    function: F,
}

impl<F: Fn(usize, usize) -> f64 + Send + Sync> FnWeights<F> {
    /// A matrix of `inputs` × `outputs` given by `function`.
    pub fn new(inputs: usize, outputs: usize, function: F) -> Self {
        Self { inputs, outputs, function }
    }
}

impl<F: Fn(usize, usize) -> f64 + Send + Sync> Weights for FnWeights<F> {
    fn inputs(&self) -> usize {
        self.inputs
    }
    fn outputs(&self) -> usize {
        self.outputs
    }
    fn weight(&self, input: usize, output: usize) -> f64 {
        if input < self.inputs && output < self.outputs { (self.function)(input, output) } else { 0.0 }
    }
}

/// Weights whose input features are scaled: the γ of a norm, and any constant, folded in the next layer.
pub struct ScaledInputs {
    weights: Arc<dyn Weights>,
    scales: Vec<f64>,
}

impl ScaledInputs {
    /// weight(i, o) · `scales[i]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is not one scale per input.
    pub fn new(weights: Arc<dyn Weights>, scales: Vec<f64>) -> Result<Self> {
        if scales.len() != weights.inputs() {
            return Err(Error::Shape {
                operation: "scaled weights",
                what: format!("{} scales for {} inputs", scales.len(), weights.inputs()),
                remedy: "give one scale per input feature".to_owned(),
            });
        }
        Ok(Self { weights, scales })
    }
}

impl Weights for ScaledInputs {
    fn inputs(&self) -> usize {
        self.weights.inputs()
    }
    fn outputs(&self) -> usize {
        self.weights.outputs()
    }
    fn weight(&self, input: usize, output: usize) -> f64 {
        self.scales.get(input).map_or(0.0, |scale| scale * self.weights.weight(input, output))
    }
}

/// One summand of a product's matrix: `factor` · weights, read through the orders of input and output. Several summands
/// fold matrices into one: factor 1 and i for two matrices at once, 1 and −i for the halves of the rows.
#[derive(Clone)]
pub struct Term {
    /// Factor of all entries.
    pub factor: Complex64,
    /// The matrix.
    pub weights: Arc<dyn Weights>,
    /// Input feature of every input index.
    pub inputs: Order,
    /// Output feature of every output index.
    pub outputs: Order,
}

impl Term {
    /// `weights` with factor 1.
    #[must_use]
    pub fn new(weights: Arc<dyn Weights>, inputs: Order, outputs: Order) -> Self {
        Self { factor: Complex64::new(1.0, 0.0), weights, inputs, outputs }
    }

    /// This term times `factor`.
    #[must_use]
    pub fn times(self, factor: Complex64) -> Self {
        Self { factor: self.factor * factor, ..self }
    }

    /// Entry of input index `input` and output index `output`.
    pub(super) fn entry(&self, input: usize, output: usize) -> Complex64 {
        match (self.inputs.feature(input), self.outputs.feature(output)) {
            (Some(input), Some(output)) => self.factor * self.weights.weight(input, output),
            _ => Complex64::ZERO,
        }
    }
}
