//! Attention over the cache, and a whole block apart from its functions.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Compared, client, decrypt, dense, encrypt, matrix, vector};
use crate::contract::{CiphertextInfo, Client, Complex64, CountingEvaluator, Evaluator, Level};
use crate::packing::complex::{split, twice_real_part};
use crate::packing::{
    AttentionShape, BlockShape, CacheBounds, Grouping, HeadForm, KeyValueCache, Packed, Product, Rope,
    Weights,
};
use crate::related_work::BlockPlan;

/// A block with random weights.
pub(super) struct Block {
    shape: BlockShape,
    query: Arc<dyn Weights>,
    key: Arc<dyn Weights>,
    value: Arc<dyn Weights>,
    pub(super) output: Arc<dyn Weights>,
    pub(super) up: Arc<dyn Weights>,
    pub(super) gate: Arc<dyn Weights>,
    down: Arc<dyn Weights>,
    pub(super) rope: Rope,
}

impl Block {
    pub(super) fn new(shape: BlockShape) -> Self {
        let AttentionShape { heads, kv_heads, head_dim } = shape.attention;
        let (hidden, wide) = (shape.hidden, shape.intermediate);
        Self {
            shape,
            query: matrix(1, hidden, heads * head_dim),
            key: matrix(2, hidden, kv_heads * head_dim),
            value: matrix(3, hidden, kv_heads * head_dim),
            output: matrix(4, heads * head_dim, hidden),
            up: matrix(5, hidden, wide),
            gate: matrix(6, hidden, wide),
            down: matrix(7, wide, hidden),
            rope: Rope::new(head_dim, 10_000.0, 4096),
        }
    }

    /// [head][token] scores, [head] sums of weights (scores + 1), and the block's output for the last of `inputs`.
    fn reference(&self, inputs: &[Vec<f64>]) -> (Vec<Vec<f64>>, Vec<f64>, Vec<f64>) {
        let AttentionShape { heads, kv_heads, head_dim } = self.shape.attention;
        let last = inputs.last().unwrap();
        let rotated = |x: &[f64], w: &Arc<dyn Weights>, position| {
            self.rope.apply_clear(&dense(x, w.as_ref()), position).unwrap()
        };
        let q = rotated(last, &self.query, inputs.len() - 1);
        let keys: Vec<_> = inputs.iter().enumerate().map(|(i, x)| rotated(x, &self.key, i)).collect();
        let values: Vec<_> = inputs.iter().map(|x| dense(x, self.value.as_ref())).collect();
        let (mut scores, mut sums, mut attended) = (Vec::new(), Vec::new(), Vec::new());
        for head in 0..heads {
            let kv = head / (heads / kv_heads) * head_dim;
            let q = &q[head * head_dim..][..head_dim];
            let row: Vec<f64> = keys
                .iter()
                .map(|k| q.iter().zip(&k[kv..]).map(|(q, k)| q * k).sum::<f64>() / (head_dim as f64).sqrt())
                .collect();
            sums.push(row.iter().map(|s| s + 1.0).sum());
            for j in 0..head_dim {
                attended.push(row.iter().zip(&values).map(|(s, v)| (s + 1.0) * v[kv + j]).sum());
            }
            scores.push(row);
        }
        let mid: Vec<f64> =
            dense(&attended, self.output.as_ref()).iter().zip(last).map(|(a, b)| a + b).collect();
        let (up, gate) = (dense(&mid, self.up.as_ref()), dense(&mid, self.gate.as_ref()));
        let product: Vec<f64> = up.iter().zip(&gate).map(|(a, b)| a * b).collect();
        let out = dense(&product, self.down.as_ref()).iter().zip(&mid).map(|(a, b)| a + b).collect();
        (scores, sums, out)
    }
}

/// Queries, key and value of one token.
type Projections<C> = (Vec<Packed<C>>, Packed<C>, Packed<C>);

/// q, k and v of one input, with k and v at the next place of the cache.
pub(super) fn project<E: Evaluator>(
    evaluator: &E,
    plan: &BlockPlan,
    block: &Block,
    x: &Packed<E::Ciphertext>,
    cache: &KeyValueCache<E::Ciphertext>,
) -> Projections<E::Ciphertext> {
    let (position, stored) = (cache.tokens(), plan.attention().stored());
    let x = plan.attention_input(x).unwrap();
    let queries = plan.query(&block.query).unwrap();
    let prepared = queries[0].prepare(evaluator, &x).unwrap();
    let factor = 1.0 / (stored.head_dim() as f64).sqrt();
    let landing = cache.next_offset().unwrap();
    let together = match stored.form() {
        HeadForm::Real => vec![plan.key_and_value(&block.key, &block.value).unwrap()],
        HeadForm::Complex => vec![plan.key(&block.key).unwrap(), plan.value(&block.value).unwrap()],
    };
    let mut products: Vec<_> = queries.iter().map(|query| (query, 0)).collect();
    products.extend(together.iter().map(|product| (product, landing)));
    let mut projected = Product::apply_shared(evaluator, &prepared, &products).unwrap();
    let last = projected.pop().unwrap();
    let [key, value] = match stored.form() {
        HeadForm::Real => split(evaluator, &last).unwrap(),
        HeadForm::Complex => [projected.pop().unwrap(), last],
    };
    let queries = projected
        .iter()
        .map(|q| block.rope.apply(evaluator, &stored, q, position, factor).unwrap())
        .collect();
    (queries, block.rope.apply_key(evaluator, &stored, &key, position, 1.0).unwrap(), value)
}

/// The residual sum and the MLP (up · gate instead of SwiGLU) behind what attention gives, `output`.
fn feed_forward<E: Evaluator>(
    evaluator: &E,
    plan: &BlockPlan,
    block: &Block,
    x: &Packed<E::Ciphertext>,
    output: Packed<E::Ciphertext>,
) -> Packed<E::Ciphertext> {
    let output = Packed::new(output.ciphertext, plan.residual().junk());
    let mid = output.map(|y| evaluator.add(y, &x.ciphertext)).unwrap().mask(evaluator, 1.0).unwrap();
    let both = plan.up_and_gate(&block.up, &block.gate).unwrap().apply(evaluator, &mid).unwrap();
    let [up, gate] = split(evaluator, &both).unwrap();
    let gate = gate.mask(evaluator, 1.0).unwrap();
    let (up, gate_value) = evaluator.align(&up.ciphertext, &gate.ciphertext).unwrap();
    let product = Packed::new(evaluator.mul(&up, &gate_value).unwrap(), gate.layout);
    let down = plan.down(&block.down).unwrap().apply(evaluator, &product).unwrap();
    let (down_value, mid) = evaluator.align(&down.ciphertext, &mid.ciphertext).unwrap();
    Packed::new(evaluator.add(&down_value, &mid).unwrap(), down.layout)
}

/// A block, its ring, and the tokens that run through it; the first `public` tokens enter the cache as plaintexts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) slots: usize,
    pub(super) shape: BlockShape,
    pub(super) grouping: Grouping,
    pub(super) tokens: usize,
    pub(super) maximum: usize,
    pub(super) public: usize,
}

impl Case {
    /// Levels [`Case::run`] needs.
    pub(super) const LEVELS: usize = 6;

    /// Runs all tokens (weights = scores + 1 instead of softmax, up · gate instead of SwiGLU), encrypting afresh where
    /// a model would bootstrap: scores by segment, sums of weights, and the block's output.
    pub(super) fn run<C: Client>(&self, client: &C, evaluator: &C::Evaluator) -> Vec<Compared> {
        let Self { slots, shape, grouping, tokens, maximum, public } = *self;
        let plan = plan_of(slots, shape, grouping, maximum).unwrap();
        let block = Block::new(shape);
        let attention = *plan.attention();
        let mut cache = KeyValueCache::new(attention.cache_layout());
        let inputs: Vec<Vec<f64>> = (0..tokens).map(|i| vector(100 + i as u64, shape.hidden)).collect();
        let order = plan.residual_order();
        let AttentionShape { heads, kv_heads, head_dim } = shape.attention;
        let what = format!(
            "{} features, {heads} heads over {kv_heads} of {head_dim}, {grouping:?}, {tokens} of {maximum} tokens, \
             {public} public, {slots} slots, ring {}",
            shape.hidden,
            plan.residual().ring()
        );
        let mut queries = Vec::new();
        for (i, input) in inputs.iter().enumerate() {
            if i < public && i + 1 < tokens {
                let key = block.rope.apply_clear(&dense(input, block.key.as_ref()), i).unwrap();
                let value = dense(input, block.value.as_ref());
                let at = |features: &[f64], head, j| features[attention.kv_feature(head, j)];
                cache.append_public(evaluator, |h, j| at(&key, h, j), |h, j| at(&value, h, j)).unwrap();
                continue;
            }
            let x = encrypt(client, plan.residual(), &order, input, 6);
            let (q, k, v) = project(evaluator, &plan, &block, &x, &cache);
            cache.append(evaluator, &k, &v).unwrap();
            queries = q;
        }
        let (scores_wanted, sums_wanted, output_wanted) = block.reference(&inputs);
        let layout = attention.score_layout();
        let scores = attention.scores(evaluator, &queries, &cache, 1.0).unwrap();
        assert_eq!(scores.len(), layout.segments(tokens), "{what}: segments");
        let mut compared = Vec::new();
        let mut weights = Vec::new();
        for (segment, score) in scores.iter().enumerate() {
            assert_eq!(score.level(), Level(0));
            let first = segment * layout.segment_tokens();
            let slots_of_scores = client.decrypt(score).unwrap();
            let expected = layout.values(segment, tokens, |token, head| scores_wanted[head][token]);
            for (head, row) in layout.read(&slots_of_scores, tokens - first).into_iter().enumerate() {
                let want = &scores_wanted[head][first..first + row.len()];
                compared.push(Compared::real(format!("{what}: scores of head {head}"), row, want));
            }
            compared.push(Compared::new(
                format!("{what}: scores of segment {segment}"),
                slots_of_scores,
                expected.clone(),
            ));
            // Stand-in for softmax, on fresh ciphertexts as after a bootstrap: weight = score + 1 on tokens only.
            let values: Vec<Complex64> =
                expected.iter().zip(layout.values(segment, tokens, |_, _| 1.0)).map(|(s, v)| s + v).collect();
            weights.push(client.encrypt(&values, Level(5)).unwrap());
        }
        let sums = attention.denominators(evaluator, &weights, &[0.25]).unwrap().remove(0);
        // A sum stands at every value of its head: the complex form has values at half of the dimensions.
        let values = attention.stored().head_blocks();
        let at = |j, sum: f64| if j < values { sum * 0.25 } else { 0.0 };
        let expected: Vec<f64> =
            sums_wanted.iter().flat_map(|sum| (0..head_dim).map(move |j| at(j, *sum))).collect();
        let output_order = attention.output_order().unwrap();
        let sums = decrypt(client, &sums, &output_order, expected.len());
        compared.push(Compared::real(format!("{what}: denominators"), sums, &expected));
        let attended = attention.weighted_values(evaluator, &weights, &cache).unwrap();
        assert_eq!(attended.ciphertext.level(), Level(0));
        // The same values at a high level, as a bootstrap would return them.
        let values = client.decrypt(&attended.ciphertext).unwrap();
        let attended = Packed::new(client.encrypt(&values, Level(6)).unwrap(), attended.layout);
        let output = plan.output(&block.output).unwrap();
        let mut output = output.apply(evaluator, &plan.output_input(&attended).unwrap()).unwrap();
        if attention.stored().form() == HeadForm::Complex {
            output = twice_real_part(evaluator, &output).unwrap();
        }
        let x = encrypt(client, plan.residual(), &order, inputs.last().unwrap(), output.ciphertext.level().0);
        let result = feed_forward(evaluator, &plan, &block, &x, output);
        let result = decrypt(client, &result, &order, shape.hidden);
        compared.push(Compared::real(format!("{what}: output"), result, &output_wanted));
        compared
    }
}

/// Every way to keep heads.
pub(super) const GROUPINGS: [Grouping; 4] =
    [Grouping::Duplicated, Grouping::Compact, Grouping::Complex, Grouping::CompactComplex];

/// The plan of a block for at most `maximum` tokens.
pub(super) fn plan_of(
    slots: usize,
    shape: BlockShape,
    grouping: Grouping,
    maximum: usize,
) -> crate::contract::Result<BlockPlan> {
    let bounds = CacheBounds { maximum_tokens: maximum, key_level: Level(2), value_level: Level(2) };
    BlockPlan::new(slots, shape, grouping, bounds)
}

/// Runs a case on the simulator and compares.
fn check(slots: usize, shape: BlockShape, grouping: Grouping, tokens: usize, maximum: usize, public: usize) {
    let client = client(slots, Case::LEVELS);
    let case = Case { slots, shape, grouping, tokens, maximum, public };
    let mut compared = case.run(&client, &client.dry_run());
    compared.pop().unwrap().assert_within(1e-8);
    for compared in compared {
        compared.assert_within(1e-9);
    }
}

pub(super) fn shape(
    hidden: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
) -> BlockShape {
    BlockShape { hidden, intermediate, attention: AttentionShape { heads, kv_heads, head_dim } }
}

#[test]
fn power_of_two_blocks_equal_dense_algebra_below_at_and_past_one_segment() {
    for (slots, hidden, heads, kv_heads, head_dim, tokens) in [
        (128, 16, 2, 2, 8, 13),
        (256, 32, 4, 2, 8, 40),
        (256, 16, 4, 1, 4, 64),
        (256, 32, 4, 2, 8, 70),
        (64, 16, 1, 1, 16, 20),
        (64, 16, 4, 4, 4, 1),
    ] {
        let shape = shape(hidden, 2 * hidden, heads, kv_heads, head_dim);
        for maximum in [tokens, tokens + 1, 4 * tokens] {
            for grouping in [Grouping::Duplicated, Grouping::Complex] {
                check(slots, shape, grouping, tokens, maximum, 0);
            }
        }
    }
}

#[test]
fn blocks_of_3_6_9_and_12_heads_equal_dense_algebra() {
    for (slots, heads, head_dim, intermediate, tokens) in [
        (512, 3, 8, 72, 40),
        (1024, 3, 16, 80, 30),
        (2048, 9, 8, 72, 60),
        (1024, 6, 8, 96, 30),
        (2048, 12, 8, 192, 30),
        (2048, 9, 8, 200, 9),
    ] {
        let shape = shape(heads * head_dim, intermediate, heads, heads, head_dim);
        for grouping in [Grouping::Duplicated, Grouping::Complex] {
            check(slots, shape, grouping, tokens, tokens + 3, 0);
        }
    }
}

#[test]
fn compact_grouped_queries_equal_dense_algebra() {
    for (slots, hidden, heads, kv_heads, head_dim, tokens) in [
        (256, 32, 4, 2, 8, 50),
        (256, 32, 4, 1, 8, 64),
        (512, 64, 8, 2, 8, 33),
        (512, 64, 8, 4, 8, 60),
        (2048, 72, 9, 3, 8, 60),
        (2048, 72, 9, 3, 8, 400),
        (1024, 48, 6, 2, 8, 30),
        (1024, 40, 5, 1, 8, 70),
        (256, 32, 4, 4, 8, 12),
    ] {
        let shape = shape(hidden, 3 * hidden, heads, kv_heads, head_dim);
        for grouping in [Grouping::Compact, Grouping::CompactComplex] {
            // Half the head blocks must still hold the query heads of a group.
            if grouping == Grouping::CompactComplex && (heads / kv_heads).next_power_of_two() > head_dim / 2 {
                assert!(plan_of(slots, shape, grouping, tokens).is_err());
                continue;
            }
            check(slots, shape, grouping, tokens, tokens, 0);
        }
    }
}

#[test]
fn public_tokens_and_encrypted_tokens_share_a_cache() {
    for public in [1, 3, 8, 16, 21, 29] {
        check(256, shape(32, 64, 4, 2, 8), Grouping::Duplicated, 30, 40, public);
        check(1024, shape(24, 48, 3, 3, 8), Grouping::Duplicated, 30, 200, public);
        for grouping in [Grouping::Compact, Grouping::Complex, Grouping::CompactComplex] {
            check(256, shape(32, 64, 4, 2, 8), grouping, 30, 40, public);
        }
        check(1024, shape(24, 48, 3, 3, 8), Grouping::Complex, 30, 200, public);
    }
}

#[test]
fn the_tiny_model_and_a_small_smollm2_pack_in_test_rings() {
    for grouping in GROUPINGS {
        check(2048, shape(64, 160, 4, 2, 16), grouping, 40, 128, 0);
        check(4096, shape(144, 384, 9, 3, 16), grouping, 35, 64, 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn blocks_of_random_shape_equal_dense_algebra(
        kv_heads in 1usize..4, group in 1usize..5, log_head_dim in 2u32..5, wide in 1usize..5, tokens in 1usize..50,
        spare in 0usize..80, grouping in proptest::sample::select(GROUPINGS.to_vec()), public in 0usize..20,
    ) {
        let head_dim = 1usize << log_head_dim;
        let (heads, hidden) = (kv_heads * group, kv_heads * group * head_dim);
        let shape = shape(hidden, wide * head_dim + wide, heads, kv_heads, head_dim);
        if grouping == Grouping::CompactComplex && group.next_power_of_two() > head_dim / 2 {
            let text = plan_of(4096, shape, grouping, tokens).unwrap_err().to_string();
            prop_assert!(text.contains(&format!("{group} query heads per KV head")), "{text}");
            return Ok(());
        }
        check(4096, shape, grouping, tokens, tokens + spare, public);
    }
}

#[test]
fn scores_and_values_cost_what_the_formulas_say() {
    let bounds = CacheBounds { maximum_tokens: 64, key_level: Level(2), value_level: Level(2) };
    let shape = shape(32, 64, 4, 4, 8);
    let plan = BlockPlan::new(256, shape, Grouping::Duplicated, bounds).unwrap();
    let (block, client) = (Block::new(shape), client(256, 6));
    let evaluator = CountingEvaluator::new(client.dry_run());
    let attention = plan.attention();
    let mut cache = KeyValueCache::new(attention.cache_layout());
    let mut queries = Vec::new();
    for i in 0..20 {
        let x = encrypt(&client, plan.residual(), &plan.residual_order(), &vector(i, 32), 6);
        let (q, k, v) = project(&evaluator, &plan, &block, &x, &cache);
        evaluator.take_counts();
        cache.append(&evaluator, &k, &v).unwrap();
        // 8 lanes: 4 babies, so 2 giants: one rotation, one mask per lane.
        let counts = evaluator.take_counts().total();
        assert_eq!((counts.plaintext_products, counts.rotations), (8, 1), "append {i}");
        queries = q;
    }
    evaluator.take_counts();
    let scores = attention.scores(&evaluator, &queries, &cache, 1.0).unwrap();
    let counts = evaluator.take_counts().total();
    // 20 tokens at 8 per ciphertext: 3 K ciphertexts; log2 8 rotations to copy q, log2 8 per ciphertext.
    assert_eq!((counts.ciphertext_products, counts.plaintext_products, counts.rotations), (3, 3, 3 + 3 * 3));
    let weights = vec![client.encrypt(&client.decrypt(&scores[0]).unwrap(), Level(2)).unwrap()];
    attention.weighted_values(&evaluator, &weights, &cache).unwrap();
    let counts = evaluator.take_counts().total();
    // 8 lanes in 4 babies and 2 giants, one relinearization per giant, log2 8 rotations to sum over tokens.
    assert_eq!(
        (counts.ciphertext_products, counts.relinearizations, counts.rotations_hoisted, counts.rotations),
        (8, 2, 3, 1 + 3)
    );
}

#[test]
fn full_caches_foreign_caches_and_late_positions_are_refused_with_their_numbers() {
    let bounds = CacheBounds { maximum_tokens: 2, key_level: Level(2), value_level: Level(2) };
    let shape_small = shape(32, 64, 4, 4, 8);
    let plan = BlockPlan::new(256, shape_small, Grouping::Duplicated, bounds).unwrap();
    let (block, client) = (Block::new(shape_small), client(256, 6));
    let evaluator = client.dry_run();
    let mut cache = KeyValueCache::new(plan.attention().cache_layout());
    let x = encrypt(&client, plan.residual(), &plan.residual_order(), &vector(1, 32), 6);
    let (q, k, v) = project(&evaluator, &plan, &block, &x, &cache);
    let text = plan.attention().scores(&evaluator, &q, &cache, 1.0).unwrap_err().to_string();
    assert!(text.contains("0 tokens"), "{text}");
    cache.append(&evaluator, &k, &v).unwrap();
    // A key at the wrong offset.
    let text = cache.append(&evaluator, &k, &v).unwrap_err().to_string();
    assert!(text.contains("packed as"), "{text}");
    let (q, k, v) = project(&evaluator, &plan, &block, &x, &cache);
    cache.append(&evaluator, &k, &v).unwrap();
    let text = cache.append(&evaluator, &k, &v).unwrap_err().to_string();
    assert!(text.contains("token 2 of at most 2"), "{text}");
    let other = CacheBounds { maximum_tokens: 100, ..bounds };
    let other = BlockPlan::new(256, shape_small, Grouping::Duplicated, other).unwrap();
    let text = other.attention().scores(&evaluator, &q, &cache, 1.0).unwrap_err().to_string();
    assert!(text.contains("laid out as"), "{text}");
    let rope = Rope::new(8, 10_000.0, 4);
    let text = rope.apply(&evaluator, &plan.attention().stored(), &q[0], 4, 1.0).unwrap_err().to_string();
    assert!(text.contains("position 4 of at most 4"), "{text}");
    let odd = AttentionShape { heads: 4, kv_heads: 3, head_dim: 8 };
    let odd = BlockShape { attention: odd, ..shape_small };
    let text = BlockPlan::new(256, odd, Grouping::Duplicated, bounds).unwrap_err().to_string();
    assert!(text.contains("4 query heads over 3"), "{text}");
    let text =
        BlockPlan::new(64, shape(256, 512, 4, 4, 64), Grouping::Duplicated, bounds).unwrap_err().to_string();
    assert!(text.contains("64 slots") || text.contains("256 blocks"), "{text}");
}

/// q; k with v; o; up with gate; down, in this order of sums: duplicated heads first, then compact. SmolLM2: 11 and 32
/// plaintexts per square and feed-forward product; compact q is two pairs of 4 and k with v one of 4.
#[test]
fn blocks_of_known_models_need_the_plaintexts_of_the_formulas() {
    let bounds = CacheBounds { maximum_tokens: 512, key_level: Level(2), value_level: Level(2) };
    for (name, duplicated, compact) in [
        ("gpt2", 3 * 19 + 2 * 86, 3 * 19 + 2 * 86),
        ("smollm2-135m", 3 * 11 + 2 * 32, 2 * 4 + 4 + 11 + 2 * 32),
        ("llama-3-8b", 3 * 512 + 2 * 2048, 2 * 128 + 128 + 512 + 2 * 2048),
    ] {
        let shape = crate::packing::named_shape(name).unwrap();
        for (grouping, plaintexts) in [(Grouping::Duplicated, duplicated), (Grouping::Compact, compact)] {
            let plan = BlockPlan::new(32768, shape, grouping, bounds).unwrap();
            let counts = plan.counts().unwrap();
            assert_eq!(counts.plaintext_products, plaintexts, "{name} {grouping:?}: {plan:?}");
        }
    }
    // Tokens per K ciphertext: 56 duplicated and 168 compact for SmolLM2 instead of the 32 of a padded dimension.
    let shape = crate::packing::named_shape("smollm2-135m").unwrap();
    let tokens =
        |grouping| BlockPlan::new(32768, shape, grouping, bounds).unwrap().attention().stored().tokens();
    assert_eq!((tokens(Grouping::Duplicated), tokens(Grouping::Compact)), (56, 168));
}
