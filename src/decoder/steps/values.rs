//! Weights times cached values. Domain: weights of all tokens side by side, taken apart here; the sums side by side
//! again.

use crate::contract::{Evaluator, Result};
use crate::decoder::layer::LayerRun;
use crate::decoder::values::{LayerValue, Values};
use crate::packing::KeyValueCache;

/// Σ weight · value of each token that attends, at its places among the heads, clean. Two levels, and one above them
/// for the mask that takes several tokens apart.
pub(super) fn numerator<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
    cache: &KeyValueCache<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let (evaluator, attention) = (run.evaluator, &run.block()?.attention);
    if !run.members.are_several() {
        let sum = attention.weighted_values(evaluator, reads.list(LayerValue::Weights), cache)?;
        return Ok(Values::of(LayerValue::Numerator, sum.ciphertext));
    }
    let weights = reads.one(LayerValue::Weights)?;
    let mut sums = Vec::with_capacity(run.members.attending.len());
    for member in run.members.attending.clone() {
        let weights = attention.member_weights(evaluator, weights, member)?;
        sums.push((member, attention.weighted_values(evaluator, &[weights], cache)?.ciphertext));
    }
    Ok(Values::of(LayerValue::Numerator, run.heads()?.pack(evaluator, &sums)?))
}
