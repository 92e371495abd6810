//! What is not linear in a Llama block, as a seam: the same forward pass runs exactly, records ranges for
//! calibration, or runs the approximations that the encrypted decoder uses.
//!
//! All positions of a batch are handed over together, row by position.

use ndarray::{Array2, ArrayView2};

use crate::contract::Result;

/// One of the norms of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NormPlace {
    /// Before attention, in a layer.
    Input(usize),
    /// Before the MLP, in a layer.
    PostAttention(usize),
    /// Before the output head.
    Final,
}

/// A tensor between the non-linear functions of a layer. The encrypted decoder may bootstrap all but the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tensor {
    /// What leaves the norm before attention, times γ: `(positions, hidden_size)`.
    Normed,
    /// Values of the new positions: `(positions, kv heads · head_dim)`.
    Values,
    /// Attention output of all heads, divided: `(positions, heads · head_dim)`.
    AttentionOutput,
    /// Residual stream as the sum after attention takes it up; the norm before attention has read it already.
    ResidualForSum,
    /// Residual stream between attention and MLP.
    MiddleResidual,
    /// Residual stream as the sum after the MLP takes it up; the norm before the MLP has read it already.
    MiddleForSum,
    /// `x · W_up`: `(positions, intermediate_size)`.
    Up,
    /// `x · W_gate`, before SiLU: `(positions, intermediate_size)`.
    Gate,
    /// Residual stream after the MLP.
    Residual,
}

/// The non-linear parts of the forward pass.
pub trait BlockFunctions {
    /// 1/√(m + ε) for every mean square m.
    ///
    /// # Errors
    /// Whatever the implementation refuses; the exact one never fails.
    fn inverse_root(&mut self, place: NormPlace, mean_squares: &[f64], epsilon: f64) -> Result<Vec<f64>>;

    /// Softmax of the scores of one query head, in place.
    ///
    /// * `queries`: `(positions, head_dim)`, after RoPE, not scaled by 1/√hd.
    /// * `scores`: `(positions, context)`, scaled by 1/√hd; row i sees columns 0 ..= `first` + i, the others must
    ///   become zero.
    ///
    /// # Errors
    /// Whatever the implementation refuses; the exact one never fails.
    fn softmax(
        &mut self,
        layer: usize,
        head: usize,
        queries: ArrayView2<'_, f32>,
        scores: &mut Array2<f32>,
        first: usize,
    ) -> Result<()>;

    /// SiLU of the gates, in place: `(positions, intermediate_size)`.
    ///
    /// # Errors
    /// Whatever the implementation refuses; the exact one never fails.
    fn silu(&mut self, layer: usize, gate: &mut Array2<f32>) -> Result<()>;

    /// Called on every tensor of [`Tensor`] where it stands: noise may be added, ranges recorded. Does nothing unless
    /// an implementation says so.
    ///
    /// # Errors
    /// Whatever the implementation refuses; the exact one never fails.
    fn tensor(&mut self, _layer: usize, _tensor: Tensor, _values: &mut Array2<f32>) -> Result<()> {
        Ok(())
    }
}

/// The functions themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExactFunctions;

impl BlockFunctions for ExactFunctions {
    fn inverse_root(&mut self, _: NormPlace, mean_squares: &[f64], epsilon: f64) -> Result<Vec<f64>> {
        Ok(mean_squares.iter().map(|mean_square| 1.0 / (mean_square + epsilon).sqrt()).collect())
    }

    fn softmax(
        &mut self,
        _layer: usize,
        _head: usize,
        _queries: ArrayView2<'_, f32>,
        scores: &mut Array2<f32>,
        first: usize,
    ) -> Result<()> {
        for (row, mut scores) in scores.rows_mut().into_iter().enumerate() {
            let visible = first + row + 1;
            let largest = scores.iter().take(visible).copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0f64;
            for (column, score) in scores.iter_mut().enumerate() {
                *score = if column < visible { (*score - largest).exp() } else { 0.0 };
                sum += f64::from(*score);
            }
            let inverse = (1.0 / sum) as f32;
            scores.iter_mut().for_each(|score| *score *= inverse);
        }
        Ok(())
    }

    fn silu(&mut self, _layer: usize, gate: &mut Array2<f32>) -> Result<()> {
        gate.mapv_inplace(|value| value / (1.0 + (-value).exp()));
        Ok(())
    }
}
