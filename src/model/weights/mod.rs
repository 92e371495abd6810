//! Weights of a Hugging Face Llama directory: `model.safetensors`, or shards with `model.safetensors.index.json`.
//!
//! Files are memory-mapped; opening reads the headers only and checks every tensor's name, type and shape against
//! the configuration. Tensors are decoded to f32 one by one on demand (f32, f16 and bf16 may be mixed), so that an
//! encoder of one layer never holds the whole model. Matrices are row-major, one row per output feature.

use std::path::Path;

use ndarray::{Array1, Array2};
use safetensors::tensor::Dtype;

use crate::contract::{Error, Result};

use crate::model::config::LlamaConfig;
use crate::model::fingerprint::Fingerprint;

mod names;
mod shards;

pub(crate) use names::expected_tensors;
use names::{EMBEDDING, Locations, OUTPUT_HEAD};
use shards::{ShardSet, model_error};

/// No trained weight comes near; beyond it sums over a row leave what f32 and the encodings can hold.
const LARGEST_WEIGHT: f32 = 1e9;

/// Opened and checked weights; nothing is decoded yet.
pub struct Weights {
    config: LlamaConfig,
    files: ShardSet,
    /// Where each tensor that the model uses lies.
    locations: Locations,
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

impl Weights {
    /// Opens the weights of `directory` and checks every tensor the configuration calls for, and that no other is
    /// there.
    ///
    /// # Errors
    /// [`Error::Model`] when no weights are there, a shard or a tensor is missing, a file is cut off or its header
    /// damaged, a type is not f32/f16/bf16, a shape differs from the configuration (both shapes are named), a tensor
    /// would not be used, or a tied model holds an output head of its own.
    pub fn open(directory: &Path, config: &LlamaConfig) -> Result<Self> {
        let files = ShardSet::open(directory)?;
        let names = files.names();
        let prefix = names::prefix(&files, &names)?;
        let locations = names::locate_all(&files, config, &names, &prefix)?;
        names::refuse_unread(&files, config, &names, &locations, &prefix)?;
        let weights = Self { config: config.clone(), files, locations };
        for (name, shape) in expected_tensors(config) {
            weights.check(&name, &shape)?;
        }
        if config.tie_word_embeddings {
            weights.check_tied_head(&names::stored_names(OUTPUT_HEAD, &prefix))?;
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
    /// [`Error::Model`] when a value is NaN, infinite or beyond any trained weight, a norm holds nothing but zeros, or
    /// the layer does not exist.
    pub fn layer(&self, layer: usize) -> Result<LayerWeights> {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        Ok(LayerWeights {
            input_norm: self.norm(&name("input_layernorm"), "attention")?,
            query: self.matrix(&name("self_attn.q_proj"))?,
            key: self.matrix(&name("self_attn.k_proj"))?,
            value: self.matrix(&name("self_attn.v_proj"))?,
            output: self.matrix(&name("self_attn.o_proj"))?,
            post_attention_norm: self.norm(&name("post_attention_layernorm"), "MLP")?,
            gate: self.matrix(&name("mlp.gate_proj"))?,
            up: self.matrix(&name("mlp.up_proj"))?,
            down: self.matrix(&name("mlp.down_proj"))?,
        })
    }

    /// Token embedding, `(vocab_size, hidden_size)`.
    ///
    /// # Errors
    /// [`Error::Model`] when a value is NaN, infinite or beyond any trained weight, or all are zero.
    pub fn embedding(&self) -> Result<Array2<f32>> {
        let embedding = self.matrix(EMBEDDING)?;
        if embedding.iter().all(|value| *value == 0.0) {
            return Err(self.all_zero(EMBEDDING, "every token would look the same"));
        }
        Ok(embedding)
    }

    /// Weight of the norm before the output head, `hidden_size`.
    ///
    /// # Errors
    /// [`Error::Model`] when a value is NaN, infinite or beyond any trained weight.
    pub fn final_norm(&self) -> Result<Array1<f32>> {
        self.vector("model.norm.weight")
    }

    /// Output head, `(vocab_size, hidden_size)`; `None` when it is the embedding.
    ///
    /// # Errors
    /// [`Error::Model`] when a value is NaN, infinite or beyond any trained weight.
    pub fn output_head(&self) -> Result<Option<Array2<f32>>> {
        if self.config.tie_word_embeddings { Ok(None) } else { self.matrix(OUTPUT_HEAD).map(Some) }
    }

    /// SHA-256, in hexadecimal, over the configuration and every value of every weight, as f32: tells any two models
    /// apart, and is equal however the same numbers are stored. Reads all weights once.
    ///
    /// # Errors
    /// [`Error::Model`] when a value is NaN, infinite or beyond any trained weight.
    pub fn fingerprint(&self) -> Result<String> {
        let mut fingerprint = Fingerprint::new(&self.config);
        for (name, _) in expected_tensors(&self.config) {
            fingerprint.add(self.decode(&name)?.0.iter());
        }
        Ok(fingerprint.finish())
    }

    /// Norm weight of a layer's `part`, refused when it is all zero.
    fn norm(&self, name: &str, part: &str) -> Result<Array1<f32>> {
        let weight = self.vector(name)?;
        if weight.iter().all(|value| *value == 0.0) {
            return Err(self.all_zero(name, &format!("the {part} of its layer would compute nothing")));
        }
        Ok(weight)
    }

    fn all_zero(&self, name: &str, consequence: &str) -> Error {
        model_error(
            self.path_of(name),
            format!("tensor {name} holds nothing but zeros: {consequence}"),
            "fetch the file again, or check the tool that wrote it",
        )
    }

    fn path_of(&self, name: &str) -> &Path {
        let shard = self.locations.get(name).and_then(|(shard, _)| self.files.shards.get(*shard));
        shard.map_or(self.files.first_path(), |shard| &shard.path)
    }

    fn check(&self, name: &str, wanted: &[usize]) -> Result<()> {
        let (shard, stored) = self.location(name)?;
        let (shard, info, _) = self.files.tensor(shard, stored)?;
        if info.shape != wanted {
            return Err(model_error(
                &shard.path,
                format!("tensor {stored} has shape {:?}, the configuration says {wanted:?}", info.shape),
                "use the config.json that belongs to these weights",
            ));
        }
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(model_error(
                &shard.path,
                format!("tensor {stored} is of type {:?}", info.dtype),
                "convert it to f32, f16 or bf16",
            ));
        }
        Ok(())
    }

    /// A tied model may carry a copy of its embedding as output head, and no other head.
    fn check_tied_head(&self, stored_heads: &[String]) -> Result<()> {
        let (shard, embedding) = self.location(EMBEDDING)?;
        let (_, own, own_bytes) = self.files.tensor(shard, embedding)?;
        for head in stored_heads.iter().filter(|head| *head != embedding) {
            let Some(shard) = self.files.locate(head)? else { continue };
            let (shard, info, bytes) = self.files.tensor(shard, head)?;
            let is_copy = info.shape == own.shape
                && ((info.dtype == own.dtype && bytes == own_bytes)
                    || decode_plain(info.dtype, bytes) == decode_plain(own.dtype, own_bytes));
            if !is_copy {
                return Err(model_error(
                    &shard.path,
                    format!("tie_word_embeddings is true, but {head} is not the embedding"),
                    "state tie_word_embeddings = false to use that head, or remove it",
                ));
            }
        }
        Ok(())
    }

    fn location(&self, name: &str) -> Result<(usize, &str)> {
        match self.locations.get(name) {
            Some((shard, stored)) => Ok((*shard, stored)),
            None => Err(model_error(
                self.files.first_path(),
                format!("there is no tensor {name}"),
                "ask for a layer of the configuration",
            )),
        }
    }

    fn decode(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        let (shard, stored) = self.location(name)?;
        let (shard, info, bytes) = self.files.tensor(shard, stored)?;
        let values = decode_plain(info.dtype, bytes);
        let is_usable = |value: f32| value.is_finite() && value.abs() <= LARGEST_WEIGHT;
        match values.iter().enumerate().find(|(_, value)| !is_usable(**value)) {
            None => Ok((values, info.shape.clone())),
            Some((index, value)) => Err(model_error(
                &shard.path,
                format!("tensor {stored} has the value {value:e} at index {index}"),
                "fetch the file again: weights must be finite, and none of a trained model exceeds 1e9",
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

/// Values of bytes in f32, f16 or bf16.
fn decode_plain(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let halves = || bytes.as_chunks::<2>().0.iter();
    match dtype {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
        Dtype::F16 => halves().map(|word| half::f16::from_le_bytes(*word).to_f32()).collect(),
        _ => halves().map(|word| half::bf16::from_le_bytes(*word).to_f32()).collect(),
    }
}

#[cfg(test)]
mod tests;
