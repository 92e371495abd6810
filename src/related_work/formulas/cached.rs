//! The paper's decoder layer for one token with an encrypted KV cache, and plain diagonals beside the same cache:
//! formulas, for nothing here runs it. (The layer that runs is counted by itself: [`crate::decoder::count`].)
//!
//! Every value is one ciphertext except scores beyond S/H tokens and the cache itself. Counts: spec sections 1–6 and 9.

use super::functions::Functions;
use super::products::{ProductWork, diagonal, replicated};
use super::shape::ModelShape;
use crate::contract::Result;
use crate::placement::LayerTemplate;
use crate::placement::ValueId;
use crate::placement::Work;

/// Packings of a layer with a KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachedPackings {
    /// The paper's: dimensions padded to powers of two, keys and values duplicated to all heads.
    Cachemir,
    /// Plain diagonals for the products, the paper's cache.
    Diagonal,
}

/// The layer that generates the token after `context` cached ones.
///
/// * `kept_encoded`: whether plaintexts stay encoded in memory; otherwise every product with one encodes it first.
///
/// # Errors
/// [`crate::contract::Error::Shape`] for a shape that does not fit `slots`.
pub fn cached_layer(
    shape: &ModelShape,
    packings: CachedPackings,
    functions: &Functions,
    slots: usize,
    context: usize,
    kept_encoded: bool,
) -> Result<LayerTemplate> {
    shape.check(slots)?;
    let mut layer = Layer {
        template: LayerTemplate::new("decoder layer"),
        counts: Counts::new(shape, packings, slots, context)?,
        functions,
    };
    let x = layer.template.value("residual", 1, 2);
    layer.template.inputs = vec![x];
    let middle = layer.attention(x);
    let end = layer.feed_forward(shape, middle);
    layer.template.outputs = vec![end];
    for stage in layer.template.operations.iter_mut().flat_map(|operation| &mut operation.stages) {
        stage.encodings = if kept_encoded { 0.0 } else { stage.plaintext_products };
    }
    Ok(layer.template)
}

/// Work of the linear parts.
struct Counts {
    queries_keys_values: Work,
    rotary: Work,
    append_keys: Work,
    append_values: Work,
    scores: Work,
    score_ciphertexts: usize,
    key_ciphertexts: usize,
    value_ciphertexts: usize,
    values: Work,
    denominator: Work,
    output: Work,
    up_gate: Work,
    down: Work,
    norm_sum: Work,
}

/// ⌈log₂ n⌉.
fn log2(n: usize) -> f64 {
    f64::from(n.next_power_of_two().trailing_zeros())
}

/// Rotations of `steps` baby and giant steps: (hoisted, plain).
fn baby_giant(steps: usize) -> (f64, f64) {
    let log = steps.next_power_of_two().trailing_zeros();
    let babies = 1usize << log.div_ceil(2);
    ((babies - 1) as f64, (steps.div_ceil(babies).max(1) - 1) as f64)
}

impl Counts {
    fn new(shape: &ModelShape, packings: CachedPackings, slots: usize, context: usize) -> Result<Self> {
        let pad = usize::next_power_of_two;
        let (hidden, wide, queries) =
            (pad(shape.hidden_size), pad(shape.intermediate_size), pad(shape.query_size()));
        let product = |inputs: usize, outputs: usize| match packings {
            CachedPackings::Cachemir => replicated(slots, inputs, outputs),
            CachedPackings::Diagonal => diagonal(slots, inputs, outputs),
        };
        let query: ProductWork = product(hidden, queries)?;
        let up_gate: ProductWork = product(hidden, wide)?;
        let attention = Attention::new(shape, slots, context);
        Ok(Self {
            queries_keys_values: query.total() + query.product * 2.0,
            rotary: if shape.gated {
                // Rotated and masked: queries, keys; values are masked when they are appended.
                Work::rotations(2.0) + Work::plaintext_products(4.0, 2.0)
            } else {
                Work::plaintext_products(2.0, 2.0)
            },
            append_keys: Work { additions: 1.0, ..Work::default() },
            append_values: attention.append_values,
            scores: attention.scores,
            score_ciphertexts: attention.score_ciphertexts,
            key_ciphertexts: attention.key_ciphertexts,
            value_ciphertexts: attention.value_ciphertexts,
            values: attention.values,
            denominator: attention.denominator,
            output: product(queries, hidden)?.total(),
            up_gate: up_gate.preprocessing + up_gate.product * if shape.gated { 2.0 } else { 1.0 },
            down: product(wide, hidden)?.total(),
            norm_sum: Work::rotations(log2(shape.hidden_size)),
        })
    }
}

struct Attention {
    append_values: Work,
    scores: Work,
    score_ciphertexts: usize,
    key_ciphertexts: usize,
    value_ciphertexts: usize,
    values: Work,
    denominator: Work,
}

impl Attention {
    fn new(shape: &ModelShape, slots: usize, context: usize) -> Self {
        let heads = shape.num_attention_heads.next_power_of_two();
        let head_dim = shape.head_dim.next_power_of_two();
        let context = context.max(1);
        // Tokens beside each other in one ciphertext of keys.
        let tokens = (slots / (heads * head_dim)).max(1);
        let key_ciphertexts = context.div_ceil(tokens);
        let score_ciphertexts = context.div_ceil((slots / heads).max(1));
        let products = key_ciphertexts as f64;
        let scores = Work::rotations(log2(tokens) + products * log2(head_dim))
            + Work::products(products)
            + Work::plaintext_products(products, products);
        let segments = context.div_ceil(head_dim * tokens);
        let (hoisted, giants) = baby_giant(head_dim);
        let weights_times_values = (segments * head_dim) as f64;
        let values = Work {
            ciphertext_products: weights_times_values,
            relinearizations: segments as f64 * (giants + 1.0),
            rescales: segments as f64 * (giants + 1.0),
            additions: weights_times_values,
            rotations_hoisted: segments as f64 * hoisted,
            ..Work::default()
        } + Work::rotations(segments as f64 * giants + log2(tokens))
            + Work::plaintext_products(1.0, 1.0);
        Self {
            append_values: Work::plaintext_products(head_dim as f64, head_dim as f64)
                + Work::rotations(giants),
            scores,
            score_ciphertexts,
            key_ciphertexts,
            value_ciphertexts: segments * head_dim,
            values,
            denominator: Work::rotations(log2(head_dim) + log2(tokens)) + Work::plaintext_products(1.0, 1.0),
        }
    }
}

struct Layer<'a> {
    template: LayerTemplate,
    counts: Counts,
    functions: &'a Functions,
}

impl Layer<'_> {
    fn value(&mut self, name: &str, ciphertexts: usize) -> ValueId {
        self.template.value(name, ciphertexts, 2)
    }

    /// Mean square, 1/√, product: `x` normalised. The gain γ is folded into the weights that follow.
    fn norm(&mut self, prefix: &str, x: ValueId, root: super::FunctionWork) -> ValueId {
        let square = self.value(&format!("{prefix}.mean_square"), 1);
        let inverse = self.value(&format!("{prefix}.inverse_root"), 1);
        let normed = self.value(&format!("{prefix}.normed"), 1);
        let sum = Work::products(1.0) + self.counts.norm_sum;
        self.template.evenly(&format!("{prefix}.square"), &[x], &[square], 1, sum);
        self.template.evenly(&format!("{prefix}.root"), &[square], &[inverse], root.depth, root.work(1));
        self.template.evenly(&format!("{prefix}.scale"), &[x, inverse], &[normed], 1, Work::products(1.0));
        normed
    }

    fn attention(&mut self, x: ValueId) -> ValueId {
        let normed = self.norm("input_norm", x, self.functions.input_norm);
        let scores = self.counts.score_ciphertexts;
        let (query, key) = (self.value("query", 1), self.value("key", 1));
        let value = self.value("value", 1);
        let product = self.counts.queries_keys_values;
        let rotary = self.counts.rotary;
        self.template.staged("qkv", &[normed], &[query, key, value], 2, vec![product, rotary]);
        let keys = self.template.value("key_cache", self.counts.key_ciphertexts, 1);
        self.template.evenly("append_key", &[key], &[keys], 0, self.counts.append_keys);
        let values = self.template.value("value_cache", self.counts.value_ciphertexts, 1);
        self.template.evenly("append_value", &[value], &[values], 1, self.counts.append_values);
        let raw = self.value("scores", scores);
        let (reading, masking) = split(self.counts.scores);
        self.template.staged("scores", &[query, keys], &[raw], 2, vec![reading, masking]);
        let weights = self.value("weights", scores);
        let exponential = self.functions.exponential;
        self.template.evenly("exp", &[raw], &[weights], exponential.depth, exponential.work(scores));
        let attended = self.divide(weights, values, scores);
        let output = self.value("attention_output", 1);
        let product = self.counts.output;
        self.projection("output", attended, output, product);
        let middle = self.value("middle_residual", 1);
        let add = Work { additions: 1.0, ..Work::default() };
        self.template.evenly("attention_residual", &[x, output], &[middle], 0, add);
        middle
    }

    /// From un-normalised weights to the attended values.
    fn divide(&mut self, weights: ValueId, values: ValueId, scores: usize) -> ValueId {
        let attended = self.value("attended", 1);
        let sum = self.counts.denominator;
        let (reading, masking) = split(self.counts.values);
        let inverse = self.functions.division;
        let inverted = self.value("inverse_denominator", scores);
        let mut stages = vec![inverse.work(scores) * (1.0 / inverse.depth as f64); inverse.depth];
        if let Some(first) = stages.first_mut() {
            *first += sum;
        }
        self.template.staged("inverse", &[weights], &[inverted], inverse.depth, stages);
        let divided = self.value("probabilities", scores);
        let product = Work::products(scores as f64);
        self.template.evenly("divide", &[weights, inverted], &[divided], 1, product);
        self.template.staged("values", &[divided, values], &[attended], 2, vec![reading, masking]);
        attended
    }

    /// A product with weights and its mask.
    fn projection(&mut self, name: &str, input: ValueId, output: ValueId, product: Work) {
        let stages = vec![product, Work::plaintext_products(1.0, 1.0)];
        self.template.staged(name, &[input], &[output], 2, stages);
    }

    fn feed_forward(&mut self, shape: &ModelShape, x: ValueId) -> ValueId {
        let normed = self.norm("post_attention_norm", x, self.functions.post_attention_norm);
        let gate = self.value("gate", 1);
        let up = shape.gated.then(|| self.value("up", 1));
        let outputs: Vec<ValueId> = [Some(gate), up].into_iter().flatten().collect();
        let product = self.counts.up_gate;
        self.template.evenly("up_gate", &[normed], &outputs, 1, product);
        let activation = self.functions.activation;
        let mut active = self.value("activation", 1);
        self.template.evenly("activation", &[gate], &[active], activation.depth, activation.work(1));
        if let Some(up) = up {
            let gated = self.value("gated", 1);
            self.template.evenly("gate_product", &[up, active], &[gated], 1, Work::products(1.0));
            active = gated;
        }
        let down = self.value("mlp_output", 1);
        let product = self.counts.down;
        self.projection("down", active, down, product);
        let end = self.value("next_residual", 1);
        let add = Work { additions: 1.0, ..Work::default() };
        self.template.evenly("mlp_residual", &[x, down], &[end], 0, add);
        end
    }
}

/// Work of a step that reads the cache and then masks: products, rotations and their rescales at the first level, one
/// plaintext product for each result one level lower.
fn split(work: Work) -> (Work, Work) {
    let masks = Work::plaintext_products(work.plaintext_products, work.plaintext_products);
    let reading = Work {
        plaintext_products: 0.0,
        rescales: (work.rescales - work.plaintext_products).max(0.0),
        ..work
    };
    (reading, masks)
}
