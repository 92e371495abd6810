//! Texts to calibrate and to compare on, and how a model is shown them.
//!
//! The built-in set has verse for models without a chat template (Shakespeare, public domain) and questions written for
//! this project for models with one. Its three parts never mix: calibration, held-out (which may widen intervals), and
//! evaluation (which calibration never sees). A file of one's own holds texts separated by lines of three dashes.

use std::path::Path;

use crate::contract::{Error, Result};

use crate::model::block_functions::ExactFunctions;
use crate::model::chat_template::ChatFrame;
use crate::model::files::read_bounded;
use crate::model::reference::{KeyValueCache, ReferenceModel};
use crate::model::tokenizer::Tokenizer;

const MAX_TEXT_BYTES: u64 = 64 << 20;

/// Which part of the built-in set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextPart {
    /// Intervals come from these.
    Calibration,
    /// Intervals are checked on these and widened where they must be.
    HeldOut,
    /// Fidelity is measured on these.
    Evaluation,
}

/// The built-in texts of a part, for a model with or without a chat template.
pub fn built_in(part: TextPart, is_chat: bool) -> Vec<String> {
    split(match (part, is_chat) {
        (TextPart::Calibration, false) => include_str!("texts/verse_calibration.txt"),
        (TextPart::HeldOut, false) => include_str!("texts/verse_held_out.txt"),
        (TextPart::Evaluation, false) => include_str!("texts/verse_evaluation.txt"),
        (TextPart::Calibration, true) => include_str!("texts/chat_calibration.txt"),
        (TextPart::HeldOut, true) => include_str!("texts/chat_held_out.txt"),
        (TextPart::Evaluation, true) => include_str!("texts/chat_evaluation.txt"),
    })
}

/// Texts of a file, separated by lines of three dashes.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::Format`] when it is not UTF-8 or holds no text.
pub fn read_texts(path: &Path) -> Result<Vec<String>> {
    let bad = |why: &str| Error::Format {
        what: path.display().to_string(),
        why: why.to_owned(),
        remedy: "write UTF-8 texts separated by lines of three dashes".to_owned(),
    };
    let bytes = read_bounded(path, MAX_TEXT_BYTES)?;
    let texts = split(std::str::from_utf8(&bytes).map_err(|_| bad("not UTF-8"))?);
    if texts.is_empty() { Err(bad("no text in it")) } else { Ok(texts) }
}

fn split(text: &str) -> Vec<String> {
    let parts = text.split("\n---\n").map(|part| part.trim_matches('\n'));
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// A model with its tokenizer and chat frame, and the cache that holds its public prefix.
pub struct PreparedModel {
    /// The exact model.
    pub model: ReferenceModel,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What stands around a message.
    pub frame: ChatFrame,
    /// Cache after the public prefix.
    pub prefix_cache: KeyValueCache,
}

impl PreparedModel {
    /// Reads a model directory and runs its public prefix.
    ///
    /// # Errors
    /// As [`ReferenceModel::read`], [`Tokenizer::read`] and [`ChatFrame::read`].
    pub fn read(directory: &Path) -> Result<Self> {
        let model = ReferenceModel::read(directory)?;
        let tokenizer = Tokenizer::read(directory, model.config())?;
        let frame = ChatFrame::read(directory, model.config(), &tokenizer)?;
        let mut prefix_cache = model.new_cache();
        model.forward(&frame.prefix, &mut prefix_cache, &mut ExactFunctions)?;
        Ok(Self { model, tokenizer, frame, prefix_cache })
    }

    /// Private tokens of `texts`, each to be run behind the prefix.
    ///
    /// With a chat template a text is a message, followed by the exact model's greedy answer of up to `answer` tokens;
    /// without one it is cut into pieces that fit `context` positions with the prefix.
    ///
    /// # Errors
    /// [`Error::Shape`] when a message does not fit the model's context; as [`Tokenizer::encode`].
    pub fn private_tokens(&self, texts: &[String], context: usize, answer: usize) -> Result<Vec<Vec<u32>>> {
        let longest = context.min(self.model.config().max_position_embeddings);
        let room = longest.saturating_sub(self.frame.prefix.len());
        if room < 2 {
            return Err(Error::Shape {
                operation: "texts",
                what: format!(
                    "{} positions hold a prefix of {} and no text",
                    longest,
                    self.frame.prefix.len()
                ),
                remedy: "allow a longer context".to_owned(),
            });
        }
        let mut sequences = Vec::new();
        for text in texts {
            if self.frame.is_chat {
                let mut tokens = self.frame.message(&self.tokenizer, text)?;
                let answer = answer.min(room.saturating_sub(tokens.len()));
                let mut cache = self.prefix_cache.clone();
                tokens.extend(self.model.generate_greedy(&tokens, &mut cache, answer)?);
                sequences.push(tokens);
            } else {
                let tokens = self.tokenizer.encode(text)?;
                sequences.extend(tokens.chunks(room).map(<[u32]>::to_vec));
            }
        }
        Ok(sequences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_parts_share_no_text() {
        for is_chat in [false, true] {
            let mut all = Vec::new();
            for part in [TextPart::Calibration, TextPart::HeldOut, TextPart::Evaluation] {
                let texts = built_in(part, is_chat);
                assert!(texts.len() >= 5, "{part:?}: {} texts", texts.len());
                all.extend(texts);
            }
            let count = all.len();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }

    #[test]
    fn dashes_separate_texts_and_empty_ones_vanish() {
        assert_eq!(split("a\nb\n---\n\n---\nc\n"), ["a\nb", "c"]);
    }
}
