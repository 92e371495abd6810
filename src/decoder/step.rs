//! The steps of a layer of the encrypted decoder: their names, and the values they read and write.
//!
//! One list for everything: [`crate::decoder::Decoder::step_wave`] runs these steps, [`crate::decoder::count`] counts
//! and times them one by one, [`crate::decoder::keys`] plans their keys by running them on the simulator, and a
//! placement of bootstraps says of each at which level it runs and whether the value at its seam ([`Step::seam`]) is
//! bootstrapped before. What a step does stands in `decoder::steps`.

use crate::decoder::values::LayerValue;

/// A step of a layer, or the output head behind the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Step {
    /// Norm before attention: mask, square and sum.
    InputNormSquare,
    /// Norm before attention: 1/√.
    InputNormRoot,
    /// Norm before attention: product of stream and root.
    InputNormScale,
    /// Projections to queries, keys and values.
    QueryKeyValue,
    /// RoPE of query and key, and the shift of the key.
    Rope,
    /// Key and value into their caches.
    Append,
    /// Q·Kᵀ.
    Scores,
    /// exp of the scores.
    Exponential,
    /// Sums of the softmax's weights.
    Denominator,
    /// Weights times cached values.
    Values,
    /// Iterations of the inverse before its bootstrap; denominator and numerator leave as one complex vector.
    DivideFirst,
    /// Split of denominator and numerator, and the iterations behind their bootstrap.
    DivideLast,
    /// Output projection and mask.
    Output,
    /// Residual sum after attention.
    AttentionResidual,
    /// Norm before the MLP: mask, square and sum.
    PostNormSquare,
    /// Norm before the MLP: 1/√.
    PostNormRoot,
    /// Norm before the MLP: product of stream and root.
    PostNormScale,
    /// up + i·gate in one product, and mask.
    UpGate,
    /// Split of up and gate, and SiLU of the gate.
    Activation,
    /// SiLU(gate) · up.
    GateProduct,
    /// Down projection and mask.
    Down,
    /// Residual sum after the MLP.
    MlpResidual,
    /// The output head on the server, behind the final norm.
    Head,
}

/// Names of the values a step reads, and of those it writes.
pub(crate) type Edges = (&'static [LayerValue], &'static [LayerValue]);

impl Step {
    /// The steps of a layer, in running order.
    pub const LAYER: [Self; 22] = [
        Self::InputNormSquare,
        Self::InputNormRoot,
        Self::InputNormScale,
        Self::QueryKeyValue,
        Self::Rope,
        Self::Append,
        Self::Scores,
        Self::Exponential,
        Self::Denominator,
        Self::Values,
        Self::DivideFirst,
        Self::DivideLast,
        Self::Output,
        Self::AttentionResidual,
        Self::PostNormSquare,
        Self::PostNormRoot,
        Self::PostNormScale,
        Self::UpGate,
        Self::Activation,
        Self::GateProduct,
        Self::Down,
        Self::MlpResidual,
    ];

    /// The norm behind the last layer: the steps of a norm again.
    pub const FINAL_NORM: [Self; 3] = [Self::InputNormSquare, Self::InputNormRoot, Self::InputNormScale];

    /// The norm behind the last layer, and the output head on the server.
    pub const END_WITH_HEAD: [Self; 4] =
        [Self::InputNormSquare, Self::InputNormRoot, Self::InputNormScale, Self::Head];

    /// The steps of a layer after which the tokens are in its cache: all that is needed of the last layer when nobody
    /// asks what comes next.
    pub const CACHING: [Self; 6] = [
        Self::InputNormSquare,
        Self::InputNormRoot,
        Self::InputNormScale,
        Self::QueryKeyValue,
        Self::Rope,
        Self::Append,
    ];

    /// Name of the step in cost files and plans.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InputNormSquare => "input_norm.square",
            Self::InputNormRoot => "input_norm.root",
            Self::InputNormScale => "input_norm.scale",
            Self::QueryKeyValue => "qkv",
            Self::Rope => "rope",
            Self::Append => "append",
            Self::Scores => "scores",
            Self::Exponential => "exp",
            Self::Denominator => "denominator",
            Self::Values => "values",
            Self::DivideFirst => "divide.first",
            Self::DivideLast => "divide.last",
            Self::Output => "output",
            Self::AttentionResidual => "attention_residual",
            Self::PostNormSquare => "post_attention_norm.square",
            Self::PostNormRoot => "post_attention_norm.root",
            Self::PostNormScale => "post_attention_norm.scale",
            Self::UpGate => "up_gate",
            Self::Activation => "activation",
            Self::GateProduct => "gate_product",
            Self::Down => "down",
            Self::MlpResidual => "mlp_residual",
            Self::Head => "head",
        }
    }

    /// The values it reads, and those it writes.
    #[must_use]
    pub fn edges(self) -> Edges {
        use LayerValue as V;
        match self {
            Self::InputNormSquare => (&[V::Residual], &[V::InputMasked, V::InputMeanSquare]),
            Self::InputNormRoot => (&[V::InputMeanSquare], &[V::InputInverseRoot]),
            Self::InputNormScale => (&[V::InputMasked, V::InputInverseRoot], &[V::InputNormed]),
            Self::QueryKeyValue => (&[V::InputNormed], &[V::QueryStraight, V::KeyStraight, V::Value]),
            Self::Rope => (&[V::QueryStraight, V::KeyStraight], &[V::Query, V::QueryShift, V::Key]),
            Self::Append => (&[V::Key, V::Value], &[V::KeyCache, V::ValueCache]),
            Self::Scores => (&[V::Query, V::QueryShift, V::KeyCache], &[V::Scores]),
            Self::Exponential => (&[V::Scores], &[V::Weights]),
            Self::Denominator => (&[V::Weights], &[V::Denominator]),
            Self::Values => (&[V::Weights, V::ValueCache], &[V::Numerator]),
            Self::DivideFirst => (&[V::Denominator, V::Numerator], &[V::Halves]),
            Self::DivideLast => (&[V::Halves], &[V::Attended]),
            Self::Output => (&[V::Attended], &[V::AttentionOutput]),
            Self::AttentionResidual => (&[V::Residual, V::AttentionOutput], &[V::MiddleResidual]),
            Self::PostNormSquare => (&[V::MiddleResidual], &[V::PostMasked, V::PostMeanSquare]),
            Self::PostNormRoot => (&[V::PostMeanSquare], &[V::PostInverseRoot]),
            Self::PostNormScale => (&[V::PostMasked, V::PostInverseRoot], &[V::PostNormed]),
            Self::UpGate => (&[V::PostNormed], &[V::UpGate]),
            Self::Activation => (&[V::UpGate], &[V::Up, V::Activation]),
            Self::GateProduct => (&[V::Up, V::Activation], &[V::Gated]),
            Self::Down => (&[V::Gated], &[V::MlpOutput]),
            Self::MlpResidual => (&[V::MiddleResidual, V::MlpOutput], &[V::NextResidual]),
            Self::Head => (&[V::InputNormed], &[V::Logits]),
        }
    }

    /// The step of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::LAYER.into_iter().chain([Self::Head]).find(|step| step.name() == name)
    }

    /// The value among those it reads that may be bootstrapped right before it: clean, and within ±1 by construction.
    #[must_use]
    pub fn seam(self) -> Option<LayerValue> {
        match self {
            Self::InputNormSquare | Self::AttentionResidual => Some(LayerValue::Residual),
            Self::QueryKeyValue => Some(LayerValue::InputNormed),
            Self::Exponential => Some(LayerValue::Scores),
            Self::DivideLast => Some(LayerValue::Halves),
            Self::PostNormSquare | Self::MlpResidual => Some(LayerValue::MiddleResidual),
            Self::Activation => Some(LayerValue::UpGate),
            _ => None,
        }
    }

    /// What the bootstrap before the step is called in reports of progress.
    #[must_use]
    pub fn stage(self) -> &'static str {
        match self {
            Self::InputNormSquare => "residual",
            Self::QueryKeyValue => "normed",
            Self::Exponential => "scores",
            Self::DivideLast => "numerator",
            Self::AttentionResidual => "residual for its sum",
            Self::PostNormSquare => "middle residual",
            Self::MlpResidual => "middle for its sum",
            Self::Activation => "gate",
            _ => self.name(),
        }
    }
}

/// Whether the decoder knows how to bootstrap `value`.
#[must_use]
pub fn may_bootstrap(value: LayerValue) -> bool {
    value == LayerValue::NextResidual || Step::LAYER.iter().any(|step| step.seam() == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_value_is_written_before_it_is_read_and_every_seam_is_read_by_its_step() {
        let mut written = BTreeSet::from([LayerValue::Residual]);
        for step in Step::LAYER.into_iter().chain([Step::Head]) {
            let (reads, writes) = step.edges();
            for value in reads {
                assert!(written.contains(value), "{} reads {}", step.name(), value.name());
            }
            for value in writes {
                assert!(written.insert(*value), "{} is written twice", value.name());
            }
            if let Some(seam) = step.seam() {
                assert!(reads.contains(&seam), "{} does not read {}", step.name(), seam.name());
                assert!(may_bootstrap(seam));
            }
            assert_eq!(Step::from_name(step.name()), Some(step));
        }
        let names: BTreeSet<&str> = written.iter().map(|value| value.name()).collect();
        assert_eq!(names.len(), written.len(), "names are unique");
        assert!(!may_bootstrap(LayerValue::Weights));
    }

    #[test]
    fn the_shorter_lists_are_beginnings_of_a_layer() {
        assert!(Step::LAYER.starts_with(&Step::CACHING) && Step::LAYER.starts_with(&Step::FINAL_NORM));
        assert_eq!(Step::CACHING.last(), Some(&Step::Append));
    }
}
