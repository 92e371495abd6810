//! Projections into the heads of attention and back. Domain: tokens apart, each at place 0; the stream side by side.

use crate::contract::{Evaluator, Result};
use crate::decoder::layer::LayerRun;
use crate::decoder::values::{LayerValue, Values};
use crate::packing::Packed;

/// Key and value of every token at its place in the cache, and the query of those that attend; junk between their
/// values. One level, and one above it where tokens stand side by side; baby rotations shared.
pub(super) fn query_key_value<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let (evaluator, products, members) = (run.evaluator, &run.block()?.products, &run.members);
    let tokens = match reads.list(LayerValue::InputNormed) {
        [together] if members.are_several() => members
            .entering
            .clone()
            .map(|member| members.wave.extract(evaluator, together, member))
            .collect::<Result<_>>()?,
        _ => reads.many(LayerValue::InputNormed, members.entering.len())?.to_vec(),
    };
    let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (member, normed) in members.entering.clone().zip(tokens) {
        let normed = Packed::new(normed, run.shared.layout.hidden);
        let prepared = products.query.prepare(evaluator, &normed)?;
        let offset = run.place_in_cache(member)?.offset();
        let [key, value] = if members.attending.contains(&member) {
            let [key, value, query] = products.key_value_query(evaluator, &prepared, offset)?;
            queries.push(query.ciphertext);
            [key, value]
        } else {
            products.key_value(evaluator, &prepared, offset)?
        };
        keys.push(key.ciphertext);
        values.push(value.ciphertext);
    }
    Ok(Values::new()
        .with(LayerValue::QueryStraight, queries)
        .with(LayerValue::KeyStraight, keys)
        .with(LayerValue::Value, values))
}

/// Output projection of each token, masked, side by side. Two levels, and one above them where tokens stand side by
/// side.
pub(super) fn output<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let (evaluator, products, heads) = (run.evaluator, &run.block()?.products, run.heads()?);
    let attended = reads.one(LayerValue::Attended)?;
    let mut projected = Vec::with_capacity(run.members.attending.len());
    for member in run.members.attending.clone() {
        let alone = Packed::new(heads.extract(evaluator, attended, member)?, heads.vector());
        let output = products.output.apply(evaluator, &alone)?.mask(evaluator, 1.0)?;
        projected.push((member, output.ciphertext));
    }
    Ok(Values::of(LayerValue::AttentionOutput, run.members.wave.pack(evaluator, &projected)?))
}
