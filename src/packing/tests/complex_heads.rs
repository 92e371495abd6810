//! Complex heads: RoPE as one complex product, K as conjugates, half the K ciphertexts and lanes (spec section 4b).

use proptest::prelude::*;

use super::attention::{Block, plan_of, project, shape};
use super::{Compared, client, encrypt, matrix, number, vector};
use crate::contract::{Client, Complex64, CountingEvaluator, Level, LevelCounts};
use crate::packing::{
    AttentionShape, CacheBounds, Grouping, HeadForm, HeadLayout, KeyValueCache, Packed, Rope, ScoreQuery,
    named_shape,
};
use crate::related_work::BlockPlan;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn rope_of_complex_heads_is_one_plaintext_product_and_equals_dense_algebra(
        heads in 1usize..7, log_head_dim in 1u32..6, extra_bits in 0u32..3, position in 0usize..512, place in 0usize..64,
        key in any::<bool>(),
    ) {
        let head_dim = 1usize << log_head_dim;
        let ring = (head_dim / 2) << extra_bits;
        let layout = HeadLayout::complex(2048, heads, head_dim, ring, 1).unwrap();
        let offset = place % layout.vector().room().min(layout.tokens());
        let (rope, x) = (Rope::new(head_dim, 10_000.0, 512), vector(9, heads * head_dim));
        let feature = |head: usize, j: usize| x[head * head_dim + j];
        let slots = if key { layout.key_values(offset, feature) } else { layout.values(offset, feature) };
        let client = client(2048, 1);
        let evaluator = CountingEvaluator::new(client.dry_run());
        let places = layout.vector().at_offset(offset).unwrap();
        // Whatever stands between the values must go.
        let junk: Vec<Complex64> = slots
            .iter()
            .enumerate()
            .map(|(slot, z)| if *z == Complex64::ZERO { Complex64::new(number(7, slot), 1.0) } else { *z })
            .collect();
        let packed = Packed::new(client.encrypt(&junk, Level(1)).unwrap(), places.junk());
        let y = if key {
            rope.apply_key(&evaluator, &layout, &packed, position, 0.25).unwrap()
        } else {
            rope.apply(&evaluator, &layout, &packed, position, 0.25).unwrap()
        };
        let counts = evaluator.counts().total();
        prop_assert_eq!((counts.plaintext_products, counts.key_switches(), counts.rescales), (1, 0, 1));
        prop_assert_eq!(y.layout, places);
        let rotated = rope.apply_clear(&x, position).unwrap();
        let rotated = |head: usize, j: usize| 0.25 * rotated[head * head_dim + j];
        let want = if key { layout.key_values(offset, rotated) } else { layout.values(offset, rotated) };
        Compared::new("rotated", client.decrypt(&y.ciphertext).unwrap(), want).assert_within(1e-9);
    }
}

/// What the last of `tokens` tokens costs in a cache for `maximum`: RoPE of q and k, append, scores, weighted values.
fn attention_costs(grouping: Grouping, tokens: usize, maximum: usize) -> [LevelCounts; 4] {
    let shape = shape(32, 64, 4, 2, 8);
    let plan = plan_of(256, shape, grouping, maximum).unwrap();
    let (block, client) = (Block::new(shape), client(256, 6));
    let evaluator = CountingEvaluator::new(client.dry_run());
    let attention = plan.attention();
    let mut cache = KeyValueCache::new(attention.cache_layout());
    for _ in 1..tokens {
        cache.append_public(&evaluator, |_, _| 0.5, |_, _| 0.5).unwrap();
    }
    // A prefix the client encrypted, as after a prefill.
    let mut cache = cache.encrypted(|slots, level| client.encrypt(slots, level)).unwrap();
    let x = encrypt(&client, plan.residual(), &plan.residual_order(), &vector(1, 32), 6);
    let (queries, key, value) = project(&evaluator, &plan, &block, &x, &cache);
    evaluator.take_counts();
    let junk = Packed::new(queries[0].ciphertext.clone(), queries[0].layout.junk());
    block.rope.apply(&evaluator, &attention.stored(), &junk, tokens - 1, 1.0).unwrap();
    let junk = Packed::new(key.ciphertext.clone(), key.layout.junk());
    block.rope.apply_key(&evaluator, &attention.stored(), &junk, tokens - 1, 1.0).unwrap();
    let rope = evaluator.take_counts().total();
    cache.append(&evaluator, &key, &value).unwrap();
    let append = evaluator.take_counts().total();
    let scores = attention.scores(&evaluator, &queries, &cache, 1.0).unwrap();
    let costs = evaluator.take_counts().total();
    let weights: Vec<_> = scores.iter().map(|_| client.encrypt(&[], Level(3)).unwrap()).collect();
    // Lowered beforehand, so that the constant product does not count.
    attention.weighted_values(&evaluator, &weights, &cache).unwrap();
    [rope, append, costs, evaluator.take_counts().total()]
}

fn log2(number: usize) -> usize {
    number.ilog2() as usize
}

/// Spec section 4b at d = 32, hd = 8, S = 256, t = 8: 2t tokens per K ciphertext, log2 hd − 1 rotations for each, one
/// conjugation per score ciphertext, none for RoPE or an append.
#[test]
fn complex_heads_cost_what_the_formulas_say() {
    let (t, head_dim) = (8, 8);
    for (tokens, maximum) in [(1, 16), (16, 16), (17, 32), (40, 64), (64, 64), (65, 200), (130, 200)] {
        let [rope, append, scores, values] = attention_costs(Grouping::Complex, tokens, maximum);
        let what = format!("{tokens} of {maximum} tokens");
        let keys = tokens.div_ceil(2 * t);
        let lanes = maximum.div_ceil(2 * t).next_power_of_two().min(head_dim / 2);
        let segments = tokens.div_ceil(lanes * 2 * t);
        let babies = 1usize << log2(lanes).div_ceil(2);
        let giants = lanes / babies;
        assert_eq!((rope.plaintext_products, rope.key_switches()), (2, 0), "{what}: rope");
        assert_eq!(
            (append.plaintext_products, append.rotations, append.conjugations),
            (lanes, giants - 1, 0),
            "{what}: append"
        );
        assert_eq!(
            (scores.ciphertext_products, scores.plaintext_products, scores.rotations, scores.conjugations),
            (keys, keys, log2(2 * t) + keys * (log2(head_dim) - 1), segments),
            "{what}: scores"
        );
        assert_eq!(
            (values.ciphertext_products, values.relinearizations, values.rotations_hoisted, values.rotations),
            (
                segments * lanes,
                segments * giants,
                segments * (babies - 1),
                segments * (giants - 1) + log2(2 * t)
            ),
            "{what}: values"
        );
        assert_eq!((values.plaintext_products, values.conjugations), (1, 0), "{what}: values");
        if tokens % (2 * t) == 0 {
            let [real_rope, _, real_scores, real_values] =
                attention_costs(Grouping::Duplicated, tokens, maximum);
            assert_eq!((real_rope.plaintext_products, real_rope.key_switches()), (4, 2), "{what}");
            assert_eq!(2 * scores.ciphertext_products, real_scores.ciphertext_products, "{what}");
            assert_eq!(2 * values.ciphertext_products, real_values.ciphertext_products, "{what}");
        }
    }
}

/// KV heads once and complex: a query vector for each of the g = 2 query heads of a group, 2·g·t tokens per K
/// ciphertext.
#[test]
fn compact_complex_heads_cost_what_the_formulas_say() {
    let (t, group, head_dim) = (8, 2, 8);
    for tokens in [1, 32, 33, 64] {
        let [rope, append, scores, values] = attention_costs(Grouping::CompactComplex, tokens, 64);
        let (keys, lanes, what) = (tokens.div_ceil(2 * group * t), 2, format!("{tokens} tokens"));
        assert_eq!((rope.plaintext_products, rope.key_switches()), (2, 0), "{what}: rope");
        assert_eq!((append.plaintext_products, append.key_switches()), (lanes, 0), "{what}: append");
        assert_eq!(
            (scores.ciphertext_products, scores.rotations, scores.conjugations),
            (group * keys, group * (log2(2 * group * t) + keys * (log2(head_dim) - 1)), 1),
            "{what}: scores"
        );
        assert_eq!((values.ciphertext_products, values.conjugations), (group * lanes, 0), "{what}: values");
    }
}

/// Plaintexts of q + k + v + o (k with v folded in the real forms), and K ciphertexts of 512 tokens, at S = 32768.
#[test]
fn complex_heads_halve_the_plaintexts_and_k_ciphertexts_of_known_models() {
    let bounds = CacheBounds { maximum_tokens: 512, key_level: Level(2), value_level: Level(2) };
    for (name, plaintexts, keys) in [
        ("llama-3-8b", [3 * 512, 2 * 128 + 128 + 512, 4 * 256, 6 * 64 + 256], [64, 16, 32, 8]),
        ("tinyllama", [3 * 128, 5 * 16 + 128, 4 * 64, 10 * 8 + 64], [32, 4, 16, 2]),
        ("smollm2-135m", [3 * 11, 3 * 4 + 11, 4 * 6, 5 * 2 + 6], [10, 4, 5, 2]),
        ("gpt2", [3 * 19, 3 * 19, 4 * 13, 4 * 13], [13, 13, 8, 8]),
    ] {
        let shape = named_shape(name).unwrap();
        let plan = |grouping| BlockPlan::new(32768, shape, grouping, bounds).unwrap();
        let groupings =
            [Grouping::Duplicated, Grouping::Compact, Grouping::Complex, Grouping::CompactComplex];
        let [up, down] = [(shape.hidden, shape.intermediate), (shape.intermediate, shape.hidden)]
            .map(|(i, o)| crate::packing::mixed_radix_product(32768, i, o).unwrap().plaintexts());
        let found = groupings.map(|g| plan(g).counts().unwrap().plaintext_products - up - down);
        assert_eq!(found, plaintexts, "{name}: plaintexts of attention");
        let found = groupings.map(|g| 512usize.div_ceil(plan(g).attention().stored().tokens()));
        assert_eq!(found, keys, "{name}: K ciphertexts");
    }
}

#[test]
fn complex_projections_cost_what_the_plan_predicts() {
    for (grouping, heads, kv_heads) in
        [(Grouping::Complex, 4, 2), (Grouping::CompactComplex, 8, 2), (Grouping::Complex, 3, 3)]
    {
        let shape = shape(8 * heads, 24 * heads, heads, kv_heads, 8);
        let plan = plan_of(1024, shape, grouping, 40).unwrap();
        let client = client(1024, 6);
        let (block, evaluator) = (Block::new(shape), CountingEvaluator::new(client.dry_run()));
        let cache = KeyValueCache::new(plan.attention().cache_layout());
        let x = encrypt(&client, plan.residual(), &plan.residual_order(), &vector(1, shape.hidden), 6);
        let (queries, ..) = project(&evaluator, &plan, &block, &x, &cache);
        let attended = Packed::new(x.ciphertext.clone(), plan.attention().output_layout().unwrap());
        let output = plan.output(&block.output).unwrap();
        let output = output.apply(&evaluator, &plan.output_input(&attended).unwrap()).unwrap();
        crate::packing::complex::twice_real_part(&evaluator, &output).unwrap();
        let both = plan.up_and_gate(&block.up, &block.gate).unwrap().apply(&evaluator, &x).unwrap();
        crate::packing::complex::split(&evaluator, &both).unwrap();
        let inner = Packed::new(x.ciphertext.clone(), plan.feed_forward());
        plan.down(&matrix(7, shape.intermediate, shape.hidden)).unwrap().apply(&evaluator, &inner).unwrap();
        let (counts, predicted) = (evaluator.take_counts().total(), plan.counts().unwrap());
        // RoPE of every query vector and of the key is one plaintext product each.
        assert_eq!(
            (counts.plaintext_products, counts.rotations, counts.rotations_hoisted, counts.conjugations),
            (
                predicted.plaintext_products + queries.len() + 1,
                predicted.rotations,
                predicted.rotations_hoisted,
                predicted.conjugations
            ),
            "{shape:?} {grouping:?}"
        );
    }
}

#[test]
fn full_caches_other_forms_and_late_positions_of_complex_heads_are_refused_with_their_numbers() {
    let small = shape(32, 64, 4, 2, 8);
    let plan = plan_of(256, small, Grouping::Complex, 2).unwrap();
    let (block, client) = (Block::new(small), client(256, 6));
    let evaluator = client.dry_run();
    let mut cache = KeyValueCache::new(plan.attention().cache_layout());
    let x = encrypt(&client, plan.residual(), &plan.residual_order(), &vector(1, 32), 6);
    let (q, k, v) = project(&evaluator, &plan, &block, &x, &cache);
    let text = plan.attention().scores(&evaluator, &q, &cache, 1.0).unwrap_err().to_string();
    assert!(text.contains("0 tokens"), "{text}");
    cache.append(&evaluator, &k, &v).unwrap();
    let text = cache.append(&evaluator, &k, &v).unwrap_err().to_string();
    assert!(text.contains("packed as"), "{text}");
    let (q, k, v) = project(&evaluator, &plan, &block, &x, &cache);
    cache.append(&evaluator, &k, &v).unwrap();
    plan.attention().scores(&evaluator, &q, &cache, 1.0).unwrap();
    let text = cache.append(&evaluator, &k, &v).unwrap_err().to_string();
    assert!(text.contains("token 2 of at most 2"), "{text}");
    // A real cache of half the head dimension has the same slots, and is refused all the same.
    let real = AttentionShape { heads: 4, kv_heads: 2, head_dim: 4 };
    let bounds = CacheBounds { maximum_tokens: 2, key_level: Level(2), value_level: Level(2) };
    let real = crate::packing::AttentionPlan::new(256, 8, real, Grouping::Duplicated, bounds).unwrap();
    assert_eq!(real.stored().vector(), plan.attention().stored().vector());
    let text = real.scores(&evaluator, &q, &cache, 1.0).unwrap_err().to_string();
    assert!(text.contains("laid out as"), "{text}");
    let weights = || matrix(1, 32, 16);
    for product in [plan.key_or_value(&weights()), plan.key_and_value(&weights(), &weights())] {
        let text = product.err().unwrap().to_string();
        assert!(text.contains("8 dimensions") && text.contains("4 complex values"), "{text}");
    }
    let stored = plan.attention().stored();
    assert_eq!((stored.form(), stored.head_blocks(), stored.tokens()), (HeadForm::Complex, 4, 16));
    let text = block.rope.apply(&evaluator, &stored, &q[0], 4096, 1.0).unwrap_err().to_string();
    assert!(text.contains("position 4096 of at most 4096"), "{text}");
    let text =
        Rope::new(16, 10_000.0, 64).apply_key(&evaluator, &stored, &q[0], 3, 1.0).unwrap_err().to_string();
    assert!(text.contains("8 frequencies for a head dimension of 8"), "{text}");
    let uneven = |_: usize, j: usize| if j == 6 { 2.0 } else { 1.0 };
    let text = block.rope.apply_scaled(&evaluator, &stored, &q[0], 3, uneven).unwrap_err().to_string();
    assert!(text.contains("dimension 2 by 1 and its partner 6 by 2"), "{text}");
    // Shapes that do not pack.
    let text = HeadLayout::complex(256, 4, 12, 24, 1).unwrap_err().to_string();
    assert!(text.contains("12 values (Complex)"), "{text}");
    assert!(HeadLayout::complex(256, 4, 1, 4, 1).is_err());
    let text = HeadLayout::complex(64, 40, 16, 8, 1).unwrap_err().to_string();
    assert!(text.contains("40 values"), "{text}");
    let text = plan_of(1024, shape(32, 64, 8, 1, 8), Grouping::CompactComplex, 9).unwrap_err().to_string();
    assert!(text.contains("8 query heads per KV head") && text.contains("4 blocks"), "{text}");
    // Heads that share keys take no shift of the keys.
    let shared = plan_of(256, small, Grouping::CompactComplex, 2).unwrap();
    let cache = {
        let mut cache = KeyValueCache::new(shared.attention().cache_layout());
        cache.append_public(&evaluator, |_, _| 1.0, |_, _| 1.0).unwrap();
        cache
    };
    let query = Packed::new(client.encrypt(&[], Level(3)).unwrap(), shared.attention().stored().vector());
    let vectors = [query.clone(), query.clone()];
    let of = |tokens: usize, subtracted| ScoreQuery { vectors: &vectors, subtracted, tokens, copy: None };
    let refused = |query: &ScoreQuery<'_, _>| {
        shared.attention().scores_of(&evaluator, query, &cache, 1.0).unwrap_err().to_string()
    };
    let text = refused(&of(1, Some(&query)));
    assert!(text.contains("2 query heads with shifted keys"), "{text}");
    let text = refused(&of(2, None));
    assert!(text.contains("2 tokens, the cache holds 1"), "{text}");
}

/// q·(k − s) with s conjugated as keys are.
#[test]
fn keys_of_complex_heads_can_be_shifted() {
    let shape = shape(32, 64, 4, 4, 8);
    let plan = *plan_of(256, shape, Grouping::Complex, 40).unwrap().attention();
    let (client, stored) = (client(256, 2), plan.stored());
    let evaluator = client.dry_run();
    let mut cache = KeyValueCache::new(plan.cache_layout());
    let key = |token: usize| move |head: usize, j: usize| number(token as u64, 8 * head + j);
    for token in 0..20 {
        cache.append_public(&evaluator, key(token), |_, _| 0.0).unwrap();
    }
    let (query, shift) = (key(100), key(200));
    let pack =
        |slots: Vec<Complex64>| Packed::new(client.encrypt(&slots, Level(2)).unwrap(), stored.vector());
    let (q, s) = (pack(stored.values(0, query)), pack(stored.key_values(0, shift)));
    let query_of = |vectors, tokens| ScoreQuery { vectors, subtracted: Some(&s), tokens, copy: None };
    let vectors = [q];
    let scores = plan.scores_of(&evaluator, &query_of(&vectors, 20), &cache, 0.5).unwrap();
    let wanted = |token: usize, head: usize| -> f64 {
        (0..8).map(|j| 0.5 * query(head, j) * (key(token)(head, j) - shift(head, j))).sum()
    };
    let layout = plan.score_layout();
    let want = layout.values(0, 20, wanted);
    Compared::new("shifted scores", client.decrypt(&scores[0]).unwrap(), want).assert_within(1e-9);
    assert_eq!(scores.len(), 1);
    // A token between others sees those before it only.
    let scores = plan.scores_of(&evaluator, &query_of(&vectors, 9), &cache, 0.5).unwrap();
    let want = layout.values(0, 9, wanted);
    Compared::new("scores of 9 tokens", client.decrypt(&scores[0]).unwrap(), want).assert_within(1e-9);
}
