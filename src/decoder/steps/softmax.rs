//! exp, its sums, and the division of the weighted values by them, half before a bootstrap and half behind it.
//! Domain: scores, then numerator and denominator of all tokens side by side. See [`crate::circuits::softmax`].

use crate::circuits::softmax::{Denominators, join_complex, split_complex};
use crate::contract::{Evaluator, Result};
use crate::decoder::layer::LayerRun;
use crate::decoder::values::{LayerValue, Values};

/// exp of the scores, magnified, segment by segment: the levels of the exponential.
pub(super) fn exponential<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let softmax = &run.block()?.functions.attention.softmax;
    let scores = reads.list(LayerValue::Scores);
    let weights =
        scores.iter().map(|scores| softmax.weights(run.evaluator, scores)).collect::<Result<_>>()?;
    Ok(Values::new().with(LayerValue::Weights, weights))
}

/// Sums of the weights in the two scalings of [`Denominators`], each at the places of its token. One level; a sum
/// over the slots of a head, and a mask for each scaling.
pub(super) fn denominator<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let (evaluator, block, heads) = (run.evaluator, run.block()?, run.heads()?);
    let functions = &block.functions.attention;
    let factors = functions.softmax.denominator_factors(functions.largest_denominator);
    let attending = run.members.attending.clone();
    let sums = if run.members.are_several() {
        let weights = reads.one(LayerValue::Weights)?;
        block.attention.wave_denominators(evaluator, weights, &heads, attending.clone(), &factors)?
    } else {
        block.attention.denominators(evaluator, reads.list(LayerValue::Weights), &factors)?
    };
    let offset = heads.mask(attending, functions.softmax.quarter_offset());
    let mut denominators: Vec<E::Ciphertext> = sums.into_iter().map(|sum| sum.ciphertext).collect();
    if let Some(quarter) = denominators.first_mut() {
        *quarter = evaluator.add_values(quarter, &offset)?;
    }
    Ok(Values::new().with(LayerValue::Denominator, denominators))
}

/// The iterations before the bootstrap; denominator and numerator leave as one complex vector, clean and within ±1.
pub(super) fn divide_first<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let (softmax, heads) = (&run.block()?.functions.attention.softmax, run.heads()?);
    let places = heads.mask(run.members.attending.clone(), 1.0);
    let [quarter, magnified] = reads.exactly(LayerValue::Denominator)?;
    let denominators = Denominators { quarter: quarter.clone(), magnified: magnified.clone() };
    let numerator = reads.one(LayerValue::Numerator)?.clone();
    let (f, o) = softmax.before_refresh(run.evaluator, denominators, numerator, &places)?;
    Ok(Values::of(LayerValue::Halves, join_complex(run.evaluator, &f, &o)?))
}

/// Their split, and the iterations behind the bootstrap: one level each.
pub(super) fn divide_last<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let (softmax, heads) = (&run.block()?.functions.attention.softmax, run.heads()?);
    let places = heads.mask(run.members.attending.clone(), 1.0);
    let (f, o) = split_complex(run.evaluator, reads.one(LayerValue::Halves)?)?;
    let attended = softmax.after_refresh(run.evaluator, f, o, &places)?;
    Ok(Values::of(LayerValue::Attended, attended))
}
