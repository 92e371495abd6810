//! Chat templates: what stands before and after a user's message.
//!
//! The text before it (template and system prompt) is the same for every user and may be public; its keys and values
//! then enter the cache in the clear, and the attention sink on the first token needs no encryption.

use std::path::Path;

use minijinja::{Environment, context};
use serde::Deserialize;

use crate::contract::{Error, Result};

use crate::model::config::LlamaConfig;
use crate::model::files::read_bounded;
use crate::model::tokenizer::Tokenizer;

const MAX_TEMPLATE_BYTES: u64 = 16 << 20;
/// Stands for the user's message while the template is cut in two; no template contains it.
const MARKER: &str = "\u{2}user message\u{3}";

/// What a model wants around a user's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatFrame {
    /// Token ids before the message: the public prefix.
    pub prefix: Vec<u32>,
    /// Token ids between the message and the model's answer.
    pub suffix: Vec<u32>,
    /// The directory has a chat template; otherwise the prefix is the start-of-text token alone.
    pub is_chat: bool,
}

#[derive(Deserialize)]
struct TokenizerConfig {
    chat_template: Option<String>,
    bos_token: Option<TokenContent>,
    eos_token: Option<TokenContent>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenContent {
    Text(String),
    Object { content: String },
}

impl TokenContent {
    fn text(&self) -> &str {
        match self {
            Self::Text(content) | Self::Object { content } => content,
        }
    }
}

impl ChatFrame {
    /// Frame of the model in `directory`: its chat template (`tokenizer_config.json` or `chat_template.jinja`) with the
    /// template's own system prompt, or the start-of-text token when there is none.
    ///
    /// # Errors
    /// [`Error::Model`] when a template is there and cannot be rendered, or does not show the user's message.
    pub fn read(directory: &Path, config: &LlamaConfig, tokenizer: &Tokenizer) -> Result<Self> {
        let path = directory.join("tokenizer_config.json");
        let settings: Option<TokenizerConfig> = if path.is_file() {
            let bytes = read_bounded(&path, MAX_TEMPLATE_BYTES)?;
            Some(serde_json::from_slice(&bytes).map_err(|source| bad(&path, source.to_string()))?)
        } else {
            None
        };
        let separate = directory.join("chat_template.jinja");
        let template = if separate.is_file() {
            let bytes = read_bounded(&separate, MAX_TEMPLATE_BYTES)?;
            Some(String::from_utf8(bytes).map_err(|source| bad(&separate, source.to_string()))?)
        } else {
            settings.as_ref().and_then(|settings| settings.chat_template.clone())
        };
        let Some(template) = template else {
            return Ok(Self {
                prefix: config.bos_token_id.into_iter().collect(),
                suffix: Vec::new(),
                is_chat: false,
            });
        };
        let token = |content: Option<&TokenContent>| content.map_or("", TokenContent::text).to_owned();
        let bos = token(settings.as_ref().and_then(|settings| settings.bos_token.as_ref()));
        let eos = token(settings.as_ref().and_then(|settings| settings.eos_token.as_ref()));
        let (prefix, suffix) = split_template(&template, &bos, &eos).map_err(|why| bad(&path, why))?;
        Ok(Self { prefix: tokenizer.encode(&prefix)?, suffix: tokenizer.encode(&suffix)?, is_chat: true })
    }

    /// Token ids of a message as they follow the prefix: the message, then the suffix.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn message(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
        let mut tokens = tokenizer.encode(text)?;
        tokens.extend(&self.suffix);
        Ok(tokens)
    }
}

/// Text before and after the user's message.
fn split_template(
    template: &str,
    bos_token: &str,
    eos_token: &str,
) -> std::result::Result<(String, String), String> {
    let mut environment = Environment::new();
    // Python's string methods, which templates call.
    environment.set_unknown_method_callback(|_, value, method, arguments| {
        let text = value.as_str().unwrap_or_default();
        match (method, arguments) {
            ("strip" | "trim", []) => Ok(text.trim().into()),
            _ => Err(minijinja::ErrorKind::UnknownMethod.into()),
        }
    });
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    let rendered = environment
        .render_str(
            template,
            context! {
                messages => [context! { role => "user", content => MARKER }],
                add_generation_prompt => true,
                bos_token,
                eos_token,
            },
        )
        .map_err(|source| source.to_string())?;
    rendered
        .split_once(MARKER)
        .map(|(before, after)| (before.to_owned(), after.to_owned()))
        .ok_or_else(|| "the template does not show the user's message".to_owned())
}

fn bad(path: &Path, why: String) -> Error {
    Error::Model {
        path: path.display().to_string(),
        why: format!("chat template: {why}"),
        remedy: "fetch tokenizer_config.json again, or remove it to use the model without a template"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    #[test]
    fn a_template_is_cut_around_the_message() {
        let (prefix, suffix) = split_template(CHATML, "", "").unwrap();
        assert_eq!(prefix, "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n");
        assert_eq!(suffix, "<|im_end|>\n<|im_start|>assistant\n");
    }

    #[test]
    fn a_template_without_the_message_is_an_error() {
        assert!(split_template("hello", "", "").unwrap_err().contains("message"));
        assert!(split_template("{% for", "", "").is_err());
    }
}
