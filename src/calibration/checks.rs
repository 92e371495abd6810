//! What a calibration read from a file must satisfy before anything is built on it: shapes of the model, and numbers that
//! a calibration can give.

use crate::circuits::approximation::{Approximation, Interval};
use crate::circuits::inverse_sqrt::InverseSquareRoot;

use crate::calibration::table::{
    CalibrationTable, HeadSite, InverseSite, LayerCalibration, NormSite, SoftmaxMethod,
};
use crate::model::config::LlamaConfig;

/// Most coefficients of an approximation: degree 255.
const MAX_COEFFICIENTS: usize = 256;
/// Most iterations, Newton steps or squarings of one function: far above what the levels of any chain allow.
const MAX_STEPS: usize = 64;

/// What is wrong, in words.
type Check = std::result::Result<(), String>;

impl CalibrationTable {
    /// That numbers of layers, features, heads and weights are those of `config`.
    pub(crate) fn check_shapes(&self, config: &LlamaConfig) -> Check {
        let counts = [
            ("layers", self.layers.len(), config.num_hidden_layers),
            ("features", self.residual_scale.len(), config.hidden_size),
        ];
        let heads = || self.layers.iter().flat_map(LayerCalibration::head_lists);
        let head_counts = heads().map(|heads| ("heads", heads.len(), config.num_attention_heads));
        let weights = heads()
            .flatten()
            .flat_map(|head| [&head.shift_weights, &head.shift_square_weights])
            .map(|weights| ("shift weights", weights.len(), config.head_dim));
        for (what, found, wanted) in counts.into_iter().chain(head_counts).chain(weights) {
            if found != wanted {
                return Err(format!("{found} {what}, the model has {wanted}"));
            }
        }
        Ok(())
    }

    /// That intervals are ordered, divisors positive, and degrees and steps in reach of a circuit.
    pub(crate) fn check_numbers(&self) -> Check {
        positive("embedding", self.embedding)?;
        for scale in &self.residual_scale {
            positive("scale of a feature", *scale)?;
        }
        check_norm("final norm", &self.final_norm)?;
        for (index, layer) in self.layers.iter().enumerate() {
            layer.check_numbers().map_err(|why| format!("layer {index}: {why}"))?;
        }
        Ok(())
    }
}

impl LayerCalibration {
    /// The heads of the deferred division and, where it is used, of normalise-and-square.
    fn head_lists(&self) -> impl Iterator<Item = &Vec<HeadSite>> {
        let squaring = match &self.softmax.method {
            SoftmaxMethod::Deferred => None,
            SoftmaxMethod::NormalizeAndSquare(site) => Some(&site.heads),
        };
        std::iter::once(&self.softmax.heads).chain(squaring)
    }

    fn check_numbers(&self) -> Check {
        check_norm("input norm", &self.input_norm)?;
        check_norm("norm before the MLP", &self.post_attention_norm)?;
        check_function("SiLU", &self.silu.function)?;
        positive("normaliser of SiLU", self.silu.normaliser)?;
        ordered("gates", self.silu.seen)?;
        check_function("exp", &self.softmax.exponential.root)?;
        steps("squarings of exp", self.softmax.exponential.squarings)?;
        check_inverse(&self.softmax.inverse)?;
        if let SoftmaxMethod::NormalizeAndSquare(site) = &self.softmax.method {
            steps("squarings of the softmax", site.squarings)?;
            check_function("exp of divided scores", &site.exponential.root)?;
            steps("squarings of exp", site.exponential.squarings)?;
            check_inverse(&site.first)?;
            check_inverse(&site.later)?;
        }
        for head in self.head_lists().flatten() {
            ordered("scores", head.scores)?;
            ordered("denominators", head.log_denominators)?;
        }
        let seen = &self.magnitudes;
        let magnitudes = [
            ("queries", seen.query),
            ("keys", seen.key),
            ("attention output", seen.attention_output),
            ("residual stream after attention", seen.middle_residual),
            ("up projection", seen.up),
            ("gate", seen.gate),
            ("input of the down projection", seen.down_input),
            ("residual stream", seen.residual),
        ];
        let values = seen.value.iter().map(|value| ("values", *value));
        for (what, magnitude) in magnitudes.into_iter().chain(values) {
            if !(magnitude.is_finite() && magnitude >= 0.0) {
                return Err(format!("a largest magnitude of {what} of {magnitude}"));
            }
        }
        Ok(())
    }
}

fn check_norm(what: &str, site: &NormSite) -> Check {
    let InverseSquareRoot { start, newton_steps, .. } = &site.function;
    check_function(what, start)?;
    steps("Newton steps", *newton_steps)?;
    positive("smallest mean square", start.interval.low)?;
    ordered(what, site.seen)
}

fn check_inverse(site: &InverseSite) -> Check {
    positive("smallest denominator", site.low)?;
    steps("iterations of a division", site.iterations)
}

fn check_function(what: &str, function: &Approximation) -> Check {
    let Interval { low, high } = function.interval;
    if !(low.is_finite() && high.is_finite() && low < high) {
        return Err(format!("{what} over {low} .. {high}"));
    }
    let count = function.coefficients.len();
    if !(1..=MAX_COEFFICIENTS).contains(&count) {
        return Err(format!("{what} with {count} coefficients, 1 to {MAX_COEFFICIENTS} are read"));
    }
    Ok(())
}

fn ordered(what: &str, interval: Interval) -> Check {
    if interval.low.is_finite() && interval.high.is_finite() && interval.low <= interval.high {
        return Ok(());
    }
    Err(format!("{what} seen from {} to {}", interval.low, interval.high))
}

fn positive(what: &str, value: f64) -> Check {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(format!("a {what} of {value}")) }
}

fn steps(what: &str, count: usize) -> Check {
    if count <= MAX_STEPS { Ok(()) } else { Err(format!("{count} {what}, at most {MAX_STEPS} are read")) }
}
