//! `tokenizer.json` of a model directory, through the `tokenizers` crate.

use std::path::Path;

use crate::contract::{Error, Result};

use crate::model::config::LlamaConfig;
use crate::model::files::read_bounded;

const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// Text to token ids and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: String,
}

impl Tokenizer {
    /// Reads `directory/tokenizer.json`; every id must lie below the configuration's vocabulary size.
    ///
    /// # Errors
    /// [`Error::Model`] when the file is missing, damaged, or belongs to another vocabulary.
    pub fn read(directory: &Path, config: &LlamaConfig) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        let bad = |why: String, remedy: &str| Error::Model {
            path: path.display().to_string(),
            why,
            remedy: remedy.to_owned(),
        };
        if !path.is_file() {
            return Err(bad(
                "the tokenizer is missing".to_owned(),
                "fetch tokenizer.json from where the weights come from",
            ));
        }
        let bytes = read_bounded(&path, MAX_TOKENIZER_BYTES)?;
        let inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|source| bad(format!("not a tokenizer ({source})"), "fetch the file again"))?;
        let largest = inner.get_vocab(true).into_values().max();
        match largest {
            Some(largest) if (largest as usize) < config.vocab_size => {}
            Some(largest) => {
                return Err(bad(
                    format!("token id {largest} does not fit vocab_size = {}", config.vocab_size),
                    "use the tokenizer.json that belongs to this model",
                ));
            }
            None => return Err(bad("the vocabulary is empty".to_owned(), "fetch the file again")),
        }
        Ok(Self { inner, path: path.display().to_string() })
    }

    /// Token ids of `text`; special tokens written in it (`<|im_start|>`) are recognized, none is added.
    ///
    /// # Errors
    /// [`Error::Format`] when the tokenizer cannot encode the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode(text, false).map_err(|source| self.error("encode", &source))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of `tokens`, without special tokens.
    ///
    /// # Errors
    /// [`Error::Format`] when the tokenizer cannot decode them.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner.decode(tokens, true).map_err(|source| self.error("decode", &source))
    }

    /// Id of a token by its exact content, e.g. `<|im_end|>`.
    pub fn token_id(&self, content: &str) -> Option<u32> {
        self.inner.token_to_id(content)
    }

    fn error(&self, operation: &str, source: &dyn std::fmt::Display) -> Error {
        Error::Format {
            what: self.path.clone(),
            why: format!("cannot {operation} ({source})"),
            remedy: "use the tokenizer.json that belongs to this model".to_owned(),
        }
    }
}
