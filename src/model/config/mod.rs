//! `config.json` of a Hugging Face Llama directory, checked before anything is allocated.
//!
//! Keys that older or newer files leave out have the defaults of the Llama family: `num_key_value_heads` equals
//! the number of heads, `head_dim` is `hidden_size / num_attention_heads`, `rope_theta` 10000, `eos_token_id` may
//! be one number or a list, the output head is untied. Mistral without a window is the same computation and is read
//! too. What this crate does not compute (biases, other activations, quantized weights, other families) is refused by
//! name; `docs/model-files.md` lists every key.

use std::path::Path;

use crate::contract::Result;

use crate::model::directory::check_directory;
use crate::model::files::read_bounded;
use crate::model::lenient_json::JsonObject;

mod family;
mod keys;
mod rope;

pub use rope::RopeScaling;

/// Largest `config.json` that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Largest dimension that is believed: a larger one is a damaged file, not a model.
const MAX_DIMENSION: usize = 1 << 22;
/// Most layers that are believed.
const MAX_LAYERS: usize = 1 << 12;
/// Positions of a Llama whose file does not say (transformers' default).
const LLAMA_CONTEXT: usize = 2048;

/// Shape of a Llama-family model.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the SwiGLU block.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head, even.
    pub head_dim: usize,
    /// Rows of the embedding and of the output head.
    pub vocab_size: usize,
    /// Longest sequence the model was trained for.
    pub max_position_embeddings: usize,
    /// ε inside RMSNorm's square root.
    pub rms_norm_eps: f64,
    /// Base of the RoPE frequencies.
    pub rope_theta: f64,
    /// How the RoPE frequencies are scaled for long contexts.
    pub rope_scaling: RopeScaling,
    /// The output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Token that starts a sequence, when the model names one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a generation (none, one or several).
    pub eos_token_ids: Vec<u32>,
}

impl LlamaConfig {
    /// Reads and checks `directory/config.json`; `generation_config.json` beside it adds its end tokens.
    ///
    /// # Errors
    /// [`crate::contract::Error::Io`] when a file cannot be read, [`crate::contract::Error::Model`] when the
    /// directory is none of a model's, or it is not a Llama that this crate computes.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        check_directory(directory)?;
        let bytes = read_bounded(&path, MAX_CONFIG_BYTES)?;
        let mut config = Self::parse(&bytes, &path.display().to_string())?;
        let path = directory.join("generation_config.json");
        if path.is_file() {
            let bytes = read_bounded(&path, MAX_CONFIG_BYTES)?;
            let settings = JsonObject::parse(&bytes, &path.display().to_string())?;
            for token in settings.token_ids("eos_token_id")? {
                if !config.eos_token_ids.contains(&token) {
                    config.eos_token_ids.push(token);
                }
            }
        }
        Ok(config)
    }

    /// Checks the text of a `config.json`; `path` names it in errors.
    ///
    /// # Errors
    /// [`crate::contract::Error::Model`] naming the key that is missing, out of range, or not computed.
    pub fn parse(bytes: &[u8], path: &str) -> Result<Self> {
        let json = JsonObject::parse(bytes, path)?;
        let is_mistral = family::check(&json)?;
        keys::refuse_what_is_not_computed(&json)?;
        let hidden_size = dimension(&json, "hidden_size", None)?;
        let num_attention_heads = dimension(&json, "num_attention_heads", None)?;
        let all_heads = if is_mistral && json.raw("num_key_value_heads").is_none() {
            family::MISTRAL_KEY_VALUE_HEADS
        } else {
            num_attention_heads
        };
        let num_key_value_heads = dimension(&json, "num_key_value_heads", Some(all_heads))?;
        let head_dim = head_dim(&json, hidden_size, num_attention_heads)?;
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            return Err(json.error(
                format!(
                    "num_attention_heads = {num_attention_heads} is no multiple of num_key_value_heads = {num_key_value_heads}"
                ),
                "correct the configuration",
            ));
        }
        let rms_norm_eps = json.number("rms_norm_eps")?.unwrap_or(1e-6);
        if rms_norm_eps <= 0.0 {
            return Err(json.error(
                format!("rms_norm_eps = {rms_norm_eps} is not positive"),
                "correct the configuration",
            ));
        }
        let num_hidden_layers = dimension(&json, "num_hidden_layers", None)?;
        if num_hidden_layers > MAX_LAYERS {
            return Err(json.error(
                format!("num_hidden_layers = {num_hidden_layers} is above {MAX_LAYERS}"),
                "fetch the file again",
            ));
        }
        let context = if is_mistral { family::MISTRAL_CONTEXT } else { LLAMA_CONTEXT };
        let max_position_embeddings = dimension(&json, "max_position_embeddings", Some(context))?;
        family::check_window(&json, is_mistral, max_position_embeddings)?;
        let (rope_theta, rope_scaling) = rope::read(&json, max_position_embeddings)?;
        Ok(Self {
            hidden_size,
            intermediate_size: dimension(&json, "intermediate_size", None)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            vocab_size: dimension(&json, "vocab_size", None)?,
            max_position_embeddings,
            rms_norm_eps,
            rope_theta,
            rope_scaling,
            tie_word_embeddings: json.flag("tie_word_embeddings")?.unwrap_or(false),
            bos_token_id: json.token_ids("bos_token_id")?.first().copied(),
            eos_token_ids: json.token_ids("eos_token_id")?,
        })
    }

    /// The configuration as `config.json` text, readable by other tools.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "max_position_embeddings": self.max_position_embeddings,
            "vocab_size": self.vocab_size,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": "float32",
        });
        if let Some(entries) = json.as_object_mut() {
            if let Some(token) = self.bos_token_id {
                entries.insert("bos_token_id".to_owned(), token.into());
            }
            match self.eos_token_ids.as_slice() {
                [] => {}
                [token] => drop(entries.insert("eos_token_id".to_owned(), (*token).into())),
                tokens => drop(entries.insert("eos_token_id".to_owned(), tokens.into())),
            }
            if let Some(scaling) = self.rope_scaling.to_json() {
                entries.insert("rope_scaling".to_owned(), scaling);
            }
        }
        json
    }

    /// RoPE frequencies, `head_dim / 2` of them: position m turns pair (j, j + hd/2) by `m · frequency[j]`.
    pub fn rope_frequencies(&self) -> Vec<f64> {
        let half = self.head_dim / 2;
        (0..half)
            .map(|pair| {
                let frequency = self.rope_theta.powf(-2.0 * pair as f64 / self.head_dim as f64);
                self.rope_scaling.apply(frequency)
            })
            .collect()
    }

    /// Query heads that share one key/value head.
    pub fn group_size(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }
}

/// Dimension of a key, 1 ..= [`MAX_DIMENSION`]; `default` where the key is absent.
fn dimension(json: &JsonObject, key: &str, default: Option<usize>) -> Result<usize> {
    match json.count(key)?.or(default) {
        Some(value) if (1..=MAX_DIMENSION).contains(&value) => Ok(value),
        Some(value) => Err(json.error(
            format!("{key} = {value} is outside 1..={MAX_DIMENSION}"),
            "correct it there; models of such a size are not supported",
        )),
        None => Err(json.error(format!("{key} is missing"), "add it, or fetch the file again")),
    }
}

fn head_dim(json: &JsonObject, hidden_size: usize, heads: usize) -> Result<usize> {
    let head_dim = match json.count("head_dim")? {
        Some(_) => dimension(json, "head_dim", None)?,
        None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            return Err(json.error(
                format!(
                    "head_dim is missing and hidden_size = {hidden_size} is no multiple of num_attention_heads = {heads}"
                ),
                "state head_dim",
            ));
        }
    };
    if head_dim.is_multiple_of(2) {
        Ok(head_dim)
    } else {
        Err(json
            .error(format!("head_dim = {head_dim} is odd, RoPE needs pairs"), "correct the configuration"))
    }
}

#[cfg(test)]
mod tests;
