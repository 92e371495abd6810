//! Tensors of a GGUF as `model.safetensors`, row by row.
//!
//! ggml keeps RoPE pairs adjacent: the converter that wrote the file permuted the rows of q and k within each head
//! from (half, pair) to (pair, half) order. The permutation is undone here.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use serde_json::json;

use crate::contract::{Error, Result};

use crate::model::config::LlamaConfig;
use crate::model::import::parts::GgufParts;
use crate::model::weights::expected_tensors;

/// Divisors of the RoPE frequencies, in place of scaling parameters.
pub(super) const ROPE_FREQUENCIES: &str = "rope_freqs.weight";

/// Checks that every tensor the configuration calls for is there in its shape, and that no other is.
///
/// # Errors
/// [`Error::Model`] naming the first tensor that is missing, of another shape, or would not be used.
pub(super) fn check(parts: &GgufParts<'_>, config: &LlamaConfig) -> Result<()> {
    let mut read = BTreeSet::from([ROPE_FREQUENCIES.to_owned()]);
    for (name, shape) in expected_tensors(config) {
        let gguf_name = gguf_name(&name)?;
        let Some(tensor) = parts.tensor(&gguf_name) else {
            return Err(parts.error(format!("tensor {gguf_name} is missing"), "fetch the file again, whole"));
        };
        if tensor.shape != shape {
            return Err(parts.error(
                format!("tensor {gguf_name} has shape {:?}, its metadata says {shape:?}", tensor.shape),
                "fetch the file again, or use another conversion of the model",
            ));
        }
        read.insert(gguf_name);
    }
    let unread: Vec<&str> = parts.tensor_names().filter(|name| !read.contains(*name)).collect();
    let Some(first) = unread.first() else { return Ok(()) };
    let layer = first.strip_prefix("blk.").and_then(|rest| rest.split_once('.')?.0.parse::<usize>().ok());
    let why = match layer {
        Some(layer) if layer >= config.num_hidden_layers => {
            format!("tensor {first} is of layer {layer}, llama.block_count is {}", config.num_hidden_layers)
        }
        _ => format!("tensor {first} would not be used ({} such tensors)", unread.len()),
    };
    Err(parts.error(why, "use a plain Llama in GGUF, without biases, adapters or further layers"))
}

/// Writes all tensors in f32 and returns the number of parameters. The file takes its name when it is whole.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written.
pub(super) fn write(parts: &GgufParts<'_>, config: &LlamaConfig, path: &Path) -> Result<usize> {
    let io = |source| Error::Io { path: path.display().to_string(), source };
    let tensors = expected_tensors(config);
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut parameters = 0;
    for (name, shape) in &tensors {
        let count: usize = shape.iter().product();
        let range = [4 * parameters, 4 * (parameters + count)];
        header.insert(name.clone(), json!({ "dtype": "F32", "shape": shape, "data_offsets": range }));
        parameters += count;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    // Blanks behind the header bring the data to a multiple of eight bytes.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));

    let partial = path.with_extension("safetensors.partial");
    let mut writer = std::io::BufWriter::new(std::fs::File::create(&partial).map_err(io)?);
    writer.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    writer.write_all(header.as_bytes()).map_err(io)?;
    for (name, shape) in &tensors {
        let gguf_name = gguf_name(name)?;
        let is_turned = matches!(name.rsplit('.').nth(1), Some("q_proj" | "k_proj"));
        let rows = if shape.len() > 1 { shape.first().copied().unwrap_or(0) } else { 1 };
        for row in 0..rows {
            let stored = if is_turned { stored_row(row, config.head_dim) } else { row };
            for value in parts.decode_row(&gguf_name, stored)? {
                writer.write_all(&value.to_le_bytes()).map_err(io)?;
            }
        }
    }
    writer.into_inner().map_err(|error| io(error.into_error()))?.sync_all().map_err(io)?;
    std::fs::rename(&partial, path).map_err(io)?;
    Ok(parameters)
}

/// Where the converter put a row of a head: (half, pair) to (pair, half).
fn stored_row(row: usize, head_dim: usize) -> usize {
    let (head, row, half) = (row / head_dim, row % head_dim, head_dim / 2);
    head * head_dim + 2 * (row % half) + row / half
}

/// GGUF name of a Hugging Face tensor name.
///
/// # Errors
/// [`Error::Internal`] for a name that [`expected_tensors`] does not give.
fn gguf_name(name: &str) -> Result<String> {
    let unknown = || Error::Internal(format!("no GGUF name for {name}"));
    let part = match name {
        "model.embed_tokens.weight" => return Ok("token_embd.weight".to_owned()),
        "model.norm.weight" => return Ok("output_norm.weight".to_owned()),
        "lm_head.weight" => return Ok("output.weight".to_owned()),
        layered => layered.strip_prefix("model.layers.").and_then(|rest| rest.strip_suffix(".weight")),
    };
    let (layer, part) = part.and_then(|part| part.split_once('.')).ok_or_else(unknown)?;
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
        _ => return Err(unknown()),
    };
    Ok(format!("blk.{layer}.{part}.weight"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_head_return_to_their_halves() {
        // Head of four rows; stored order is (pair 0: low, high), (pair 1: low, high).
        let stored: Vec<usize> = (0..8).map(|row| stored_row(row, 4)).collect();
        assert_eq!(stored, [0, 2, 1, 3, 4, 6, 5, 7]);
    }

    #[test]
    fn every_expected_tensor_has_a_gguf_name() {
        let text = r#"{"model_type":"llama","hidden_size":64,"intermediate_size":160,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":512}"#;
        let config = LlamaConfig::parse(text.as_bytes(), "config.json").unwrap();
        for (name, _) in expected_tensors(&config) {
            assert!(gguf_name(&name).is_ok(), "{name}");
        }
        assert_eq!(gguf_name("model.layers.7.mlp.up_proj.weight").unwrap(), "blk.7.ffn_up.weight");
    }
}
