//! A decoder layer without a KV cache: the whole prefix of n tokens again for every token, as MOAI's column packing and
//! THOR's diagonal packing would, slots full.
//!
//! Spec section 9. Plaintext products d_in·d_out·n/S (half for THOR, which folds two reals into a complex slot); MOAI's
//! weights are scalars, so it neither encodes nor rotates in them; QKᵀ and PV take 2·n²·d/S products of ciphertexts.
//! MOAI is amortised over the S/n sequences that fill its slots: a single user pays S/n times more, so its figures
//! here are the most favourable to it. The rotations of both are estimates.

use super::super::graph::ValueId;
use super::super::template::LayerTemplate;
use super::super::work::Work;
use super::functions::FunctionWork;
use super::shape::ModelShape;
use crate::contract::Result;

/// Whose packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recompute {
    /// Columns, one scalar weight at a time.
    Moai,
    /// Diagonals, complex folding.
    Thor,
}

/// The layer over `tokens` tokens.
///
/// # Errors
/// [`crate::contract::Error::Shape`] for a shape that does not fit `slots`.
pub fn recompute_layer(
    shape: &ModelShape,
    packing: Recompute,
    slots: usize,
    tokens: usize,
    kept_encoded: bool,
) -> Result<LayerTemplate> {
    shape.check(slots)?;
    let mut layer = Layer {
        shape,
        packing,
        slots,
        tokens: tokens.max(1),
        encode: if kept_encoded { 0.0 } else { 1.0 },
        template: LayerTemplate::new("decoder layer"),
    };
    let x = layer.wide("residual", shape.hidden_size);
    layer.template.inputs = vec![x];
    let middle = layer.attention(x);
    let end = layer.feed_forward(middle);
    layer.template.outputs = vec![end];
    Ok(layer.template)
}

struct Layer<'a> {
    shape: &'a ModelShape,
    packing: Recompute,
    slots: usize,
    tokens: usize,
    encode: f64,
    template: LayerTemplate,
}

impl Layer<'_> {
    fn thor(&self) -> bool {
        self.packing == Recompute::Thor
    }

    /// Complex folding halves what is counted in slots.
    fn fold(&self) -> usize {
        if self.thor() { 2 } else { 1 }
    }

    /// Ciphertexts of `size` values for every token.
    fn ciphertexts(&self, size: usize) -> usize {
        (size * self.tokens).div_ceil(self.slots).max(1)
    }

    /// Ciphertexts of all scores.
    fn score_ciphertexts(&self) -> usize {
        (self.tokens * self.tokens * self.shape.num_attention_heads / self.slots).max(1)
    }

    fn wide(&mut self, name: &str, size: usize) -> ValueId {
        let ciphertexts = self.ciphertexts(size);
        self.value(name, ciphertexts)
    }

    /// THOR bootstraps two real ciphertexts as one complex one.
    fn value(&mut self, name: &str, ciphertexts: usize) -> ValueId {
        let lanes = self.fold();
        self.template.value(name, ciphertexts, lanes)
    }

    fn product(&self, inputs: usize, outputs: usize) -> Work {
        let products = (inputs * outputs) as f64 * self.tokens as f64 / (self.fold() * self.slots) as f64;
        let results = self.ciphertexts(outputs) as f64;
        if self.thor() {
            // Copies of the input and rotations inside a product: 15 and 2·12 a ciphertext in its code for BERT.
            let rotations = (self.ciphertexts(inputs) * 15 / 2) as f64 + results * 24.0;
            Work { encodings: self.encode * products, ..Work::plaintext_products(products, results) }
                + Work::rotations(rotations)
        } else {
            Work { constant_products: products, rescales: results, additions: products, ..Work::default() }
        }
    }

    fn rotations(&self, count: f64) -> Work {
        if self.thor() { Work::rotations(count) } else { Work::default() }
    }

    fn norm(&mut self, prefix: &str, x: ValueId) -> ValueId {
        let ciphertexts = self.ciphertexts(self.shape.hidden_size);
        let square = self.value(&format!("{prefix}.mean_square"), 1);
        let inverse = self.value(&format!("{prefix}.inverse_root"), 1);
        let normed = self.wide(&format!("{prefix}.normed"), self.shape.hidden_size);
        let log = f64::from(self.shape.hidden_size.next_power_of_two().trailing_zeros());
        let squares = Work::products(ciphertexts as f64) + self.rotations(log);
        self.template.evenly(&format!("{prefix}.square"), &[x], &[square], 1, squares);
        let root = FunctionWork { depth: 13, products: 20, constants: 8 };
        self.template.evenly(&format!("{prefix}.root"), &[square], &[inverse], root.depth, root.work(1));
        let scale = Work::products(ciphertexts as f64);
        self.template.evenly(&format!("{prefix}.scale"), &[x, inverse], &[normed], 1, scale);
        normed
    }

    /// QKᵀ or PV: n²·d/S products of ciphertexts (half for THOR); MOAI's interleaved batching leaves about one
    /// rotation in eight.
    fn pairs(&self) -> Work {
        let pairs = (self.tokens * self.tokens) as f64 * self.shape.query_size() as f64 / self.slots as f64;
        let rotations = if self.thor() { pairs } else { pairs / 8.0 };
        Work::products(pairs / self.fold() as f64) + Work::rotations(rotations)
    }

    fn attention(&mut self, x: ValueId) -> ValueId {
        let shape = self.shape;
        let normed = self.norm("input_norm", x);
        let query = self.wide("query", shape.query_size());
        let key = self.wide("key", shape.key_value_size());
        let value = self.wide("value", shape.key_value_size());
        let qkv = self.product(shape.hidden_size, shape.query_size())
            + self.product(shape.hidden_size, shape.key_value_size()) * 2.0;
        self.template.evenly("qkv", &[normed], &[query, key, value], 1, qkv);
        let count = self.score_ciphertexts();
        let scores = self.value("scores", count);
        let pairs = self.pairs();
        self.template.evenly("scores", &[query, key], &[scores], 1, pairs);
        let weights = self.value("weights", count);
        let exponential = FunctionWork::sequence(7, 7);
        self.template.evenly("exp", &[scores], &[weights], exponential.depth, exponential.work(count));
        let inverted = self.value("inverse_denominator", 1);
        let inverse = FunctionWork::sequence(11, 18);
        let sums = inverse.work(1) + self.rotations(10.0 * count as f64);
        self.template.evenly("inverse", &[weights], &[inverted], inverse.depth, sums);
        let divided = self.value("probabilities", count);
        let division = Work::products(count as f64);
        self.template.evenly("divide", &[weights, inverted], &[divided], 1, division);
        let attended = self.wide("attended", shape.query_size());
        self.template.evenly("values", &[divided, value], &[attended], 1, pairs);
        let output = self.wide("attention_output", shape.hidden_size);
        let product = self.product(shape.query_size(), shape.hidden_size);
        self.template.evenly("output", &[attended], &[output], 1, product);
        let middle = self.wide("middle_residual", shape.hidden_size);
        let additions = self.ciphertexts(shape.hidden_size) as f64;
        let add = Work { additions, ..Work::default() };
        self.template.evenly("attention_residual", &[x, output], &[middle], 0, add);
        middle
    }

    fn feed_forward(&mut self, x: ValueId) -> ValueId {
        let shape = self.shape;
        let normed = self.norm("post_attention_norm", x);
        let gate = self.wide("gate", shape.intermediate_size);
        let up = shape.gated.then(|| self.wide("up", shape.intermediate_size));
        let outputs: Vec<ValueId> = [Some(gate), up].into_iter().flatten().collect();
        let products =
            self.product(shape.hidden_size, shape.intermediate_size) * if shape.gated { 2.0 } else { 1.0 };
        self.template.evenly("up_gate", &[normed], &outputs, 1, products);
        let ciphertexts = self.ciphertexts(shape.intermediate_size);
        let activation = FunctionWork::polynomial(127, 1);
        let mut active = self.wide("activation", shape.intermediate_size);
        let work = activation.work(ciphertexts);
        self.template.evenly("activation", &[gate], &[active], activation.depth, work);
        if let Some(up) = up {
            let gated = self.wide("gated", shape.intermediate_size);
            let product = Work::products(ciphertexts as f64);
            self.template.evenly("gate_product", &[up, active], &[gated], 1, product);
            active = gated;
        }
        let down = self.wide("mlp_output", shape.hidden_size);
        let product = self.product(shape.intermediate_size, shape.hidden_size);
        self.template.evenly("down", &[active], &[down], 1, product);
        let end = self.wide("next_residual", shape.hidden_size);
        let additions = self.ciphertexts(shape.hidden_size) as f64;
        let add = Work { additions, ..Work::default() };
        self.template.evenly("mlp_residual", &[x, down], &[end], 0, add);
        end
    }
}
