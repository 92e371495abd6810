//! The calibration of a model: where each non-linear function is used, over which interval, by which approximation.
//!
//! Measured on texts by [`crate::calibration::record`], fitted by [`crate::calibration::fit`], stored beside the model as
//! `calibration.json`. Intervals are those of the private positions only: the public prefix runs in the clear.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::circuits::approximation::{Approximation, Interval};
use crate::circuits::exp::Exponential;
use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::contract::{Error, Result};

use crate::model::config::LlamaConfig;
use crate::model::files::read_bounded;

/// File name beside the model.
pub const CALIBRATION_FILE: &str = "calibration.json";
/// Version of the format written here.
const FORMAT_VERSION: u32 = 2;
const MAX_CALIBRATION_BYTES: u64 = 1 << 28;

/// All sites of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationTable {
    /// Version of the format.
    pub format_version: u32,
    /// Fingerprint of the model ([`crate::model::reference::ReferenceModel::fingerprint`]).
    pub model: String,
    /// Token ids of the public prefix that stood before every text.
    pub public_prefix: Vec<u32>,
    /// Targets and margins that were used.
    pub targets: CalibrationTargets,
    /// Private positions that the intervals come from.
    pub positions: usize,
    /// Longest context (prefix and text) that was seen.
    pub longest_context: usize,
    /// Largest magnitude of an embedded private token.
    pub embedding: f64,
    /// One entry a layer.
    pub layers: Vec<LayerCalibration>,
    /// The norm before the output head.
    pub final_norm: NormSite,
    /// Scale of each feature of the residual stream, `hidden_size`: the stream divided by it stays within ±1 in every
    /// layer. Folded into W_o and W_down (rows divided) and the norms (weights multiplied).
    pub residual_scale: Vec<f64>,
}

/// What was asked of the approximations, and how far intervals were widened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationTargets {
    /// Relative error of 1/√x.
    pub inverse_root: f64,
    /// Relative error of exp, down to the smallest denominator.
    pub exponential: f64,
    /// Relative error of 1/D.
    pub inverse: f64,
    /// Absolute error of SiLU.
    pub silu: f64,
    /// Factor by which the interval of a mean square is widened at both ends.
    pub norm_margin: f64,
    /// Factor by which gate intervals are widened at both ends.
    pub silu_margin: f64,
    /// Head-room above the largest denominator, in nats.
    pub denominator_top: f64,
    /// Room below the smallest denominator, in nats.
    pub denominator_bottom: f64,
    /// Room below the lowest score, in nats.
    pub score_bottom: f64,
    /// Precision of bootstraps that a deferred division must survive: numerator and denominator are refreshed after six
    /// iterations, when the smallest denominator must still stand 16 times above noise of 2^−bits. Where it does not,
    /// normalise-and-square is chosen.
    pub bootstrap_bits: f64,
}

impl Default for CalibrationTargets {
    /// Errors a third of what costs top-1 agreement; margins beyond what held-out texts were seen to need.
    fn default() -> Self {
        Self {
            inverse_root: 3e-3,
            exponential: 3e-3,
            inverse: 3e-3,
            silu: 3e-3,
            norm_margin: 1.5,
            silu_margin: 1.6,
            denominator_top: 3.0,
            denominator_bottom: 0.5,
            score_bottom: 6.0,
            bootstrap_bits: 18.0,
        }
    }
}

/// Iterations of a deferred division before numerator and denominator are refreshed together.
pub const ITERATIONS_BEFORE_REFRESH: usize = 6;

impl CalibrationTargets {
    /// Smallest lower bound of a denominator (its upper bound being 1) that a deferred division survives: each iteration
    /// lifts it by nearly four before the refresh.
    pub fn smallest_deferred(&self) -> f64 {
        (4.0 - self.bootstrap_bits - 2.0 * ITERATIONS_BEFORE_REFRESH as f64).exp2()
    }
}

/// The sites of one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerCalibration {
    /// The norm before attention.
    pub input_norm: NormSite,
    /// Softmax of all heads.
    pub softmax: SoftmaxSite,
    /// The norm before the MLP.
    pub post_attention_norm: NormSite,
    /// SiLU of the gate.
    pub silu: SiluSite,
    /// Largest magnitudes of the tensors between them.
    pub magnitudes: Magnitudes,
}

/// Levels beside the functions, on the way of the residual stream through a layer: each norm squares, maps onto the unit
/// interval and multiplies (3 + 3); Q, K, V with RoPE 2; Q·Kᵀ with its mask 2; P·V with its mask 2; the quotient 1; O 1;
/// up and gate 1; SiLU times up 1; Down 1.
const LINEAR_LEVELS: usize = 17;

impl LayerCalibration {
    /// Levels that a value spends from the layer's input to its output, bootstraps aside. The iterations of a deferred
    /// division run beside this path; those of normalise-and-square are on it.
    pub fn main_path_levels(&self) -> usize {
        let softmax = match &self.softmax.method {
            SoftmaxMethod::Deferred => self.softmax.exponential.levels(),
            SoftmaxMethod::NormalizeAndSquare(site) => {
                site.exponential.levels()
                    + site.first.iterations
                    + site.squarings * (site.later.iterations + 1)
            }
        };
        LINEAR_LEVELS
            + self.input_norm.function.levels()
            + softmax
            + self.post_attention_norm.function.levels()
            + self.silu.function.levels()
    }
}

/// One RMSNorm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormSite {
    /// Mean squares (ε included) that were seen.
    pub seen: Interval,
    /// √(low/x) of x = mean square + ε over the widened interval.
    pub function: InverseSquareRoot,
}

/// Softmax in one layer. The shifts put every head's largest denominator, with its head-room, at 1: one exponential and
/// one inverse serve all heads. `heads` and `exponential` are those of the deferred division in either method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SoftmaxSite {
    /// Per query head.
    pub heads: Vec<HeadSite>,
    /// exp of the shifted scores, over [low, 0], normalised to 1 at 0.
    pub exponential: Exponential,
    /// 1/D over [low, 1].
    pub inverse: InverseSite,
    /// How the division is best done.
    pub method: SoftmaxMethod,
}

/// 1/D by relaxed iterations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InverseSite {
    /// Lower end of the interval of D; its upper end is 1.
    pub low: f64,
    /// Iterations that reach the error target.
    pub iterations: usize,
}

/// How a softmax is normalised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SoftmaxMethod {
    /// Un-normalised exp times values, divided afterwards.
    Deferred,
    /// Denominators spread too far for the precision of bootstraps: exp of x/2^k divided by its sum, then k times squared
    /// and divided again.
    NormalizeAndSquare(SquaringSite),
}

/// What normalise-and-square uses instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SquaringSite {
    /// k.
    pub squarings: usize,
    /// Shifts of the scores divided by 2^k.
    pub heads: Vec<HeadSite>,
    /// exp of the shifted, divided scores.
    pub exponential: Exponential,
    /// First division.
    pub first: InverseSite,
    /// Each later one: a sum of squares of n shares lies between 1/n and 1.
    pub later: InverseSite,
}

/// One query head: x = q·k/√hd − q·`shift_weights` − q²·`shift_square_weights` − `shift_constant` is what exp is taken of,
/// q after RoPE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadSite {
    /// `head_dim` weights. Subtracted, times √hd, from every cached key of this head.
    pub shift_weights: Vec<f64>,
    /// `head_dim` weights of the squared features of q; all zero where they do not help.
    pub shift_square_weights: Vec<f64>,
    /// Constant of the shift.
    pub shift_constant: f64,
    /// Shifted scores that were seen.
    pub scores: Interval,
    /// log of the denominators Σ exp(x) that were seen; 0 is the top with its head-room.
    pub log_denominators: Interval,
}

impl HeadSite {
    /// The shift of one query, after RoPE.
    pub fn shift(&self, query: impl Iterator<Item = f32>) -> f64 {
        let weights = self.shift_weights.iter().zip(&self.shift_square_weights);
        weights.zip(query).fold(self.shift_constant, |sum, ((weight, square_weight), q)| {
            let q = f64::from(q);
            sum + weight * q + square_weight * q * q
        })
    }
}

/// SiLU of one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiluSite {
    /// Gates that were seen.
    pub seen: Interval,
    /// SiLU(x) / `normaliser` over the widened interval.
    pub function: Approximation,
    /// Keeps the values of `function` within ±1; multiplied back in W_down.
    pub normaliser: f64,
}

/// Largest magnitude of each tensor of a layer, over all private positions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Magnitudes {
    /// Queries after RoPE.
    pub query: f64,
    /// Keys after RoPE.
    pub key: f64,
    /// Values, per key/value head.
    pub value: Vec<f64>,
    /// Normalised attention output of all heads.
    pub attention_output: f64,
    /// Residual stream between attention and MLP.
    pub middle_residual: f64,
    /// x · W_up.
    pub up: f64,
    /// x · W_gate.
    pub gate: f64,
    /// SiLU(gate) · up.
    pub down_input: f64,
    /// Residual stream after the MLP.
    pub residual: f64,
}

impl CalibrationTable {
    /// Version written into new tables.
    pub(crate) fn format_version() -> u32 {
        FORMAT_VERSION
    }

    /// Reads and checks a table for a model.
    ///
    /// # Errors
    /// [`Error::Io`] when it is missing; those of [`Self::parse`].
    pub fn read(path: &Path, config: &LlamaConfig, fingerprint: &str) -> Result<Self> {
        let bytes = read_bounded(path, MAX_CALIBRATION_BYTES)?;
        Self::parse(&bytes, &path.display().to_string(), config, fingerprint)
    }

    /// Checks the bytes of a table; `path` names it in errors.
    ///
    /// # Errors
    /// [`Error::Plan`] when it is damaged, of another version, made for another model (`fingerprint`), or holds numbers
    /// that no calibration gives.
    pub fn parse(bytes: &[u8], path: &str, config: &LlamaConfig, fingerprint: &str) -> Result<Self> {
        let bad = |why: String| Error::Plan {
            why: format!("{path}: {why}"),
            remedy: "make it again with `cachemir calibrate --model DIR`".to_owned(),
        };
        let table: Self =
            serde_json::from_slice(bytes).map_err(|source| bad(format!("not a calibration ({source})")))?;
        if table.format_version != FORMAT_VERSION {
            return Err(bad(format!("format {}, this program reads {FORMAT_VERSION}", table.format_version)));
        }
        if table.model != fingerprint {
            return Err(bad(format!("made for model {}, this is {fingerprint}", table.model)));
        }
        table.check_shapes(config).map_err(bad)?;
        table.check_numbers().map_err(bad)?;
        Ok(table)
    }

    /// That a text of `positions` positions is not much longer than those the ranges were seen on: softmax denominators grow
    /// with the text, and beyond their interval the division diverges.
    ///
    /// # Errors
    /// [`Error::Plan`] beyond 1.5 times the longest context of the calibration.
    pub fn check_context(&self, positions: usize) -> Result<()> {
        if 2 * positions <= 3 * self.longest_context {
            return Ok(());
        }
        Err(Error::Plan {
            why: format!(
                "a text of {positions} positions, the longest one of its calibration has {}",
                self.longest_context
            ),
            remedy: format!(
                "calibrate on longer texts: cachemir calibrate --model DIR --context {positions} --answer-tokens {positions}"
            ),
        })
    }

    /// The table as JSON text.
    ///
    /// # Errors
    /// [`Error::Internal`] when a number in it is not finite.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|source| Error::Internal(format!("calibration: {source}")))
    }
}
