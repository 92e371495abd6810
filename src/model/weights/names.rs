//! Names of tensors: those a configuration calls for, the prefixes that tools put before them, and those nobody reads.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::tensor::Dtype;

use crate::contract::Result;

use crate::model::config::LlamaConfig;
use crate::model::weights::shards::{ShardSet, model_error};

/// Name under which every configuration keeps the token embedding.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of an output head that is not the embedding.
pub(super) const OUTPUT_HEAD: &str = "lm_head.weight";
/// A tensor of every model; what stands before it in a file is that file's prefix.
const ANCHOR: &str = "layers.0.input_layernorm.weight";

/// Where each tensor that the configuration calls for lies: name in this crate to file number and name there.
pub(super) type Locations = BTreeMap<String, (usize, String)>;

/// Names and shapes of all tensors that a configuration calls for.
pub(crate) fn expected_tensors(config: &LlamaConfig) -> Vec<(String, Vec<usize>)> {
    let hidden = config.hidden_size;
    let query = config.num_attention_heads * config.head_dim;
    let key_value = config.num_key_value_heads * config.head_dim;
    let mut tensors = vec![
        (EMBEDDING.to_owned(), vec![config.vocab_size, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    if !config.tie_word_embeddings {
        tensors.push((OUTPUT_HEAD.to_owned(), vec![config.vocab_size, hidden]));
    }
    for layer in 0..config.num_hidden_layers {
        for (part, shape) in [
            ("input_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![query, hidden]),
            ("self_attn.k_proj", vec![key_value, hidden]),
            ("self_attn.v_proj", vec![key_value, hidden]),
            ("self_attn.o_proj", vec![hidden, query]),
            ("post_attention_layernorm", vec![hidden]),
            ("mlp.gate_proj", vec![config.intermediate_size, hidden]),
            ("mlp.up_proj", vec![config.intermediate_size, hidden]),
            ("mlp.down_proj", vec![hidden, config.intermediate_size]),
        ] {
            tensors.push((format!("model.layers.{layer}.{part}.weight"), shape));
        }
    }
    tensors
}

/// What a file writes before `layers.0…`: `model.` mostly, nothing for a bare decoder, `_orig_mod.model.`,
/// `module.model.`, `language_model.model.` and the like where a wrapper saved it.
///
/// # Errors
/// [`crate::contract::Error::Model`] naming both prefixes when a file holds two decoders.
pub(super) fn prefix(files: &ShardSet, names: &BTreeSet<String>) -> Result<String> {
    let mut prefixes = names.iter().filter_map(|name| name.strip_suffix(ANCHOR));
    match (prefixes.next(), prefixes.next()) {
        (None, _) => Ok("model.".to_owned()),
        (Some(prefix), None) => Ok(prefix.to_owned()),
        (Some(first), Some(second)) => Err(model_error(
            files.first_path(),
            format!("there are two decoders, under {first:?} and under {second:?}"),
            "use the weights of one text model",
        )),
    }
}

/// Finds every tensor that the configuration calls for.
///
/// A tied model may keep its embedding under `lm_head.weight` alone.
///
/// # Errors
/// [`crate::contract::Error::Model`] naming the tensor that is missing, with the remedy for its kind.
pub(super) fn locate_all(
    files: &ShardSet,
    config: &LlamaConfig,
    names: &BTreeSet<String>,
    prefix: &str,
) -> Result<Locations> {
    let mut locations = Locations::new();
    for (name, _) in expected_tensors(config) {
        let mut stored = stored_names(&name, prefix);
        if name == EMBEDDING && config.tie_word_embeddings {
            stored.extend(stored_names(OUTPUT_HEAD, prefix));
        }
        let mut found = None;
        for stored in stored {
            if let Some(shard) = files.locate(&stored)? {
                found = Some((shard, stored));
                break;
            }
        }
        let Some(found) = found else { return Err(missing(files, config, names, &name)) };
        locations.insert(name, found);
    }
    Ok(locations)
}

/// Names under which a tensor may lie in a file of this prefix, the likeliest first.
pub(super) fn stored_names(name: &str, prefix: &str) -> Vec<String> {
    match name.strip_prefix("model.") {
        Some(inner) => vec![format!("{prefix}{inner}")],
        None => {
            let outer = prefix.strip_suffix("model.").unwrap_or(prefix);
            let mut stored = vec![format!("{outer}{name}"), format!("{prefix}{name}"), name.to_owned()];
            stored.dedup();
            stored
        }
    }
}

fn missing(
    files: &ShardSet,
    config: &LlamaConfig,
    names: &BTreeSet<String>,
    name: &str,
) -> crate::contract::Error {
    let remedy = if name == OUTPUT_HEAD {
        "state tie_word_embeddings = true if the output head is the embedding, or fetch the file again"
    } else {
        "fetch the file again, or check that config.json belongs to it"
    };
    let layers = names
        .iter()
        .filter_map(|name| name.split_once("layers.")?.1.split_once('.')?.0.parse::<usize>().ok())
        .max()
        .map_or(0, |layer| layer + 1);
    let why = if names.iter().any(|name| name.starts_with("transformer.h.") || name.contains(".qkv_proj.")) {
        format!("tensor {name} is missing; the names are those of another family")
    } else if layers < config.num_hidden_layers {
        format!(
            "tensor {name} is missing; the files hold {layers} layers, num_hidden_layers is {}",
            config.num_hidden_layers
        )
    } else {
        format!("tensor {name} is missing")
    };
    model_error(files.first_path(), why, remedy)
}

/// Refuses tensors that this crate would pass over in silence.
///
/// Harmless are stored RoPE frequencies, which are computed anyway, biases that are all zero, and a second copy of a
/// tied embedding (compared by [`super::Weights::open`]).
///
/// # Errors
/// [`crate::contract::Error::Model`] with the first names and their number.
pub(super) fn refuse_unread(
    files: &ShardSet,
    config: &LlamaConfig,
    names: &BTreeSet<String>,
    locations: &Locations,
    prefix: &str,
) -> Result<()> {
    let read: BTreeSet<&str> = locations.values().map(|(_, stored)| stored.as_str()).collect();
    let heads = stored_names(OUTPUT_HEAD, prefix);
    let mut unread = Vec::new();
    for name in names {
        let is_harmless = read.contains(name.as_str())
            || name.ends_with("rotary_emb.inv_freq")
            || (config.tie_word_embeddings && heads.contains(name))
            || (name.ends_with(".bias") && is_zero(files, name)?);
        if !is_harmless {
            unread.push(name.as_str());
        }
    }
    let Some(first) = unread.first() else { return Ok(()) };
    let shown = unread.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    let more = unread.len().saturating_sub(3);
    let layer =
        first.split_once("layers.").and_then(|(_, rest)| rest.split_once('.')?.0.parse::<usize>().ok());
    let remedy = match layer {
        Some(layer) if layer >= config.num_hidden_layers => {
            "state the num_hidden_layers of these weights, or remove the layers that are not meant"
        }
        _ => "use a plain Llama, or remove these tensors if the model was trained without them",
    };
    let why = match more {
        0 => format!("{shown} would not be used"),
        more => format!("{shown} and {more} more tensors would not be used"),
    };
    Err(model_error(files.first_path(), why, remedy))
}

fn is_zero(files: &ShardSet, name: &str) -> Result<bool> {
    let Some(shard) = files.locate(name)? else { return Ok(false) };
    let (_, info, bytes) = files.tensor(shard, name)?;
    // −0 has a sign bit; everything else that is zero is zero in all bytes of these types.
    Ok(matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) && bytes.iter().all(|byte| *byte == 0))
}
