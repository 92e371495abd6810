//! Products of MOAI and THOR beside ours: both process all tokens of a prefix at once, so a slice is run and scaled up.

use super::linear::{ONCE, ProductBench, ProductCost, ProductMethod, number, weights};
use crate::contract::{Client, Complex64, Result};
use crate::measure::time;
use crate::packing::Split;
use crate::related_work::{Moai, Thor};

/// Columns of MOAI that are run.
const MOAI_COLUMNS: usize = 32;

impl<C: Client> ProductBench<'_, C> {
    /// Slots to measure with.
    fn column(&self) -> Vec<Complex64> {
        (0..self.client.slots()).map(|slot| Complex64::from(number(slot))).collect()
    }

    /// MOAI: one scalar product for each weight. One output of at most 32 inputs is run.
    pub(super) fn moai(&self, inputs: usize, outputs: usize) -> Result<ProductCost> {
        let moai = Moai::new(self.client.slots(), self.tokens)?;
        let counted = ProductCost {
            plaintext_products: inputs * outputs,
            // Its plaintexts are scalars.
            plaintext_bytes: 8 * (inputs * outputs) as u64,
            ..ProductCost::new(ProductMethod::Moai, (inputs, outputs), self.tokens)
        };
        if self.count_only {
            return Ok(counted);
        }
        let sample = inputs.min(MOAI_COLUMNS);
        let columns = vec![self.client.encrypt(&self.column(), self.level)?; sample];
        let (evaluator, weights) = (self.evaluator(&[])?, weights(sample, 1));
        let (timings, _) = time(ONCE, || moai.product_column(&evaluator, &columns, weights.as_ref(), 0))?;
        let measured_fraction = sample as f64 / (inputs * outputs) as f64;
        let seconds = timings.seconds.first().map(|seconds| seconds / measured_fraction);
        Ok(ProductCost { seconds, measured_fraction, ..counted })
    }

    /// THOR: diagonals over ciphertexts of heads, two outputs folded. One input ciphertext into one folded pair is run.
    pub(super) fn thor(&self, inputs: usize, outputs: usize) -> Result<ProductCost> {
        let thor = Thor::new(self.client.slots(), self.tokens, self.head_dim)?;
        let (sources, pairs) = (thor.ciphertexts(inputs), thor.ciphertexts(outputs).div_ceil(2));
        let split = Split::cheapest(thor.diagonals());
        let products = sources * pairs * thor.diagonals();
        let counted = ProductCost {
            plaintext_products: products,
            rotations: pairs * (split.giants - 1),
            rotations_hoisted: sources * (split.babies - 1),
            hoisted_groups: sources,
            // One to take a folded pair of outputs apart.
            conjugations: pairs,
            rotation_keys: split.babies + split.giants - 2,
            plaintext_bytes: products as u64 * self.plaintext_bytes,
            ..ProductCost::new(ProductMethod::Thor, (inputs, outputs), self.tokens)
        };
        if self.count_only {
            return Ok(counted);
        }
        let steps: Vec<i64> = (1..split.babies)
            .chain((1..split.giants).map(|giant| giant * split.babies))
            .filter_map(|diagonals| i64::try_from(diagonals * self.tokens).ok())
            .collect();
        let evaluator = self.evaluator(&steps)?;
        let features = thor.heads() * self.head_dim;
        let x = [self.client.encrypt(&self.column(), self.level)?];
        let weights = weights(features, 2 * features);
        let (timings, _) = time(ONCE, || thor.product(&evaluator, &x, weights.as_ref()))?;
        let measured_fraction = 1.0 / (sources * pairs) as f64;
        let seconds = timings.seconds.first().map(|seconds| seconds / measured_fraction);
        Ok(ProductCost { seconds, measured_fraction, ..counted })
    }
}
