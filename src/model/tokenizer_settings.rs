//! `tokenizer_config.json` and the templates beside it: what stands at the ends of a text, and around a message.

use std::path::Path;

use serde_json::Value;

use crate::contract::{Error, Result};

use crate::model::files::read_bounded;
use crate::model::lenient_json::JsonObject;
use crate::model::tokenizer::Tokenizer;

const MAX_SETTINGS_BYTES: u64 = 16 << 20;
/// Names of the special tokens that templates may use.
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A chat template, and the file it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateSource {
    pub(crate) text: String,
    pub(crate) path: String,
}

/// What the settings say; everything absent where the directory has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenizerSettings {
    /// Names and texts of the special tokens, for templates.
    pub(crate) special_tokens: Vec<(String, String)>,
    /// Whether a text begins with the start-of-text token, where the settings say so.
    pub(crate) add_bos_token: Option<bool>,
    /// Whether a text ends with the end-of-text token, where the settings say so.
    pub(crate) add_eos_token: Option<bool>,
    /// Written by transformers, which then adds nothing that neither the settings nor the tokenizer asks for.
    pub(crate) names_a_class: bool,
    /// The template for a plain conversation.
    pub(crate) template: Option<TemplateSource>,
}

impl TokenizerSettings {
    /// Reads `tokenizer_config.json`, `special_tokens_map.json` and `chat_template.jinja`, each where it is there.
    ///
    /// # Errors
    /// [`Error::Model`] for a file that is damaged, asks for what is not done, or names tokens that `tokenizer.json`
    /// lacks; for a list of templates without one named `default`.
    pub(crate) fn read(directory: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let mut settings = Self::default();
        let path = directory.join("tokenizer_config.json");
        let config = read_object(&path)?;
        if let Some(config) = &config {
            if config.flag("split_special_tokens")? == Some(true) {
                return Err(config.error(
                    "split_special_tokens = true is not done",
                    "set it to false if the model was trained with control tokens",
                ));
            }
            settings.add_bos_token = config.flag("add_bos_token")?;
            settings.add_eos_token = config.flag("add_eos_token")?;
            settings.names_a_class = config.text("tokenizer_class")?.is_some();
            check_added_tokens(config, tokenizer)?;
        }
        let map = read_object(&directory.join("special_tokens_map.json"))?;
        for name in SPECIAL_TOKENS {
            let content =
                [&config, &map].into_iter().flatten().find_map(|json| token_content(json.value(name)));
            if let Some(content) = content {
                settings.special_tokens.push((name.to_owned(), content));
            }
        }
        let separate = directory.join("chat_template.jinja");
        settings.template = if separate.is_file() {
            let path = separate.display().to_string();
            let bytes = read_bounded(&separate, MAX_SETTINGS_BYTES)?;
            let text = String::from_utf8(bytes).map_err(|source| Error::Model {
                path: path.clone(),
                why: format!("not UTF-8 ({source})"),
                remedy: "fetch the file again".to_owned(),
            })?;
            Some(TemplateSource { text, path })
        } else {
            config.as_ref().map_or(Ok(None), |config| template(config, &path))?
        };
        Ok(settings)
    }

    /// Text of a special token, e.g. `bos_token`.
    pub(crate) fn special_token(&self, name: &str) -> Option<&str> {
        self.special_tokens.iter().find(|(own, _)| own == name).map(|(_, content)| content.as_str())
    }
}

fn read_object(path: &Path) -> Result<Option<JsonObject>> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = read_bounded(path, MAX_SETTINGS_BYTES)?;
    JsonObject::parse(&bytes, &path.display().to_string()).map(Some)
}

/// A token is written as its text or as an object with `content`.
fn token_content(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(content) => Some(content.clone()),
        Value::Object(entries) => entries.get("content")?.as_str().map(str::to_owned),
        _ => None,
    }
}

/// One template, or the one named `default` of several.
fn template(config: &JsonObject, path: &Path) -> Result<Option<TemplateSource>> {
    let source = |text: &str| TemplateSource { text: text.to_owned(), path: path.display().to_string() };
    match config.value("chat_template") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(source(text))),
        Some(Value::Array(templates)) if !templates.is_empty() => {
            let named = |name: &str| {
                let found =
                    templates.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name));
                found.and_then(|entry| entry.get("template")?.as_str())
            };
            match named("default") {
                Some(text) => Ok(Some(source(text))),
                None => {
                    let names: Vec<&str> =
                        templates.iter().filter_map(|entry| entry.get("name")?.as_str()).collect();
                    Err(config.error(
                        format!("chat_template lists {}, and none is named default", names.join(", ")),
                        "name the one that is meant for conversations default",
                    ))
                }
            }
        }
        Some(_) => Err(config.error(
            "chat_template is neither a text nor a list of named templates",
            "write the template as a text, or remove it to use the model without one",
        )),
    }
}

/// transformers adds what the settings list and the tokenizer lacks; here the tokenizer must have it.
fn check_added_tokens(config: &JsonObject, tokenizer: &Tokenizer) -> Result<()> {
    let remedy = "use the tokenizer.json that belongs to these settings";
    if let Some(Value::Object(added)) = config.value("added_tokens_decoder") {
        for (id, entry) in added {
            let content = token_content(Some(entry)).unwrap_or_default();
            if tokenizer.token_id(&content).map(|found| found.to_string()).as_ref() != Some(id) {
                return Err(config.error(
                    format!("added_tokens_decoder gives id {id} to {content:?}, tokenizer.json does not"),
                    remedy,
                ));
            }
        }
    }
    for name in ["bos_token", "eos_token"] {
        if let Some(content) = token_content(config.value(name))
            && tokenizer.token_id(&content).is_none()
        {
            return Err(config.error(format!("{name} {content:?} is not in tokenizer.json"), remedy));
        }
    }
    Ok(())
}
