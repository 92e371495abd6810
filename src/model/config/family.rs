//! Which architectures are this crate's computation: Llama, and Mistral without a window.

use serde_json::Value;

use crate::contract::Result;

use crate::model::lenient_json::JsonObject;

/// Key and value heads of a Mistral whose file has no such key (transformers' default).
pub(super) const MISTRAL_KEY_VALUE_HEADS: usize = 8;
/// Positions of a Mistral whose file does not say.
pub(super) const MISTRAL_CONTEXT: usize = 4096 * 32;
/// Window of a Mistral whose file does not say.
const MISTRAL_WINDOW: usize = 4096;

/// Refuses other families; true for Mistral.
///
/// # Errors
/// [`crate::contract::Error::Model`] with the architecture and model type found.
pub(super) fn check(config: &JsonObject) -> Result<bool> {
    let named: Vec<&str> = match config.value("architectures") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(name)) => vec![name],
        _ => Vec::new(),
    };
    let family = config.text("model_type")?;
    let is = |own: &str, architectures: &[&str]| {
        family.is_none_or(|family| family == own)
            && named.iter().all(|name| architectures.contains(name))
            && (family.is_some() || !named.is_empty())
    };
    if is("llama", &["LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel"]) {
        return Ok(false);
    }
    if is("mistral", &["MistralForCausalLM", "MistralModel"]) {
        return Ok(true);
    }
    let what = match (named.is_empty(), family) {
        (true, None) => "neither architectures nor model_type is there".to_owned(),
        (true, Some(family)) => format!("model_type {family:?} is not computed"),
        (false, None) => format!("architecture {} is not computed", named.join(", ")),
        (false, Some(family)) => {
            format!("architecture {} with model_type {family:?} is not computed", named.join(", "))
        }
    };
    Err(config.error(
        what,
        "use a model of the Llama family (LlamaForCausalLM, or MistralForCausalLM without a window)",
    ))
}

/// Refuses a window that is shorter than the context; one that is not changes nothing.
///
/// # Errors
/// [`crate::contract::Error::Model`] with both lengths.
pub(super) fn check_window(config: &JsonObject, is_mistral: bool, context: usize) -> Result<()> {
    let is_used = config.flag("use_sliding_window")?;
    let window = match config.count("sliding_window")? {
        None if is_mistral && config.raw("sliding_window").is_none() => Some(MISTRAL_WINDOW),
        window => window,
    };
    match window {
        // transformers' Llama does not read the key; other programs do.
        Some(window) if window < context && is_used != Some(false) => Err(config.error(
            format!(
                "sliding_window = {window} is shorter than max_position_embeddings = {context}: windows are not computed"
            ),
            "state null if the model attends to its whole context, or state a context of at most the window",
        )),
        _ => Ok(()),
    }
}
