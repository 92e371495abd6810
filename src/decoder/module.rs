//! The modules a layer of the encrypted decoder consists of: their names, and the values between them.
//!
//! A placement of bootstraps speaks of these: at which level each module runs, and which of the values that the decoder can
//! bootstrap ([`Module::seam`]) it does.

/// The modules of a layer in running order, and the output head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Module {
    /// Mask, square and sum of the norm before attention.
    InputNormSquare,
    /// Its 1/√.
    InputNormRoot,
    /// Its product.
    InputNormScale,
    /// Projections to queries, keys and values.
    QueryKeyValue,
    /// RoPE of query and key, and the shift of the key.
    Rope,
    /// Key and value into their caches.
    Append,
    /// Q·Kᵀ.
    Scores,
    /// exp.
    Exponential,
    /// Sums of the weights.
    Denominator,
    /// Weights times cached values.
    Values,
    /// Iterations of the inverse before the refresh; denominator and numerator leave as one complex vector.
    DivideFirst,
    /// Their split, and the iterations after the refresh.
    DivideLast,
    /// Output projection and mask.
    Output,
    /// Residual sum after attention.
    AttentionResidual,
    /// Mask, square and sum of the norm before the MLP.
    PostNormSquare,
    /// Its 1/√.
    PostNormRoot,
    /// Its product.
    PostNormScale,
    /// up + i·gate in one product, and mask.
    UpGate,
    /// Split of up and gate, and SiLU.
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

/// Names of the values a module reads, and those it writes with how many like each fit one bootstrapped ciphertext.
type Edges = (&'static [&'static str], &'static [(&'static str, usize)]);

impl Module {
    /// Those of a layer, in running order.
    pub const ALL: [Self; 22] = [
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

    /// Its name in cost files and plans.
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

    /// Values read and written; of a written one, how many like it share a bootstrap.
    pub(crate) fn edges(self) -> Edges {
        match self {
            Self::InputNormSquare => (&["residual"], &[("input.masked", 2), ("input.mean_square", 2)]),
            Self::InputNormRoot => (&["input.mean_square"], &[("input.inverse_root", 2)]),
            Self::InputNormScale => (&["input.masked", "input.inverse_root"], &[("input.normed", 2)]),
            Self::QueryKeyValue => {
                (&["input.normed"], &[("query.straight", 2), ("key.straight", 2), ("value", 2)])
            }
            Self::Rope => (&["query.straight", "key.straight"], &[("query", 2), ("key", 2)]),
            Self::Append => (&["key", "value"], &[("key_cache", 1), ("value_cache", 1)]),
            Self::Scores => (&["query", "key_cache"], &[("scores", 2)]),
            Self::Exponential => (&["scores"], &[("weights", 2)]),
            Self::Denominator => (&["weights"], &[("denominator", 2)]),
            Self::Values => (&["weights", "value_cache"], &[("numerator", 2)]),
            Self::DivideFirst => (&["denominator", "numerator"], &[(HALVES, 1)]),
            Self::DivideLast => (&[HALVES], &[("attended", 2)]),
            Self::Output => (&["attended"], &[("attention_output", 2)]),
            Self::AttentionResidual => (&["residual", "attention_output"], &[("middle_residual", 2)]),
            Self::PostNormSquare => (&["middle_residual"], &[("post.masked", 2), ("post.mean_square", 2)]),
            Self::PostNormRoot => (&["post.mean_square"], &[("post.inverse_root", 2)]),
            Self::PostNormScale => (&["post.masked", "post.inverse_root"], &[("post.normed", 2)]),
            Self::UpGate => (&["post.normed"], &[("up_gate", 1)]),
            Self::Activation => (&["up_gate"], &[("up", 2), ("activation", 2)]),
            Self::GateProduct => (&["up", "activation"], &[("gated", 2)]),
            Self::Down => (&["gated"], &[("mlp_output", 2)]),
            Self::MlpResidual => (&["middle_residual", "mlp_output"], &[("next_residual", 2)]),
            Self::Head => (&["input.normed"], &[("logits", 1)]),
        }
    }

    /// The module of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::Head]).find(|module| module.name() == name)
    }

    /// The value among those it reads that may be bootstrapped right before it: clean, and within ±1 by construction.
    #[must_use]
    pub fn seam(self) -> Option<&'static str> {
        match self {
            Self::InputNormSquare | Self::AttentionResidual => Some("residual"),
            Self::QueryKeyValue => Some("input.normed"),
            Self::Exponential => Some("scores"),
            Self::DivideLast => Some(HALVES),
            Self::PostNormSquare | Self::MlpResidual => Some("middle_residual"),
            Self::Activation => Some("up_gate"),
            _ => None,
        }
    }

    /// Whether that value is real in every slot, so that a bootstrap need not carry imaginary parts.
    #[must_use]
    pub fn seam_is_real(self) -> bool {
        !matches!(self, Self::DivideLast | Self::Activation)
    }

    /// What its bootstrap is called in reports of progress.
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

/// Whether the decoder knows how to bootstrap the value of that name.
#[must_use]
pub fn may_bootstrap(value: &str) -> bool {
    value == "next_residual" || Module::ALL.iter().any(|module| module.seam() == Some(value))
}

/// Denominator and numerator half way through the inverse, as one complex vector.
const HALVES: &str = "halves";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seam_is_read_by_its_module_and_names_are_unique() {
        for module in Module::ALL {
            if let Some(seam) = module.seam() {
                assert!(module.edges().0.contains(&seam), "{} does not read {seam}", module.name());
                // Two real values fit one ciphertext; what is written by the layer before is its residual stream.
                let written = Module::ALL.iter().flat_map(|module| module.edges().1);
                let lanes =
                    written.into_iter().find(|(name, _)| *name == seam).map_or(2, |(_, lanes)| *lanes);
                assert_eq!(module.seam_is_real(), lanes == 2, "{}", module.name());
            }
            assert_eq!(Module::from_name(module.name()), Some(module));
        }
        assert!(may_bootstrap("scores") && !may_bootstrap("weights"));
    }
}
