//! The steps of a plan as its reports list them, and the placement it is compared with.

use crate::placement::{Plan, PlanStep};
use serde::Serialize;

/// What greedy placement is.
pub(super) const GREEDY: &str =
    "greedy (a value is bootstrapped when it is out of levels, alone, to the top)";

/// A step of the whole model, with the layer it belongs to.
#[derive(Serialize)]
pub(super) struct LayerStep<'a> {
    layer: usize,
    #[serde(flatten)]
    step: &'a PlanStep,
}

impl<'a> LayerStep<'a> {
    /// All steps of `plan`, in order.
    pub(super) fn all(plan: &'a Plan) -> Vec<Self> {
        let layers = plan.layers.iter().enumerate();
        layers
            .flat_map(|(layer, of_layer)| of_layer.steps.iter().map(move |step| Self { layer, step }))
            .collect()
    }
}
