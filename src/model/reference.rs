//! The exact model in f32, with a KV cache: what every approximation and every encrypted run is compared with.
//!
//! Llama as Hugging Face computes it: RMSNorm, grouped-query attention with RoPE on pairs (j, j + hd/2), SwiGLU.
//! A batch of positions of one sequence runs through each matrix at once. What is not linear goes through
//! [`BlockFunctions`], so that calibration and the f64 twin of the encrypted decoder share this pass.

use std::path::Path;
use std::sync::OnceLock;

use ndarray::linalg::general_mat_mul;
use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

use crate::contract::{Error, Result};

use crate::model::block_functions::{BlockFunctions, ExactFunctions, NormPlace, Tensor};
use crate::model::config::LlamaConfig;
use crate::model::fingerprint::Fingerprint;
use crate::model::weights::{LayerWeights, Weights};

/// Output features that one task computes.
const FEATURES_PER_TASK: usize = 128;

/// A model decoded into memory.
pub struct ReferenceModel {
    config: LlamaConfig,
    embedding: Array2<f32>,
    layers: Vec<LayerWeights>,
    final_norm: Array1<f32>,
    output_head: Option<Array2<f32>>,
    rope_frequencies: Vec<f64>,
    fingerprint: OnceLock<String>,
}

/// Keys (after RoPE) and values of the positions seen so far.
#[derive(Clone, Debug)]
pub struct KeyValueCache {
    /// Per layer, `(positions, kv heads · head_dim)` each.
    layers: Vec<(Array2<f32>, Array2<f32>)>,
    positions: usize,
}

impl KeyValueCache {
    /// Positions held.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Keys of a layer, `(positions, kv heads · head_dim)`, RoPE applied; `None` beyond the last layer.
    pub fn keys(&self, layer: usize) -> Option<ArrayView2<'_, f32>> {
        self.layers.get(layer).map(|(keys, _)| keys.view())
    }

    /// Values of a layer, `(positions, kv heads · head_dim)`; `None` beyond the last layer.
    pub fn values(&self, layer: usize) -> Option<ArrayView2<'_, f32>> {
        self.layers.get(layer).map(|(_, values)| values.view())
    }
}

impl ReferenceModel {
    /// Reads a Hugging Face directory.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Model`] for a directory whose configuration or weights are missing, damaged or not
    /// supported: errors of [`LlamaConfig::read`] and [`Weights::open`].
    pub fn read(directory: &Path) -> Result<Self> {
        let config = LlamaConfig::read(directory)?;
        Self::new(&Weights::open(directory, &config)?)
    }

    /// Decodes all weights, about four bytes a parameter.
    ///
    /// # Errors
    /// [`Error::Model`] when a weight is not finite.
    pub fn new(weights: &Weights) -> Result<Self> {
        let config = weights.config().clone();
        Ok(Self {
            embedding: weights.embedding()?,
            layers: (0..config.num_hidden_layers).map(|layer| weights.layer(layer)).collect::<Result<_>>()?,
            final_norm: weights.final_norm()?,
            output_head: weights.output_head()?,
            rope_frequencies: config.rope_frequencies(),
            fingerprint: OnceLock::new(),
            config,
        })
    }

    /// The model's shape.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// SHA-256, in hexadecimal, over the configuration and every weight, as [`Weights::fingerprint`] computes it: what
    /// belongs to a model (calibration, plans, checkpoints) carries it. Computed at the first call, then kept.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.get_or_init(|| self.hash()).clone()
    }

    /// In the order of [`crate::model::weights::expected_tensors`].
    fn hash(&self) -> String {
        let mut fingerprint = Fingerprint::new(&self.config);
        fingerprint.add(&self.embedding);
        fingerprint.add(&self.final_norm);
        if let Some(head) = &self.output_head {
            fingerprint.add(head);
        }
        for layer in &self.layers {
            fingerprint.add(&layer.input_norm);
            for matrix in [&layer.query, &layer.key, &layer.value, &layer.output] {
                fingerprint.add(matrix);
            }
            fingerprint.add(&layer.post_attention_norm);
            for matrix in [&layer.gate, &layer.up, &layer.down] {
                fingerprint.add(matrix);
            }
        }
        fingerprint.finish()
    }

    /// The decoded layers.
    pub fn layers(&self) -> &[LayerWeights] {
        &self.layers
    }

    /// Weight of the norm before the output head.
    pub fn final_norm(&self) -> ArrayView1<'_, f32> {
        self.final_norm.view()
    }

    /// Embedding of a token, `hidden_size`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the id is outside the vocabulary.
    pub fn embedding(&self, token: u32) -> Result<ArrayView1<'_, f32>> {
        if (token as usize) < self.embedding.nrows() {
            Ok(self.embedding.row(token as usize))
        } else {
            Err(Error::Shape {
                operation: "embedding",
                what: format!("token {token} is outside a vocabulary of {}", self.embedding.nrows()),
                remedy: "use the tokenizer of this model".to_owned(),
            })
        }
    }

    /// An empty cache.
    pub fn new_cache(&self) -> KeyValueCache {
        let width = self.config.num_key_value_heads * self.config.head_dim;
        let layer = || (Array2::zeros((0, width)), Array2::zeros((0, width)));
        KeyValueCache { layers: self.layers.iter().map(|_| layer()).collect(), positions: 0 }
    }

    /// Runs `tokens` behind what `cache` holds and appends them to it.
    ///
    /// Returns the hidden states after the final norm, `(tokens, hidden_size)`.
    ///
    /// # Errors
    /// [`Error::Shape`] for a token outside the vocabulary or a sequence beyond `max_position_embeddings`; errors
    /// of `functions`.
    pub fn forward(
        &self,
        tokens: &[u32],
        cache: &mut KeyValueCache,
        functions: &mut dyn BlockFunctions,
    ) -> Result<Array2<f32>> {
        let first = cache.positions;
        if first + tokens.len() > self.config.max_position_embeddings {
            return Err(Error::Shape {
                operation: "forward",
                what: format!(
                    "{} positions exceed max_position_embeddings = {}",
                    first + tokens.len(),
                    self.config.max_position_embeddings
                ),
                remedy: "shorten the text".to_owned(),
            });
        }
        let mut hidden = Array2::zeros((tokens.len(), self.config.hidden_size));
        for (mut row, token) in hidden.rows_mut().into_iter().zip(tokens) {
            row.assign(&self.embedding(*token)?);
        }
        for (layer, (weights, cache)) in self.layers.iter().zip(&mut cache.layers).enumerate() {
            let mut normed = self.norm(NormPlace::Input(layer), &hidden, &weights.input_norm, functions)?;
            functions.tensor(layer, Tensor::Normed, &mut normed)?;
            let update = self.attention(layer, weights, &normed, cache, first, functions)?;
            functions.tensor(layer, Tensor::ResidualForSum, &mut hidden)?;
            hidden += &update;
            functions.tensor(layer, Tensor::MiddleResidual, &mut hidden)?;
            let normed =
                self.norm(NormPlace::PostAttention(layer), &hidden, &weights.post_attention_norm, functions)?;
            let update = self.mlp(layer, weights, &normed, functions)?;
            functions.tensor(layer, Tensor::MiddleForSum, &mut hidden)?;
            hidden += &update;
            functions.tensor(layer, Tensor::Residual, &mut hidden)?;
        }
        cache.positions += tokens.len();
        self.norm(NormPlace::Final, &hidden, &self.final_norm, functions)
    }

    /// Logits of hidden states after the final norm: `(positions, hidden_size)` to `(positions, vocab_size)`.
    pub fn logits(&self, hidden: &Array2<f32>) -> Array2<f32> {
        linear(hidden, self.output_head.as_ref().unwrap_or(&self.embedding))
    }

    /// Greedy continuation of what `cache` and `prompt` hold: token ids, up to `count`, ended by an end-of-text
    /// token (which is included).
    ///
    /// # Errors
    /// [`Error::Shape`] for a token outside the vocabulary or a sequence beyond `max_position_embeddings`; errors of
    /// [`ReferenceModel::forward`].
    pub fn generate_greedy(
        &self,
        prompt: &[u32],
        cache: &mut KeyValueCache,
        count: usize,
    ) -> Result<Vec<u32>> {
        let mut generated = Vec::new();
        let mut pending = prompt.to_vec();
        while generated.len() < count && !pending.is_empty() {
            let hidden = self.forward(&pending, cache, &mut ExactFunctions)?;
            let last = hidden.slice(s![hidden.nrows() - 1.., ..]).to_owned();
            let token = argmax(self.logits(&last).row(0)) as u32;
            generated.push(token);
            if self.config.eos_token_ids.contains(&token) {
                break;
            }
            pending = vec![token];
        }
        Ok(generated)
    }

    fn norm(
        &self,
        place: NormPlace,
        hidden: &Array2<f32>,
        weight: &Array1<f32>,
        functions: &mut dyn BlockFunctions,
    ) -> Result<Array2<f32>> {
        let width = hidden.ncols() as f64;
        let mean_squares: Vec<f64> = hidden
            .rows()
            .into_iter()
            .map(|row| row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / width)
            .collect();
        let inverse = functions.inverse_root(place, &mean_squares, self.config.rms_norm_eps)?;
        let mut normed = hidden * weight;
        for (mut row, inverse) in normed.rows_mut().into_iter().zip(inverse) {
            row *= inverse as f32;
        }
        Ok(normed)
    }

    fn attention(
        &self,
        layer: usize,
        weights: &LayerWeights,
        normed: &Array2<f32>,
        cache: &mut (Array2<f32>, Array2<f32>),
        first: usize,
        functions: &mut dyn BlockFunctions,
    ) -> Result<Array2<f32>> {
        let head_dim = self.config.head_dim;
        let mut queries = linear(normed, &weights.query);
        let mut keys = linear(normed, &weights.key);
        self.rotate(&mut queries, first);
        self.rotate(&mut keys, first);
        let mut values = linear(normed, &weights.value);
        functions.tensor(layer, Tensor::Values, &mut values)?;
        append(&mut cache.0, &keys)?;
        append(&mut cache.1, &values)?;
        let mut output = Array2::zeros(queries.raw_dim());
        for head in 0..self.config.num_attention_heads {
            let own = s![.., head * head_dim..(head + 1) * head_dim];
            let shared = head / self.config.group_size();
            let shared = s![.., shared * head_dim..(shared + 1) * head_dim];
            let query = queries.slice(own);
            let mut scores = query.dot(&cache.0.slice(shared).t());
            scores /= (head_dim as f32).sqrt();
            functions.softmax(layer, head, query, &mut scores, first)?;
            output.slice_mut(own).assign(&scores.dot(&cache.1.slice(shared)));
        }
        functions.tensor(layer, Tensor::AttentionOutput, &mut output)?;
        Ok(linear(&output, &weights.output))
    }

    fn mlp(
        &self,
        layer: usize,
        weights: &LayerWeights,
        normed: &Array2<f32>,
        functions: &mut dyn BlockFunctions,
    ) -> Result<Array2<f32>> {
        let mut gate = linear(normed, &weights.gate);
        let mut up = linear(normed, &weights.up);
        functions.tensor(layer, Tensor::Gate, &mut gate)?;
        functions.tensor(layer, Tensor::Up, &mut up)?;
        functions.silu(layer, &mut gate)?;
        gate *= &up;
        Ok(linear(&gate, &weights.down))
    }

    /// RoPE: pair (j, j + hd/2) of every head turns by position · frequency\[j\].
    fn rotate(&self, rows: &mut Array2<f32>, first: usize) {
        let half = self.config.head_dim / 2;
        for (row, mut values) in rows.rows_mut().into_iter().enumerate() {
            for mut head in values.exact_chunks_mut(self.config.head_dim) {
                let (mut low, mut high) = head.view_mut().split_at(Axis(0), half);
                for ((low, high), frequency) in low.iter_mut().zip(&mut high).zip(&self.rope_frequencies) {
                    let (sin, cos) = ((first + row) as f64 * frequency).sin_cos();
                    let (x, y) = (f64::from(*low), f64::from(*high));
                    *low = (x * cos - y * sin) as f32;
                    *high = (x * sin + y * cos) as f32;
                }
            }
        }
    }
}

/// Index of the largest value; the first of equals.
pub fn argmax(values: ArrayView1<'_, f32>) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, value) in values.iter().enumerate() {
        if *value > best.1 {
            best = (index, *value);
        }
    }
    best.0
}

/// `x · Wᵀ` for `x: (rows, inputs)` and `weight: (outputs, inputs)`, spread over output features.
fn linear(x: &Array2<f32>, weight: &Array2<f32>) -> Array2<f32> {
    if x.nrows() == 1 {
        // One row is bound by reading the weights: dot products need no repacking of them.
        let row = x.row(0);
        let mut y = Array2::zeros((1, weight.nrows()));
        y.row_mut(0)
            .axis_chunks_iter_mut(Axis(0), FEATURES_PER_TASK)
            .into_par_iter()
            .zip(weight.axis_chunks_iter(Axis(0), FEATURES_PER_TASK))
            .for_each(|(mut y, weight)| y.assign(&weight.dot(&row)));
        return y;
    }
    let mut y = Array2::zeros((x.nrows(), weight.nrows()));
    y.axis_chunks_iter_mut(Axis(1), FEATURES_PER_TASK)
        .into_par_iter()
        .zip(weight.axis_chunks_iter(Axis(0), FEATURES_PER_TASK))
        .for_each(|(mut y, weight)| general_mat_mul(1.0, x, &weight.t(), 0.0, &mut y));
    y
}

fn append(cached: &mut Array2<f32>, rows: &Array2<f32>) -> Result<()> {
    cached.append(Axis(0), rows.view()).map_err(|source| Error::Internal(format!("KV cache: {source}")))
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
