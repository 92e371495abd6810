//! The output head: on the client, in the clear, or on the server, where it turns the encrypted hidden state into
//! encrypted logits by the wide products of [`crate::packing::LmHead`].
//!
//! The server's answer is one hidden vector in the first case, and the logits of the whole vocabulary, S times two a
//! ciphertext, in the second. Sampling stays with the client either way.

use std::sync::Arc;

use ndarray::{Array1, Array2};

use crate::contract::{Complex64, Error, Evaluator, Result};
use crate::packing::{FnWeights, LmHead, Packed};

use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::decoder::layout::DecoderLayout;
use crate::decoder::products::norm_factors;

use crate::model::weights::Weights;

/// Largest root mean square of a hidden state after its norm, which is 1 up to the error of the approximated 1/√x.
pub(crate) const LARGEST_RMS: f64 = 1.25;

/// What the server returns for a token.
#[derive(Clone, Debug)]
pub enum Answer<C> {
    /// The hidden state after the final norm, at level 0.
    Hidden(C),
    /// The logits, in the ciphertexts of [`EncryptedHead::apply`], at level 0.
    Logits(Vec<C>),
}

/// The output head on the server, with γ of the final norm and the scales of the plan folded in.
#[derive(Clone)]
pub struct EncryptedHead {
    head: LmHead,
    /// What the logits are divided by: more than any of them can be, and than any partial sum.
    bound: f64,
}

impl EncryptedHead {
    /// Head of `weights` for hidden states of `layout` behind `norm`, whose features enter the norm divided by
    /// `entering`.
    ///
    /// # Errors
    /// [`Error::Model`] for unusable weights; [`Error::Shape`] when the hidden vector leaves no room for logits.
    pub(crate) fn new(
        weights: &Weights,
        layout: &DecoderLayout,
        norm: &InverseSquareRoot,
        entering: &[f64],
    ) -> Result<Self> {
        let matrix = match weights.output_head()? {
            Some(matrix) => matrix,
            None => weights.embedding()?,
        };
        Self::of_matrix(matrix, &weights.final_norm()?, norm_factors(norm, entering), layout)
    }

    /// Head of `matrix` (vocabulary × hidden size) behind γ, for states that `factors` bring to root mean square 1.
    fn of_matrix(
        matrix: Array2<f32>,
        gamma: &Array1<f32>,
        factors: Vec<f64>,
        layout: &DecoderLayout,
    ) -> Result<Self> {
        let (vocabulary, inputs) = matrix.dim();
        if gamma.len() != inputs || factors.len() != inputs {
            return Err(Error::Shape {
                operation: "output head",
                what: format!("{inputs} inputs, γ of {} and {} factors", gamma.len(), factors.len()),
                remedy: "use weights and functions of one model".to_owned(),
            });
        }
        let gamma: Vec<f64> = gamma.iter().copied().map(f64::from).collect();
        // |Σ w·γ·x| ≤ ‖w·γ‖·‖x‖ (Cauchy and Schwarz), over any part of the features.
        let length = |row: ndarray::ArrayView1<'_, f32>| -> f64 {
            row.iter().zip(&gamma).map(|(w, gamma)| (f64::from(*w) * gamma).powi(2)).sum::<f64>().sqrt()
        };
        let longest = matrix.rows().into_iter().map(length).fold(f64::MIN_POSITIVE, f64::max);
        let bound = longest * LARGEST_RMS * (inputs as f64).sqrt();
        let columns: Vec<f64> =
            gamma.iter().zip(factors).map(|(gamma, factor)| gamma * factor / bound).collect();
        let entries = FnWeights::new(inputs, vocabulary, move |input, output| {
            match (matrix.get((output, input)), columns.get(input)) {
                (Some(entry), Some(column)) => f64::from(*entry) * column,
                // Never: both have the size of the matrix.
                _ => f64::NAN,
            }
        });
        let weights: Arc<dyn crate::packing::Weights> = Arc::new(entries);
        Ok(Self { head: LmHead::new(layout.hidden, &layout.hidden_order, &weights)?, bound })
    }

    /// A head that costs what one of this shape costs, whatever its weights: to count with.
    ///
    /// # Errors
    /// [`Error::Shape`] when the hidden vector leaves no room for logits.
    pub(crate) fn without_weights(vocabulary: usize, inputs: usize, layout: &DecoderLayout) -> Result<Self> {
        let weights: Arc<dyn crate::packing::Weights> =
            Arc::new(FnWeights::new(inputs, vocabulary, |_, _| 0.0));
        Ok(Self { head: LmHead::new(layout.hidden, &layout.hidden_order, &weights)?, bound: 1.0 })
    }

    /// Encrypted logits of a hidden state behind the final norm, clean, divided by a bound of theirs; one level.
    /// Cost: that of [`LmHead::apply`].
    ///
    /// # Errors
    /// Errors of the evaluator.
    pub fn apply<E: Evaluator>(
        &self,
        evaluator: &E,
        layout: &DecoderLayout,
        hidden: E::Ciphertext,
    ) -> Result<Vec<E::Ciphertext>> {
        self.head.apply(evaluator, &Packed::new(hidden, layout.hidden))
    }

    /// The client's side: logits out of decrypted slots.
    ///
    /// # Errors
    /// [`Error::Shape`] for the wrong number of ciphertexts; [`Error::OutOfInterval`] for a logit beyond its bound,
    /// which no state of a norm can have. The bound is wide: a state that left an interval by little is not seen
    /// here, where a client that gets the state itself checks its length.
    pub fn logits(&self, decrypted: &[Vec<Complex64>]) -> Result<Vec<f32>> {
        let logits = self.head.logits(decrypted)?;
        // A NaN must not vanish in a maximum.
        let share =
            |most: f64, logit: &f64| if logit.is_nan() { f64::INFINITY } else { most.max(logit.abs()) };
        let largest = logits.iter().fold(0.0, share);
        if largest > 1.0 {
            let site = "decrypted logits".to_owned();
            return Err(Error::OutOfInterval { site, magnitude: largest * self.bound, bound: self.bound });
        }
        Ok(logits.iter().map(|logit| (logit * self.bound) as f32).collect())
    }
}
