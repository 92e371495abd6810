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
    /// [`crate::contract::Error::Io`] when a file cannot be read, [`crate::contract::Error::Model`] when the directory is none of a model's, or it is not
    /// a Llama that this crate computes.
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
mod tests {
    use super::*;

    fn minimal(extra: &str) -> String {
        format!(
            r#"{{"model_type":"llama","hidden_size":64,"intermediate_size":160,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":512{extra}}}"#
        )
    }

    fn parse(text: &str) -> Result<LlamaConfig> {
        LlamaConfig::parse(text.as_bytes(), "config.json")
    }

    #[test]
    fn absent_keys_take_the_defaults_of_the_family() {
        let config = parse(&minimal("")).unwrap();
        assert_eq!((config.num_key_value_heads, config.head_dim), (4, 16));
        assert_eq!(config.rope_theta, 10_000.0);
        assert_eq!(config.rope_scaling, RopeScaling::None);
        assert!(config.eos_token_ids.is_empty() && !config.tie_word_embeddings);
    }

    #[test]
    fn end_of_text_may_be_a_number_or_a_list() {
        assert_eq!(parse(&minimal(r#","eos_token_id":2"#)).unwrap().eos_token_ids, [2]);
        assert_eq!(parse(&minimal(r#","eos_token_id":[2,7]"#)).unwrap().eos_token_ids, [2, 7]);
    }

    #[test]
    fn llama3_scaling_divides_long_wavelengths_and_keeps_short_ones() {
        let config = parse(&minimal(
            r#","head_dim":64,"rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}"#,
        ))
        .unwrap();
        let plain = LlamaConfig { rope_scaling: RopeScaling::None, ..config.clone() };
        let (scaled, unscaled) = (config.rope_frequencies(), plain.rope_frequencies());
        assert_eq!(scaled[0], unscaled[0]);
        assert!((scaled[31] - unscaled[31] / 8.0).abs() < 1e-15, "{} {}", scaled[31], unscaled[31]);
        assert!(scaled.windows(2).all(|pair| pair[1] < pair[0]), "{scaled:?}");
    }

    #[test]
    fn rope_settings_are_read_from_every_place_they_stand_in() {
        let linear = RopeScaling::Linear { factor: 2.0 };
        for (extra, theta, scaling) in [
            (r#","rope_scaling":{"type":"linear","rope_type":"linear","factor":2.0}"#, 1e4, linear),
            (
                r#","rope_scaling":null,"rope_parameters":{"rope_type":"linear","factor":2,"rope_theta":5e5}"#,
                5e5,
                linear,
            ),
            (
                r#","rope_scaling":{"type":"linear","factor":2},"rope_parameters":{"rope_type":"linear","factor":2.0,"rope_theta":5e5}"#,
                5e5,
                linear,
            ),
            (r#","rope_theta":500000,"rope_parameters":{"rope_theta":5e5}"#, 5e5, RopeScaling::None),
            (r#","rope_theta":"1e6","rope_scaling":false"#, 1e6, RopeScaling::None),
            (r#","rope_theta":1e6,"rope_scaling":[]"#, 1e6, RopeScaling::None),
            (r#","unused":[0.0, Infinity, -Infinity, NaN]"#, 1e4, RopeScaling::None),
        ] {
            let config = parse(&minimal(extra)).unwrap();
            assert_eq!((config.rope_theta, config.rope_scaling), (theta, scaling), "{extra}");
        }
    }

    #[test]
    fn mistral_without_a_window_is_the_same_computation() {
        let mistral = |extra: &str| parse(&minimal(extra).replace("\"llama\"", "\"mistral\""));
        assert_eq!(
            mistral(r#","sliding_window":null,"num_key_value_heads":2"#).unwrap().num_key_value_heads,
            2
        );
        assert!(
            mistral(r#","sliding_window":4096,"max_position_embeddings":4096,"num_key_value_heads":2"#)
                .is_ok()
        );
        // The defaults of a Mistral: a window of 4096, eight key and value heads.
        let message = mistral(r#","num_key_value_heads":2"#).unwrap_err().to_string();
        assert!(message.contains("sliding_window = 4096") && message.contains("131072"), "{message}");
        let message = mistral(r#","sliding_window":null"#).unwrap_err().to_string();
        assert!(message.contains("num_key_value_heads = 8"), "{message}");
    }

    #[test]
    fn end_tokens_of_both_files_are_joined() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), minimal(r#","eos_token_id":1"#)).unwrap();
        let path = folder.path().join("generation_config.json");
        std::fs::write(&path, r#"{"eos_token_id":[1, 9.0, 3]}"#).unwrap();
        assert_eq!(LlamaConfig::read(folder.path()).unwrap().eos_token_ids, [1, 9, 3]);
        std::fs::write(&path, r#"{"eos_token_id":[-7]}"#).unwrap();
        let message = LlamaConfig::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("generation_config.json") && message.contains("-7"), "{message}");
    }

    #[test]
    fn written_configuration_reads_back_equal() {
        let config = parse(&minimal(
            r#","eos_token_id":[2,7],"bos_token_id":1,"num_key_value_heads":2,"tie_word_embeddings":true,"rope_scaling":{"type":"linear","factor":4.0}"#,
        ))
        .unwrap();
        assert_eq!(parse(&config.to_json().to_string()).unwrap(), config);
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        for (extra, word) in [
            (r#","attention_bias":true"#, "attention_bias"),
            (r#","hidden_act":"gelu""#, "gelu"),
            (r#","head_dim":15"#, "head_dim = 15"),
            (r#","num_key_value_heads":3"#, "num_key_value_heads = 3"),
            (r#","num_key_value_heads":0"#, "num_key_value_heads = 0"),
            (r#","rope_scaling":{"rope_type":"yarn"}"#, "yarn"),
            (r#","rms_norm_eps":0.0"#, "rms_norm_eps"),
            (r#","max_position_embeddings":99999999999"#, "99999999999"),
            (r#","quantization_config":{"bits":4}"#, "quantization_config"),
        ] {
            let message = parse(&minimal(extra)).unwrap_err().to_string();
            assert!(message.contains(word), "{extra}: {message}");
        }
        for (extra, word) in [
            (
                r#","rope_parameters":{"rope_type":"default","partial_rotary_factor":0.5}"#,
                "partial_rotary_factor",
            ),
            (r#","rope_scaling":{"rope_type":"linear"}"#, "rope_scaling.factor is missing"),
            (r#","rope_scaling":{"rope_type":"linear","type":"llama3","factor":2}"#, "differ"),
            (
                r#","rope_theta":1e4,"rope_parameters":{"rope_theta":5e5}"#,
                "rope_theta = 10000 and rope_parameters",
            ),
            (r#","rope_scaling":{"type":"linear","factor":2},"rope_parameters":{}"#, ""),
            (r#","rope_scaling":{"type":"linear","factor":2},"rope_parameters":{"type":"default"}"#, "says"),
            (r#","rope_scaling":"linear""#, "an object is wanted"),
            (r#","rope_theta":Infinity"#, "rope_theta is Infinity"),
            (r#","hidden_size":64.5"#, "64.5"),
            (r#","eos_token_id":[1.5]"#, "eos_token_id is 1.5"),
            (r#","tie_word_embeddings":"yes""#, "true or false"),
            (r#","residual_multiplier":0.22"#, "residual_multiplier"),
            (r#","num_local_experts":8"#, "num_local_experts"),
            (r#","layer_types":["full_attention","sliding_attention"]"#, "layer_types"),
            (r#","sliding_window":512"#, "sliding_window = 512"),
        ] {
            match parse(&minimal(extra)) {
                Err(error) => {
                    assert!(!word.is_empty() && error.to_string().contains(word), "{extra}: {error}")
                }
                Ok(_) => assert!(word.is_empty(), "{extra} was read"),
            }
        }
        let message = parse(&minimal("").replace("\"llama\"", "\"gpt2\"")).unwrap_err().to_string();
        assert!(message.contains("gpt2"), "{message}");
        assert!(parse("{}").is_err() && parse("[").is_err());
    }
}
