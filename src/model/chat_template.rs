//! Chat templates, rendered as transformers renders them: Jinja with Python's methods and transformers' additions.

use std::error::Error as _;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error as JinjaError, ErrorKind};
use serde::Serialize;

use crate::contract::{Error, Result};

use crate::model::python_text::{CivilTime, python_str, to_json};
use crate::model::tokenizer_settings::TemplateSource;

/// Steps that one rendering may take; a real template takes some thousand.
const MAX_STEPS: u64 = 20_000_000;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// Who speaks: `user`, `assistant` or `system`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into() }
    }
}

/// A template, the special tokens it may name, and the date it may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChatTemplate {
    /// The template with the tags that only mark what a model generates taken out.
    text: String,
    path: String,
    special_tokens: Vec<(String, String)>,
    now: CivilTime,
}

/// The sentence of a template's own `raise_exception`.
#[derive(Debug)]
struct Raised(String);

impl std::fmt::Display for Raised {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

impl ChatTemplate {
    /// A template that is rendered as of `now`.
    pub(crate) fn new(source: TemplateSource, special_tokens: Vec<(String, String)>, now: CivilTime) -> Self {
        Self { text: without_generation_tags(&source.text), path: source.path, special_tokens, now }
    }

    /// The template shows the date or time, so that it renders otherwise on another day.
    pub(crate) fn shows_date(&self) -> bool {
        self.text.contains("strftime_now")
    }

    /// Text of a conversation, up to where the model's answer begins.
    ///
    /// # Errors
    /// [`Error::Model`] with the template's own sentence where it raises one, or with what it uses that is not known.
    pub(crate) fn render(&self, messages: &[ChatMessage]) -> Result<String> {
        let environment = self.environment();
        let mut variables = vec![
            ("messages".to_owned(), Value::from_serialize(messages)),
            ("add_generation_prompt".to_owned(), Value::from(true)),
            ("tools".to_owned(), Value::from(())),
            ("documents".to_owned(), Value::from(())),
        ];
        variables.extend(
            self.special_tokens.iter().map(|(name, content)| (name.clone(), Value::from(content.as_str()))),
        );
        environment.render_str(&self.text, Value::from_iter(variables)).map_err(|error| self.explain(&error))
    }

    fn environment(&self) -> Environment<'static> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(MAX_STEPS));
        minijinja_contrib::add_to_environment(&mut environment);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment
            .set_formatter(|output, _, value| output.write_str(&python_str(value)).map_err(JinjaError::from));
        environment.add_filter("tojson", |value: Value, options: Kwargs| to_json(&value, &options));
        environment.add_function(
            "raise_exception",
            |sentence: Value| -> std::result::Result<Value, JinjaError> {
                let sentence = python_str(&sentence);
                Err(JinjaError::new(ErrorKind::InvalidOperation, sentence.clone())
                    .with_source(Raised(sentence)))
            },
        );
        let now = self.now;
        environment.add_function("strftime_now", move |format: &str| {
            now.format(format).map_err(|why| JinjaError::new(ErrorKind::InvalidOperation, why))
        });
        environment
    }

    fn explain(&self, error: &JinjaError) -> Error {
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(Raised(sentence)) = cause.downcast_ref() {
                return Error::Model {
                    path: self.path.clone(),
                    why: format!("the chat template refuses this conversation: {sentence}"),
                    remedy: "write the conversation as the template wants it".to_owned(),
                };
            }
            source = cause.source();
        }
        let (why, remedy) = if error.kind() == ErrorKind::OutOfFuel {
            (format!("the chat template takes more than {MAX_STEPS} steps"), "use another template")
        } else {
            (
                format!("the chat template cannot be rendered ({error})"),
                "use another template, or remove it to use the model without one",
            )
        };
        Error::Model { path: self.path.clone(), why, remedy: remedy.to_owned() }
    }
}

/// `{% generation %}` marks what training learns from and renders its body; `{% with %}` does the same.
fn without_generation_tags(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        text.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let name = tag.trim_start_matches("{%").trim_end_matches("%}");
        match name.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim() {
            "generation" => text.push_str(&tag.replace("generation", "with")),
            "endgeneration" => text.push_str(&tag.replace("endgeneration", "endwith")),
            _ => text.push_str(tag),
        }
        rest = after;
    }
    text + rest
}
