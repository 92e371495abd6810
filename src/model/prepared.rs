//! A model made ready to be run: weights, tokenizer, what stands around a message, and the public prefix in the cache.

use std::path::Path;

use crate::contract::{Error, Result};

use crate::model::block_functions::ExactFunctions;
use crate::model::chat_frame::ChatFrame;
use crate::model::python_text::CivilTime;
use crate::model::reference::{KeyValueCache, ReferenceModel};
use crate::model::tokenizer::Tokenizer;

pub use crate::model::texts::{TextPart, built_in, read_texts};

/// A model with its tokenizer and chat frame, and the cache that holds its public prefix.
pub struct PreparedModel {
    /// The exact model.
    pub model: ReferenceModel,
    /// Tokenizer of the model.
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
    /// [`Error::Model`] when the directory, its configuration, weights, tokenizer or template cannot be used.
    pub fn read(directory: &Path) -> Result<Self> {
        Self::read_at(directory, CivilTime::now())
    }

    /// Reads a model directory for a conversation that began at `now` (a template may show the date), and runs its
    /// public prefix.
    ///
    /// # Errors
    /// [`Error::Model`] when the directory, its configuration, weights, tokenizer or template cannot be used.
    pub fn read_at(directory: &Path, now: CivilTime) -> Result<Self> {
        let model = ReferenceModel::read(directory)?;
        let tokenizer = Tokenizer::read(directory, model.config())?;
        let frame = ChatFrame::read_at(directory, model.config(), &tokenizer, now)?;
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
                let tokens = self.frame.message(&self.tokenizer, text)?;
                sequences.extend(tokens.chunks(room).map(<[u32]>::to_vec));
            }
        }
        Ok(sequences)
    }
}
