//! Seconds of one decoder layer as it ran, beside what costs predict.

use serde::Serialize;

/// A stretch of a layer between two bootstraps: the bootstrap before it, and what follows.
#[derive(Clone, Debug, Serialize)]
pub struct Stretch {
    /// The bootstrap that ends it.
    pub ends_at: &'static str,
    /// Median of the rounds in seconds.
    pub measured_s: f64,
    /// By the costs.
    pub predicted_s: f64,
}

/// A decoder layer as it ran, beside what the costs say.
#[derive(Clone, Debug, Serialize)]
pub struct LayerCheck {
    /// Sum of the stretches in seconds.
    pub measured_s: f64,
    /// By the costs.
    pub predicted_s: f64,
    /// Predicted over measured.
    pub ratio: f64,
    /// Whether the ratio lies in 0.8 .. 1.2.
    pub within_20_percent: bool,
    /// A layer in the steady state of the placement that the solver makes from the same costs.
    pub solver_s: f64,
    /// Bootstraps a layer of that placement.
    pub solver_bootstraps: f64,
    /// Bootstraps of the layer that ran.
    pub decoder_bootstraps: usize,
    /// The stretches, in their order.
    pub stretches: Vec<Stretch>,
}
