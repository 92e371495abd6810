//! RoPE settings of a `config.json`: base, scaling, and the three places where files keep them.
//!
//! Older files have `rope_theta` and `rope_scaling` (its kind under `type`, later `rope_type`), newer ones put both
//! into `rope_parameters`. Where two places speak they must agree; what is not understood is refused by name.

use serde_json::{Value, json};

use crate::contract::Result;

use crate::model::lenient_json::JsonObject;

/// Base of the frequencies where no place names one (Su et al., RoFormer, and transformers' default).
const DEFAULT_THETA: f64 = 10_000.0;

/// Change of the RoPE frequencies for contexts longer than those of the first training.
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

impl RopeScaling {
    /// Frequency after scaling, in radians a position.
    pub(crate) fn apply(self, frequency: f64) -> f64 {
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

    /// The value of `rope_scaling` that reads back as this; `None` when nothing is scaled.
    pub(crate) fn to_json(self) -> Option<Value> {
        match self {
            Self::None => None,
            Self::Linear { factor } => Some(json!({"rope_type": "linear", "factor": factor})),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                Some(json!({
                    "rope_type": "llama3",
                    "factor": factor,
                    "low_freq_factor": low_freq_factor,
                    "high_freq_factor": high_freq_factor,
                    "original_max_position_embeddings": original_max_position_embeddings,
                }))
            }
        }
    }
}

/// Base and scaling that a configuration of `context` positions states.
///
/// # Errors
/// [`crate::contract::Error::Model`] naming the key when two places differ, a scaling is of another kind than default,
/// linear or llama3, a parameter it needs is missing or out of range, or a key is not understood.
pub(super) fn read(config: &JsonObject, context: usize) -> Result<(f64, RopeScaling)> {
    let mut found: Option<(&str, RopeScaling)> = None;
    let mut theta = config.number("rope_theta")?.map(|theta| ("rope_theta".to_owned(), theta));
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(rope) = config.object(key)? else { continue };
        if let Some(inner) = rope.number("rope_theta")? {
            match &theta {
                Some((place, outer)) if *outer != inner => {
                    return Err(config.error(
                        format!("{place} = {outer} and {key}.rope_theta = {inner} differ"),
                        "keep the one that the model was trained with",
                    ));
                }
                _ => theta = Some((format!("{key}.rope_theta"), inner)),
            }
        }
        let scaling = read_scaling(config, &rope, key, context)?;
        match found {
            Some((place, earlier)) if earlier != scaling => {
                return Err(config.error(
                    format!("{place} says {earlier:?} and {key} says {scaling:?}"),
                    "keep the one that the model was trained with",
                ));
            }
            _ => found = Some((key, scaling)),
        }
    }
    let theta = theta.map_or(DEFAULT_THETA, |(_, theta)| theta);
    if theta <= 0.0 {
        return Err(
            config.error(format!("rope_theta = {theta} is not positive"), "correct the configuration")
        );
    }
    Ok((theta, found.map_or(RopeScaling::None, |(_, scaling)| scaling)))
}

fn read_scaling(config: &JsonObject, rope: &JsonObject, key: &str, context: usize) -> Result<RopeScaling> {
    let kind = match (rope.text("rope_type")?, rope.text("type")?) {
        (Some(new), Some(old)) if new != old => {
            return Err(config.error(
                format!("{key}.rope_type = {new:?} and {key}.type = {old:?} differ"),
                "keep the one that the model was trained with",
            ));
        }
        (new, old) => new.or(old).unwrap_or("default"),
    };
    let positive = |name: &str| match rope.number(name)? {
        Some(value) if value > 0.0 => Ok(value),
        Some(value) => {
            Err(config.error(format!("{key}.{name} = {value} is not positive"), "correct the configuration"))
        }
        None => Err(config.error(
            format!("{key}.{name} is missing, {kind} scaling needs it"),
            "add it, as the model's publisher states it",
        )),
    };
    let (scaling, own): (_, &[&str]) = match kind {
        "default" => (RopeScaling::None, &[]),
        "linear" => (RopeScaling::Linear { factor: positive("factor")? }, &["factor"]),
        "llama3" => {
            let (low_freq_factor, high_freq_factor) =
                (positive("low_freq_factor")?, positive("high_freq_factor")?);
            if high_freq_factor <= low_freq_factor {
                return Err(config.error(
                    format!(
                        "{key}.high_freq_factor = {high_freq_factor} is not above low_freq_factor = {low_freq_factor}"
                    ),
                    "correct the configuration",
                ));
            }
            // As transformers: the outer key first, then the object's, then the context itself.
            let original = match config.count("original_max_position_embeddings")? {
                Some(outer) => outer,
                None => rope.count("original_max_position_embeddings")?.unwrap_or(context),
            };
            let scaling = RopeScaling::Llama3 {
                factor: positive("factor")?,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: original,
            };
            (scaling, &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"])
        }
        other => {
            return Err(config.error(
                format!("{key} of type {other:?} is not computed"),
                "use a model with default, linear or llama3 scaling",
            ));
        }
    };
    let factor_of_one = kind == "default" && rope.number("factor").is_ok_and(|factor| factor == Some(1.0));
    for name in rope.keys() {
        let known = own.contains(&name)
            || matches!(name, "rope_type" | "type" | "rope_theta")
            || (name == "original_max_position_embeddings")
            || (name == "factor" && factor_of_one)
            || (name == "partial_rotary_factor" && rope.number(name)? == Some(1.0));
        if !known && rope.value(name).is_some() {
            return Err(config.error(
                format!("{key}.{name} is not computed with {kind} scaling"),
                "use a model without it, or remove it if the model was trained without it",
            ));
        }
    }
    Ok(scaling)
}
