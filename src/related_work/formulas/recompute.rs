//! A decoder layer without a KV cache: the whole prefix of n tokens again for every token, as MOAI's column packing and
//! THOR's diagonal packing would, slots full.
//!
//! Operations of the products with weights, of QKᵀ and of PV are counted by running [`crate::packing::Moai`] and
//! [`crate::packing::Thor`] ([`RecomputeCounts`]); values take as many ciphertexts as their data fill. MOAI is
//! amortised over the S/n sequences that fill its slots: a single user pays S/n times more, so its figures here are the
//! most favourable to it. Norms, exp, division and activation are counted alike for both.

use super::counts::{RecomputeCounts, Stages, sum, times};
use super::functions::FunctionWork;
use super::shape::ModelShape;
use crate::contract::{Error, Result};
use crate::placement::LayerTemplate;
use crate::placement::ValueId;
use crate::placement::Work;

/// Whose packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recompute {
    /// Columns, one scalar weight at a time.
    Moai,
    /// Diagonals, complex folding.
    Thor,
}

/// The layer over `tokens` tokens (padded to a power of two, at least 16).
///
/// # Errors
/// [`Error::Shape`] for a shape that does not fit `slots`, or tokens beyond them.
pub fn recompute_layer(
    shape: &ModelShape,
    packing: Recompute,
    counts: &dyn RecomputeCounts,
    slots: usize,
    tokens: usize,
    kept_encoded: bool,
) -> Result<LayerTemplate> {
    shape.check(slots)?;
    let tokens =
        tokens.max(16).checked_next_power_of_two().filter(|padded| *padded <= slots).ok_or_else(|| {
            Error::Shape {
                operation: "baseline",
                what: format!("{tokens} tokens in {slots} slots"),
                remedy: "use a shorter context".to_owned(),
            }
        })?;
    let mut layer = Layer {
        shape,
        packing,
        counts,
        slots,
        tokens,
        encode: if kept_encoded { 0.0 } else { 1.0 },
        template: LayerTemplate::new("decoder layer"),
    };
    let x = layer.wide("residual", shape.hidden_size);
    layer.template.inputs = vec![x];
    let middle = layer.attention(x)?;
    let end = layer.feed_forward(middle)?;
    layer.template.outputs = vec![end];
    Ok(layer.template)
}

struct Layer<'a> {
    shape: &'a ModelShape,
    packing: Recompute,
    counts: &'a dyn RecomputeCounts,
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

    /// Sequences that share MOAI's ciphertexts.
    fn batch(&self) -> f64 {
        (self.slots / self.tokens) as f64
    }

    fn product(&self, inputs: usize, outputs: usize) -> Result<Stages> {
        if !self.thor() {
            return Ok(times(&self.counts.moai_product(self.tokens, inputs, outputs)?, 1.0 / self.batch()));
        }
        let (sources, results) = (self.ciphertexts(inputs), self.ciphertexts(outputs));
        let mut stages = self.counts.thor_product(self.slots / self.tokens, sources, results)?;
        for stage in &mut stages {
            stage.encodings = self.encode * stage.plaintext_products;
        }
        Ok(stages)
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

    /// QKᵀ and PV of all heads.
    fn pairs(&self) -> Result<(Stages, Stages)> {
        let (one, copies) = if self.thor() {
            let head_dim = self.shape.head_dim.next_power_of_two();
            let one = self.counts.thor_attention(self.slots / self.tokens, self.tokens, head_dim)?;
            (one, self.ciphertexts(self.shape.query_size()) as f64)
        } else {
            let one = self.counts.moai_attention(self.tokens, self.shape.head_dim)?;
            (one, self.shape.num_attention_heads as f64 / self.batch())
        };
        Ok((times(&one.0, copies), times(&one.1, copies)))
    }

    /// An operation of counted work, one level for each of its `depth`.
    fn counted(&mut self, name: &str, reads: &[ValueId], writes: &[ValueId], depth: usize, stages: Stages) {
        self.template.staged(name, reads, writes, depth, stages);
    }

    fn attention(&mut self, x: ValueId) -> Result<ValueId> {
        let shape = self.shape;
        let normed = self.norm("input_norm", x);
        let query = self.wide("query", shape.query_size());
        let key = self.wide("key", shape.key_value_size());
        let value = self.wide("value", shape.key_value_size());
        let qkv = sum(
            &self.product(shape.hidden_size, shape.query_size())?,
            &times(&self.product(shape.hidden_size, shape.key_value_size())?, 2.0),
        );
        self.counted("qkv", &[normed], &[query, key, value], 1, qkv);
        let count = self.score_ciphertexts();
        let scores = self.value("scores", count);
        let (reading, summing) = self.pairs()?;
        self.counted("scores", &[query, key], &[scores], 2, reading);
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
        self.counted("values", &[divided, value], &[attended], 1, summing);
        let output = self.wide("attention_output", shape.hidden_size);
        let product = self.product(shape.query_size(), shape.hidden_size)?;
        self.counted("output", &[attended], &[output], 1, product);
        let middle = self.wide("middle_residual", shape.hidden_size);
        let additions = self.ciphertexts(shape.hidden_size) as f64;
        let add = Work { additions, ..Work::default() };
        self.template.evenly("attention_residual", &[x, output], &[middle], 0, add);
        Ok(middle)
    }

    fn feed_forward(&mut self, x: ValueId) -> Result<ValueId> {
        let shape = self.shape;
        let normed = self.norm("post_attention_norm", x);
        let gate = self.wide("gate", shape.intermediate_size);
        let up = shape.gated.then(|| self.wide("up", shape.intermediate_size));
        let outputs: Vec<ValueId> = [Some(gate), up].into_iter().flatten().collect();
        let one = self.product(shape.hidden_size, shape.intermediate_size)?;
        let products = times(&one, if shape.gated { 2.0 } else { 1.0 });
        self.counted("up_gate", &[normed], &outputs, 1, products);
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
        let product = self.product(shape.intermediate_size, shape.hidden_size)?;
        self.counted("down", &[active], &[down], 1, product);
        let end = self.wide("next_residual", shape.hidden_size);
        let additions = self.ciphertexts(shape.hidden_size) as f64;
        let add = Work { additions, ..Work::default() };
        self.template.evenly("mlp_residual", &[x, down], &[end], 0, add);
        Ok(end)
    }
}
