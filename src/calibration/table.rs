//! The calibration of a model as it is stored beside it, `calibration.json`: ranges, score shifts and where they come
//! from.
//!
//! Ranges are those of the private positions only, behind the public prefix, which runs in the clear; the values of
//! the prefix count where they meet encrypted weights.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::contract::{Error, Result};

use crate::calibration::measure::Margins;
use crate::calibration::ranges::DecoderRanges;
use crate::model::config::LlamaConfig;
use crate::model::files::read_bounded;

/// File name beside the model.
pub const CALIBRATION_FILE: &str = "calibration.json";
/// Version of the format written here. Versions 1 and 2 held fitted functions.
const FORMAT_VERSION: u32 = 3;
const MAX_CALIBRATION_BYTES: u64 = 1 << 28;

/// The ranges of one model and their provenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationTable {
    /// Version of the format.
    pub format_version: u32,
    /// Fingerprint of the model ([`crate::model::reference::ReferenceModel::fingerprint`]).
    pub model: String,
    /// Token ids of the public prefix that stood before every text.
    pub public_prefix: Vec<u32>,
    /// How far the ranges were widened beyond what was seen.
    pub margins: Margins,
    /// Private positions that the ranges come from, held-out ones aside.
    pub positions: usize,
    /// Longest context (prefix and text) among them.
    pub longest_context: usize,
    /// The ranges, margins included.
    pub ranges: DecoderRanges,
}

/// What every version of the format has.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

impl CalibrationTable {
    /// Version written into new tables.
    pub(crate) fn format_version() -> u32 {
        FORMAT_VERSION
    }

    /// Reads and checks the table of a model of shape `config`, fingerprint `fingerprint` and public prefix `prefix`.
    ///
    /// # Errors
    /// [`Error::Io`] when it is missing; those of [`Self::parse`].
    pub fn read(path: &Path, config: &LlamaConfig, fingerprint: &str, prefix: &[u32]) -> Result<Self> {
        let bytes = read_bounded(path, MAX_CALIBRATION_BYTES)?;
        Self::parse(&bytes, &path.display().to_string(), config, fingerprint, prefix)
    }

    /// Checks the bytes of a table; `path` names it in errors.
    ///
    /// # Errors
    /// [`Error::Plan`] when it is damaged, of another version, made for another model (`fingerprint`) or another
    /// public prefix, or holds numbers that no calibration gives.
    pub fn parse(
        bytes: &[u8],
        path: &str,
        config: &LlamaConfig,
        fingerprint: &str,
        prefix: &[u32],
    ) -> Result<Self> {
        let bad = |why: String| Error::Plan {
            why: format!("{path}: {why}"),
            remedy: "calibrate this model again, or remove the file".to_owned(),
        };
        let damaged = |source: serde_json::Error| bad(format!("not a calibration ({source})"));
        // Other versions have other fields: the version is read first, so that it is what the error names.
        let Version { format_version } = serde_json::from_slice(bytes).map_err(damaged)?;
        if format_version != FORMAT_VERSION {
            return Err(bad(format!(
                "a calibration in format {format_version}, this program reads {FORMAT_VERSION}"
            )));
        }
        let table: Self = serde_json::from_slice(bytes).map_err(damaged)?;
        if table.model != fingerprint {
            return Err(bad(format!("made for model {}, this is {fingerprint}", table.model)));
        }
        if table.public_prefix != prefix {
            return Err(bad(format!(
                "made behind a public prefix of {} tokens, the model's has {} or other ones",
                table.public_prefix.len(),
                prefix.len()
            )));
        }
        table.ranges.check_shapes(config).map_err(bad)?;
        table.ranges.check_numbers().map_err(bad)?;
        Ok(table)
    }

    /// That a text of `positions` positions is not much longer than those the ranges were seen on: softmax
    /// denominators grow with the text, and beyond their interval the division diverges.
    ///
    /// # Errors
    /// [`Error::Plan`] beyond 1.5 times the longest context of the calibration.
    pub fn check_context(&self, positions: usize) -> Result<()> {
        if positions.saturating_mul(2) <= self.longest_context.saturating_mul(3) {
            return Ok(());
        }
        Err(Error::Plan {
            why: format!(
                "a text of {positions} positions, the longest one of its calibration has {}",
                self.longest_context
            ),
            remedy: format!("calibrate on longer texts, with contexts of {positions} positions"),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Fuzzing starts from these: tables of a model of one layer with one head of two values.
    #[test]
    fn the_seeds_of_the_fuzzer_are_tables() {
        let text = br#"{"model_type":"llama","hidden_size":2,"intermediate_size":1,"num_hidden_layers":1,
            "num_attention_heads":1,"vocab_size":1,"tie_word_embeddings":true}"#;
        let config = LlamaConfig::parse(text, "config.json").unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/calibration");
        for name in ["affine.json", "quadratic.json"] {
            let table = CalibrationTable::read(&folder.join(name), &config, "fuzzed", &[1]).unwrap();
            // Per head: w·q + u·q² + b with q = (1, −1), over √2.
            let head = &table.ranges.layers[0].heads[0];
            let square = head.square_shift[0] + head.square_shift[1];
            let wanted = (0.0 - 0.1 + square) / 2f64.sqrt() + 0.5;
            assert!((head.shift_of([1.0, -1.0].into_iter()) - wanted).abs() < 1e-12, "{name}");
        }
    }
}
