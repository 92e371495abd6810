//! Q·Kᵀ over the cache. Domain: queries apart; the scores of all tokens side by side, one ciphertext for each segment.

use crate::contract::{Evaluator, Result};
use crate::decoder::layer::{LayerRun, of_head};
use crate::decoder::values::{LayerValue, Values};
use crate::packing::{KeyValueCache, Packed, ScoreQuery};

/// Scores of the tokens that attend, in the unit variable of the exponential, each in its own copy of the score
/// layout when they are several. A token sees itself and those before it. Two levels; per token and K ciphertext a
/// product, a sum over the dimensions of a head, and a mask.
///
/// The first token's scores are −1 at all other slots, those of the others 0, so that their sum is −1, where exp
/// vanishes, wherever no score is.
pub(super) fn scores<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
    cache: &KeyValueCache<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let (evaluator, block, members) = (run.evaluator, run.block()?, &run.members);
    let (functions, layout) = (&block.functions.attention, block.attention.score_layout());
    let interval = functions.softmax.exponential.root.interval;
    let count = members.attending.len();
    let vectors = reads.many(LayerValue::Query, count)?;
    let shifts = reads.many(LayerValue::QueryShift, if block.has_query_shifts { count } else { 0 })?;
    let packed = |vector: &E::Ciphertext| Packed::new(vector.clone(), block.attention.stored().vector());

    let mut sums: Vec<E::Ciphertext> = Vec::new();
    for (index, (member, vector)) in members.attending.clone().zip(vectors).enumerate() {
        let copy = members.are_several().then_some(member);
        let tokens = run.position + member + 1;
        let (vectors, subtracted) = ([packed(vector)], shifts.get(index).map(packed));
        let query = ScoreQuery { vectors: &vectors, subtracted: subtracted.as_ref(), tokens, copy };
        let own = block.attention.scores_of(evaluator, &query, cache, interval.unit_slope())?;

        let mut with_constants = Vec::with_capacity(own.len());
        for (segment, scores) in own.iter().enumerate() {
            let mut constants = layout.values(segment, tokens, |_, head| {
                1.0 + interval.to_unit(-of_head(&functions.offsets, head))
            });
            if let Some(copy) = copy {
                layout.keep_copy(&mut constants, copy);
            }
            if index == 0 {
                constants.iter_mut().for_each(|constant| *constant -= 1.0);
            }
            with_constants.push(evaluator.add_values(scores, &constants)?);
        }
        sums = match index {
            0 => with_constants,
            _ => sums
                .iter()
                .zip(&with_constants)
                .map(|(sum, own)| evaluator.add(sum, own))
                .collect::<Result<_>>()?,
        };
    }
    Ok(Values::new().with(LayerValue::Scores, sums))
}
