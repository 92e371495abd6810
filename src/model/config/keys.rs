//! Keys of a `config.json` that change what is computed and that this crate does not compute.
//!
//! Each is refused by name unless its value is the neutral one. Keys that are neither read by [`super`] nor listed here
//! do not enter transformers' Llama and Mistral at all: they are ignored. `docs/model-files.md` has the whole table.

use serde_json::Value;

use crate::contract::Result;

use crate::model::lenient_json::{JsonObject, is_empty};

/// The value at which a key changes nothing (besides being absent, `null`, `false`, `[]` and `{}`).
enum Neutral {
    /// Only the absence.
    Absent,
    /// This number.
    Number(f64),
    /// One of these texts, or a list of nothing else.
    Texts(&'static [&'static str]),
}

use Neutral::{Absent, Number, Texts};

/// Key, neutral value, what to use instead.
const REFUSED: [(&str, Neutral, &str); 58] = [
    ("attention_bias", Absent, NO_BIAS),
    ("mlp_bias", Absent, NO_BIAS),
    ("qkv_bias", Absent, NO_BIAS),
    ("use_bias", Absent, NO_BIAS),
    ("use_qkv_bias", Absent, NO_BIAS),
    ("bias", Absent, NO_BIAS),
    ("quantization_config", Absent, PLAIN_TYPES),
    ("compression_config", Absent, PLAIN_TYPES),
    ("hidden_act", Texts(&["silu", "swish"]), SWIGLU),
    ("hidden_activation", Texts(&["silu", "swish"]), SWIGLU),
    ("activation_function", Texts(&["silu", "swish"]), SWIGLU),
    ("position_embedding_type", Texts(&["rope", "rotary", "absolute"]), PLAIN_LLAMA),
    ("norm_type", Texts(&["rmsnorm", "rms_norm", "rms"]), PLAIN_LLAMA),
    ("layer_types", Texts(&["full_attention"]), NO_WINDOW),
    ("attention_chunk_size", Absent, NO_WINDOW),
    ("use_sliding_window", Absent, NO_WINDOW),
    ("sliding_window_pattern", Absent, NO_WINDOW),
    ("no_rope_layers", Absent, PLAIN_LLAMA),
    ("no_rope_layer_interval", Number(0.0), PLAIN_LLAMA),
    ("partial_rotary_factor", Number(1.0), WHOLE_ROPE),
    ("rotary_pct", Number(1.0), WHOLE_ROPE),
    ("rotary_dim", Absent, WHOLE_ROPE),
    ("rotary_emb_base", Absent, WHOLE_ROPE),
    ("rope_interleaved", Absent, WHOLE_ROPE),
    ("rope_interleave", Absent, WHOLE_ROPE),
    ("alibi", Absent, PLAIN_LLAMA),
    ("qk_layernorm", Absent, NO_HEAD_NORM),
    ("qk_norm", Absent, NO_HEAD_NORM),
    ("use_qk_norm", Absent, NO_HEAD_NORM),
    ("clip_qkv", Absent, PLAIN_LLAMA),
    ("attn_logit_softcapping", Absent, NO_SCALE),
    ("final_logit_softcapping", Absent, NO_SCALE),
    ("logit_softcapping", Absent, NO_SCALE),
    ("query_pre_attn_scalar", Absent, NO_SCALE),
    ("attention_multiplier", Absent, NO_SCALE),
    ("embedding_multiplier", Number(1.0), NO_SCALE),
    ("embedding_scale", Number(1.0), NO_SCALE),
    ("residual_multiplier", Number(1.0), NO_SCALE),
    ("logits_scaling", Number(1.0), NO_SCALE),
    ("logit_scale", Number(1.0), NO_SCALE),
    ("scale_emb", Number(1.0), NO_SCALE),
    ("scale_depth", Absent, NO_SCALE),
    ("dim_model_base", Absent, NO_SCALE),
    ("mup_width_scale", Number(1.0), NO_SCALE),
    ("parallel_attn", Absent, PLAIN_LLAMA),
    ("use_parallel_residual", Absent, PLAIN_LLAMA),
    ("multi_query", Absent, PLAIN_LLAMA),
    ("num_local_experts", Number(0.0), DENSE),
    ("num_experts", Number(0.0), DENSE),
    ("n_routed_experts", Number(0.0), DENSE),
    ("num_experts_per_tok", Number(0.0), DENSE),
    ("moe_intermediate_size", Number(0.0), DENSE),
    ("num_nextn_predict_layers", Number(0.0), PLAIN_LLAMA),
    ("pruned_heads", Absent, PLAIN_LLAMA),
    ("add_cross_attention", Absent, PLAIN_LLAMA),
    ("is_encoder_decoder", Absent, PLAIN_LLAMA),
    ("vision_config", Absent, TEXT_ONLY),
    ("text_config", Absent, TEXT_ONLY),
];

const NO_BIAS: &str = "use a model without biases";
const PLAIN_TYPES: &str = "use the model in f32, f16 or bf16, without quantization";
const SWIGLU: &str = "use a model with SwiGLU (silu)";
const NO_WINDOW: &str = "use a model whose layers all attend to the whole context";
const WHOLE_ROPE: &str = "use a model whose RoPE turns whole heads in halves";
const NO_HEAD_NORM: &str = "use a model without norms on queries and keys";
const NO_SCALE: &str = "use a model without this factor";
const DENSE: &str = "use a model without experts";
const TEXT_ONLY: &str = "use the text model alone";
const PLAIN_LLAMA: &str = "use a plain Llama";

/// Refuses what would be computed otherwise than the file says.
///
/// # Errors
/// [`crate::contract::Error::Model`] with the first key that is not at its neutral value.
pub(super) fn refuse_what_is_not_computed(config: &JsonObject) -> Result<()> {
    for (key, neutral, remedy) in &REFUSED {
        let Some(value) = config.value(key).filter(|value| !is_empty(value)) else { continue };
        let is_neutral = match neutral {
            Absent => false,
            Number(wanted) => value.as_f64() == Some(*wanted),
            Texts(texts) => match value {
                Value::Array(values) => values.iter().all(|value| is_one_of(value, texts)),
                value => is_one_of(value, texts),
            },
        };
        if !is_neutral {
            let shown: String = value.to_string().chars().take(60).collect();
            return Err(config.error(format!("{key} = {shown} is not computed here"), remedy));
        }
    }
    Ok(())
}

fn is_one_of(value: &Value, texts: &[&str]) -> bool {
    value.as_str().is_some_and(|value| texts.contains(&value))
}
