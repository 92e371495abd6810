//! What ranges must satisfy before functions are fitted to them: the shapes of the model, and numbers that a
//! calibration can give. Checked once, when a table is read and when functions are fitted; what comes after relies on
//! it.

use crate::circuits::approximation::Interval;
use crate::contract::{Error, Result};

use crate::calibration::ranges::{DecoderRanges, HeadRanges, LayerRanges};
use crate::model::config::LlamaConfig;

/// What is wrong, in words.
type Check = std::result::Result<(), String>;

impl DecoderRanges {
    /// That the ranges have the shapes of a model of `config`, ordered intervals and positive finite bounds.
    ///
    /// # Errors
    /// [`Error::Plan`] naming the layer and what differs.
    pub fn check(&self, config: &LlamaConfig) -> Result<()> {
        self.check_shapes(config).and_then(|()| self.check_numbers()).map_err(|why| Error::Plan {
            why: format!("ranges of a calibration: {why}"),
            remedy: "calibrate this model".to_owned(),
        })
    }

    /// Numbers of layers, heads, features and weights.
    pub(crate) fn check_shapes(&self, config: &LlamaConfig) -> Check {
        equal("layers", self.layers.len(), config.num_hidden_layers)?;
        for (index, layer) in self.layers.iter().enumerate() {
            layer.check_shapes(config).map_err(|why| format!("layer {index}: {why}"))?;
        }
        Ok(())
    }

    /// Intervals and bounds.
    pub(crate) fn check_numbers(&self) -> Check {
        positive("embedding", self.embedding)?;
        mean_squares("final norm", self.final_norm)?;
        for (index, layer) in self.layers.iter().enumerate() {
            layer.check_numbers().map_err(|why| format!("layer {index}: {why}"))?;
        }
        Ok(())
    }
}

impl LayerRanges {
    fn check_shapes(&self, config: &LlamaConfig) -> Check {
        equal("heads", self.heads.len(), config.num_attention_heads)?;
        for bounds in [&self.middle_residual, &self.residual] {
            equal("features", bounds.len(), config.hidden_size)?;
        }
        for (index, head) in self.heads.iter().enumerate() {
            for weights in [&head.shift, &head.square_shift] {
                let check = equal("shift weights", weights.len(), config.head_dim);
                check.map_err(|why| format!("head {index}: {why}"))?;
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Check {
        mean_squares("norm before attention", self.input_norm)?;
        mean_squares("norm before the MLP", self.post_norm)?;
        ordered("gates", self.gate)?;
        positive("up projection", self.up)?;
        for bound in self.middle_residual.iter().chain(&self.residual) {
            positive("feature of the residual stream", *bound)?;
        }
        for (index, head) in self.heads.iter().enumerate() {
            head.check_numbers().map_err(|why| format!("head {index}: {why}"))?;
        }
        Ok(())
    }
}

impl HeadRanges {
    fn check_numbers(&self) -> Check {
        ordered("scores", self.scores)?;
        ordered("denominators", self.log_denominator)?;
        positive("value", self.value)?;
        for weight in self.shift.iter().chain(&self.square_shift).chain([&self.offset]) {
            if !weight.is_finite() {
                return Err(format!("a shift of {weight}"));
            }
        }
        Ok(())
    }
}

fn equal(what: &str, found: usize, wanted: usize) -> Check {
    if found == wanted { Ok(()) } else { Err(format!("{found} {what}, the model has {wanted}")) }
}

fn mean_squares(what: &str, interval: Interval) -> Check {
    ordered(what, interval)?;
    positive("smallest mean square", interval.low)
}

fn ordered(what: &str, interval: Interval) -> Check {
    let Interval { low, high } = interval;
    if low.is_finite() && high.is_finite() && low < high {
        return Ok(());
    }
    Err(format!("{what} from {low} to {high}"))
}

fn positive(what: &str, bound: f64) -> Check {
    if bound.is_finite() && bound > 0.0 { Ok(()) } else { Err(format!("{what} bounded by {bound}")) }
}
