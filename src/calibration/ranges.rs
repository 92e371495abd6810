//! The ranges that the encrypted decoder is built for: what calibration hands to [`crate::decoder::plan`].
//!
//! All ranges carry their margins already. Nothing here is secret: ranges are statistics of public calibration texts.

use crate::circuits::approximation::Interval;
use crate::contract::{Error, Result};

use crate::calibration::table::{CalibrationTable, HeadSite, LayerCalibration, NormSite};
use crate::model::config::LlamaConfig;
use crate::model::reference::KeyValueCache;

/// Ranges of a whole model.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DecoderRanges {
    /// Largest magnitude of an embedding.
    pub embedding: f64,
    /// Ranges by layer.
    pub layers: Vec<LayerRanges>,
    /// Mean square before the final norm, without ε.
    pub final_norm: Interval,
}

/// Ranges of one layer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LayerRanges {
    /// Mean square before attention.
    pub input_norm: Interval,
    /// Attention heads.
    pub heads: Vec<HeadRanges>,
    /// Largest magnitude of each feature of the residual stream between attention and MLP, `hidden_size` of them. With one
    /// bound for all, a few massive features would take up the whole range of a bootstrap and leave its noise to the others.
    pub middle_residual: Vec<f64>,
    /// Mean square before the MLP.
    pub post_norm: Interval,
    /// Gates, before SiLU.
    pub gate: Interval,
    /// Largest magnitude of the up projection.
    pub up: f64,
    /// The same after the layer.
    pub residual: Vec<f64>,
}

/// Ranges of one query head. log D of a query q is predicted by q·(w + u ⊙ q)/√hd + b, so that D of the shifted scores
/// stays near 1; w is subtracted from the cached keys, u ⊙ q from the keys as this query sees them, b from the scores.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HeadRanges {
    /// w: head_dim values, in the rotated basis.
    pub shift: Vec<f64>,
    /// u: head_dim values, in the rotated basis; all zero where squares do not help.
    pub square_shift: Vec<f64>,
    /// b.
    pub offset: f64,
    /// Shifted scores x = q·(k − w − u ⊙ q)/√hd − b.
    pub scores: Interval,
    /// log D of the shifted scores, head-room at the top included.
    pub log_denominator: Interval,
    /// Largest magnitude of a value of the KV head it reads.
    pub value: f64,
}

/// Factor on magnitudes that calibration saw: residual stream, values, up projection.
const MAGNITUDE_MARGIN: f64 = 1.5;

impl DecoderRanges {
    /// Ranges out of a calibration. `prefix` holds the public prefix: its values enter the numerators too.
    ///
    /// # Errors
    /// [`Error::Plan`] when the calibration belongs to a model of another shape.
    pub fn from_calibration(
        table: &CalibrationTable,
        config: &LlamaConfig,
        prefix: &KeyValueCache,
    ) -> Result<Self> {
        let layers = table
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| LayerRanges::new(index, layer, table, config, prefix))
            .collect::<Result<_>>()?;
        let ranges = Self {
            embedding: table.embedding * MAGNITUDE_MARGIN,
            layers,
            final_norm: mean_square(&table.final_norm, config)?,
        };
        ranges.check(config.num_hidden_layers, config.num_attention_heads, config.head_dim)?;
        Ok(ranges)
    }

    /// That the ranges belong to a model of `layers` layers with `heads` query heads of `head_dim` values.
    ///
    /// # Errors
    /// [`Error::Plan`] naming what differs.
    pub fn check(&self, layers: usize, heads: usize, head_dim: usize) -> Result<()> {
        let found = self.layers.len();
        let streams = self.layers.iter().flat_map(|layer| [&layer.middle_residual, &layer.residual]);
        if let Some(bound) = streams.flatten().find(|bound| !(bound.is_finite() && **bound > 0.0)) {
            return Err(Error::Plan {
                why: format!("a feature of the residual stream is bounded by {bound}"),
                remedy: "calibrate this model: cachemir calibrate --model DIR".to_owned(),
            });
        }
        let first = self.layers.iter().map(|layer| layer.heads.len()).find(|count| *count != heads);
        let heads_of_layers = self.layers.iter().flat_map(|layer| &layer.heads);
        let width = heads_of_layers.flat_map(|head| [head.shift.len(), head.square_shift.len()]);
        let narrow = width.into_iter().find(|width| *width != head_dim);
        if found == layers && first.is_none() && narrow.is_none() {
            return Ok(());
        }
        Err(Error::Plan {
            why: format!(
                "the calibration has {found} layers of {} heads of {} values, the model {layers} of {heads} of {head_dim}",
                first.unwrap_or(heads),
                narrow.unwrap_or(head_dim)
            ),
            remedy: "calibrate this model: cachemir calibrate --model DIR".to_owned(),
        })
    }
}

/// Interval of the mean square, without the ε that the calibrated function includes.
fn mean_square(site: &NormSite, config: &LlamaConfig) -> Result<Interval> {
    let interval = site.function.interval();
    Interval::new(interval.low - config.rms_norm_eps, interval.high - config.rms_norm_eps)
}

/// Bounds of the features where the largest of them is `largest`: calibration knows that, and each one's largest in any
/// layer.
fn by_feature(largest: f64, table: &CalibrationTable) -> Vec<f64> {
    table.residual_scale.iter().map(|feature| feature.min(largest * MAGNITUDE_MARGIN)).collect()
}

impl LayerRanges {
    fn new(
        index: usize,
        layer: &LayerCalibration,
        table: &CalibrationTable,
        config: &LlamaConfig,
        prefix: &KeyValueCache,
    ) -> Result<Self> {
        let seen = &layer.magnitudes;
        let heads = layer
            .softmax
            .heads
            .iter()
            .enumerate()
            .map(|(head, site)| {
                let shared = head / config.group_size();
                let public = prefix.values(index).map_or(0.0, |values| {
                    values.rows().into_iter().fold(0.0, |most: f64, row| {
                        row.iter()
                            .skip(shared * config.head_dim)
                            .take(config.head_dim)
                            .fold(most, |most, value| most.max(f64::from(value.abs())))
                    })
                });
                let private = seen.value.get(shared).copied().unwrap_or(0.0) * MAGNITUDE_MARGIN;
                HeadRanges::new(site, layer, table, config, private.max(public).max(1e-6))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            input_norm: mean_square(&layer.input_norm, config)?,
            heads,
            middle_residual: by_feature(seen.middle_residual, table),
            post_norm: mean_square(&layer.post_attention_norm, config)?,
            gate: layer.silu.function.interval,
            up: seen.up * MAGNITUDE_MARGIN,
            residual: by_feature(seen.residual, table),
        })
    }
}

impl HeadRanges {
    fn new(
        site: &HeadSite,
        layer: &LayerCalibration,
        table: &CalibrationTable,
        config: &LlamaConfig,
        value: f64,
    ) -> Result<Self> {
        let scale = (config.head_dim as f64).sqrt();
        // The calibrated shift puts the largest D, head-room included, at 1.
        Ok(Self {
            shift: site.shift_weights.iter().map(|weight| weight * scale).collect(),
            square_shift: site.shift_square_weights.iter().map(|weight| weight * scale).collect(),
            offset: site.shift_constant,
            scores: layer.softmax.exponential.root.interval,
            log_denominator: Interval::new(
                site.log_denominators.low - table.targets.denominator_bottom,
                0.0,
            )?,
            value,
        })
    }
}
