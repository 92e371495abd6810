//! Positions, and the way into the cache. Domain: tokens apart; keys and values at the slots where the cache wants
//! them.

use crate::contract::{Evaluator, Result};
use crate::decoder::layer::{LayerRun, of_dimension};
use crate::decoder::values::{LayerValue, Values};
use crate::packing::{KeyValueCache, Packed};

/// Every key rotated to its position and shifted; every query rotated, times 1/√head_dim, and what it takes off the
/// keys it meets, where the functions have that. One level; two plaintext products and a hoisted rotation for each
/// vector, clean.
pub(super) fn rope<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let (evaluator, block, rope) = (run.evaluator, run.block()?, &run.shared.rope);
    let (heads, functions) = (block.attention.stored(), &block.functions.attention);

    let mut keys = Vec::new();
    let straight = reads.many(LayerValue::KeyStraight, run.members.entering.len())?;
    for (member, key) in run.members.entering.clone().zip(straight) {
        let place = run.place_in_cache(member)?;
        let key = Packed::new(key.clone(), place.junk());
        let key = rope.apply(evaluator, &heads, &key, run.position + member, 1.0)?;
        let shift = |head: usize, dimension: usize| -of_dimension(&functions.shifts, head, dimension);
        keys.push(evaluator.add_values(&key.ciphertext, &heads.values(place.offset(), shift))?);
    }

    let (mut queries, mut shifts) = (Vec::new(), Vec::new());
    let scale = 1.0 / (heads.head_dim() as f64).sqrt();
    let straight = reads.many(LayerValue::QueryStraight, run.members.attending.len())?;
    for (member, query) in run.members.attending.clone().zip(straight) {
        let (query, position) = (Packed::new(query.clone(), heads.vector().junk()), run.position + member);
        queries.push(rope.apply(evaluator, &heads, &query, position, scale)?.ciphertext);
        if block.has_query_shifts {
            let weight =
                |head: usize, dimension: usize| of_dimension(&functions.square_shifts, head, dimension);
            shifts.push(rope.apply_scaled(evaluator, &heads, &query, position, weight)?.ciphertext);
        }
    }
    Ok(Values::new()
        .with(LayerValue::Key, keys)
        .with(LayerValue::Query, queries)
        .with(LayerValue::QueryShift, shifts))
}

/// Keys and values into the cache, one token after the other. The value loses one level to the masks of its lanes.
pub(super) fn append<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
    cache: &mut KeyValueCache<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let tokens = run.members.entering.len();
    let (keys, values) = (reads.many(LayerValue::Key, tokens)?, reads.many(LayerValue::Value, tokens)?);
    for ((member, key), value) in run.members.entering.clone().zip(keys).zip(values) {
        let place = run.place_in_cache(member)?;
        let (key, value) = (Packed::new(key.clone(), place), Packed::new(value.clone(), place.junk()));
        cache.append(run.evaluator, &key, &value)?;
    }
    Ok(Values::new())
}
