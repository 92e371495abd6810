//! `config.json` of a Hugging Face Llama directory, checked before anything is allocated.
//!
//! Keys that older or newer files leave out have the defaults of the Llama family: `num_key_value_heads` equals
//! the number of heads, `head_dim` is `hidden_size / num_attention_heads`, `rope_theta` 10000, `eos_token_id` may
//! be one number or a list, the output head is untied. What this crate does not compute (attention bias, other
//! activations, quantized weights, other families) is refused by name.

use std::path::Path;

use serde::Deserialize;

use crate::contract::{Error, Result};

use crate::model::files::read_bounded;

/// Largest `config.json` that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Largest dimension that is believed: a larger one is a damaged file, not a model.
const MAX_DIMENSION: usize = 1 << 22;
/// Most layers that are believed.
const MAX_LAYERS: usize = 1 << 12;

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

/// Change of the RoPE frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// θ^(−2j/hd), unchanged.
    None,
    /// Every frequency divided by the factor.
    Linear {
        /// Divisor of all frequencies.
        factor: f64,
    },
    /// Llama 3: long wavelengths divided by `factor`, short ones kept, a linear ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context the model was trained on before.
        original_max_position_embeddings: usize,
    },
}

/// The file as written; every key optional so that each absence gets its own answer.
#[derive(Deserialize)]
struct RawConfig {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    #[serde(alias = "rope_parameters")]
    rope_scaling: Option<RawRopeScaling>,
    tie_word_embeddings: Option<bool>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    quantization_config: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawRopeScaling {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl LlamaConfig {
    /// Reads and checks `directory/config.json`.
    ///
    /// # Errors
    /// [`Error::Io`] when the file is missing, [`Error::Model`] when it is not a Llama this crate computes.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        let bytes = read_bounded(&path, MAX_CONFIG_BYTES)?;
        Self::parse(&bytes, &path.display().to_string())
    }

    /// Checks the text of a `config.json`; `path` names it in errors.
    ///
    /// # Errors
    /// [`Error::Model`] naming the key that is missing, out of range, or not supported.
    pub fn parse(bytes: &[u8], path: &str) -> Result<Self> {
        let bad = |why: String, remedy: &str| Error::Model {
            path: path.to_owned(),
            why,
            remedy: remedy.to_owned(),
        };
        let raw: RawConfig = serde_json::from_slice(bytes)
            .map_err(|source| bad(format!("not a model configuration ({source})"), "fetch the file again"))?;
        raw.check_family(&bad)?;
        let need = |value: Option<usize>, key: &str| match value {
            Some(value) if (1..=MAX_DIMENSION).contains(&value) => Ok(value),
            Some(value) => Err(bad(
                format!("{key} = {value} is outside 1..={MAX_DIMENSION}"),
                "fetch the file again; models of such a size are not supported",
            )),
            None => Err(bad(format!("{key} is missing"), "add it, or fetch the file again")),
        };
        let hidden_size = need(raw.hidden_size, "hidden_size")?;
        let num_attention_heads = need(raw.num_attention_heads, "num_attention_heads")?;
        let num_key_value_heads =
            need(raw.num_key_value_heads.or(raw.num_attention_heads), "num_key_value_heads")?;
        let head_dim = match raw.head_dim {
            Some(head_dim) => need(Some(head_dim), "head_dim")?,
            None if hidden_size.is_multiple_of(num_attention_heads) => hidden_size / num_attention_heads,
            None => {
                return Err(bad(
                    format!(
                        "head_dim is missing and hidden_size = {hidden_size} is no multiple of num_attention_heads = {num_attention_heads}"
                    ),
                    "state head_dim",
                ));
            }
        };
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            return Err(bad(
                format!(
                    "num_attention_heads = {num_attention_heads} is no multiple of num_key_value_heads = {num_key_value_heads}"
                ),
                "correct the configuration",
            ));
        }
        if !head_dim.is_multiple_of(2) {
            return Err(bad(
                format!("head_dim = {head_dim} is odd, RoPE needs pairs"),
                "correct the configuration",
            ));
        }
        let rope_theta =
            raw.rope_theta.or(raw.rope_scaling.as_ref().and_then(|rope| rope.rope_theta)).unwrap_or(10_000.0);
        let rms_norm_eps = raw.rms_norm_eps.unwrap_or(1e-6);
        for (key, value) in [("rope_theta", rope_theta), ("rms_norm_eps", rms_norm_eps)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(bad(
                    format!("{key} = {value} is not a positive number"),
                    "correct the configuration",
                ));
            }
        }
        let num_hidden_layers = need(raw.num_hidden_layers, "num_hidden_layers")?;
        if num_hidden_layers > MAX_LAYERS {
            return Err(bad(
                format!("num_hidden_layers = {num_hidden_layers} is above {MAX_LAYERS}"),
                "fetch the file again",
            ));
        }
        let max_position_embeddings =
            need(raw.max_position_embeddings.or(Some(2048)), "max_position_embeddings")?;
        Ok(Self {
            hidden_size,
            intermediate_size: need(raw.intermediate_size, "intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            vocab_size: need(raw.vocab_size, "vocab_size")?,
            max_position_embeddings,
            rms_norm_eps,
            rope_theta,
            rope_scaling: match raw.rope_scaling {
                Some(rope) => rope.check(max_position_embeddings, &bad)?,
                None => RopeScaling::None,
            },
            tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(false),
            bos_token_id: raw.bos_token_id,
            eos_token_ids: match raw.eos_token_id {
                Some(OneOrMany::One(token)) => vec![token],
                Some(OneOrMany::Many(tokens)) => tokens,
                None => Vec::new(),
            },
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
            match self.rope_scaling {
                RopeScaling::None => {}
                RopeScaling::Linear { factor } => drop(entries.insert(
                    "rope_scaling".to_owned(),
                    serde_json::json!({"rope_type": "linear", "factor": factor}),
                )),
                RopeScaling::Llama3 {
                    factor,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings,
                } => drop(entries.insert(
                    "rope_scaling".to_owned(),
                    serde_json::json!({
                        "rope_type": "llama3",
                        "factor": factor,
                        "low_freq_factor": low_freq_factor,
                        "high_freq_factor": high_freq_factor,
                        "original_max_position_embeddings": original_max_position_embeddings,
                    }),
                )),
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

impl RawConfig {
    fn check_family(&self, bad: &dyn Fn(String, &str) -> Error) -> Result<()> {
        let named = self.architectures.as_deref().unwrap_or_default();
        let family = self.model_type.as_deref().unwrap_or("llama");
        let is_llama = family == "llama" && named.iter().all(|name| name == "LlamaForCausalLM");
        if !is_llama || (named.is_empty() && self.model_type.is_none()) {
            return Err(bad(
                format!("architecture {named:?} with model_type {:?} is not known", self.model_type),
                "use a model of the Llama family (LlamaForCausalLM)",
            ));
        }
        let refused = [
            (self.attention_bias == Some(true), "attention_bias = true"),
            (self.mlp_bias == Some(true), "mlp_bias = true"),
            (self.quantization_config.as_ref().is_some_and(|value| !value.is_null()), "quantization_config"),
        ];
        if let Some((_, what)) = refused.iter().find(|(found, _)| *found) {
            return Err(bad(
                format!("{what} is not supported"),
                "use a Llama without biases, in f32, f16 or bf16",
            ));
        }
        match self.hidden_act.as_deref() {
            None | Some("silu" | "swish") => Ok(()),
            Some(other) => {
                Err(bad(format!("hidden_act {other:?} is not supported"), "use a model with SwiGLU (silu)"))
            }
        }
    }
}

impl RawRopeScaling {
    fn check(&self, context: usize, bad: &dyn Fn(String, &str) -> Error) -> Result<RopeScaling> {
        let positive = |value: Option<f64>, key: &str| match value {
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            other => Err(bad(
                format!("rope_scaling.{key} = {other:?} is not a positive number"),
                "correct the configuration",
            )),
        };
        match self.rope_type.as_deref() {
            None | Some("default") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: positive(self.factor, "factor")? }),
            Some("llama3") => {
                let low_freq_factor = positive(self.low_freq_factor, "low_freq_factor")?;
                let high_freq_factor = positive(self.high_freq_factor, "high_freq_factor")?;
                if high_freq_factor <= low_freq_factor {
                    return Err(bad(
                        format!(
                            "rope_scaling.high_freq_factor = {high_freq_factor} is not above low_freq_factor = {low_freq_factor}"
                        ),
                        "correct the configuration",
                    ));
                }
                Ok(RopeScaling::Llama3 {
                    factor: positive(self.factor, "factor")?,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings: self
                        .original_max_position_embeddings
                        .unwrap_or(context),
                })
            }
            Some(other) => Err(bad(
                format!("rope_scaling type {other:?} is not supported"),
                "use default, linear or llama3 scaling",
            )),
        }
    }
}

impl RopeScaling {
    fn apply(self, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let turns =
                    original_max_position_embeddings as f64 * frequency / (2.0 * std::f64::consts::PI);
                let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                frequency * (kept + (1.0 - kept) / factor)
            }
        }
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
        let message = parse(&minimal("").replace("\"llama\"", "\"gpt2\"")).unwrap_err().to_string();
        assert!(message.contains("gpt2"), "{message}");
        assert!(parse("{}").is_err() && parse("[").is_err());
    }
}
