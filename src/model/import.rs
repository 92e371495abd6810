//! Llama GGUF to a Hugging Face directory: `config.json`, `model.safetensors` (f32), `tokenizer.json` and, when the
//! file carries a chat template, `tokenizer_config.json`.
//!
//! ggml keeps RoPE pairs adjacent: the converter that wrote the file permuted the rows of q and k within each head
//! from (half, pair) to (pair, half) order. The permutation is undone here.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::contract::{Error, Result};

use crate::model::config::{LlamaConfig, RopeScaling};
use crate::model::files::map_file;
use crate::model::gguf::{Gguf, GgufValue};
use crate::model::weights::expected_tensors;

/// What an import wrote.
#[derive(Clone, Debug)]
pub struct ImportSummary {
    /// Shape of the model.
    pub config: LlamaConfig,
    /// Tensors written.
    pub tensors: usize,
    /// Parameters written.
    pub parameters: usize,
}

/// Writes the model in `gguf` as a Hugging Face directory; files there of the same names are replaced.
///
/// Memory: the decoded weights, four bytes a parameter.
///
/// # Errors
/// [`Error::Model`] when the file is damaged, not a Llama, lacks a tensor, or stores one in a format that is not
/// read; [`Error::Io`] when the directory cannot be written.
pub fn import_gguf(gguf: &Path, directory: &Path) -> Result<ImportSummary> {
    let map = map_file(gguf)?;
    let file = Gguf::parse(&map, &gguf.display().to_string())?;
    let source = Source { file, path: gguf.display().to_string() };
    let config = source.config()?;
    let tokenizer = source.tokenizer()?;
    std::fs::create_dir_all(directory).map_err(|error| io_error(directory, error))?;
    let parameters = source.write_weights(&config, &directory.join("model.safetensors"))?;
    write_json(&directory.join("tokenizer.json"), &tokenizer)?;
    if let Some(template) = source.file.text("tokenizer.chat_template") {
        write_json(&directory.join("tokenizer_config.json"), &json!({ "chat_template": template }))?;
    }
    write_json(&directory.join("config.json"), &config.to_json())?;
    Ok(ImportSummary { tensors: expected_tensors(&config).len(), config, parameters })
}

struct Source<'a> {
    file: Gguf<'a>,
    path: String,
}

impl Source<'_> {
    fn error(&self, why: String) -> Error {
        Error::Model {
            path: self.path.clone(),
            why,
            remedy: "use a complete GGUF of a Llama with a byte-level BPE tokenizer".to_owned(),
        }
    }

    fn config(&self) -> Result<LlamaConfig> {
        let file = &self.file;
        match file.text("general.architecture") {
            Some("llama") => {}
            other => return Err(self.error(format!("architecture {other:?} is not known"))),
        }
        let mut json = json!({ "architectures": ["LlamaForCausalLM"], "model_type": "llama" });
        for (key, gguf_key) in [
            ("hidden_size", "llama.embedding_length"),
            ("intermediate_size", "llama.feed_forward_length"),
            ("num_hidden_layers", "llama.block_count"),
            ("num_attention_heads", "llama.attention.head_count"),
            ("num_key_value_heads", "llama.attention.head_count_kv"),
            ("head_dim", "llama.attention.key_length"),
            ("max_position_embeddings", "llama.context_length"),
            ("bos_token_id", "tokenizer.ggml.bos_token_id"),
            ("eos_token_id", "tokenizer.ggml.eos_token_id"),
        ] {
            if let Some(value) = file.integer(gguf_key) {
                insert(&mut json, key, value.into());
            }
        }
        for (key, gguf_key) in [
            ("rope_theta", "llama.rope.freq_base"),
            ("rms_norm_eps", "llama.attention.layer_norm_rms_epsilon"),
        ] {
            if let Some(value) = file.number(gguf_key) {
                // Stored as f32: the shortest decimal that reads back equal is what the model card says.
                let value = (value as f32).to_string().parse().unwrap_or(value);
                insert(&mut json, key, json!(value));
            }
        }
        let embedding = file
            .tensor("token_embd.weight")
            .ok_or_else(|| self.error("tensor token_embd.weight is missing".to_owned()))?;
        insert(&mut json, "vocab_size", embedding.shape.first().copied().unwrap_or(0).into());
        insert(&mut json, "tie_word_embeddings", file.tensor("output.weight").is_none().into());
        let mut config = LlamaConfig::parse(json.to_string().as_bytes(), &self.path)?;
        config.rope_scaling = self.rope_scaling(&config)?;
        Ok(config)
    }

    fn rope_scaling(&self, config: &LlamaConfig) -> Result<RopeScaling> {
        if self.file.tensor("rope_freqs.weight").is_some() {
            return Err(self.error(
                "RoPE frequencies are stored as a tensor (Llama 3.1 scaling), which is not read".to_owned(),
            ));
        }
        let rotated = self.file.integer("llama.rope.dimension_count").unwrap_or(config.head_dim);
        if rotated != config.head_dim {
            return Err(self.error(format!("RoPE turns {rotated} of {} dimensions", config.head_dim)));
        }
        match (self.file.text("llama.rope.scaling.type"), self.file.number("llama.rope.scaling.factor")) {
            (None | Some("none"), _) => Ok(RopeScaling::None),
            (Some("linear"), Some(factor)) if factor.is_finite() && factor > 0.0 => {
                Ok(RopeScaling::Linear { factor })
            }
            (kind, factor) => Err(self.error(format!("RoPE scaling {kind:?} by {factor:?} is not read"))),
        }
    }

    fn write_weights(&self, config: &LlamaConfig, path: &Path) -> Result<usize> {
        let mut decoded = Vec::new();
        let mut parameters = 0;
        for (name, shape) in expected_tensors(config) {
            let gguf_name =
                gguf_name(&name).ok_or_else(|| Error::Internal(format!("no GGUF name for {name}")))?;
            let values = self.file.decode(&gguf_name)?;
            let found = self.file.tensor(&gguf_name).map(|tensor| tensor.shape.clone()).unwrap_or_default();
            if found != shape {
                return Err(self
                    .error(format!("tensor {gguf_name} has shape {found:?}, its metadata says {shape:?}")));
            }
            let values = match name.rsplit('.').nth(1) {
                Some("q_proj" | "k_proj") => unpermute(&values, config.head_dim, config.hidden_size),
                _ => values,
            };
            parameters += values.len();
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            decoded.push((name, shape, bytes));
        }
        let views = decoded
            .iter()
            .map(|(name, shape, bytes)| {
                TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.as_str(), view))
            })
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|error| Error::Internal(format!("{}: {error}", self.path)))?;
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(views, Some(metadata), path).map_err(|error| Error::Foreign {
            library: "safetensors",
            message: format!("{}: {error}", path.display()),
            remedy: "check the path, permissions and free space".to_owned(),
        })?;
        Ok(parameters)
    }

    /// `tokenizer.json` of a byte-level BPE tokenizer.
    fn tokenizer(&self) -> Result<Value> {
        let model = self.file.text("tokenizer.ggml.model");
        if model != Some("gpt2") {
            return Err(self.error(format!("tokenizer {model:?} is not read, only byte-level BPE (gpt2)")));
        }
        let texts =
            |key: &str| -> Vec<&str> { self.file.array(key).iter().filter_map(GgufValue::as_text).collect() };
        let (tokens, merges) = (texts("tokenizer.ggml.tokens"), texts("tokenizer.ggml.merges"));
        if tokens.is_empty() || merges.is_empty() {
            return Err(self.error(format!("{} tokens and {} merges", tokens.len(), merges.len())));
        }
        let pairs: Option<Vec<_>> = merges.iter().map(|merge| merge.split_once(' ')).collect();
        let pairs = pairs.ok_or_else(|| self.error("a merge has no space in it".to_owned()))?;
        // Type 3 is a control token, 4 one that a user added: both are matched whole before any splitting.
        let kinds = self.file.array("tokenizer.ggml.token_type");
        let added: Vec<Value> = tokens
            .iter()
            .zip(kinds)
            .enumerate()
            .filter(|(_, (_, kind))| matches!(kind, GgufValue::Integer(3 | 4)))
            .map(|(id, (content, kind))| {
                json!({
                    "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": *kind == GgufValue::Integer(3),
                })
            })
            .collect();
        let vocabulary: HashMap<&str, usize> =
            tokens.iter().enumerate().map(|(id, token)| (*token, id)).collect();
        Ok(json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": self.pre_tokenizer()?, "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocabulary, "merges": pairs,
            },
        }))
    }

    /// How text is cut before merging, by the name ggml gives it.
    fn pre_tokenizer(&self) -> Result<Value> {
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        match self.file.text("tokenizer.ggml.pre") {
            None | Some("default" | "gpt-2") => Ok(byte_level),
            // Digits one by one, then GPT-2's pattern.
            Some("smollm") => Ok(json!({
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level],
            })),
            Some(other) => Err(self.error(format!("pre-tokenizer {other:?} is not read"))),
        }
    }
}

/// GGUF name of a Hugging Face tensor name.
fn gguf_name(name: &str) -> Option<String> {
    let part = match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".to_owned()),
        "model.norm.weight" => return Some("output_norm.weight".to_owned()),
        "lm_head.weight" => return Some("output.weight".to_owned()),
        layered => layered.strip_prefix("model.layers.")?.strip_suffix(".weight")?,
    };
    let (layer, part) = part.split_once('.')?;
    let part = match part {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.weight"))
}

/// Rows of every head from (pair, half) order back to (half, pair) order.
fn unpermute(values: &[f32], head_dim: usize, width: usize) -> Vec<f32> {
    let half = head_dim / 2;
    let mut restored = Vec::with_capacity(values.len());
    for head in values.chunks_exact(head_dim * width) {
        for row in 0..head_dim {
            let (which_half, pair) = (row / half, row % half);
            restored.extend(head.iter().skip((2 * pair + which_half) * width).take(width));
        }
    }
    restored
}

fn insert(json: &mut Value, key: &str, value: Value) {
    if let Some(entries) = json.as_object_mut() {
        entries.insert(key.to_owned(), value);
    }
}

fn write_json(path: &Path, json: &Value) -> Result<()> {
    std::fs::write(path, json.to_string()).map_err(|error| io_error(path, error))
}

fn io_error(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_head_return_to_their_halves() {
        // Head of four rows, width two; stored order is (pair 0: low, high), (pair 1: low, high).
        let stored = [0.0, 0.0, 2.0, 2.0, 1.0, 1.0, 3.0, 3.0];
        assert_eq!(unpermute(&stored, 4, 2), [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
    }

    #[test]
    fn every_expected_tensor_has_a_gguf_name() {
        let text = r#"{"model_type":"llama","hidden_size":64,"intermediate_size":160,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":512}"#;
        let config = LlamaConfig::parse(text.as_bytes(), "config.json").unwrap();
        for (name, _) in expected_tensors(&config) {
            assert!(gguf_name(&name).is_some(), "{name}");
        }
        assert_eq!(gguf_name("model.layers.7.mlp.up_proj.weight").unwrap(), "blk.7.ffn_up.weight");
    }
}
