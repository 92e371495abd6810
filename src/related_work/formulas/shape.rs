//! The sizes of a model that costs depend on.

use crate::contract::{Error, Result};
use crate::model::config::{LlamaConfig, RopeScaling};
use crate::packing::{BlockShape, SHAPE_NAMES, named_shape};

/// Sizes of a decoder-only transformer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ModelShape {
    /// Name.
    pub name: String,
    /// Length of the residual.
    pub hidden_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Length of a head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Whether the MLP has a gate (SwiGLU) and positions are rotary, as in the Llama family.
    pub gated: bool,
}

impl ModelShape {
    /// Names of the shapes known without a model.
    pub const NAMES: [&'static str; 4] = SHAPE_NAMES;

    /// A shape known by name.
    ///
    /// # Errors
    /// [`Error::Shape`] listing the names there are.
    pub fn named(name: &str) -> Result<Self> {
        let unknown = || Error::Shape {
            operation: "model shape",
            what: format!("no shape is called `{name}`"),
            remedy: format!("use one of {}, or a model directory", Self::NAMES.join(", ")),
        };
        let (num_hidden_layers, gated) = match name {
            "gpt2" => (12, false),
            "smollm2-135m" => (30, true),
            "tinyllama" => (22, true),
            "llama-3-8b" => (32, true),
            _ => return Err(unknown()),
        };
        let BlockShape { hidden, intermediate, attention } = named_shape(name).ok_or_else(unknown)?;
        Ok(Self {
            name: name.to_owned(),
            hidden_size: hidden,
            num_attention_heads: attention.heads,
            num_key_value_heads: attention.kv_heads,
            head_dim: attention.head_dim,
            intermediate_size: intermediate,
            num_hidden_layers,
            gated,
        })
    }

    /// The configuration of a Llama of this shape for a context of `context` tokens. The vocabulary, which no layer
    /// depends on, is empty.
    ///
    /// # Errors
    /// [`Error::Shape`] for a model that is no Llama.
    pub fn llama(&self, context: usize) -> Result<LlamaConfig> {
        if !self.gated {
            return Err(Error::Shape {
                operation: "model shape",
                what: format!("{} has no gate and no rotary positions", self.name),
                remedy: "the decoder runs Llama-like models: use smollm2-135m, tinyllama or llama-3-8b"
                    .to_owned(),
            });
        }
        Ok(LlamaConfig {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            vocab_size: 0,
            max_position_embeddings: context,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            tie_word_embeddings: true,
            bos_token_id: None,
            eos_token_ids: Vec::new(),
        })
    }

    /// Length of all keys of one token.
    #[must_use]
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Length of all queries of one token.
    #[must_use]
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// That no size is zero, heads divide evenly, and one token fits `slots`.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the size.
    pub fn check(&self, slots: usize) -> Result<()> {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
        ];
        let refuse = |what: String, remedy: &str| Error::Shape {
            operation: "model shape",
            what,
            remedy: remedy.to_owned(),
        };
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(refuse(format!("{name} is 0"), "give a model with at least one of each"));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(refuse(
                format!(
                    "{} heads over {} key-value heads",
                    self.num_attention_heads, self.num_key_value_heads
                ),
                "heads must share key-value heads evenly",
            ));
        }
        let widest = self.hidden_size.max(self.intermediate_size).max(self.query_size());
        if widest > slots {
            return Err(refuse(format!("a vector of {widest} values in {slots} slots"), "use a larger ring"));
        }
        Ok(())
    }
}
