//! How exact the functions of the decoder are: one accuracy for all of them.

/// Largest error each function may make over its range.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Accuracy {
    /// Norms inside the layers, relative.
    pub norm: f64,
    /// Norm before the output head, relative: it scales every logit.
    pub final_norm: f64,
    /// exp, relative, down to the smallest denominator.
    pub exponential: f64,
    /// 1/D, relative.
    pub inverse: f64,
    /// SiLU, absolute.
    pub silu: f64,
}

impl Default for Accuracy {
    /// Errors at most a third of what costs top-1 agreement of SmolLM2-135M when one function alone makes it.
    fn default() -> Self {
        Self { norm: 3e-3, final_norm: 2e-4, exponential: 1e-3, inverse: 1e-3, silu: 1e-3 }
    }
}
