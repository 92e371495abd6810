//! The model that a verb works on: a directory of the user's, or the bundled one; and its calibration.

use std::path::{Path, PathBuf};

use crate::calibration::calibrate::calibrate;
use crate::calibration::measure::Margins;
use crate::calibration::table::{CALIBRATION_FILE, CalibrationTable};
use crate::model::prepared::{PreparedModel, TextPart, built_in};
use anyhow::Context;

/// The directory named, or a temporary one with the bundled model, removed when the second value is dropped.
pub fn model_directory(given: Option<&Path>) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    match given {
        Some(directory) => Ok((directory.to_owned(), None)),
        None => {
            let bundled = unpack_bundled_model()?;
            Ok((bundled.path().to_owned(), Some(bundled)))
        }
    }
}

/// The calibration beside the model; without one, calibrates on the built-in texts.
pub fn calibration(prepared: &PreparedModel, directory: &Path) -> anyhow::Result<CalibrationTable> {
    const CONTEXT: usize = 128;
    const ANSWER: usize = 24;
    let path = directory.join(CALIBRATION_FILE);
    if path.is_file() {
        return read_calibration(prepared, &path);
    }
    let texts = |part| prepared.private_tokens(&built_in(part, prepared.frame.is_chat), CONTEXT, ANSWER);
    let (calibration, held_out) = (texts(TextPart::Calibration)?, texts(TextPart::HeldOut)?);
    Ok(calibrate(prepared, &calibration, &held_out, &Margins::default(), &mut |_, _, _| {})?.table)
}

/// The calibration stored at `path`, which must be that of the model.
pub fn read_calibration(prepared: &PreparedModel, path: &Path) -> anyhow::Result<CalibrationTable> {
    let (config, model) = (prepared.model.config(), prepared.model.fingerprint());
    CalibrationTable::read(path, config, &model, &prepared.frame.prefix)
        .with_context(|| format!("`cachemir calibrate --model DIR` makes {CALIBRATION_FILE} anew"))
}

/// Writes the bundled model to a temporary directory, removed at the end.
pub fn unpack_bundled_model() -> anyhow::Result<tempfile::TempDir> {
    const FILES: [(&str, &[u8]); 3] = [
        ("config.json", include_bytes!("../../models/tiny-shakespeare-llama/config.json")),
        ("model.safetensors", include_bytes!("../../models/tiny-shakespeare-llama/model.safetensors")),
        ("tokenizer.json", include_bytes!("../../models/tiny-shakespeare-llama/tokenizer.json")),
    ];
    let directory = tempfile::tempdir().context("no temporary directory for the bundled model")?;
    for (name, bytes) in FILES {
        std::fs::write(directory.path().join(name), bytes)
            .with_context(|| format!("cannot write {name} of the bundled model"))?;
    }
    Ok(directory)
}
