//! Shape of the model in a GGUF: `llama.*` metadata as a configuration.

use serde_json::{Value, json};

use crate::contract::Result;

use crate::model::config::{LlamaConfig, RopeScaling};
use crate::model::gguf::GgufValue;
use crate::model::import::parts::GgufParts;
use crate::model::import::tensors::ROPE_FREQUENCIES;

const PLAIN: &str = "use a plain Llama in GGUF";

/// Metadata of llama.cpp's architecture that this module uses.
const USED: [&str; 16] = [
    "llama.embedding_length",
    "llama.feed_forward_length",
    "llama.block_count",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.attention.sliding_window",
    "llama.context_length",
    "llama.vocab_size",
    "llama.rope.dimension_count",
    "llama.rope.freq_base",
    "llama.rope.scaling.type",
    "llama.rope.scaling.factor",
    "llama.rope.scale_linear",
    "llama.attention.layer_norm_rms_epsilon",
];
/// Metadata that says nothing about the computation.
const HARMLESS: [&str; 3] = [
    "llama.rope.scaling.finetuned",
    "llama.rope.scaling.original_context_length",
    "llama.tensor_data_layout",
];
/// Metadata that changes nothing at this value.
const NEUTRAL: [(&str, f64); 8] = [
    ("llama.expert_count", 0.0),
    ("llama.expert_used_count", 0.0),
    ("llama.rope.scaling.attn_factor", 1.0),
    ("llama.attention.scale", 0.0),
    ("llama.logit_scale", 1.0),
    ("llama.embedding_scale", 1.0),
    ("llama.residual_scale", 1.0),
    ("llama.attention.max_alibi_bias", 0.0),
];

/// Configuration of the model.
///
/// # Errors
/// [`crate::contract::Error::Model`] when the architecture is another, a key is missing, has a value per layer, or
/// would change what is computed.
pub(super) fn read(parts: &GgufParts<'_>) -> Result<LlamaConfig> {
    let file = parts.metadata();
    match file.text("general.architecture") {
        Some("llama") => {}
        Some(other) => return Err(parts.error(format!("architecture {other} is not computed"), PLAIN)),
        None => return Err(parts.error("general.architecture is missing", "fetch the file again")),
    }
    refuse_what_is_not_computed(parts)?;
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
    ] {
        if let Some(value) = integer(parts, gguf_key)? {
            insert(&mut json, key, value.into());
        }
    }
    for (key, gguf_key) in
        [("rope_theta", "llama.rope.freq_base"), ("rms_norm_eps", "llama.attention.layer_norm_rms_epsilon")]
    {
        if let Some(value) = file.number(gguf_key) {
            // Stored as f32: the shortest decimal that reads back equal is what the model card says.
            let value = (value as f32).to_string().parse().unwrap_or(value);
            insert(&mut json, key, json!(value));
        }
    }
    let embedding = parts
        .tensor("token_embd.weight")
        .ok_or_else(|| parts.error("tensor token_embd.weight is missing", "fetch the file again"))?;
    insert(&mut json, "vocab_size", embedding.shape.first().copied().unwrap_or(0).into());
    insert(&mut json, "tie_word_embeddings", parts.tensor("output.weight").is_none().into());
    insert(&mut json, "eos_token_id", end_tokens(parts)?.into());
    let mut config = LlamaConfig::parse(json.to_string().as_bytes(), file.path())?;
    config.rope_scaling = rope_scaling(parts, &config)?;
    check_agreement(parts, &config)?;
    Ok(config)
}

/// End of text, of a turn, and of a message: each ends an answer (as in llama.cpp).
fn end_tokens(parts: &GgufParts<'_>) -> Result<Vec<usize>> {
    let mut tokens = Vec::new();
    for name in ["eos", "eot", "eom"] {
        if let Some(token) = integer(parts, &format!("tokenizer.ggml.{name}_token_id"))?
            && !tokens.contains(&token)
        {
            tokens.push(token);
        }
    }
    Ok(tokens)
}

/// A count; a list of one value for every layer counts as that value. −1, as 32 bits or signed, counts as absent.
fn integer(parts: &GgufParts<'_>, key: &str) -> Result<Option<usize>> {
    let wrong = |what: &str| {
        parts.error(
            format!("{key} is {what}, one whole number is wanted"),
            "use a model whose layers are all alike",
        )
    };
    let number = match parts.metadata().value(key) {
        None => return Ok(None),
        Some(GgufValue::Integer(number)) => *number,
        Some(GgufValue::Array(array)) => {
            let mut values = array.iter();
            match values.next() {
                Some(GgufValue::Integer(first)) if values.all(|value| value == GgufValue::Integer(first)) => {
                    first
                }
                Some(GgufValue::Integer(_)) => return Err(wrong("a list with a value for each layer")),
                _ => return Err(wrong("a list without numbers")),
            }
        }
        Some(_) => return Err(wrong("no whole number")),
    };
    if number == -1 || number == i128::from(u32::MAX) {
        return Ok(None);
    }
    usize::try_from(number).map(Some).map_err(|_| wrong(&number.to_string()))
}

fn refuse_what_is_not_computed(parts: &GgufParts<'_>) -> Result<()> {
    let file = parts.metadata();
    for key in file.keys().filter(|key| key.starts_with("llama.")) {
        let neutral = NEUTRAL.iter().find(|(own, _)| *own == key).map(|(_, value)| *value);
        let is_neutral = neutral.is_some_and(|neutral| file.number(key) == Some(neutral))
            || (key == "llama.attention.causal" && file.flag(key) == Some(true));
        if !USED.contains(&key) && !HARMLESS.contains(&key) && !is_neutral {
            return Err(parts.error(format!("{key} is not computed here"), PLAIN));
        }
    }
    Ok(())
}

/// What the metadata says twice must agree.
fn check_agreement(parts: &GgufParts<'_>, config: &LlamaConfig) -> Result<()> {
    for (key, wanted, what) in [
        ("llama.attention.value_length", config.head_dim, "the width of a head"),
        ("llama.rope.dimension_count", config.head_dim, "the width of a head"),
        ("llama.vocab_size", config.vocab_size, "the rows of token_embd.weight"),
    ] {
        if let Some(found) = integer(parts, key)?
            && found != wanted
        {
            return Err(parts.error(format!("{key} = {found} is not {what}, {wanted}"), PLAIN));
        }
    }
    match integer(parts, "llama.attention.sliding_window")? {
        Some(window) if window > 0 && window < config.max_position_embeddings => Err(parts.error(
            format!(
                "llama.attention.sliding_window = {window} is shorter than the context of {}",
                config.max_position_embeddings
            ),
            "use a model whose layers all attend to the whole context",
        )),
        _ => Ok(()),
    }
}

/// Scaling from the metadata (the older `scale_linear` too), or from a tensor of divisors, which must be Llama 3's.
fn rope_scaling(parts: &GgufParts<'_>, config: &LlamaConfig) -> Result<RopeScaling> {
    let file = parts.metadata();
    let factors = [file.number("llama.rope.scaling.factor"), file.number("llama.rope.scale_linear")];
    let factor = match factors {
        [Some(new), Some(old)] if new != old => {
            return Err(parts.error(
                format!("llama.rope.scaling.factor = {new} and llama.rope.scale_linear = {old} differ"),
                "fetch the file again, or check the tool that wrote it",
            ));
        }
        [new, old] => new.or(old),
    };
    let stated = match (file.text("llama.rope.scaling.type"), factor) {
        (Some("none"), _) | (_, Some(0.0 | 1.0)) | (None, None) => RopeScaling::None,
        (Some("linear") | None, Some(factor)) if factor.is_finite() && factor > 0.0 => {
            RopeScaling::Linear { factor }
        }
        (kind, factor) => {
            let kind = kind.unwrap_or("linear");
            let by = factor.map_or("without a factor".to_owned(), |factor| format!("by {factor}"));
            return Err(parts.error(format!("RoPE scaling {kind} {by} is not computed"), PLAIN));
        }
    };
    if parts.tensor(ROPE_FREQUENCIES).is_none() {
        return Ok(stated);
    }
    let divisors = parts.decode_row(ROPE_FREQUENCIES, 0)?;
    if stated == RopeScaling::None && divisors.iter().all(|divisor| *divisor == 1.0) {
        return Ok(stated);
    }
    // llama.cpp's converter writes the divisors and drops the parameters; those of every Llama 3 but for the factor.
    let scaling = RopeScaling::Llama3 {
        factor: divisors.iter().copied().fold(1.0f32, f32::max).into(),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let plain = LlamaConfig { rope_scaling: RopeScaling::None, ..config.clone() }.rope_frequencies();
    let agrees = plain.len() == divisors.len()
        && plain.iter().zip(&divisors).all(|(plain, divisor)| {
            let wanted = plain / scaling.apply(*plain);
            (f64::from(*divisor) - wanted).abs() <= 1e-4 * wanted
        });
    if stated == RopeScaling::None && agrees {
        return Ok(scaling);
    }
    Err(parts.error(
        format!("{ROPE_FREQUENCIES} holds other divisors of the RoPE frequencies than Llama 3's"),
        "use the model's Hugging Face directory, whose config.json states the scaling",
    ))
}

fn insert(json: &mut Value, key: &str, value: Value) {
    if let Some(entries) = json.as_object_mut() {
        entries.insert(key.to_owned(), value);
    }
}
