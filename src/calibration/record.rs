//! Ranges of every site, recorded while the exact model runs over texts.
//!
//! Only positions behind the public prefix are recorded: the caller runs the prefix with
//! [`ExactFunctions`] and everything else with [`RangeRecorder`].

use ndarray::{Array2, ArrayView2, Axis};

use crate::contract::{Error, Result};

use crate::model::block_functions::{BlockFunctions, ExactFunctions, NormPlace, Tensor};
use crate::model::config::LlamaConfig;
use crate::model::prepared::PreparedModel;

/// Smallest and largest value seen; empty until the first one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeenRange {
    /// Smallest value, +∞ before the first.
    pub low: f64,
    /// Largest value, −∞ before the first.
    pub high: f64,
}

impl Default for SeenRange {
    fn default() -> Self {
        Self { low: f64::INFINITY, high: f64::NEG_INFINITY }
    }
}

impl SeenRange {
    /// How far the values range.
    pub fn width(&self) -> f64 {
        self.high - self.low
    }

    /// Takes a value in.
    pub fn add(&mut self, value: f64) {
        self.low = self.low.min(value);
        self.high = self.high.max(value);
    }
}

/// What one query head met, one entry a private position.
#[derive(Clone, Debug, Default)]
pub struct HeadRecord {
    /// Queries after RoPE, `head_dim` values a position.
    pub queries: Vec<f32>,
    /// Per position.
    pub rows: Vec<ScoreRow>,
}

/// The scores of one query, over the positions it sees.
#[derive(Clone, Copy, Debug)]
pub struct ScoreRow {
    /// log Σ exp(score).
    pub log_sum: f64,
    /// Lowest score.
    pub lowest: f64,
    /// Text that the position belongs to.
    pub text: usize,
}

/// Largest magnitudes of the tensors of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Magnitudes {
    /// Values, per KV head.
    pub values: Vec<f64>,
    /// Residual stream between attention and MLP, per feature.
    pub middle_residual: Vec<f64>,
    /// `x · W_up`.
    pub up: f64,
    /// Residual stream after the MLP, per feature.
    pub residual: Vec<f64>,
}

/// What one layer met.
#[derive(Clone, Debug)]
pub struct LayerRecord {
    /// Mean squares, ε included, before attention.
    pub input_norm: SeenRange,
    /// Mean squares, ε included, before the MLP.
    pub post_attention_norm: SeenRange,
    /// Gates.
    pub gate: SeenRange,
    /// Query heads.
    pub heads: Vec<HeadRecord>,
    /// Largest magnitudes.
    pub magnitudes: Magnitudes,
}

/// Runs the exact functions and keeps what they were given.
#[derive(Clone, Debug)]
pub struct RangeRecorder {
    /// Per layer.
    pub layers: Vec<LayerRecord>,
    /// Mean squares, ε included, before the output head.
    pub final_norm: SeenRange,
    /// Largest magnitude of an embedded private token.
    pub embedding: f64,
    /// Private positions recorded.
    pub positions: usize,
    /// Longest context seen.
    pub longest_context: usize,
    text: usize,
}

impl RangeRecorder {
    /// An empty record of a model's shape.
    pub fn new(config: &LlamaConfig) -> Self {
        let layer = LayerRecord {
            input_norm: SeenRange::default(),
            post_attention_norm: SeenRange::default(),
            gate: SeenRange::default(),
            heads: vec![HeadRecord::default(); config.num_attention_heads],
            magnitudes: Magnitudes {
                values: vec![0.0; config.num_key_value_heads],
                middle_residual: vec![0.0; config.hidden_size],
                up: 0.0,
                residual: vec![0.0; config.hidden_size],
            },
        };
        Self {
            layers: vec![layer; config.num_hidden_layers],
            final_norm: SeenRange::default(),
            embedding: 0.0,
            positions: 0,
            longest_context: 0,
            text: 0,
        }
    }

    /// Says that what follows belongs to another text.
    pub fn next_text(&mut self) {
        self.text += 1;
    }

    fn layer(&mut self, layer: usize) -> Result<&mut LayerRecord> {
        self.layers.get_mut(layer).ok_or_else(|| Error::Internal(format!("no record of layer {layer}")))
    }
}

impl BlockFunctions for RangeRecorder {
    fn inverse_root(&mut self, place: NormPlace, mean_squares: &[f64], epsilon: f64) -> Result<Vec<f64>> {
        let range = match place {
            NormPlace::Input(layer) => &mut self.layer(layer)?.input_norm,
            NormPlace::PostAttention(layer) => &mut self.layer(layer)?.post_attention_norm,
            NormPlace::Final => {
                self.positions += mean_squares.len();
                &mut self.final_norm
            }
        };
        mean_squares.iter().for_each(|mean_square| range.add(mean_square + epsilon));
        ExactFunctions.inverse_root(place, mean_squares, epsilon)
    }

    fn softmax(
        &mut self,
        layer: usize,
        head: usize,
        queries: ArrayView2<'_, f32>,
        scores: &mut Array2<f32>,
        first: usize,
    ) -> Result<()> {
        self.longest_context = self.longest_context.max(scores.ncols());
        let text = self.text;
        let record = self
            .layer(layer)?
            .heads
            .get_mut(head)
            .ok_or_else(|| Error::Internal(format!("no record of head {head}")))?;
        record.queries.extend(queries.iter());
        for (row, scores) in scores.rows().into_iter().enumerate() {
            let visible: Vec<f64> =
                scores.iter().take(first + row + 1).map(|score| f64::from(*score)).collect();
            record.rows.push(ScoreRow {
                log_sum: log_sum_exp(&visible),
                lowest: visible.iter().copied().fold(f64::INFINITY, f64::min),
                text,
            });
        }
        ExactFunctions.softmax(layer, head, queries, scores, first)
    }

    fn silu(&mut self, layer: usize, gate: &mut Array2<f32>) -> Result<()> {
        let range = &mut self.layer(layer)?.gate;
        gate.iter().for_each(|value| range.add(f64::from(*value)));
        ExactFunctions.silu(layer, gate)
    }

    fn tensor(&mut self, layer: usize, tensor: Tensor, values: &mut Array2<f32>) -> Result<()> {
        let magnitudes = &mut self.layer(layer)?.magnitudes;
        let (kept, width) = match tensor {
            Tensor::MiddleResidual => (&mut magnitudes.middle_residual, 1),
            Tensor::Residual => (&mut magnitudes.residual, 1),
            Tensor::Values => {
                let heads = magnitudes.values.len().max(1);
                (&mut magnitudes.values, (values.ncols() / heads).max(1))
            }
            Tensor::Up => {
                magnitudes.up = magnitudes.up.max(largest_magnitude(values.view()));
                return Ok(());
            }
            _ => return Ok(()),
        };
        for (kept, columns) in kept.iter_mut().zip(values.axis_chunks_iter(Axis(1), width)) {
            *kept = kept.max(largest_magnitude(columns));
        }
        Ok(())
    }
}

/// Runs the exact model over `sequences` (private tokens, each behind the public prefix) and records every site.
/// `progress` is told `what` is under way, and what was done of how much.
///
/// # Errors
/// Errors of [`crate::model::reference::ReferenceModel::forward`]: [`Error::Shape`] for a token outside the vocabulary
/// or a text that is too long.
pub fn record(
    prepared: &PreparedModel,
    sequences: &[Vec<u32>],
    what: &str,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<RangeRecorder> {
    let mut recorder = RangeRecorder::new(prepared.model.config());
    for (index, tokens) in sequences.iter().enumerate() {
        progress(what, index, sequences.len());
        for token in tokens {
            let embedding = prepared.model.embedding(*token)?;
            recorder.embedding = recorder.embedding.max(largest_magnitude(embedding.insert_axis(Axis(0))));
        }
        prepared.model.forward(tokens, &mut prepared.prefix_cache.clone(), &mut recorder)?;
        recorder.next_text();
    }
    Ok(recorder)
}

fn largest_magnitude(values: ArrayView2<'_, f32>) -> f64 {
    f64::from(values.iter().fold(0f32, |largest, value| largest.max(value.abs())))
}

fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + values.iter().map(|value| (value - largest).exp()).sum::<f64>().ln()
}
