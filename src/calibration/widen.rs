//! Held-out texts: ranges that they leave are widened, and named.

use crate::circuits::approximation::Interval;
use crate::contract::Result;

use crate::calibration::measure::{Margins, at_site, shifted_ranges};
use crate::calibration::ranges::{DecoderRanges, LayerRanges};
use crate::calibration::record::{LayerRecord, RangeRecorder, SeenRange};

/// Widens the ranges that `held_out` leaves, by the same `margins`, and names them. What stays inside
/// is kept as it is.
///
/// # Errors
/// [`crate::Error::Plan`] when something that is not finite was recorded.
pub fn widen_for(
    ranges: &mut DecoderRanges,
    held_out: &RangeRecorder,
    margins: &Margins,
) -> Result<Vec<String>> {
    let mut widened = Vec::new();
    for (index, (layer, record)) in ranges.layers.iter_mut().zip(&held_out.layers).enumerate() {
        let named = |site: &str| format!("layer {index} {site}");
        let norms = [
            ("norm 1", &mut layer.input_norm, record.input_norm),
            ("norm 2", &mut layer.post_norm, record.post_attention_norm),
        ];
        for (site, interval, seen) in norms {
            widen(named(site), interval, seen, |seen| margins.norm(seen), &mut widened)?;
        }
        widen(named("SiLU"), &mut layer.gate, record.gate, |seen| margins.gate(seen), &mut widened)?;
        widen_heads(index, layer, record, margins, &mut widened)?;
        widen_magnitudes(index, layer, record, margins, &mut widened);
    }
    raise("embedding", &mut ranges.embedding, held_out.embedding, margins, &mut widened);
    let final_norm = "final norm".to_owned();
    widen(final_norm, &mut ranges.final_norm, held_out.final_norm, |seen| margins.norm(seen), &mut widened)?;
    Ok(widened)
}

/// Joins `interval` with that of `seen`, margins included, when `seen` leaves it.
fn widen(
    name: String,
    interval: &mut Interval,
    seen: SeenRange,
    with_margins: impl Fn(SeenRange) -> Result<Interval>,
    widened: &mut Vec<String>,
) -> Result<()> {
    if interval.contains(seen.low) && interval.contains(seen.high) {
        return Ok(());
    }
    let more = with_margins(seen).map_err(|error| at_site(&name, error))?;
    *interval = Interval::new(interval.low.min(more.low), interval.high.max(more.high))?;
    widened.push(name);
    Ok(())
}

/// Raises the bounds that `record` leaves: residual stream by feature, up projection, values by head.
fn widen_magnitudes(
    index: usize,
    layer: &mut LayerRanges,
    record: &LayerRecord,
    margins: &Margins,
    widened: &mut Vec<String>,
) {
    let seen = &record.magnitudes;
    let streams = [
        ("middle residual", &mut layer.middle_residual, &seen.middle_residual),
        ("residual", &mut layer.residual, &seen.residual),
    ];
    for (site, bounds, seen) in streams {
        for (feature, (bound, seen)) in bounds.iter_mut().zip(seen).enumerate() {
            raise(&format!("layer {index} {site}, feature {feature}"), bound, *seen, margins, widened);
        }
    }
    raise(&format!("layer {index} up"), &mut layer.up, seen.up, margins, widened);
    let group = (layer.heads.len() / seen.values.len().max(1)).max(1);
    for (number, head) in layer.heads.iter_mut().enumerate() {
        if let Some(seen) = seen.values.get(number / group) {
            let name = format!("layer {index} head {number} values");
            raise(&name, &mut head.value, *seen, margins, widened);
        }
    }
}

/// Raises `bound` to `seen` with its margin when `seen` is beyond it.
fn raise(name: &str, bound: &mut f64, seen: f64, margins: &Margins, widened: &mut Vec<String>) {
    if seen > *bound {
        *bound = seen * margins.magnitude;
        widened.push(name.to_owned());
    }
}

/// Moves the shifts and lowest scores of heads that `record` leaves.
fn widen_heads(
    index: usize,
    layer: &mut LayerRanges,
    record: &LayerRecord,
    margins: &Margins,
    widened: &mut Vec<String>,
) -> Result<()> {
    // One exponential serves all heads, over the widest of their intervals.
    let lowest_allowed = layer.heads.iter().map(|head| head.scores.low).fold(0.0, f64::min);
    for (number, (head, record)) in layer.heads.iter_mut().zip(&record.heads).enumerate() {
        let seen = shifted_ranges(record, head);
        // Up to half of the head-room at the top may be used up by new text; more moves the top.
        let beyond = (seen.largest_log_denominator + margins.denominator_top / 2.0).max(0.0);
        if beyond > 0.0 {
            head.offset += beyond;
            head.log_denominator = Interval::new(head.log_denominator.low - beyond, 0.0)?;
            head.scores = Interval::new(head.scores.low - beyond, 0.0)?;
            widened.push(format!("layer {index} head {number} denominator, by {beyond:.1} nats"));
        }
        let lowest = seen.lowest_score - beyond;
        if lowest < lowest_allowed {
            let low = margins.lowest_score(lowest, head.log_denominator.low);
            head.scores = Interval::new(low.min(head.scores.low), 0.0)?;
            widened.push(format!("layer {index} head {number} scores, down to {lowest:.1}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::ranges::HeadRanges;
    use crate::calibration::record::{HeadRecord, ScoreRow};
    use crate::model::config::LlamaConfig;

    fn config() -> LlamaConfig {
        let text = br#"{"model_type":"llama","hidden_size":2,"intermediate_size":1,"num_hidden_layers":1,
            "num_attention_heads":1,"vocab_size":1,"tie_word_embeddings":true}"#;
        LlamaConfig::parse(text, "config.json").unwrap()
    }

    fn interval(low: f64, high: f64) -> Interval {
        Interval::new(low, high).unwrap()
    }

    fn ranges() -> DecoderRanges {
        let head = HeadRanges {
            shift: vec![0.0; 2],
            square_shift: vec![0.0; 2],
            offset: 3.0,
            scores: interval(-12.0, 0.0),
            log_denominator: interval(-5.0, 0.0),
            value: 1.0,
        };
        let layer = LayerRanges {
            input_norm: interval(0.5, 4.0),
            heads: vec![head],
            middle_residual: vec![1.0; 2],
            post_norm: interval(0.5, 4.0),
            gate: interval(-3.0, 3.0),
            up: 1.0,
            residual: vec![1.0; 2],
        };
        DecoderRanges { embedding: 1.0, layers: vec![layer], final_norm: interval(0.5, 4.0) }
    }

    /// A record that stays inside `ranges` but for what the test changes.
    fn record() -> RangeRecorder {
        let mut record = RangeRecorder::new(&config());
        let seen = |low, high| SeenRange { low, high };
        record.final_norm = seen(1.0, 2.0);
        let layer = &mut record.layers[0];
        (layer.input_norm, layer.post_attention_norm, layer.gate) =
            (seen(1.0, 2.0), seen(1.0, 2.0), seen(-1.0, 1.0));
        // Shifted by 3: log D −2 of a room of 2.5/2 below 0, lowest score −8 of −12.
        let row = ScoreRow { log_sum: 1.0, lowest: -5.0, text: 0 };
        layer.heads[0] = HeadRecord { queries: vec![0.3, -0.2], rows: vec![row] };
        record
    }

    #[test]
    fn what_stays_inside_keeps_its_ranges() {
        let (mut ranges, before) = (ranges(), ranges());
        assert!(widen_for(&mut ranges, &record(), &Margins::default()).unwrap().is_empty());
        assert_eq!(ranges, before);
    }

    #[test]
    fn what_leaves_a_range_widens_that_one_by_its_margin_and_is_named() {
        let (mut ranges, before, mut record) = (ranges(), ranges(), record());
        record.layers[0].gate.high = 5.0;
        record.layers[0].post_attention_norm.low = 0.3;
        let widened = widen_for(&mut ranges, &record, &Margins::default()).unwrap();
        assert_eq!(widened, ["layer 0 norm 2", "layer 0 SiLU"]);
        let layer = &ranges.layers[0];
        assert_eq!((layer.gate.low, layer.gate.high), (-3.0, 8.0));
        assert!((layer.post_norm.low - 0.2).abs() < 1e-12 && layer.post_norm.high == 4.0);
        assert_eq!(layer.input_norm, before.layers[0].input_norm);
        assert_eq!(layer.heads, before.layers[0].heads);
    }

    #[test]
    fn a_denominator_in_the_upper_half_of_its_head_room_moves_the_top() {
        let (mut ranges, mut record) = (ranges(), record());
        // log D − 3 = −0.25: one nat above half of the head-room.
        record.layers[0].heads[0].rows[0].log_sum = 2.75;
        let widened = widen_for(&mut ranges, &record, &Margins::default()).unwrap();
        assert_eq!(widened, ["layer 0 head 0 denominator, by 1.0 nats"]);
        let head = &ranges.layers[0].heads[0];
        assert_eq!((head.offset, head.log_denominator.low, head.scores.low), (4.0, -6.0, -13.0));
    }

    #[test]
    fn a_value_beyond_its_bound_raises_that_bound_by_its_margin() {
        let (mut ranges, before, mut record) = (ranges(), ranges(), record());
        record.layers[0].magnitudes.residual = vec![0.9, 2.0];
        record.layers[0].magnitudes.values = vec![4.0];
        record.embedding = 1.5;
        let widened = widen_for(&mut ranges, &record, &Margins::default()).unwrap();
        assert_eq!(widened, ["layer 0 residual, feature 1", "layer 0 head 0 values", "embedding"]);
        let layer = &ranges.layers[0];
        assert_eq!((layer.residual.as_slice(), layer.heads[0].value), ([1.0, 3.0].as_slice(), 6.0));
        assert_eq!((layer.up, &layer.middle_residual), (1.0, &before.layers[0].middle_residual));
        assert_eq!(ranges.embedding, 2.25);
    }

    #[test]
    fn a_score_below_the_lowest_range_of_its_layer_widens_that_of_its_head() {
        let (mut ranges, mut record) = (ranges(), record());
        record.layers[0].heads[0].rows[0].lowest = -10.0;
        let widened = widen_for(&mut ranges, &record, &Margins::default()).unwrap();
        assert_eq!(widened, ["layer 0 head 0 scores, down to -13.0"]);
        assert_eq!(ranges.layers[0].heads[0].scores.low, -19.0);
    }
}
