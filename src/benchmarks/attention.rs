//! One token's attention over an encrypted cache, part by part: RoPE, append, Q·Kᵀ and P·V, on any backend.

use serde::Serialize;

use crate::backend::clear::{ClearClient, ClearParameters};
use crate::contract::{
    Client, Complex64, CountingEvaluator, Evaluator, KeyRequest, Level, LevelCounts, Result,
};
use crate::measure::Precision;
use crate::packing::{AttentionPlan, BlockShape, CacheBounds, Grouping, KeyValueCache, Packed, Rope};
use crate::related_work::BlockPlan;

/// Level at which K and V are cached: two levels to read them.
pub const CACHE_LEVEL: Level = Level(2);

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct AttentionCase {
    /// Sizes of the block.
    pub shape: BlockShape,
    /// Tokens in the cache, the new one included.
    pub tokens: usize,
    /// How heads are cached. [`Grouping::Duplicated`] is what the decoder runs.
    pub grouping: Grouping,
    /// Whether positions are rotary.
    pub rotary: bool,
}

/// Time and operations of one part.
#[derive(Clone, Debug, Serialize)]
pub struct AttentionPart {
    /// `rope`, `append`, `scores` or `weighted_values`.
    pub part: &'static str,
    /// Seconds.
    pub seconds: f64,
    /// Operations.
    #[serde(flatten)]
    pub counts: LevelCounts,
}

/// Attention of one token.
#[derive(Clone, Debug, Serialize)]
pub struct AttentionTime {
    /// Ciphertexts of K.
    pub key_ciphertexts: usize,
    /// Ciphertexts of V.
    pub value_ciphertexts: usize,
    /// −log2 of the largest error of scores and weighted values, relative to the largest of each ciphertext (at least
    /// 1).
    pub precision_min_bits: f64,
    /// The parts, in their order.
    pub parts: Vec<AttentionPart>,
}

/// A number in −1 .. 1 that depends on its place only.
fn number(token: usize, head: usize, dimension: usize, seed: usize) -> f64 {
    ((token * 31 + head * 17 + dimension * 7 + seed) as f64).sin()
}

/// Score ciphertexts, and the weighted sums of values.
struct Attended<C> {
    scores: Vec<C>,
    values: Packed<C>,
}

/// RoPE of the last token (where the model has it), its append, scores and weighted values; each part's name goes to
/// `done` behind it, `prepare` for the encryptions first.
fn attend<E: Evaluator>(
    evaluator: &E,
    plan: &AttentionPlan,
    rope: Option<&Rope>,
    cache: &mut KeyValueCache<E::Ciphertext>,
    encrypt: impl Fn(&[Complex64], Level) -> Result<E::Ciphertext>,
    mut done: impl FnMut(&'static str),
) -> Result<Attended<E::Ciphertext>> {
    let (stored, offset, token) = (plan.stored(), cache.next_offset()?, cache.tokens());
    let layout = stored.vector().at_offset(offset)?;
    let place = |seed| move |head, j| number(token, head, j, seed);
    // RoPE takes a level.
    let level = Level(CACHE_LEVEL.0 + usize::from(rope.is_some()));
    let mut key = Packed::new(encrypt(&stored.key_values(offset, place(1)), level)?, layout);
    let value = Packed::new(encrypt(&stored.values(offset, place(2)), Level(CACHE_LEVEL.0 + 1))?, layout);
    let mut queries = (0..plan.queries())
        .map(|query| Ok(Packed::new(encrypt(&stored.values(0, place(3 + query)), level)?, stored.vector())))
        .collect::<Result<Vec<_>>>()?;
    // Weights come out of the softmax at a level of their own, and sum to at most 1: so do values at level 0, where the
    // modulus leaves little room above the scale.
    let share = 1.0 / (token + 1) as f64;
    let ones = plan.score_layout().values(0, token + 1, |token, head| share * number(token, head, 0, 9));
    let segments = plan.score_layout().segments(token + 1);
    let weights =
        (0..segments).map(|_| encrypt(&ones, Level(CACHE_LEVEL.0 + 1))).collect::<Result<Vec<_>>>()?;
    done("prepare");
    if let Some(rope) = rope {
        key = rope.apply_key(evaluator, &stored, &key, token, 1.0)?;
        for query in &mut queries {
            *query = rope.apply(evaluator, &stored, query, token, 1.0)?;
        }
        done("rope");
    }
    cache.append(evaluator, &key, &value)?;
    done("append");
    let scores = plan.scores(evaluator, &queries, cache, 1.0 / (stored.head_dim() as f64))?;
    done("scores");
    let values = plan.weighted_values(evaluator, &weights, cache)?;
    done("weighted_values");
    Ok(Attended { scores, values })
}

/// The plan of a case.
///
/// # Errors
/// [`crate::contract::Error::Shape`] when the heads or the tokens do not fit `slots`.
pub fn attention_plan(case: &AttentionCase, slots: usize) -> Result<AttentionPlan> {
    let bounds =
        CacheBounds { maximum_tokens: case.tokens, key_level: CACHE_LEVEL, value_level: CACHE_LEVEL };
    Ok(*BlockPlan::new(slots, case.shape, case.grouping, bounds)?.attention())
}

/// Measures one token's attention on `client`, and compares its values with those of the simulator.
///
/// The tokens before the last enter as the client would prefill them: computed in the clear, then encrypted.
///
/// # Errors
/// [`crate::contract::Error::Shape`] for a case that does not fit the slots; what key generation and the operations
/// return.
pub fn attention_time<C: Client>(client: &C, case: &AttentionCase) -> Result<AttentionTime> {
    let plan = attention_plan(case, client.slots())?;
    let rope = case.rotary.then(|| Rope::new(case.shape.attention.head_dim, 10_000.0, case.tokens));
    let chain = client.evaluator(&KeyRequest::new())?.chain().clone();
    let clear =
        ClearClient::new(ClearParameters { slots: client.slots(), chain, bootstrapping: None, noise: None });
    let simulator = clear.dry_run();
    let mut public = KeyValueCache::new(plan.cache_layout());
    for token in 0..case.tokens.saturating_sub(1) {
        public.append_public(
            &simulator,
            |head, j| number(token, head, j, 1),
            |head, j| number(token, head, j, 2),
        )?;
    }
    let mut simulated = public.encrypted(|values, level| clear.encrypt(values, level))?;
    let encrypt = |values: &[Complex64], level| clear.encrypt(values, level);
    let wanted = attend(&simulator, &plan, rope.as_ref(), &mut simulated, encrypt, |_| ())?;

    let evaluator = CountingEvaluator::new(client.evaluator(&simulator.recorded())?);
    let mut cache = public.encrypted(|values, level| client.encrypt(values, level))?;
    drop(public);
    let mut parts = Vec::new();
    let mut start = std::time::Instant::now();
    let encrypt = |values: &[Complex64], level| client.encrypt(values, level);
    let found = attend(&evaluator, &plan, rope.as_ref(), &mut cache, encrypt, |part| {
        let (seconds, counts) = (start.elapsed().as_secs_f64(), evaluator.take_counts().total());
        if part != "prepare" {
            parts.push(AttentionPart { part, seconds, counts });
        }
        start = std::time::Instant::now();
    })?;
    let (key_ciphertexts, value_ciphertexts) = cache.ciphertexts();

    let pairs = found.scores.iter().zip(&wanted.scores);
    let pairs = pairs.chain([(&found.values.ciphertext, &wanted.values.ciphertext)]);
    let mut errors = Vec::new();
    for (found, wanted) in pairs {
        let (found, wanted) = (client.decrypt(found)?, clear.decrypt(wanted)?);
        let largest = wanted.iter().map(|value| value.norm()).fold(1.0, f64::max);
        errors.extend(found.iter().zip(&wanted).flat_map(|(a, b)| {
            let error = (a - b) / largest;
            [error.re, error.im]
        }));
    }
    let precision_min_bits = Precision::of_errors(&errors)?.min_bits;
    Ok(AttentionTime { key_ciphertexts, value_ciphertexts, precision_min_bits, parts })
}

/// Whether the model of a shape rotates its positions; GPT-2 learns them.
#[must_use]
pub fn is_rotary(shape_name: &str) -> bool {
    shape_name != "gpt2"
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::native::{NativeClient, test_levelled};
    use crate::benchmarks::linear::block_shape;
    use crate::ckks::Parameters;

    fn case(name: &str, tokens: usize, grouping: Grouping) -> AttentionCase {
        AttentionCase { shape: block_shape(name).unwrap(), tokens, grouping, rotary: is_rotary(name) }
    }

    fn client() -> NativeClient {
        let parameters = Parameters::new(test_levelled(13, CACHE_LEVEL.0 + 1)).unwrap();
        NativeClient::new(Arc::new(parameters)).unwrap()
    }

    /// SmolLM2 (9 heads over 3 of 64) in 4096 slots, 14 tokens: 4 tokens in a K ciphertext when duplicated, 8
    /// otherwise. Three query heads of a group are two pairs, or three vectors of complex heads.
    #[test]
    fn every_way_to_cache_runs_in_the_small_ring_with_the_counts_of_its_form() {
        let client = client();
        let groupings =
            [Grouping::Duplicated, Grouping::Compact, Grouping::Complex, Grouping::CompactComplex];
        let found = groupings.map(|grouping| {
            let time = attention_time(&client, &case("smollm2-135m", 14, grouping)).unwrap();
            assert!(time.precision_min_bits > 10.0, "{time:?}");
            let names: Vec<&str> = time.parts.iter().map(|part| part.part).collect();
            assert_eq!(names, ["rope", "append", "scores", "weighted_values"]);
            let rope = &time.parts[0].counts;
            [
                time.key_ciphertexts,
                time.value_ciphertexts,
                rope.rotations + rope.rotations_hoisted,
                time.parts[2].counts.ciphertext_products,
                time.parts[2].counts.conjugations,
            ]
        });
        // K ciphertexts, lanes, rotations of RoPE, products and conjugations of the scores.
        assert_eq!(found, [[4, 4, 2, 4, 0], [2, 2, 3, 4, 1], [2, 2, 0, 2, 1], [2, 2, 0, 6, 1]]);
    }

    #[test]
    fn a_shape_without_rope_skips_it() {
        let time = attention_time(&client(), &case("gpt2", 3, Grouping::Complex)).unwrap();
        assert_eq!(time.parts.len(), 3);
    }
}
