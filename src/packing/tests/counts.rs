//! Operation counts at the sizes of whole models: rotation keys of a layer, and operations of a generated token,
//! measured on the simulator (with caches filled by hand) and held against the formulas of the specification.

use std::collections::BTreeSet;

use super::{client, encrypt, matrix, vector};
use crate::contract::{Client, CountingEvaluator, Evaluator, Level, LevelCounts, normalize_step};
use crate::packing::cache::Stored;
use crate::packing::{
    AttentionPlan, AttentionShape, BlockShape, CacheBounds, FnWeights, Grouping, KeyValueCache, Packed,
    Product, ProductGeometry, Rope, diagonal_product, named_shape, padded_product, sum_steps,
};
use crate::related_work::BlockPlan;
use crate::related_work::Thor;

const SLOTS: usize = 32768;

/// A model's block as the paper packs it: every dimension padded to a power of two, KV heads repeated.
fn padded(name: &str) -> BlockShape {
    let shape = named_shape(name).unwrap();
    let heads = shape.attention.heads.next_power_of_two();
    BlockShape {
        hidden: shape.hidden.next_power_of_two(),
        intermediate: shape.intermediate.next_power_of_two(),
        attention: AttentionShape { heads, kv_heads: heads, head_dim: shape.attention.head_dim },
    }
}

/// The paper's number of baby steps, √(K/2).
fn with_the_papers_babies(geometry: ProductGeometry) -> ProductGeometry {
    geometry.with_babies(1 << (geometry.plaintexts().ilog2().saturating_sub(1) / 2))
}

/// What attention of the `tokens`-th token costs, the token appended to a cache of all before it.
struct Attention {
    rope: LevelCounts,
    append: LevelCounts,
    scores: LevelCounts,
    values: LevelCounts,
    denominators: LevelCounts,
    keys: BTreeSet<usize>,
}

fn attention(shape: BlockShape, tokens: usize) -> Attention {
    // As many lanes as the paper has, one for each dimension of a head.
    let heads = shape.attention.heads;
    let bounds = CacheBounds { maximum_tokens: SLOTS / heads, key_level: Level(2), value_level: Level(2) };
    let plan =
        AttentionPlan::new(SLOTS, shape.hidden, shape.attention, Grouping::Duplicated, bounds).unwrap();
    let client = client(SLOTS, 3);
    let zero = |level| client.encrypt(&[], Level(level)).unwrap();
    let (layout, stored) = (plan.cache_layout(), plan.stored());
    assert_eq!(layout.scores.lanes(), shape.attention.head_dim);
    let mut cache = KeyValueCache::new(layout);
    cache.tokens = tokens - 1;
    cache.keys = vec![Stored::Encrypted(zero(2)); cache.tokens.div_ceil(stored.tokens())];
    cache.lanes = vec![
        vec![Stored::Encrypted(zero(2)); layout.scores.lanes()];
        cache.tokens.div_ceil(layout.scores.segment_tokens())
    ];
    let evaluator = CountingEvaluator::new(client.dry_run());
    let mut keys = BTreeSet::new();
    let mut counted = || {
        let counts = evaluator.take_counts();
        keys.extend(&counts.rotation_steps);
        counts.total()
    };
    let vector = stored.vector();
    let rope = Rope::new(shape.attention.head_dim, 500_000.0, SLOTS);
    let query =
        rope.apply(&evaluator, &stored, &Packed::new(zero(3), vector.junk()), tokens - 1, 1.0).unwrap();
    let rope = counted();
    let here = vector.at_offset(cache.next_offset().unwrap()).unwrap();
    cache.append(&evaluator, &Packed::new(zero(2), here), &Packed::new(zero(3), here.junk())).unwrap();
    let append = counted();
    let scores = plan.scores(&evaluator, &[query], &cache, 1.0).unwrap();
    assert_eq!(scores.len(), 1);
    let scores = counted();
    plan.weighted_values(&evaluator, &[zero(2)], &cache).unwrap();
    let values = counted();
    plan.denominators(&evaluator, &[zero(2)], &[1.0]).unwrap();
    let denominators = counted();
    Attention { rope, append, scores, values, denominators, keys }
}

/// Square, wide and tall products of the 8-billion-parameter model, its cache, RoPE and the sums of its norms: spec
/// section 1, "113 distinct rotation keys (52 for the square product alone)". The specification reads the 128 V lanes
/// in 8 babies and 16 giants; ours are 16 hoisted babies and 8 giants, four of whose babies no other product uses.
#[test]
fn a_layer_of_llama_3_8b_needs_113_rotation_keys_and_4_for_fewer_giants() {
    let shape = padded("llama-3-8b");
    let products = [
        padded_product(SLOTS, shape.hidden, shape.hidden).unwrap().with_babies(16),
        padded_product(SLOTS, shape.hidden, shape.intermediate).unwrap().with_babies(32),
        padded_product(SLOTS, shape.intermediate, shape.hidden).unwrap().with_babies(32),
    ];
    let normalized = |steps: Vec<i64>| steps.into_iter().map(|step| normalize_step(step, SLOTS));
    let mut keys: BTreeSet<usize> = normalized(products[0].rotation_steps()).collect();
    assert_eq!(keys.len(), 52);
    keys.extend(products.iter().flat_map(|product| normalized(product.rotation_steps())));
    keys.extend(attention(shape, 9).keys);
    // The sum of squares of a norm runs over the ring.
    keys.extend(normalized(sum_steps(shape.hidden, 8)));
    let head_block = SLOTS / shape.attention.head_dim;
    let mut of_more_babies = BTreeSet::from([9, 11, 13, 15].map(|baby| baby * head_block));
    assert!(keys.is_superset(&of_more_babies), "{keys:?}");
    assert_eq!(keys.len(), 113 + of_more_babies.len(), "{keys:?}");
    // The specification's split of the lanes needs no key that is not there.
    of_more_babies.extend((1..8).map(|baby| baby * head_block));
    of_more_babies.extend((1..16).map(|giant| giant * 8 * head_block));
    assert!(keys.is_superset(&of_more_babies), "{keys:?}");
}

/// Section 9 of the specification, columns "cachemir" (plaintext products, rotations, ciphertext products) and
/// "vanilla" (plaintext products), two digits. Products with weights and attention are counted here; the polynomial
/// parts are those the table was made with: 9 Goldschmidt iterations for the denominators, which are copied back over
/// the tokens, a norm of 4 Newton and 2 Goldschmidt iterations, a degree-127 activation.
#[test]
fn a_generated_token_costs_what_the_table_of_the_specification_says() {
    for (name, layers, tokens, cachemir, vanilla) in [
        ("gpt2", 12, 128, ["5.9e3", "2.8e3", "1.9e3"], "7.5e4"),
        ("gpt2", 12, 512, ["6.1e3", "3.6e3", "2.0e3"], "7.5e4"),
        ("gpt2", 12, 1024, ["6.3e3", "4.8e3", "2.2e3"], "7.5e4"),
        ("tinyllama", 22, 128, ["4.8e4", "8.6e3", "3.6e3"], "3.2e5"),
        ("tinyllama", 22, 512, ["4.8e4", "1.2e4", "4.1e3"], "3.2e5"),
        ("tinyllama", 22, 1024, ["4.9e4", "1.6e4", "4.8e3"], "3.2e5"),
        ("llama-3-8b", 32, 128, ["2.7e5", "2.2e4", "7.5e3"], "9.2e5"),
        ("llama-3-8b", 32, 512, ["2.7e5", "3.3e4", "9.1e3"], "9.2e5"),
        ("llama-3-8b", 32, 1024, ["2.7e5", "4.7e4", "1.1e4"], "9.3e5"),
    ] {
        let shape = padded(name);
        let (gated, hidden, wide) = (name != "gpt2", shape.hidden, shape.intermediate);
        let mut sizes = vec![(hidden, hidden); 4];
        sizes.extend(vec![(hidden, wide); if gated { 2 } else { 1 }]);
        sizes.push((wide, hidden));
        let (mut plaintexts, mut rotations, mut diagonals) = (0, 0, 0);
        for (inputs, outputs) in sizes {
            let geometry = with_the_papers_babies(padded_product(SLOTS, inputs, outputs).unwrap());
            let counts = geometry.counts();
            // With the mask that clears the junk.
            plaintexts += counts.plaintext_products + 1;
            rotations += counts.rotations + counts.rotations_hoisted;
            diagonals += diagonal_product(SLOTS, inputs, outputs).unwrap().plaintexts();
        }
        let Attention { rope, append, scores, values, denominators, .. } = attention(shape, tokens);
        let mut rest = LevelCounts::default();
        for part in [append, scores, values, denominators] {
            rest += part;
        }
        if gated {
            rest += rope;
            rest += rope;
        }
        // The denominators' own mask is part of what the table counts for the exponential.
        let polynomials_plain = 2 - denominators.plaintext_products + 2 * 8 + 16;
        let polynomials_products = 7 + 18 + 1 + 2 * 21 + 22 + usize::from(gated);
        let (copy_back, norm_sums) = ((SLOTS / hidden).ilog2() as usize, 2 * hidden.ilog2() as usize);
        let rest_plain = rest.plaintext_products + polynomials_plain;
        rotations += rest.rotations + rest.rotations_hoisted + copy_back + norm_sums;
        let products = rest.ciphertext_products + polynomials_products;
        let shown = |count: usize| format!("{:.1e}", (layers * count) as f64);
        assert_eq!(
            [shown(plaintexts + rest_plain), shown(rotations), shown(products)],
            cachemir,
            "{name}, {tokens} tokens"
        );
        assert_eq!(shown(diagonals + rest_plain), vanilla, "{name}, {tokens} tokens, plain diagonals");
    }
}

/// d_in·d_out·n/(2S) plaintexts when the ciphertexts are full, and n²·d/S ciphertext products for each of Q·Kᵀ and P·V
/// (half of that in the table, which folds them, too).
#[test]
fn full_diagonal_packings_cost_what_the_table_says() {
    let (slots, tokens, head_dim, inputs, outputs) = (2048, 32, 8, 128, 256);
    let thor = Thor::new(slots, tokens, head_dim).unwrap();
    let client = client(slots, 3);
    let evaluator = CountingEvaluator::new(client.dry_run());
    let zeros =
        |features, level| vec![client.encrypt(&[], Level(level)).unwrap(); thor.ciphertexts(features)];
    let weights = FnWeights::new(inputs, outputs, |_, _| 0.0);
    thor.product(&evaluator, &zeros(inputs, 1), &weights).unwrap();
    let plaintexts = evaluator.take_counts().total().plaintext_products;
    assert_eq!(plaintexts, inputs * outputs * tokens / (2 * slots));
    let scores = thor.scores(&evaluator, &zeros(inputs, 3), &zeros(inputs, 3), 1.0).unwrap();
    let products = evaluator.take_counts().total().ciphertext_products;
    assert_eq!(products, tokens * tokens * inputs / slots);
    thor.weighted_values(&evaluator, &scores, &zeros(inputs, 1)).unwrap();
    let products = evaluator.take_counts().total().ciphertext_products;
    assert_eq!(products, tokens * tokens * inputs / slots);
}

/// q, k and v share the replication of their input and its baby rotations; so do up and gate, separate or folded.
#[test]
fn q_k_v_and_up_gate_share_replication_and_hoisted_babies() {
    let bounds = CacheBounds { maximum_tokens: 40, key_level: Level(2), value_level: Level(2) };
    let attention = AttentionShape { heads: 8, kv_heads: 4, head_dim: 8 };
    let shape = BlockShape { hidden: 64, intermediate: 128, attention };
    let plan = BlockPlan::new(256, shape, Grouping::Duplicated, bounds).unwrap();
    let client = client(256, 2);
    let evaluator = CountingEvaluator::new(client.dry_run());
    let x = encrypt(&client, plan.residual(), &plan.residual_order(), &vector(9, shape.hidden), 2);
    let features = attention.heads * attention.head_dim;
    let weights = |seed, outputs| matrix(seed, shape.hidden, outputs);
    let [query, key, value] = [
        plan.query(&weights(1, features)).unwrap().remove(0),
        plan.key_or_value(&weights(2, features / 2)).unwrap(),
        plan.key_or_value(&weights(3, features / 2)).unwrap(),
    ];
    let (up, gate) = (plan.up_or_gate(&weights(4, 128)).unwrap(), plan.up_or_gate(&weights(5, 128)).unwrap());
    let folded = plan.up_and_gate(&weights(4, 128), &weights(5, 128)).unwrap();
    for (what, products, input) in [
        ("q, k, v", vec![&query, &key, &value], plan.attention_input(&x).unwrap()),
        ("up, gate", vec![&up, &gate], x.clone()),
        ("up with gate", vec![&folded], x.clone()),
    ] {
        let one = products[0].geometry().counts();
        assert!(one.rotations_hoisted > 0 && one.preprocessing_rotations > 0, "{what}: {one:?}");
        let prepared = products[0].prepare(&evaluator, &input).unwrap();
        let with_landing: Vec<_> = products.iter().map(|product| (*product, 0)).collect();
        let shared = Product::apply_shared(&evaluator, &prepared, &with_landing).unwrap();
        let counts = evaluator.take_counts().total();
        let alone = one.rotations - one.preprocessing_rotations;
        assert_eq!(
            (counts.rotations_hoisted, counts.hoisted_groups, counts.rotations, counts.plaintext_products),
            (
                one.rotations_hoisted,
                1,
                one.preprocessing_rotations + products.len() * alone,
                products.len() * one.plaintext_products
            ),
            "{what}"
        );
        // The results are those of the products one by one.
        for (product, shared) in products.iter().zip(&shared) {
            let single = product.apply(&evaluator, &input).unwrap();
            let difference = evaluator.sub(&single.ciphertext, &shared.ciphertext).unwrap();
            assert_eq!(single.layout, shared.layout);
            assert!(client.decrypt(&difference).unwrap().iter().all(|x| x.norm() < 1e-12), "{what}");
        }
        evaluator.take_counts();
    }
}

/// What [`BlockPlan::counts`] says of the projections into the heads is what they cost.
#[test]
fn the_projections_of_a_block_cost_what_its_plan_predicts() {
    for (grouping, heads, kv_heads) in
        [(Grouping::Duplicated, 4, 2), (Grouping::Compact, 8, 2), (Grouping::Duplicated, 3, 3)]
    {
        let bounds = CacheBounds { maximum_tokens: 40, key_level: Level(2), value_level: Level(2) };
        let attention = AttentionShape { heads, kv_heads, head_dim: 8 };
        let shape = BlockShape { hidden: 8 * heads, intermediate: 24 * heads, attention };
        let plan = BlockPlan::new(1024, shape, grouping, bounds).unwrap();
        let client = client(1024, 2);
        let evaluator = CountingEvaluator::new(client.dry_run());
        let zero = || client.encrypt(&[], Level(2)).unwrap();
        let residual = Packed::new(zero(), plan.residual());
        let (hidden, wide, kv) = (shape.hidden, shape.intermediate, 8 * kv_heads);
        let input = plan.attention_input(&residual).unwrap();
        let mut products = plan.query(&matrix(1, hidden, hidden)).unwrap();
        products.push(plan.key_and_value(&matrix(2, hidden, kv), &matrix(3, hidden, kv)).unwrap());
        let prepared = products[0].prepare(&evaluator, &input).unwrap();
        let with_landing: Vec<_> = products.iter().map(|product| (product, 0)).collect();
        Product::apply_shared(&evaluator, &prepared, &with_landing).unwrap();
        let attended = Packed::new(zero(), plan.attention().output_layout().unwrap());
        let output = plan.output(&matrix(4, hidden, hidden)).unwrap();
        output.apply(&evaluator, &plan.output_input(&attended).unwrap()).unwrap();
        let both = plan.up_and_gate(&matrix(5, hidden, wide), &matrix(6, hidden, wide)).unwrap();
        both.apply(&evaluator, &residual).unwrap();
        let down = plan.down(&matrix(7, wide, hidden)).unwrap();
        down.apply(&evaluator, &Packed::new(zero(), plan.feed_forward())).unwrap();
        let (counts, predicted) = (evaluator.take_counts().total(), plan.counts().unwrap());
        assert_eq!(
            (counts.plaintext_products, counts.rotations, counts.rotations_hoisted),
            (predicted.plaintext_products, predicted.rotations, predicted.rotations_hoisted),
            "{shape:?} {grouping:?}"
        );
    }
}
