//! What a model wants around a user's message, as token ids.
//!
//! The tokens before the message (template and system prompt) are the same for every user and may be public; their keys
//! and values then enter the cache in the clear, and the attention sink on the first token needs no encryption. A whole
//! conversation is encoded as one text, as Hugging Face encodes it; the public prefix is what the token ids of all
//! messages have in common, so that no merge across the seam is lost.

use std::ops::Range;
use std::path::Path;

use crate::contract::{Error, Result};

use crate::model::chat_template::{ChatMessage, ChatTemplate};
use crate::model::config::LlamaConfig;
use crate::model::python_text::CivilTime;
use crate::model::tokenizer::Tokenizer;
use crate::model::tokenizer_settings::TokenizerSettings;

/// Messages that begin differently: what the encodings of all of them begin with does not depend on a message.
const PROBES: [&str; 10] = ["a", "Be", "7", "(", "I am", "世", "é", "_x", "\"", "-"];

/// What stands around a user's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatFrame {
    /// Token ids before every message: the public prefix.
    pub prefix: Vec<u32>,
    /// The directory has a chat template; otherwise a text stands between start- and end-of-text tokens at most.
    pub is_chat: bool,
    around: Around,
}

/// How a message becomes a whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Around {
    Template(Box<ChatTemplate>),
    /// Token ids before and after a text.
    Ends(Vec<u32>, Vec<u32>),
}

impl ChatFrame {
    /// Frame of the model in `directory`: its chat template with the template's own system prompt, or what its
    /// tokenizer puts at the ends of a text when there is none. A template that shows the date shows today's, in UTC.
    ///
    /// # Errors
    /// [`Error::Model`] when a template is there and cannot be rendered.
    pub fn read(directory: &Path, config: &LlamaConfig, tokenizer: &Tokenizer) -> Result<Self> {
        Self::read_at(directory, config, tokenizer, CivilTime::now())
    }

    /// Frame of the model in `directory` for a conversation that began at `now`: a template that shows the date shows
    /// that one, so that a conversation taken up again has the prefix it had.
    ///
    /// # Errors
    /// [`Error::Model`] when a template is there and cannot be rendered.
    pub fn read_at(
        directory: &Path,
        config: &LlamaConfig,
        tokenizer: &Tokenizer,
        now: CivilTime,
    ) -> Result<Self> {
        let mut settings = TokenizerSettings::read(directory, tokenizer)?;
        let Some(template) = settings.template.take() else {
            let (before, after) = ends(directory, &settings, config, tokenizer)?;
            let around = Around::Ends(before.clone(), after);
            return Ok(Self { prefix: before, is_chat: false, around });
        };
        let template = ChatTemplate::new(template, settings.special_tokens, now);
        let around = Around::Template(Box::new(template));
        let mut frame = Self { prefix: Vec::new(), is_chat: true, around };
        let encode = |probe: &str| frame.encode(tokenizer, &[ChatMessage::user(probe)], false);
        let [first, others @ ..] = &PROBES;
        let mut prefix = encode(first)?;
        for probe in others {
            let other = encode(probe)?;
            let common = prefix.iter().zip(&other).take_while(|(left, right)| left == right).count();
            prefix.truncate(common);
        }
        frame.prefix = prefix;
        Ok(frame)
    }

    /// The prefix depends on the day: freeze it with [`ChatFrame::read_at`] to take a conversation up again.
    pub fn shows_date(&self) -> bool {
        match &self.around {
            Around::Template(template) => template.shows_date(),
            Around::Ends(..) => false,
        }
    }

    /// Token ids of a message as they follow the prefix, up to where the answer begins. Control tokens written in the
    /// message are encoded as the characters they are written with: a message cannot speak as the system.
    ///
    /// # Errors
    /// [`Error::Format`] when the tokenizer cannot encode it, [`Error::Model`] when the template refuses it,
    /// [`Error::Shape`] when its beginning changes the tokens of the prefix.
    pub fn message(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
        self.behind_prefix(self.encode(tokenizer, &[ChatMessage::user(text)], false)?)
    }

    /// Token ids of a message in which control tokens count as such, exactly as Hugging Face encodes it: for prompts
    /// that the caller wrote, never for text from elsewhere.
    ///
    /// # Errors
    /// [`Error::Format`] when the tokenizer cannot encode it, [`Error::Model`] when the template refuses it,
    /// [`Error::Shape`] when its beginning changes the tokens of the prefix.
    pub fn message_with_control_tokens(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
        self.behind_prefix(self.encode(tokenizer, &[ChatMessage::user(text)], true)?)
    }

    /// Token ids of a whole conversation, from its first token to where the next answer begins; control tokens
    /// written in messages are encoded as text. Without a template the messages follow each other.
    ///
    /// # Errors
    /// [`Error::Format`] when the tokenizer cannot encode it, [`Error::Model`] when the template refuses it.
    pub fn conversation(&self, tokenizer: &Tokenizer, messages: &[ChatMessage]) -> Result<Vec<u32>> {
        self.encode(tokenizer, messages, false)
    }

    /// A message with what stands before and behind it, control tokens counting as such.
    #[cfg(test)]
    pub(crate) fn whole_with_control_tokens(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
        self.encode(tokenizer, &[ChatMessage::user(text)], true)
    }

    fn behind_prefix(&self, tokens: Vec<u32>) -> Result<Vec<u32>> {
        match tokens.strip_prefix(self.prefix.as_slice()) {
            Some(behind) => Ok(behind.to_vec()),
            None => Err(Error::Shape {
                operation: "message",
                what: format!(
                    "its beginning merges with the template: token {} of the public prefix of {} changes",
                    tokens.iter().zip(&self.prefix).take_while(|(left, right)| left == right).count() + 1,
                    self.prefix.len()
                ),
                remedy: "begin the message with a word, not with blanks or line breaks".to_owned(),
            }),
        }
    }

    fn encode(&self, tokenizer: &Tokenizer, messages: &[ChatMessage], is_trusted: bool) -> Result<Vec<u32>> {
        let render = |messages: &[ChatMessage]| match &self.around {
            Around::Template(template) => template.render(messages),
            Around::Ends(..) => Ok(messages.iter().map(|message| message.content.as_str()).collect()),
        };
        let hidden = if is_trusted { None } else { HiddenTokens::new(tokenizer, messages) };
        let (text, plain) = match hidden {
            None => (render(messages)?, Vec::new()),
            Some(hidden) => hidden.restore(&render(&hidden.messages)?),
        };
        let tokens = tokenizer.encode_with_plain(&text, &plain)?;
        Ok(match &self.around {
            Around::Template(_) => tokens,
            Around::Ends(before, after) => [before.as_slice(), &tokens, after].concat(),
        })
    }
}

/// Token ids before and after a text without a template.
///
/// The post-processor of `tokenizer.json` says so first (as in transformers 5), then `add_bos_token` and
/// `add_eos_token`; settings that transformers wrote and that say neither mean nothing; without settings the
/// configuration's start-of-text token stands first.
fn ends(
    directory: &Path,
    settings: &TokenizerSettings,
    config: &LlamaConfig,
    tokenizer: &Tokenizer,
) -> Result<(Vec<u32>, Vec<u32>)> {
    let (before, after) = tokenizer.post_processed()?;
    if !before.is_empty() || !after.is_empty() {
        let contradicts = (settings.add_bos_token == Some(false) && !before.is_empty())
            || (settings.add_eos_token == Some(false) && !after.is_empty());
        if contradicts {
            return Err(Error::Model {
                path: directory.join("tokenizer_config.json").display().to_string(),
                why: format!(
                    "tokenizer.json puts {before:?} before and {after:?} after a text, add_bos_token or add_eos_token is false"
                ),
                remedy: "correct the one that is not meant".to_owned(),
            });
        }
        return Ok((before, after));
    }
    let special = |name: &str, fallback: Option<u32>| -> Result<Vec<u32>> {
        let named = settings.special_token(name).and_then(|content| tokenizer.token_id(content));
        named.or(fallback).map(|token| vec![token]).ok_or_else(|| Error::Model {
            path: directory.join("tokenizer_config.json").display().to_string(),
            why: format!("add_{name} is true, and no file names a {name}"),
            remedy: format!("name the {name}"),
        })
    };
    let after = if settings.add_eos_token == Some(true) {
        special("eos_token", config.eos_token_ids.first().copied())?
    } else {
        Vec::new()
    };
    let before = match settings.add_bos_token {
        Some(true) => special("bos_token", config.bos_token_id)?,
        Some(false) => Vec::new(),
        None if settings.names_a_class || settings.add_eos_token.is_some() => Vec::new(),
        None => config.bos_token_id.into_iter().collect(),
    };
    Ok((before, after))
}

/// Messages whose control tokens are taken out before rendering and put back, as text, behind it.
struct HiddenTokens {
    messages: Vec<ChatMessage>,
    /// What each stand-in, by its number, stands for.
    contents: Vec<String>,
    open: char,
    close: char,
}

impl HiddenTokens {
    /// `None` when no message holds a control token.
    fn new(tokenizer: &Tokenizer, messages: &[ChatMessage]) -> Option<Self> {
        let mut control: Vec<&str> =
            tokenizer.control_tokens().filter(|content| !content.is_empty()).collect();
        control.retain(|content| messages.iter().any(|message| message.content.contains(content)));
        if control.is_empty() {
            return None;
        }
        // Where two begin at one place, the longer is the token.
        control.sort_by_key(|content| std::cmp::Reverse(content.len()));
        let is_free = |character: &char| messages.iter().all(|message| !message.content.contains(*character));
        let mut free = ('\u{E000}'..='\u{F8FF}').filter(is_free);
        let (open, close) = (free.next()?, free.next()?);
        let mut hidden = Self { messages: messages.to_vec(), contents: Vec::new(), open, close };
        for message in &mut hidden.messages {
            let mut text = String::new();
            let mut rest = message.content.as_str();
            while let Some(character) = rest.chars().next() {
                let width = match control.iter().find(|content| rest.starts_with(**content)) {
                    Some(content) => {
                        text += &format!("{open}{}{close}", hidden.contents.len());
                        hidden.contents.push((*content).to_owned());
                        content.len()
                    }
                    None => {
                        text.push(character);
                        character.len_utf8()
                    }
                };
                rest = rest.get(width..).unwrap_or_default();
            }
            message.content = text;
        }
        Some(hidden)
    }

    /// The rendered text with the tokens back in it, and where they are.
    fn restore(&self, rendered: &str) -> (String, Vec<Range<usize>>) {
        let (mut text, mut plain) = (String::new(), Vec::new());
        let mut pieces = rendered.split(self.open);
        text.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let stand_in = piece.split_once(self.close);
            let content = stand_in
                .and_then(|(number, rest)| Some((self.contents.get(number.parse::<usize>().ok()?)?, rest)));
            match content {
                Some((content, rest)) => {
                    plain.push(text.len()..text.len() + content.len());
                    text.push_str(content);
                    text.push_str(rest);
                }
                None => {
                    text.push(self.open);
                    text.push_str(piece);
                }
            }
        }
        (text, plain)
    }
}
