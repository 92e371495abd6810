//! Residual sums. Domain: the stream of all tokens side by side, each feature divided by one set of bounds before the
//! sum and by another behind it.

use crate::contract::{CiphertextInfo, Evaluator, Result};
use crate::decoder::layer::LayerRun;
use crate::decoder::values::{LayerValue, Values};

/// The stream that entered + the output of attention. One level of the stream, none of the output.
pub(super) fn after_attention<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let bounds = [&run.layer.entering, &run.block()?.functions.middle_residual];
    let (x, update) = (reads.one(LayerValue::Residual)?, reads.one(LayerValue::AttentionOutput)?);
    Ok(Values::of(LayerValue::MiddleResidual, sum(run, bounds, x, update)?))
}

/// The middle stream + the output of the MLP. One level of the stream, none of the output.
pub(super) fn after_mlp<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let functions = &run.block()?.functions;
    let bounds = [&functions.middle_residual, &functions.residual];
    let (x, update) = (reads.one(LayerValue::MiddleResidual)?, reads.one(LayerValue::MlpOutput)?);
    Ok(Values::of(LayerValue::NextResidual, sum(run, bounds, x, update)?))
}

/// `x`, from features divided by the first bounds to features divided by the second, + `update`, for the tokens that
/// attend.
fn sum<E: Evaluator>(
    run: &LayerRun<'_, E>,
    [from, to]: [&Vec<f64>; 2],
    x: &E::Ciphertext,
    update: &E::Ciphertext,
) -> Result<E::Ciphertext> {
    let layout = &run.shared.layout;
    let ratios: Vec<f64> = from.iter().zip(to).map(|(from, to)| from / to).collect();
    let ratios = layout.hidden_order.pack(&layout.hidden, &ratios)?;
    let ratios = run.members.wave.repeat_slots(run.members.attending.clone(), &ratios);
    let scaled = run.evaluator.mul_values(x, &ratios)?;
    run.evaluator.add(&run.lower(&scaled, update.level())?, update)
}
