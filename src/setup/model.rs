//! A model directory, opened: everything both parties make their halves from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::calibration::calibrate::calibrate;
use crate::calibration::measure::Margins;
use crate::calibration::table::{CALIBRATION_FILE, CalibrationTable};
use crate::contract::{Error, Result};
use crate::model::config::LlamaConfig;
use crate::model::prepared::{PreparedModel, TextPart, built_in};
use crate::model::weights::Weights;

/// Tells what is done of how much: what, done, all.
pub type ProgressOf<'a> = dyn FnMut(&str, usize, usize) + 'a;

/// Positions of each built-in text in the default calibration, public prefix included.
const CALIBRATION_CONTEXT: usize = 128;
/// Tokens of the model's own answer behind each built-in message.
const CALIBRATION_ANSWER: usize = 24;

/// The bundled model, file by file.
const BUNDLED: [(&str, &[u8]); 3] = [
    ("config.json", include_bytes!("../../models/tiny-shakespeare-llama/config.json")),
    ("model.safetensors", include_bytes!("../../models/tiny-shakespeare-llama/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../models/tiny-shakespeare-llama/tokenizer.json")),
];

/// A Llama-family model: configuration, weights, tokenizer, chat template, and the ranges that its functions were
/// calibrated for. Clones share everything.
///
/// ```
/// let model = cachemir::Model::bundled()?;
/// assert_eq!(model.layers(), 2);
/// # Ok::<(), cachemir::Error>(())
/// ```
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

struct Inner {
    prepared: Arc<PreparedModel>,
    weights: Weights,
    calibration: CalibrationTable,
    directory: PathBuf,
    /// Holds the files of the bundled model for as long as they are mapped.
    _bundled: Option<tempfile::TempDir>,
}

impl Model {
    /// Opens a directory in Hugging Face layout: `config.json`, `tokenizer.json` and weights in safetensors. Ranges
    /// come from `calibration.json` beside them; without one the model is calibrated here on texts built into this
    /// crate, which takes seconds for the bundled model and minutes for one of 100 M parameters.
    ///
    /// Memory: the weights in f32, four bytes a parameter, and the file mapped.
    ///
    /// # Errors
    /// [`Error::Model`] for files that are missing, damaged or of an architecture that is not supported;
    /// [`Error::Plan`] for a calibration of another model.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(directory, &mut |_, _, _| {})
    }

    /// [`Model::open`], which tells `progress` what it is at and how far.
    ///
    /// # Errors
    /// [`Error::Model`] for files that are missing, damaged or of an architecture that is not supported;
    /// [`Error::Plan`] for a calibration of another model.
    pub fn open_with(directory: impl AsRef<Path>, progress: &mut ProgressOf<'_>) -> Result<Self> {
        Self::read(directory.as_ref(), None, None, progress)
    }

    /// The model in `directory` with the ranges of the file `calibration` instead of those beside it.
    ///
    /// # Errors
    /// [`Error::Model`] for files that are missing, damaged or of an architecture that is not supported;
    /// [`Error::Plan`] for a calibration of another model.
    pub fn open_calibrated(directory: impl AsRef<Path>, calibration: impl AsRef<Path>) -> Result<Self> {
        Self::read(directory.as_ref(), Some(calibration.as_ref()), None, &mut |_, _, _| {})
    }

    /// The model that comes with this crate: two layers, 64 features, trained on Shakespeare. For first steps and
    /// tests.
    ///
    /// # Errors
    /// [`Error::Io`] when no temporary directory can be written.
    pub fn bundled() -> Result<Self> {
        Self::bundled_with(&mut |_, _, _| {})
    }

    /// [`Model::bundled`], which tells `progress` what it is at and how far.
    ///
    /// # Errors
    /// [`Error::Io`] when no temporary directory can be written.
    pub fn bundled_with(progress: &mut ProgressOf<'_>) -> Result<Self> {
        let folder = unpack_bundled_model()?;
        let path = folder.path().to_owned();
        Self::read(&path, None, Some(folder), progress)
    }

    fn read(
        directory: &Path,
        calibration: Option<&Path>,
        bundled: Option<tempfile::TempDir>,
        progress: &mut ProgressOf<'_>,
    ) -> Result<Self> {
        progress("reading the model", 0, 1);
        let prepared = PreparedModel::read(directory)?;
        let weights = Weights::open(directory, prepared.model.config())?;
        let calibration = match calibration {
            Some(path) => read_calibration(&prepared, path)?,
            None => stored_or_default_calibration(&prepared, directory, progress)?,
        };
        let inner = Inner {
            prepared: Arc::new(prepared),
            weights,
            calibration,
            directory: directory.to_owned(),
            _bundled: bundled,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Shape of the model.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        self.inner.prepared.model.config()
    }

    /// Decoder layers.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.config().num_hidden_layers
    }

    /// Where its files lie.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// Whether the model is the one that comes with this crate.
    #[must_use]
    pub fn is_bundled(&self) -> bool {
        self.inner._bundled.is_some()
    }

    /// The exact f32 model, tokenizer and chat frame.
    #[must_use]
    pub fn prepared(&self) -> &Arc<PreparedModel> {
        &self.inner.prepared
    }

    /// The weights in their files.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.inner.weights
    }

    /// What calibration saw.
    #[must_use]
    pub fn calibration(&self) -> &CalibrationTable {
        &self.inner.calibration
    }

    /// Longest text, prompt and answer together, that the calibrated ranges cover: one and a half times the longest
    /// of the calibration.
    #[must_use]
    pub fn longest_text(&self) -> usize {
        3 * self.inner.calibration.longest_context / 2
    }

    /// Text of `tokens`, without special tokens.
    ///
    /// # Errors
    /// [`Error::Format`] when the tokenizer cannot decode them.
    pub fn text(&self, tokens: &[u32]) -> Result<String> {
        self.inner.prepared.tokenizer.decode(tokens)
    }
}

/// The calibration beside the model; without one, a calibration on the built-in texts by the policy of this file.
///
/// # Errors
/// [`Error::Plan`] for a calibration of another model; those of [`calibrate`].
pub fn stored_or_default_calibration(
    prepared: &PreparedModel,
    directory: &Path,
    progress: &mut ProgressOf<'_>,
) -> Result<CalibrationTable> {
    let path = directory.join(CALIBRATION_FILE);
    if path.is_file() {
        return read_calibration(prepared, &path);
    }
    let texts = |part| {
        let texts = built_in(part, prepared.frame.is_chat);
        prepared.private_tokens(&texts, CALIBRATION_CONTEXT, CALIBRATION_ANSWER)
    };
    let (calibration, held_out) = (texts(TextPart::Calibration)?, texts(TextPart::HeldOut)?);
    Ok(calibrate(prepared, &calibration, &held_out, &Margins::default(), progress)?.table)
}

/// The calibration stored at `path`, which must be that of the model.
fn read_calibration(prepared: &PreparedModel, path: &Path) -> Result<CalibrationTable> {
    let (config, model) = (prepared.model.config(), prepared.model.fingerprint());
    CalibrationTable::read(path, config, &model, &prepared.frame.prefix)
}

/// Writes the bundled model to a temporary directory, which is removed when the value is dropped.
///
/// # Errors
/// [`Error::Io`].
pub fn unpack_bundled_model() -> Result<tempfile::TempDir> {
    let io = |path: &Path, source| Error::Io { path: path.display().to_string(), source };
    let folder = tempfile::tempdir().map_err(|source| io(&std::env::temp_dir(), source))?;
    for (name, bytes) in BUNDLED {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).map_err(|source| io(&path, source))?;
    }
    Ok(folder)
}
