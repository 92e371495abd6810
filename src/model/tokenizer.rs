//! `tokenizer.json` of a model directory, through the `tokenizers` crate: text to token ids and back, as Hugging Face
//! gives them.
//!
//! Truncation and padding that the file may ask for are for training batches and are switched off. Control tokens
//! (`<|im_start|>`) written in a text are recognized; where a text comes from a user, the ranges it covers may be
//! named, and control tokens in them are encoded as the characters they are written with.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use tokenizers::tokenizer::{Model, Normalizer, OffsetType, PreTokenizer};
use tokenizers::{PreTokenizedString, Token};

use crate::contract::{Error, Result};

use crate::model::config::LlamaConfig;
use crate::model::directory::names_in;
use crate::model::files::read_bounded;
use crate::model::lenient_json::is_git_lfs_pointer;

const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// Text to token ids and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Added tokens by id: content, and whether it is a control token.
    added: BTreeMap<u32, (String, bool)>,
    /// Rows of the embedding; ids from here on cannot be used.
    rows: usize,
    path: String,
}

/// A token id and the bytes of the text that it stands for.
type Located = (u32, Range<usize>);

impl Tokenizer {
    /// Reads `directory/tokenizer.json`; every id of its vocabulary must lie below the configuration's vocabulary size.
    /// Tokens added beyond it (as CodeLlama has them) are an error only when a text uses one.
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
            return Err(missing(directory));
        }
        let bytes = read_bounded(&path, MAX_TOKENIZER_BYTES)?;
        if is_git_lfs_pointer(&bytes) {
            return Err(bad(
                "this is a git-lfs pointer, not the file".to_owned(),
                "run `git lfs pull` there",
            ));
        }
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|source| bad(format!("not a tokenizer ({source})"), "fetch the file again"))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|source| Error::Internal(format!("no truncation: {source}")))?;
        match inner.get_vocab(false).into_values().max() {
            Some(largest) if (largest as usize) < config.vocab_size => {}
            Some(largest) => {
                return Err(bad(
                    format!("token id {largest} does not fit vocab_size = {}", config.vocab_size),
                    "use the tokenizer.json that belongs to this model",
                ));
            }
            None => return Err(bad("the vocabulary is empty".to_owned(), "fetch the file again")),
        }
        let added = inner.get_added_tokens_decoder().into_iter();
        let added = added.map(|(id, token)| (id, (token.content, token.special))).collect();
        Ok(Self { inner, added, rows: config.vocab_size, path: path.display().to_string() })
    }

    /// Token ids of `text`; control tokens written in it (`<|im_start|>`) are recognized, none is added.
    ///
    /// # Errors
    /// [`Error::Format`] when the tokenizer cannot encode the text, or one of its tokens has no row in the embedding.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with_plain(text, &[])
    }

    /// Token ids of `text`; control tokens are recognized, but not in the byte ranges `plain`: there they are text.
    ///
    /// # Errors
    /// [`Error::Format`] when the tokenizer cannot encode the text, or one of its tokens has no row in the embedding.
    pub fn encode_with_plain(&self, text: &str, plain: &[Range<usize>]) -> Result<Vec<u32>> {
        let encoding = self.inner.encode(text, false).map_err(|source| self.error("encode", &source))?;
        let located: Vec<Located> = encoding
            .get_ids()
            .iter()
            .zip(encoding.get_offsets())
            .map(|(id, (start, end))| (*id, *start..*end))
            .collect();
        let is_hidden = |(id, range): &Located| {
            self.added.get(id).is_some_and(|(_, is_control)| *is_control)
                && plain.iter().any(|plain| range.start < plain.end && plain.start < range.end)
        };
        let ids = if located.iter().any(is_hidden) {
            let recognized: Vec<Located> = located
                .into_iter()
                .filter(|token| self.added.contains_key(&token.0) && !is_hidden(token))
                .collect();
            self.encode_around(text, &recognized).map_err(|source| self.error("encode", &source))?
        } else {
            encoding.get_ids().to_vec()
        };
        match ids.iter().find(|id| **id as usize >= self.rows) {
            None => Ok(ids),
            Some(id) => Err(Error::Format {
                what: self.path.clone(),
                why: format!(
                    "token {:?} of the text has id {id}, the model has {} rows",
                    self.inner.id_to_token(*id).unwrap_or_default(),
                    self.rows
                ),
                remedy: "leave it out of the text, or use weights with a row for it".to_owned(),
            }),
        }
    }

    /// The pipeline of `tokenizers` with the added tokens already found: everything between them is text.
    fn encode_around(&self, text: &str, recognized: &[Located]) -> tokenizers::Result<Vec<u32>> {
        let mut pieces = PreTokenizedString::from(text);
        pieces.split(|_, whole| {
            let mut split = Vec::new();
            let mut piece = |range: Range<usize>, id: Option<u32>| {
                if let Some(slice) = whole.slice(tokenizers::normalizer::Range::Original(range)) {
                    let length = slice.get().len();
                    let token = id.map(|id| vec![Token::new(id, slice.get().to_owned(), (0, length))]);
                    split.push((slice, token));
                }
            };
            let mut position = 0;
            for (id, range) in recognized {
                piece(position..range.start, None);
                piece(range.clone(), Some(*id));
                position = range.end;
            }
            piece(position..text.len(), None);
            Ok(split)
        })?;
        if let Some(normalizer) = self.inner.get_normalizer() {
            pieces.normalize(|piece| normalizer.normalize(piece))?;
        }
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        pieces.tokenize(|piece| self.inner.get_model().tokenize(piece.get()))?;
        Ok(pieces.into_encoding(None, 0, OffsetType::Byte)?.get_ids().to_vec())
    }

    /// Text of `tokens`, without control tokens, as it is: no blanks before punctuation are taken away.
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

    /// Content of a token by its id, as the vocabulary writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Contents of all control tokens.
    pub(crate) fn control_tokens(&self) -> impl Iterator<Item = &str> {
        self.added.values().filter(|(_, is_control)| *is_control).map(|(content, _)| content.as_str())
    }

    /// Ids that the file's post-processor puts before and after every text.
    ///
    /// # Errors
    /// [`Error::Format`] when the tokenizer cannot encode.
    pub(crate) fn post_processed(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        let encode = |is_processed| {
            let encoding =
                self.inner.encode("a", is_processed).map_err(|source| self.error("encode", &source))?;
            Ok::<_, Error>(encoding.get_ids().to_vec())
        };
        let (bare, processed) = (encode(false)?, encode(true)?);
        let at = processed.windows(bare.len().max(1)).position(|window| window == bare);
        let (before, rest) = processed.split_at(at.unwrap_or(0));
        Ok((before.to_vec(), rest.get(bare.len()..).unwrap_or_default().to_vec()))
    }

    fn error(&self, operation: &str, source: &dyn std::fmt::Display) -> Error {
        Error::Format {
            what: self.path.clone(),
            why: format!("cannot {operation} ({source})"),
            remedy: "use the tokenizer.json that belongs to this model".to_owned(),
        }
    }
}

/// Which other form of a tokenizer lies in the directory.
fn missing(directory: &Path) -> Error {
    const FORMS: [&str; 4] = ["tokenizer.model", "tekken.json", "vocab.json", "tiktoken.model"];
    let names = names_in(directory);
    let other = FORMS.iter().find(|form| names.iter().any(|name| name == *form));
    Error::Model {
        path: directory.join("tokenizer.json").display().to_string(),
        why: match other {
            Some(other) => format!("the tokenizer is missing; {other}, which is there, is not read"),
            None => "the tokenizer is missing".to_owned(),
        },
        remedy: match other {
            Some(_) => "convert it: load it with transformers' AutoTokenizer and save it to the directory",
            None => "fetch tokenizer.json from where the weights come from",
        }
        .to_owned(),
    }
}
