//! Matrix products of a decoder block, method by method, counted and timed on any backend.
//!
//! The folded forms give a complex output (`folded_columns`: what complex heads and pairs of vectors take) or want a
//! complex input (`folded_rows`). Seconds include encoding the plaintexts.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::contract::{Client, CountingEvaluator, Error, KeyRequest, Level, Result, normalize_step};
use crate::measure::{Rounds, time};
use crate::packing::{
    BlockShape, FnWeights, FoldedGeometry, FoldedProduct, Folding, Packed, SHAPE_NAMES, Weights,
    diagonal_product, folded_product, mixed_radix_product, named_shape, padded_product,
};

/// A way to multiply a vector, or all tokens of a prefix, with a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProductMethod {
    /// Interleaved replicated packing, dimensions padded to powers of two (Cachemir, §4).
    Irp,
    /// Interleaved replicated packing without that padding: what the decoder runs.
    MixedRadix,
    /// Two real outputs in one complex slot.
    FoldedColumns,
    /// Two real inputs in one complex slot.
    FoldedRows,
    /// Generalised diagonals (Halevi and Shoup).
    Diagonal,
    /// MOAI: all tokens at once, a column a ciphertext.
    Moai,
    /// THOR: all tokens at once, diagonals of heads.
    Thor,
}

impl ProductMethod {
    /// All methods; the last two process all tokens at once.
    pub const ALL: [Self; 7] = [
        Self::Irp,
        Self::MixedRadix,
        Self::FoldedColumns,
        Self::FoldedRows,
        Self::Diagonal,
        Self::Moai,
        Self::Thor,
    ];

    /// Name in tables and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Irp => "irp",
            Self::MixedRadix => "mixed_radix",
            Self::FoldedColumns => "folded_columns",
            Self::FoldedRows => "folded_rows",
            Self::Diagonal => "diagonal",
            Self::Moai => "moai",
            Self::Thor => "thor",
        }
    }
}

/// A product by one method: its operations, and its seconds where it was run.
#[derive(Clone, Debug, Serialize)]
pub struct ProductCost {
    /// The method.
    pub method: ProductMethod,
    /// Inputs.
    pub d_in: usize,
    /// Outputs.
    pub d_out: usize,
    /// Tokens processed together.
    pub tokens: usize,
    /// Products with plaintexts (MOAI: with scalars).
    pub plaintext_products: usize,
    /// Rotations with a decomposition of their own.
    pub rotations: usize,
    /// Rotations that share one.
    pub rotations_hoisted: usize,
    /// Decompositions shared.
    pub hoisted_groups: usize,
    /// Conjugations.
    pub conjugations: usize,
    /// Rotation keys.
    pub rotation_keys: usize,
    /// Bytes of all encoded plaintexts.
    pub plaintext_bytes: u64,
    /// Seconds of the whole product; `None` where it was only counted.
    pub seconds: Option<f64>,
    /// Share of the product that was run; `seconds` are scaled up from it.
    pub measured_fraction: f64,
}

impl ProductCost {
    /// A product of which nothing is known yet but its size.
    pub(super) fn new(method: ProductMethod, (d_in, d_out): (usize, usize), tokens: usize) -> Self {
        Self {
            method,
            d_in,
            d_out,
            tokens,
            plaintext_products: 0,
            rotations: 0,
            rotations_hoisted: 0,
            hoisted_groups: 0,
            conjugations: 0,
            rotation_keys: 0,
            plaintext_bytes: 0,
            seconds: None,
            measured_fraction: 0.0,
        }
    }
}

/// What products are measured on.
pub struct ProductBench<'a, C: Client> {
    /// Backend.
    pub client: &'a C,
    /// Level of the inputs, 1 or higher.
    pub level: Level,
    /// Bytes of one plaintext at that level.
    pub plaintext_bytes: u64,
    /// Tokens that MOAI and THOR process at once, a power of two.
    pub tokens: usize,
    /// Length of a head, for THOR.
    pub head_dim: usize,
    /// Count only, run nothing.
    pub count_only: bool,
}

/// One untimed run would double the minutes of a large product.
pub(super) const ONCE: Rounds = Rounds { untimed: 0, timed: 1 };

impl<C: Client> ProductBench<'_, C> {
    /// A product of `inputs` to `outputs` by `method`.
    ///
    /// # Errors
    /// [`Error::Shape`] for sizes or tokens that do not fit the slots; what key generation and the operations return.
    pub fn cost(&self, method: ProductMethod, inputs: usize, outputs: usize) -> Result<ProductCost> {
        match method {
            ProductMethod::Moai => self.moai(inputs, outputs),
            ProductMethod::Thor => self.thor(inputs, outputs),
            _ => self.vector(method, inputs, outputs),
        }
    }

    /// Evaluator with the rotation keys for `steps` (and conjugation) up to the level of the inputs.
    pub(super) fn evaluator(&self, steps: &[i64]) -> Result<CountingEvaluator<C::Evaluator>> {
        let mut request = KeyRequest::new();
        request.rotations(steps, self.client.slots(), self.level).conjugation(self.level);
        Ok(CountingEvaluator::new(self.client.evaluator(&request)?))
    }

    /// A product on one vector.
    fn vector(&self, method: ProductMethod, inputs: usize, outputs: usize) -> Result<ProductCost> {
        let slots = self.client.slots();
        let whole = |product| FoldedGeometry::new(product, Folding::Whole, inputs, outputs);
        let geometry = match method {
            ProductMethod::Irp => whole(padded_product(slots, inputs, outputs)?)?,
            ProductMethod::MixedRadix => whole(mixed_radix_product(slots, inputs, outputs)?)?,
            ProductMethod::FoldedColumns => folded_product(slots, inputs, outputs, Folding::Columns)?,
            ProductMethod::FoldedRows => folded_product(slots, inputs, outputs, Folding::Rows)?,
            _ => whole(diagonal_product(slots, inputs, outputs)?)?,
        };
        let counts = geometry.counts();
        let steps = geometry.product().rotation_steps();
        let keys: BTreeSet<usize> = steps.iter().map(|step| normalize_step(*step, slots)).collect();
        let counted = ProductCost {
            plaintext_products: counts.plaintext_products,
            rotations: counts.rotations,
            rotations_hoisted: counts.rotations_hoisted,
            hoisted_groups: usize::from(counts.rotations_hoisted > 0),
            conjugations: counts.conjugations,
            rotation_keys: keys.len(),
            plaintext_bytes: counts.plaintext_products as u64 * self.plaintext_bytes,
            ..ProductCost::new(method, (inputs, outputs), 1)
        };
        if self.count_only {
            return Ok(counted);
        }
        let product = FoldedProduct::new(geometry, &weights(inputs, outputs))?;
        let x: Vec<f64> = (0..inputs).map(number).collect();
        let x = self.client.encrypt(&product.input_slots(&x)?, self.level)?;
        let x = Packed::new(x, geometry.product().input());
        let evaluator = self.evaluator(&steps)?;
        let (timings, _) = time(ONCE, || product.apply(&evaluator, &x))?;
        let run = evaluator.take_counts().total();
        Ok(ProductCost {
            seconds: timings.seconds.first().copied(),
            measured_fraction: 1.0,
            plaintext_products: run.plaintext_products,
            rotations: run.rotations,
            rotations_hoisted: run.rotations_hoisted,
            hoisted_groups: run.hoisted_groups,
            conjugations: run.conjugations,
            ..counted
        })
    }
}

/// Sizes of the distinct products of a block, as (inputs, outputs): queries, keys, output, up, down.
#[must_use]
pub fn product_sizes(shape: &BlockShape) -> BTreeSet<(usize, usize)> {
    let heads = shape.attention;
    let (queries, keys) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
    BTreeSet::from([
        (shape.hidden, queries),
        (shape.hidden, keys),
        (queries, shape.hidden),
        (shape.hidden, shape.intermediate),
        (shape.intermediate, shape.hidden),
    ])
}

/// Length of the longest vector of a block.
#[must_use]
pub fn widest(shape: &BlockShape) -> usize {
    let heads = shape.attention;
    shape.hidden.max(shape.intermediate).max(heads.heads * heads.head_dim)
}

/// Dimensions by name.
///
/// # Errors
/// [`Error::Shape`] listing the names there are.
pub fn block_shape(name: &str) -> Result<BlockShape> {
    named_shape(name).ok_or_else(|| Error::Shape {
        operation: "block shape",
        what: format!("no shape is called `{name}`"),
        remedy: format!("use one of {}", SHAPE_NAMES.join(", ")),
    })
}

/// A number in −1 .. 1 that depends on `seed` only.
pub(super) fn number(seed: usize) -> f64 {
    let mixed = (seed as u64 ^ 0x5DEE_CE66).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11;
    mixed as f64 / (1u64 << 52) as f64 - 1.0
}

/// Weights that keep the size of a vector in the mean.
pub(super) fn weights(inputs: usize, outputs: usize) -> Arc<dyn Weights> {
    let size = 1.0 / (inputs as f64).sqrt();
    Arc::new(FnWeights::new(inputs, outputs, move |i, o| size * number(i * outputs + o)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::clear::{ClearClient, ClearParameters};
    use crate::backend::native::{NativeClient, test_levelled};
    use crate::ckks::Parameters;

    fn bench<C: Client>(client: &C, count_only: bool) -> ProductBench<'_, C> {
        let (level, plaintext_bytes) = (Level(1), 32 * client.slots() as u64);
        ProductBench { client, level, plaintext_bytes, tokens: 64, head_dim: 64, count_only }
    }

    #[test]
    fn every_shape_is_counted_with_every_method_and_folding_halves_the_fewest_plaintexts() {
        for name in SHAPE_NAMES {
            let shape = block_shape(name).unwrap();
            // The smallest ring that the shape fits: in a larger one an odd number of plaintexts has no half.
            let slots = widest(&shape).next_power_of_two().max(1 << 12);
            let client = ClearClient::new(ClearParameters::new(slots, 2, 42).unwrap());
            let bench = bench(&client, true);
            for (inputs, outputs) in product_sizes(&shape) {
                let cost = |method| bench.cost(method, inputs, outputs).unwrap();
                let count = |method| cost(method).plaintext_products;
                let mixed = count(ProductMethod::MixedRadix);
                assert!(mixed <= count(ProductMethod::Irp), "{name}: {inputs} to {outputs}");
                for folded in [ProductMethod::FoldedColumns, ProductMethod::FoldedRows] {
                    assert!(2 * count(folded) <= mixed, "{name}: {inputs} to {outputs}");
                }
                assert!(count(ProductMethod::Irp) <= count(ProductMethod::Diagonal), "{name}");
                for method in ProductMethod::ALL {
                    let cost = cost(method);
                    assert!(cost.seconds.is_none() && cost.plaintext_products > 0, "{name}: {cost:?}");
                }
            }
        }
    }

    /// A small product by each method on one vector: counts as predicted, and a time.
    #[test]
    fn products_on_one_vector_run_in_the_small_ring_with_the_predicted_counts() {
        let parameters = Arc::new(Parameters::new(test_levelled(13, 1)).unwrap());
        let client = NativeClient::from_insecure_fixed_seed(parameters, 5).unwrap();
        for method in ProductMethod::ALL.into_iter().take(5) {
            let [predicted, measured] =
                [true, false].map(|count_only| bench(&client, count_only).cost(method, 96, 160).unwrap());
            let counts = |cost: &ProductCost| {
                [
                    cost.plaintext_products,
                    cost.rotations,
                    cost.rotations_hoisted,
                    cost.hoisted_groups,
                    cost.conjugations,
                ]
            };
            assert_eq!(counts(&predicted), counts(&measured), "{method:?}");
            assert_eq!(measured.conjugations, usize::from(method == ProductMethod::FoldedRows));
            assert!(measured.seconds.is_some_and(|seconds| seconds > 0.0), "{method:?}");
        }
    }

    #[test]
    fn unknown_shapes_and_tokens_that_do_not_fit_are_refused() {
        assert!(block_shape("gpt5").unwrap_err().to_string().contains("smollm2-135m"));
        let client = ClearClient::new(ClearParameters::new(1 << 12, 2, 42).unwrap());
        let bench = ProductBench { tokens: 4096, ..bench(&client, true) };
        let error = bench.cost(ProductMethod::Moai, 64, 64).and(bench.cost(ProductMethod::Thor, 64, 64));
        assert!(error.unwrap_err().to_string().contains("4096 tokens of 64"));
    }
}
