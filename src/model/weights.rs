//! Weights of a Hugging Face Llama directory: `model.safetensors`, or shards with `model.safetensors.index.json`.
//!
//! Files are memory-mapped; opening reads the headers only and checks every tensor's name, type and shape against
//! the configuration. Tensors are decoded to f32 one by one on demand (f32, f16 and bf16 may be mixed), so that an
//! encoder of one layer never holds the whole model. Matrices are row-major, one row per output feature.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use ndarray::{Array1, Array2};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};
use serde::Deserialize;

use crate::contract::{Error, Result};

use crate::model::config::LlamaConfig;
use crate::model::files::{map_file, read_bounded};

const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Opened and checked weights; nothing is decoded yet.
pub struct Weights {
    config: LlamaConfig,
    shards: Vec<Shard>,
    /// Shard of each tensor that the model uses.
    location: BTreeMap<String, usize>,
}

struct Shard {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    data_start: usize,
}

/// The matrices and norm weights of one layer, decoded; matrices are `(outputs, inputs)`.
#[derive(Clone, Debug)]
pub struct LayerWeights {
    /// Weight of the norm before attention, `hidden_size`.
    pub input_norm: Array1<f32>,
    /// `(heads · head_dim, hidden_size)`, RoPE pairs j and j + hd/2.
    pub query: Array2<f32>,
    /// `(kv heads · head_dim, hidden_size)`.
    pub key: Array2<f32>,
    /// `(kv heads · head_dim, hidden_size)`.
    pub value: Array2<f32>,
    /// `(hidden_size, heads · head_dim)`.
    pub output: Array2<f32>,
    /// Weight of the norm before the MLP, `hidden_size`.
    pub post_attention_norm: Array1<f32>,
    /// `(intermediate_size, hidden_size)`.
    pub gate: Array2<f32>,
    /// `(intermediate_size, hidden_size)`.
    pub up: Array2<f32>,
    /// `(hidden_size, intermediate_size)`.
    pub down: Array2<f32>,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Opens the weights of `directory` and checks every tensor the configuration calls for.
    ///
    /// # Errors
    /// [`Error::Model`] when no weights are there, a shard or a tensor is missing, a file is cut off or its header
    /// damaged, a type is not f32/f16/bf16, or a shape differs from the configuration (both shapes are named).
    pub fn open(directory: &Path, config: &LlamaConfig) -> Result<Self> {
        let single = directory.join("model.safetensors");
        let index = directory.join("model.safetensors.index.json");
        let (names, map) = if single.is_file() {
            (vec![single], None)
        } else if index.is_file() {
            let map = read_index(&index)?;
            let mut files: Vec<&String> = map.values().collect();
            files.sort_unstable();
            files.dedup();
            (files.into_iter().map(|file| directory.join(file)).collect(), Some(map))
        } else {
            return Err(model_error(
                directory,
                "neither model.safetensors nor model.safetensors.index.json is there".to_owned(),
                "fetch the weights in safetensors format, or import them from a GGUF file",
            ));
        };
        let shards = names.into_iter().map(Shard::open).collect::<Result<Vec<_>>>()?;
        let mut weights = Self { config: config.clone(), shards, location: BTreeMap::new() };
        for (name, shape) in expected_tensors(config) {
            let shard = weights.locate(&name, map.as_ref())?;
            weights.check(shard, &name, &shape)?;
            weights.location.insert(name, shard);
        }
        Ok(weights)
    }

    /// The configuration the weights were checked against.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Decoded weights of layer `layer`.
    ///
    /// # Errors
    /// [`Error::Model`] when a value is NaN or infinite, or the layer does not exist.
    pub fn layer(&self, layer: usize) -> Result<LayerWeights> {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        Ok(LayerWeights {
            input_norm: self.vector(&name("input_layernorm"))?,
            query: self.matrix(&name("self_attn.q_proj"))?,
            key: self.matrix(&name("self_attn.k_proj"))?,
            value: self.matrix(&name("self_attn.v_proj"))?,
            output: self.matrix(&name("self_attn.o_proj"))?,
            post_attention_norm: self.vector(&name("post_attention_layernorm"))?,
            gate: self.matrix(&name("mlp.gate_proj"))?,
            up: self.matrix(&name("mlp.up_proj"))?,
            down: self.matrix(&name("mlp.down_proj"))?,
        })
    }

    /// Token embedding, `(vocab_size, hidden_size)`.
    ///
    /// # Errors
    /// As [`Weights::layer`].
    pub fn embedding(&self) -> Result<Array2<f32>> {
        self.matrix("model.embed_tokens.weight")
    }

    /// Weight of the norm before the output head, `hidden_size`.
    ///
    /// # Errors
    /// As [`Weights::layer`].
    pub fn final_norm(&self) -> Result<Array1<f32>> {
        self.vector("model.norm.weight")
    }

    /// Output head, `(vocab_size, hidden_size)`; `None` when it is the embedding.
    ///
    /// # Errors
    /// As [`Weights::layer`].
    pub fn output_head(&self) -> Result<Option<Array2<f32>>> {
        if self.config.tie_word_embeddings { Ok(None) } else { self.matrix("lm_head.weight").map(Some) }
    }

    fn locate(&self, name: &str, map: Option<&BTreeMap<String, String>>) -> Result<usize> {
        let found = self.shards.iter().position(|shard| {
            let listed = map.is_none_or(|map| {
                map.get(name)
                    .is_some_and(|file| shard.path.file_name().is_some_and(|own| own == file.as_str()))
            });
            listed && shard.metadata.info(name).is_some()
        });
        found.ok_or_else(|| {
            let path = self.shards.first().map_or(Path::new("model.safetensors"), |shard| &shard.path);
            model_error(
                path,
                format!("tensor {name} is missing"),
                "fetch the file again, or check that config.json belongs to it (layers, tie_word_embeddings)",
            )
        })
    }

    fn check(&self, shard: usize, name: &str, wanted: &[usize]) -> Result<()> {
        let (shard, info) = self.info(shard, name)?;
        if info.shape != wanted {
            return Err(model_error(
                &shard.path,
                format!("tensor {name} has shape {:?}, the configuration says {wanted:?}", info.shape),
                "use the config.json that belongs to these weights",
            ));
        }
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(model_error(
                &shard.path,
                format!("tensor {name} is of type {:?}", info.dtype),
                "convert it to f32, f16 or bf16",
            ));
        }
        Ok(())
    }

    fn info(&self, shard: usize, name: &str) -> Result<(&Shard, &safetensors::tensor::TensorInfo)> {
        let shard = self.shards.get(shard).ok_or_else(|| Error::Internal(format!("no shard {shard}")))?;
        let info = shard
            .metadata
            .info(name)
            .ok_or_else(|| Error::Internal(format!("tensor {name} left its shard")))?;
        Ok((shard, info))
    }

    fn decode(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        let shard = self.location.get(name).ok_or_else(|| {
            model_error(
                self.shards.first().map_or(Path::new("model.safetensors"), |shard| &shard.path),
                format!("there is no tensor {name}"),
                "ask for a layer of the configuration",
            )
        })?;
        let (shard, info) = self.info(*shard, name)?;
        let bytes = shard
            .map
            .get(shard.data_start..)
            .and_then(|data| data.get(info.data_offsets.0..info.data_offsets.1))
            .ok_or_else(|| Error::Internal(format!("tensor {name} lies outside its file")))?;
        let values: Vec<f32> = match info.dtype {
            Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            Dtype::F16 => {
                bytes.as_chunks::<2>().0.iter().map(|word| half::f16::from_le_bytes(*word).to_f32()).collect()
            }
            _ => bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|word| half::bf16::from_le_bytes(*word).to_f32())
                .collect(),
        };
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok((values, info.shape.clone())),
            Some(index) => Err(model_error(
                &shard.path,
                format!(
                    "tensor {name} has the value {} at index {index}",
                    values.get(index).unwrap_or(&f32::NAN)
                ),
                "fetch the file again; weights must be finite",
            )),
        }
    }

    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        let (values, shape) = self.decode(name)?;
        let [rows, columns] = shape[..] else {
            return Err(Error::Internal(format!("tensor {name} is no matrix")));
        };
        Array2::from_shape_vec((rows, columns), values)
            .map_err(|source| Error::Internal(format!("tensor {name}: {source}")))
    }

    fn vector(&self, name: &str) -> Result<Array1<f32>> {
        self.decode(name).map(|(values, _)| Array1::from_vec(values))
    }
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        if !path.is_file() {
            return Err(model_error(
                &path,
                "the index lists this shard, the file is missing".to_owned(),
                "fetch it",
            ));
        }
        let map = map_file(&path)?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|source| {
            model_error(
                &path,
                format!("cut off or not a safetensors file, {} bytes ({source})", map.len()),
                "fetch the file again",
            )
        })?;
        // The header is preceded by its length in eight bytes.
        let data_start = header + 8;
        Ok(Self { path, map, metadata, data_start })
    }
}

fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    let index: ShardIndex =
        serde_json::from_slice(&read_bounded(path, MAX_INDEX_BYTES)?).map_err(|source| {
            model_error(path, format!("not an index of shards ({source})"), "fetch the file again")
        })?;
    for file in index.weight_map.values() {
        // An index from elsewhere must not reach outside the model's directory.
        if Path::new(file).file_name().is_none_or(|name| name != file.as_str()) {
            return Err(model_error(
                path,
                format!("shard {file:?} is not a plain file name"),
                "fetch the index again",
            ));
        }
    }
    Ok(index.weight_map)
}

/// Names and shapes of all tensors that a configuration calls for.
pub(crate) fn expected_tensors(config: &LlamaConfig) -> Vec<(String, Vec<usize>)> {
    let hidden = config.hidden_size;
    let query = config.num_attention_heads * config.head_dim;
    let key_value = config.num_key_value_heads * config.head_dim;
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![config.vocab_size, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    if !config.tie_word_embeddings {
        tensors.push(("lm_head.weight".to_owned(), vec![config.vocab_size, hidden]));
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

fn model_error(path: &Path, why: String, remedy: &str) -> Error {
    Error::Model { path: path.display().to_string(), why, remedy: remedy.to_owned() }
}

#[cfg(test)]
#[path = "weights_tests.rs"]
mod tests;
