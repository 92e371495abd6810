//! From recorded ranges to approximations: method, interval and degree of every site.
//!
//! Each site gets the cheapest approximation that keeps its error target over the widened interval. Held-out records
//! widen a site whose interval they leave; which ones did is reported.

use rayon::prelude::*;

use crate::circuits::approximation::{Approximation, ErrorMeasure, Interval};
use crate::circuits::exp::Exponential;
use crate::circuits::inverse::RelaxedInverse;
use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::circuits::silu::fit_silu;
use crate::contract::{Error, Result};

use crate::calibration::record::{HeadRecord, LayerRecord, RangeRecorder, SeenRange};
use crate::calibration::shift::{ScoreShift, fit_shift};
use crate::calibration::table::{
    CalibrationTable, CalibrationTargets, HeadSite, InverseSite, LayerCalibration, NormSite, SiluSite,
    SoftmaxMethod, SoftmaxSite, SquaringSite,
};

/// Squarings of normalise-and-square; the record holds the sums for exactly this many.
const SQUARINGS: usize = 2;
/// Most levels of the polynomial under the squarings of exp.
const MOST_ROOT_LEVELS: usize = 7;
/// A feature of the residual stream is never scaled below this share of the largest one: quiet features would
/// otherwise ask for weights of any size.
const SMALLEST_SCALE: f64 = 1.0 / 4096.0;

/// Fits every site to `record`.
///
/// # Errors
/// [`Error::Plan`] when nothing was recorded, or a function cannot be approximated over its interval (the layer and
/// site are named).
pub fn fit_sites(
    record: &RangeRecorder,
    targets: &CalibrationTargets,
    model: &str,
    public_prefix: &[u32],
) -> Result<CalibrationTable> {
    if record.positions == 0 {
        return Err(Error::Plan {
            why: "no position was recorded".to_owned(),
            remedy: "calibrate on at least one text".to_owned(),
        });
    }
    let layers = record
        .layers
        .par_iter()
        .enumerate()
        .map(|(layer, seen)| fit_layer(layer, seen, record.longest_context, targets))
        .collect::<Result<Vec<_>>>()?;
    let largest = record.residual_features.iter().copied().fold(0.0, f64::max);
    Ok(CalibrationTable {
        format_version: CalibrationTable::format_version(),
        model: model.to_owned(),
        public_prefix: public_prefix.to_vec(),
        targets: targets.clone(),
        positions: record.positions,
        longest_context: record.longest_context,
        embedding: record.embedding,
        layers,
        final_norm: fit_norm("final norm", record.final_norm, targets)?,
        // Head-room as for the norms: the mean square grows with the square of the stream.
        residual_scale: record
            .residual_features
            .iter()
            .map(|feature| feature.max(largest * SMALLEST_SCALE) * targets.norm_margin)
            .collect(),
    })
}

/// Widens the sites of `table` that `held_out` leaves and names them. Every norm, gate and softmax that stays inside is
/// kept as it is.
///
/// # Errors
/// As [`fit_sites`].
pub fn widen_for(table: &mut CalibrationTable, held_out: &RangeRecorder) -> Result<Vec<String>> {
    let targets = table.targets.clone();
    let mut widened = Vec::new();
    for (layer, (site, record)) in table.layers.iter_mut().zip(&held_out.layers).enumerate() {
        for (name, norm, seen) in [
            ("norm 1", &mut site.input_norm, record.input_norm),
            ("norm 2", &mut site.post_attention_norm, record.post_attention_norm),
        ] {
            widen_norm(&format!("layer {layer} {name}"), norm, seen, &targets, &mut widened)?;
        }
        let gate = site.silu.function.interval;
        if !(gate.contains(record.gate.low) && gate.contains(record.gate.high)) {
            site.silu = fit_gate(layer, joined(site.silu.seen, record.gate), &targets)?;
            widened.push(format!("layer {layer} SiLU"));
        }
        widen_softmax(layer, &mut site.softmax, record, held_out.longest_context, &targets, &mut widened)?;
    }
    widen_norm("final norm", &mut table.final_norm, held_out.final_norm, &targets, &mut widened)?;
    Ok(widened)
}

fn fit_layer(
    layer: usize,
    record: &LayerRecord,
    context: usize,
    targets: &CalibrationTargets,
) -> Result<LayerCalibration> {
    Ok(LayerCalibration {
        input_norm: fit_norm(&format!("layer {layer} norm 1"), record.input_norm, targets)?,
        softmax: fit_softmax(layer, &record.heads, context, targets)?,
        post_attention_norm: fit_norm(&format!("layer {layer} norm 2"), record.post_attention_norm, targets)?,
        silu: fit_gate(layer, record.gate, targets)?,
        magnitudes: record.magnitudes.clone(),
    })
}

fn fit_norm(site: &str, seen: SeenRange, targets: &CalibrationTargets) -> Result<NormSite> {
    let interval = Interval::new(seen.low / targets.norm_margin, seen.high * targets.norm_margin)
        .and_then(|interval| Ok((interval, InverseSquareRoot::fit(interval, targets.inverse_root)?)));
    let (_, function) = interval.map_err(|error| at_site(site, &error))?;
    Ok(NormSite { seen: Interval { low: seen.low, high: seen.high }, function })
}

fn widen_norm(
    name: &str,
    site: &mut NormSite,
    seen: SeenRange,
    targets: &CalibrationTargets,
    widened: &mut Vec<String>,
) -> Result<()> {
    let interval = site.function.interval();
    if !(interval.contains(seen.low) && interval.contains(seen.high)) {
        *site = fit_norm(name, joined(site.seen, seen), targets)?;
        widened.push(name.to_owned());
    }
    Ok(())
}

fn fit_gate(layer: usize, seen: SeenRange, targets: &CalibrationTargets) -> Result<SiluSite> {
    let widen = |bound: f64| bound * targets.silu_margin;
    // Both signs always occur; a range that saw one only still gets a little of the other.
    let (low, high) = (widen(seen.low.min(-0.5)), widen(seen.high.max(0.5)));
    // The normaliser bounds the polynomial itself, error included.
    let normaliser = high + targets.silu;
    let function = Interval::new(low, high)
        .and_then(|interval| fit_silu(interval, targets.silu, normaliser))
        .map_err(|error| at_site(&format!("layer {layer} SiLU"), &error))?;
    Ok(SiluSite { seen: Interval { low: seen.low, high: seen.high }, function, normaliser })
}

/// Fits the shifts to log D of the exact scores, or of their quarters.
fn fit_heads(heads: &[HeadRecord], quarters: bool, targets: &CalibrationTargets) -> Result<Vec<HeadSite>> {
    heads.iter().map(|head| fit_head(head, quarters, targets)).collect()
}

fn fit_head(head: &HeadRecord, quarters: bool, targets: &CalibrationTargets) -> Result<HeadSite> {
    let width = head.queries.len() / head.rows.len().max(1);
    let queries = ndarray::ArrayView2::from_shape((head.rows.len(), width), &head.queries)
        .map_err(|source| Error::Internal(format!("queries of a head: {source}")))?;
    let sums: Vec<f64> =
        head.rows.iter().map(|row| if quarters { row.log_sum_of_quarter } else { row.log_sum }).collect();
    let texts: Vec<usize> = head.rows.iter().map(|row| row.text).collect();
    let ScoreShift { weights, square_weights, constant, residuals } = fit_shift(queries, &sums, &texts)?;
    let mut site = HeadSite {
        shift_weights: weights,
        shift_square_weights: square_weights,
        shift_constant: constant + residuals.high + targets.denominator_top,
        scores: Interval { low: 0.0, high: 0.0 },
        log_denominators: Interval {
            low: residuals.low - residuals.high - targets.denominator_top,
            high: -targets.denominator_top,
        },
    };
    let seen = shifted_ranges(head, &site, quarters);
    site.scores = Interval { low: seen.scores.low, high: seen.scores.high };
    Ok(site)
}

struct ShiftedRanges {
    scores: SeenRange,
    log_denominators: SeenRange,
}

/// Ranges of a head's shifted scores (divided by four when `quarters`) and denominators.
fn shifted_ranges(head: &HeadRecord, site: &HeadSite, quarters: bool) -> ShiftedRanges {
    let width = site.shift_weights.len().max(1);
    let mut seen = ShiftedRanges { scores: SeenRange::default(), log_denominators: SeenRange::default() };
    for (query, row) in head.queries.chunks_exact(width).zip(&head.rows) {
        let shift = site.shift(query.iter().copied());
        let (sum, lowest) =
            if quarters { (row.log_sum_of_quarter, row.lowest / 4.0) } else { (row.log_sum, row.lowest) };
        seen.log_denominators.add(sum - shift);
        seen.scores.add(lowest - shift);
        // No score exceeds the sum's logarithm.
        seen.scores.add(sum - shift);
    }
    seen
}

fn fit_softmax(
    layer: usize,
    heads: &[HeadRecord],
    context: usize,
    targets: &CalibrationTargets,
) -> Result<SoftmaxSite> {
    let mut site = build_deferred(layer, fit_heads(heads, false, targets)?, targets)?;
    if site.inverse.low < targets.smallest_deferred() {
        let squaring = build_squaring(layer, fit_heads(heads, true, targets)?, context, targets)?;
        site.method = SoftmaxMethod::NormalizeAndSquare(squaring);
    }
    Ok(site)
}

fn build_deferred(layer: usize, heads: Vec<HeadSite>, targets: &CalibrationTargets) -> Result<SoftmaxSite> {
    let (exponential, inverse) = fit_quotient(&heads, targets.score_bottom, targets)
        .map_err(|error| at_site(&format!("layer {layer} softmax"), &error))?;
    Ok(SoftmaxSite { heads, exponential, inverse, method: SoftmaxMethod::Deferred })
}

fn build_squaring(
    layer: usize,
    heads: Vec<HeadSite>,
    context: usize,
    targets: &CalibrationTargets,
) -> Result<SquaringSite> {
    let room = targets.score_bottom / (SQUARINGS as f64).exp2();
    let fit = || {
        let (exponential, first) = fit_quotient(&heads, room, targets)?;
        // A sum of squares of n shares lies between 1/n and 1; a tenth is left for the first division's error.
        let later = fit_inverse(0.9 / context.max(2).next_power_of_two() as f64, targets)?;
        Ok((exponential, first, later))
    };
    let (exponential, first, later) =
        fit().map_err(|error: Error| at_site(&format!("layer {layer} softmax, squared"), &error))?;
    Ok(SquaringSite { squarings: SQUARINGS, heads, exponential, first, later })
}

/// exp over the scores of all heads, `room` below the lowest, and 1/D over their denominators.
fn fit_quotient(
    heads: &[HeadSite],
    room: f64,
    targets: &CalibrationTargets,
) -> Result<(Exponential, InverseSite)> {
    let lowest_sum =
        heads.iter().map(|head| head.log_denominators.low).fold(0.0, f64::min) - targets.denominator_bottom;
    let lowest_score = heads.iter().map(|head| head.scores.low).fold(lowest_sum, f64::min) - room;
    let exponential = fit_exponential(Interval::new(lowest_score, 0.0)?, -lowest_sum, targets.exponential)?;
    Ok((exponential, fit_inverse(lowest_sum.exp(), targets)?))
}

fn fit_inverse(low: f64, targets: &CalibrationTargets) -> Result<InverseSite> {
    let iterations = RelaxedInverse::fit(low, targets.inverse)?.steps.len();
    Ok(InverseSite { low, iterations })
}

fn widen_softmax(
    layer: usize,
    site: &mut SoftmaxSite,
    record: &LayerRecord,
    context: usize,
    targets: &CalibrationTargets,
    widened: &mut Vec<String>,
) -> Result<()> {
    let lowest = site.exponential.root.interval.low;
    let mut heads = site.heads.clone();
    if widen_heads(layer, &mut heads, lowest, record, false, targets, widened) {
        let method = site.method.clone();
        *site = SoftmaxSite { method, ..build_deferred(layer, heads, targets)? };
    }
    if let SoftmaxMethod::NormalizeAndSquare(squaring) = &mut site.method {
        let lowest = squaring.exponential.root.interval.low;
        let mut heads = squaring.heads.clone();
        if widen_heads(layer, &mut heads, lowest, record, true, targets, widened) {
            *squaring = build_squaring(layer, heads, context, targets)?;
        }
    }
    Ok(())
}

/// Moves the shifts and lowest scores of heads that `record` leaves; says whether any moved.
fn widen_heads(
    layer: usize,
    heads: &mut [HeadSite],
    lowest_allowed: f64,
    record: &LayerRecord,
    quarters: bool,
    targets: &CalibrationTargets,
    widened: &mut Vec<String>,
) -> bool {
    let mut changed = false;
    for (index, (head, record)) in heads.iter_mut().zip(&record.heads).enumerate() {
        let seen = shifted_ranges(record, head, quarters);
        // Up to half of the head-room at the top may be used up by new text; more moves the top.
        let beyond = (seen.log_denominators.high + targets.denominator_top / 2.0).max(0.0);
        if beyond > 0.0 {
            head.shift_constant += beyond;
            head.log_denominators.low -= beyond;
            head.scores.low -= beyond;
            widened.push(format!("layer {layer} head {index} denominator, by {beyond:.1} nats"));
            changed = true;
        }
        let lowest = seen.scores.low - beyond;
        if lowest < lowest_allowed {
            head.scores.low = lowest;
            widened.push(format!("layer {layer} head {index} scores, down to {lowest:.1}"));
            changed = true;
        }
    }
    changed
}

fn joined(seen: Interval, more: SeenRange) -> SeenRange {
    SeenRange { low: seen.low.min(more.low), high: seen.high.max(more.high) }
}

fn at_site(site: &str, error: &Error) -> Error {
    match error {
        Error::Plan { why, remedy } => Error::Plan { why: format!("{site}: {why}"), remedy: remedy.clone() },
        other => {
            Error::Plan { why: format!("{site}: {other}"), remedy: "calibrate on other texts".to_owned() }
        }
    }
}

/// exp over `interval` with a relative error of `target` down to `depth` below its top, and the fewest levels.
///
/// e^x = p^(2^s) has 2^s times the relative error of p, and p ≥ e^(−depth/2^s) there: that fixes p's absolute error.
fn fit_exponential(interval: Interval, depth: f64, target: f64) -> Result<Exponential> {
    let mut best: Option<Exponential> = None;
    // Three squarings are nearly always among the best: tried first, they spare the others most degrees.
    for squarings in [3, 2, 4, 1, 5, 0] {
        let halving = (squarings as f64).exp2();
        let absolute = target * (-depth / halving).exp() / halving;
        let most_levels =
            best.as_ref().map_or(MOST_ROOT_LEVELS + 1, |best| best.levels().saturating_sub(squarings));
        for levels in 1..most_levels {
            let function = |x: f64| (x / halving).exp();
            let root =
                Approximation::of_degree(function, interval, ErrorMeasure::Absolute, (1 << levels) - 1)?;
            if root.worst_error <= absolute {
                best = Some(Exponential { root, squarings });
                break;
            }
        }
    }
    best.ok_or_else(|| Error::Plan {
        why: format!(
            "exp over {:.1} .. {:.1} reaches no relative error of {target:e} at {depth:.1} below its top",
            interval.low, interval.high
        ),
        remedy: "allow more error, or calibrate on texts nearer to those that will be run".to_owned(),
    })
}
