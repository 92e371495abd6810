//! Calibrating a model: record the exact model on texts, measure its ranges, widen them by held-out texts.

use crate::contract::Result;

use crate::calibration::measure::{Margins, measure};
use crate::calibration::record::record;
use crate::calibration::table::CalibrationTable;
use crate::calibration::widen::widen_for;
use crate::model::prepared::PreparedModel;

/// What a calibration found.
pub struct Calibrated {
    /// The ranges and where they come from.
    pub table: CalibrationTable,
    /// Ranges that held-out texts left, as first measured; they were widened.
    pub widened: Vec<String>,
}

/// Measures the ranges of a model on the texts `calibration` and widens those that the texts `held_out` leave (token
/// sequences, each run behind the public prefix). Two passes of the exact model, one over each set; `progress` is told
/// what is under way, and what was done of how much.
///
/// # Errors
/// [`crate::Error::Plan`] when there is no text, or a value is not finite; errors of the forward pass.
pub fn calibrate(
    prepared: &PreparedModel,
    calibration: &[Vec<u32>],
    held_out: &[Vec<u32>],
    margins: &Margins,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<Calibrated> {
    let config = prepared.model.config();
    let recorded = record(prepared, calibration, "recording", progress)?;
    let mut ranges = measure(&recorded, margins, config, &prepared.prefix_cache)?;
    let checked = record(prepared, held_out, "held-out", progress)?;
    let widened = widen_for(&mut ranges, &checked, margins)?;
    ranges.check(config)?;
    let table = CalibrationTable {
        format_version: CalibrationTable::format_version(),
        model: prepared.model.fingerprint(),
        public_prefix: prepared.frame.prefix.clone(),
        margins: margins.clone(),
        positions: recorded.positions,
        longest_context: recorded.longest_context,
        ranges,
    };
    Ok(Calibrated { table, widened })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::prepared::{TextPart, built_in};

    fn tiny() -> PreparedModel {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-shakespeare-llama");
        PreparedModel::read(std::path::Path::new(path)).unwrap()
    }

    fn tokens(prepared: &PreparedModel, part: TextPart) -> Vec<Vec<u32>> {
        prepared.private_tokens(&built_in(part, false), 128, 0).unwrap()
    }

    #[test]
    fn a_stored_table_is_read_back_and_refused_for_anything_else() {
        let prepared = tiny();
        let (texts, held_out) =
            (tokens(&prepared, TextPart::Calibration), tokens(&prepared, TextPart::HeldOut));
        let (texts, held_out) = (&texts[..8], &held_out[..4]);
        let outcome = calibrate(&prepared, texts, held_out, &Margins::default(), &mut |_, _, _| {}).unwrap();
        let table = outcome.table;
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("calibration.json");
        let (config, own) = (prepared.model.config(), prepared.model.fingerprint());
        let prefix = &prepared.frame.prefix;
        let read = |text: &str, fingerprint: &str, prefix: &[u32]| {
            std::fs::write(&path, text).unwrap();
            CalibrationTable::read(&path, config, fingerprint, prefix)
        };
        let text = table.to_json().unwrap();
        // Decimal numbers may move by one unit in the last place.
        let again = read(&text, &own, prefix).unwrap();
        for (read, written) in again.ranges.layers.iter().zip(&table.ranges.layers) {
            for (read, written) in read.heads.iter().zip(&written.heads) {
                assert!((read.offset - written.offset).abs() <= 1e-12 * written.offset.abs().max(1.0));
            }
        }
        let refused = |text: &str, fingerprint: &str, prefix: &[u32], why: &str| {
            let error = read(text, fingerprint, prefix).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("calibrate"), "`{why}` is missing from: {error}");
        };
        refused(&text, "another", prefix, "made for model");
        refused(&text, &own, &[prefix.as_slice(), &[1]].concat(), "public prefix");
        let old = r#"{"format_version":2,"model":"x","targets":{"inverse_root":0.003},"layers":[]}"#;
        refused(old, &own, prefix, "format 2, this program reads 3");
        refused(&text[..text.len() / 2], &own, prefix, "not a calibration");
        let mut wrong = table.clone();
        wrong.ranges.layers[1].heads[2].shift.pop();
        refused(&wrong.to_json().unwrap(), &own, prefix, "layer 1: head 2");
        let mut wrong = table.clone();
        wrong.ranges.layers[0].up = 0.0;
        refused(&wrong.to_json().unwrap(), &own, prefix, "layer 0: up projection bounded by 0");
        let mut wrong = table;
        wrong.ranges.final_norm.low = 9e9;
        refused(&wrong.to_json().unwrap(), &own, prefix, "final norm from 9000000000");
    }

    #[test]
    fn no_text_is_refused() {
        let prepared = tiny();
        let refused = calibrate(&prepared, &[], &[], &Margins::default(), &mut |_, _, _| {});
        assert!(refused.err().unwrap().to_string().contains("no position"));
    }
}
