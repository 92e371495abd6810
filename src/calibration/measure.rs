//! From what was recorded ([`crate::calibration::record`]) to ranges with margins and the shifts of the scores.

use rayon::prelude::*;

use crate::circuits::approximation::Interval;
use crate::contract::{Error, Result};

use crate::calibration::ranges::{DecoderRanges, HeadRanges, LayerRanges};
use crate::calibration::record::{HeadRecord, LayerRecord, RangeRecorder, SeenRange};
use crate::calibration::shift::{ScoreShift, fit_shift};
use crate::model::config::LlamaConfig;
use crate::model::reference::KeyValueCache;

/// A feature of the residual stream is never scaled below this share of the largest one: quiet features would
/// otherwise ask for weights of any size.
const SMALLEST_SCALE: f64 = 1.0 / 4096.0;
/// Gates of both signs always occur; a range that saw one only still gets so much of the other.
const SMALLEST_GATE: f64 = 0.5;
/// A head whose values are all zero still gets a positive bound.
const SMALLEST_VALUE: f64 = 1e-6;

/// How far ranges are widened beyond what calibration saw.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Margins {
    /// Factor of mean squares, at both ends.
    pub norm: f64,
    /// Factor of gates, at both ends.
    pub gate: f64,
    /// Factor of largest magnitudes: embeddings, values, up projection, features of the residual stream.
    pub magnitude: f64,
    /// Head-room above the largest denominator, in nats.
    pub denominator_top: f64,
    /// Room below the smallest denominator, in nats.
    pub denominator_bottom: f64,
    /// Room below the lowest score, in nats.
    pub score_bottom: f64,
}

impl Default for Margins {
    /// Margins beyond what held-out texts were seen to need. Head-room of 2.5 nats above denominators is what the
    /// levels of one softmax still serve under thirteen levels a bootstrap: every nat at the top takes precision at
    /// the bottom.
    fn default() -> Self {
        Self {
            norm: 1.5,
            gate: 1.6,
            magnitude: 1.5,
            denominator_top: 2.5,
            denominator_bottom: 0.5,
            score_bottom: 6.0,
        }
    }
}

impl Margins {
    /// Interval of mean squares of which `seen` were met.
    ///
    /// # Errors
    /// [`Error::Plan`] when nothing finite and positive was met.
    pub(crate) fn norm(&self, seen: SeenRange) -> Result<Interval> {
        Interval::new(seen.low / self.norm, seen.high * self.norm)
    }

    /// Interval of gates of which `seen` were met.
    ///
    /// # Errors
    /// [`Error::Plan`] when nothing finite was met.
    pub(crate) fn gate(&self, seen: SeenRange) -> Result<Interval> {
        Interval::new(seen.low.min(-SMALLEST_GATE) * self.gate, seen.high.max(SMALLEST_GATE) * self.gate)
    }

    /// Lower end of the shifted scores of a head: below the lowest that was met, and below the logarithm of the
    /// smallest denominator, so that exp is exact where a denominator consists of one weight.
    pub(crate) fn lowest_score(&self, seen: f64, smallest_log_denominator: f64) -> f64 {
        seen.min(smallest_log_denominator) - self.score_bottom
    }
}

/// The ranges of `record` widened by `margins`, for a model of shape `config` whose public prefix left `prefix`.
///
/// # Errors
/// [`Error::Plan`] when nothing was recorded, or what was is not finite (layer and site are named).
pub fn measure(
    record: &RangeRecorder,
    margins: &Margins,
    config: &LlamaConfig,
    prefix: &KeyValueCache,
) -> Result<DecoderRanges> {
    if record.positions == 0 {
        return Err(Error::Plan {
            why: "no position was recorded".to_owned(),
            remedy: "calibrate on at least one text".to_owned(),
        });
    }
    let features = feature_bounds(record, config.hidden_size);
    let layers = record
        .layers
        .par_iter()
        .enumerate()
        .map(|(index, seen)| {
            let public = public_values(prefix, index, config)?;
            let ranges = measure_layer(seen, margins, config, &features, &public);
            ranges.map_err(|error| at_site(&format!("layer {index}"), error))
        })
        .collect::<Result<Vec<_>>>()?;
    let final_norm = margins.norm(record.final_norm).map_err(|error| at_site("final norm", error))?;
    let ranges = DecoderRanges { embedding: record.embedding * margins.magnitude, layers, final_norm };
    ranges.check(config)?;
    Ok(ranges)
}

/// What each feature of the residual stream reaches in any layer; a layer's own largest feature bounds it further.
fn feature_bounds(record: &RangeRecorder, hidden_size: usize) -> Vec<f64> {
    let mut features = vec![0.0f64; hidden_size];
    let seen = record.layers.iter().map(|layer| &layer.magnitudes);
    for bounds in seen.flat_map(|seen| [&seen.middle_residual, &seen.residual]) {
        features.iter_mut().zip(bounds).for_each(|(feature, bound)| *feature = feature.max(*bound));
    }
    let floor = features.iter().copied().fold(0.0, f64::max) * SMALLEST_SCALE;
    features.into_iter().map(|feature| feature.max(floor)).collect()
}

/// Largest magnitude of each KV head's values in layer `index` of the public prefix.
fn public_values(prefix: &KeyValueCache, index: usize, config: &LlamaConfig) -> Result<Vec<f64>> {
    let values = prefix
        .values(index)
        .ok_or_else(|| Error::Internal(format!("a public prefix without layer {index}")))?;
    let mut largest = vec![0.0; config.num_key_value_heads];
    for row in values.rows() {
        for (feature, value) in row.iter().enumerate() {
            if let Some(largest) = largest.get_mut(feature / config.head_dim) {
                *largest = f64::max(*largest, f64::from(value.abs()));
            }
        }
    }
    Ok(largest)
}

fn measure_layer(
    record: &LayerRecord,
    margins: &Margins,
    config: &LlamaConfig,
    features: &[f64],
    public_values: &[f64],
) -> Result<LayerRanges> {
    let seen = &record.magnitudes;
    let values: Vec<f64> = seen
        .values
        .iter()
        .zip(public_values)
        .map(|(private, public)| (private * margins.magnitude).max(*public).max(SMALLEST_VALUE))
        .collect();
    let heads = record
        .heads
        .iter()
        .enumerate()
        .map(|(head, record)| {
            let shared = head / config.group_size();
            let value = values.get(shared).ok_or_else(|| {
                Error::Internal(format!("head {head} reads KV head {shared} of {}", values.len()))
            })?;
            measure_head(record, *value, margins).map_err(|error| at_site(&format!("head {head}"), error))
        })
        .collect::<Result<_>>()?;
    let by_feature = |own: &[f64]| -> Vec<f64> {
        let largest = own.iter().copied().fold(0.0, f64::max);
        features.iter().map(|feature| feature.min(largest) * margins.magnitude).collect()
    };
    let at = |site: &'static str| move |error: Error| at_site(site, error);
    Ok(LayerRanges {
        input_norm: margins.norm(record.input_norm).map_err(at("norm before attention"))?,
        heads,
        middle_residual: by_feature(&seen.middle_residual),
        post_norm: margins.norm(record.post_attention_norm).map_err(at("norm before the MLP"))?,
        gate: margins.gate(record.gate).map_err(at("SiLU"))?,
        up: seen.up * margins.magnitude,
        residual: by_feature(&seen.residual),
    })
}

/// The shift that centres log D of one head, its head-room at the top included, and the ranges behind it.
fn measure_head(record: &HeadRecord, value: f64, margins: &Margins) -> Result<HeadRanges> {
    let width = record.queries.len() / record.rows.len().max(1);
    let queries = ndarray::ArrayView2::from_shape((record.rows.len(), width), &record.queries)
        .map_err(|source| Error::Internal(format!("queries of a head: {source}")))?;
    let sums: Vec<f64> = record.rows.iter().map(|row| row.log_sum).collect();
    let texts: Vec<usize> = record.rows.iter().map(|row| row.text).collect();
    let ScoreShift { weights, square_weights, constant, residuals } = fit_shift(queries, &sums, &texts)?;
    // The fit predicts log D from q; the decoder takes the shift off keys that meet q/√hd.
    let scale = (width as f64).sqrt();
    let smallest = residuals.low - residuals.high - margins.denominator_top - margins.denominator_bottom;
    let mut head = HeadRanges {
        shift: weights.iter().map(|weight| weight * scale).collect(),
        square_shift: square_weights.iter().map(|weight| weight * scale).collect(),
        offset: constant + residuals.high + margins.denominator_top,
        // Below the denominators for now: the shift is needed to say where the scores lie.
        scores: Interval::new(margins.lowest_score(f64::INFINITY, smallest), 0.0)?,
        log_denominator: Interval::new(smallest, 0.0)?,
        value,
    };
    let lowest = shifted_ranges(record, &head).lowest_score;
    head.scores = Interval::new(margins.lowest_score(lowest, smallest), 0.0)?;
    Ok(head)
}

/// Where the shifted scores and denominators of a recorded head lie.
pub(crate) struct ShiftedRanges {
    /// Lowest shifted score; no score exceeds the logarithm of its sum.
    pub(crate) lowest_score: f64,
    /// Largest log D.
    pub(crate) largest_log_denominator: f64,
}

/// What `record` met, by the shift of `head`.
pub(crate) fn shifted_ranges(record: &HeadRecord, head: &HeadRanges) -> ShiftedRanges {
    let width = head.shift.len().max(1);
    let mut seen = ShiftedRanges { lowest_score: f64::INFINITY, largest_log_denominator: f64::NEG_INFINITY };
    for (query, row) in record.queries.chunks_exact(width).zip(&record.rows) {
        let shift = head.shift_of(query.iter().copied());
        seen.largest_log_denominator = seen.largest_log_denominator.max(row.log_sum - shift);
        seen.lowest_score = seen.lowest_score.min(row.lowest - shift);
    }
    seen
}

/// `error` with the place it belongs to.
pub(crate) fn at_site(site: &str, error: Error) -> Error {
    match error {
        Error::Plan { why, remedy } => Error::Plan { why: format!("{site}: {why}"), remedy },
        other => other,
    }
}
