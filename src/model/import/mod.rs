//! Llama GGUF to a Hugging Face directory: `config.json`, `model.safetensors` (f32), `tokenizer.json` and
//! `tokenizer_config.json`.
//!
//! What a file holds is used, or is known to be without effect, or the import is refused by its name: a model that
//! would compute something else is never written.

use std::path::Path;

use serde::Serialize;

use crate::contract::{Error, Result};

use crate::model::config::LlamaConfig;
use crate::model::files::map_file;
use crate::model::gguf::Gguf;
use crate::model::weights::expected_tensors;

mod configuration;
mod parts;
mod tensors;
mod vocabulary;

use parts::GgufParts;

/// What an import wrote.
#[derive(Clone, Debug)]
pub struct ImportSummary {
    /// Shape of the model.
    pub config: LlamaConfig,
    /// Tensors written.
    pub tensors: usize,
    /// Parameters written.
    pub parameters: usize,
}

/// Writes the model in `gguf` as a Hugging Face directory; files there of the same names are replaced.
///
/// A file that is one part of several is read together with the others, which must lie beside it. Nothing is written
/// before everything was checked. Memory: the headers, one row of weights; the files are mapped.
///
/// # Errors
/// [`Error::Model`] when the file is damaged, not a Llama, lacks a tensor, holds what would not be used, or stores a
/// tensor in a format that is not read; [`Error::Io`] when the directory cannot be written.
pub fn import_gguf(gguf: &Path, directory: &Path) -> Result<ImportSummary> {
    if gguf.is_dir() {
        return Err(Error::Model {
            path: gguf.display().to_string(),
            why: "this is a directory, not a GGUF file".to_owned(),
            remedy: "give the file that ends in .gguf".to_owned(),
        });
    }
    let map = map_file(gguf)?;
    let path = gguf.display().to_string();
    let first = Gguf::parse(&map, &path)?;
    let others = parts::other_paths(&first, gguf)?;
    let maps = others.iter().map(|path| map_file(path)).collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = others.iter().map(|path| path.display().to_string()).collect();
    let others = maps.iter().zip(&names).map(|(map, name)| Gguf::parse(map, name)).collect::<Result<_>>()?;
    let parts = GgufParts::join(first, others)?;
    let config = configuration::read(&parts)?;
    tensors::check(&parts, &config)?;
    let tokenizer = vocabulary::Vocabulary::read(&parts)?;
    let settings = tokenizer.settings();

    std::fs::create_dir_all(directory).map_err(|error| io_error(directory, error))?;
    let parameters = tensors::write(&parts, &config, &directory.join("model.safetensors"))?;
    write_json(&directory.join("tokenizer.json"), &tokenizer)?;
    write_json(&directory.join("tokenizer_config.json"), &settings)?;
    write_json(&directory.join("config.json"), &config.to_json())?;
    Ok(ImportSummary { tensors: expected_tensors(&config).len(), config, parameters })
}

fn write_json(path: &Path, json: &impl Serialize) -> Result<()> {
    let file = std::fs::File::create(path).map_err(|error| io_error(path, error))?;
    let mut writer = std::io::BufWriter::new(file);
    serde_json::to_writer(&mut writer, json).map_err(|error| io_error(path, error.into()))?;
    std::io::Write::flush(&mut writer).map_err(|error| io_error(path, error))
}

fn io_error(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests;
