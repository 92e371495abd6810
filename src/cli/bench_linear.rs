//! `cachemir bench linear`: the matrix products of a decoder block, method by method.
//!
//! Every product runs on `native` with its operations counted; `seconds` include encoding the plaintexts. The folded forms
//! give a complex output (`folded_columns`: what complex heads and pairs of vectors take) or want a complex input
//! (`folded_rows`). Of MOAI and THOR, which process all tokens at once, a slice is run and scaled up: `measured_fraction` says how much was run.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::report::Report;
use crate::backend::native::{NativeClient, NativeEvaluator, n16_levelled, test_levelled};
use crate::ckks::Parameters;
use crate::contract::{Client, Complex64, CountingEvaluator, KeyRequest, Level, normalize_step};
use crate::packing::{
    BlockShape, FnWeights, FoldedGeometry, FoldedProduct, Folding, Packed, SHAPE_NAMES, Split, Weights,
    diagonal_product, folded_product, mixed_radix_product, named_shape, padded_product,
};
use crate::related_work::{Moai, Thor};

/// Every way to multiply, in the order of the table; the last two process all tokens at once.
const METHODS: [&str; 7] =
    ["irp", "mixed_radix", "folded_columns", "folded_rows", "diagonal", "moai", "thor"];

/// Flags of `bench linear`.
#[derive(Args)]
pub struct Linear {
    /// gpt2, smollm2-135m, tinyllama or llama-3-8b.
    #[arg(long, default_value = "smollm2-135m")]
    shape: String,
    /// n16, or test (insecure; N = 2^13, or larger where the shape does not fit).
    #[arg(long, visible_alias = "params", default_value = "n16")]
    preset: String,
    /// Level of the inputs.
    #[arg(long, default_value_t = 2)]
    level: usize,
    /// Tokens MOAI and THOR process at once, a power of two; 128 by default, fewer where 128 of a head do not fit.
    #[arg(long)]
    tokens: Option<usize>,
    /// Only count, run nothing.
    #[arg(long)]
    count_only: bool,
    /// Also write the rows as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    method: &'static str,
    d_in: usize,
    d_out: usize,
    tokens: usize,
    plaintext_products: usize,
    rotations: usize,
    rotations_hoisted: usize,
    hoisted_groups: usize,
    conjugations: usize,
    rotation_keys: usize,
    plaintext_bytes: u64,
    seconds: Option<f64>,
    measured_fraction: f64,
}

#[derive(Serialize)]
struct Body {
    shape: String,
    level: usize,
    rows: Vec<Row>,
}

/// Parameters by the name of a preset, for vectors of `widest` values; whether they are insecure.
pub fn parameters(preset: &str, levels: usize, widest: usize) -> anyhow::Result<(Arc<Parameters>, bool)> {
    Ok(match preset {
        "n16" => (Arc::new(Parameters::new(n16_levelled())?), false),
        "test" => {
            eprintln!("warning: preset `test` is insecure");
            let log2_n = 13.max(widest.next_power_of_two().trailing_zeros() + 1);
            (Arc::new(Parameters::new(test_levelled(log2_n, levels))?), true)
        }
        other => bail!("no preset `{other}`: use n16 or test"),
    })
}

/// The longest vector of a block.
pub fn widest(shape: &BlockShape) -> usize {
    let heads = shape.attention;
    shape.hidden.max(shape.intermediate).max(heads.heads * heads.head_dim)
}

/// Dimensions by name.
pub fn shape(name: &str) -> anyhow::Result<BlockShape> {
    named_shape(name).with_context(|| format!("no shape `{name}`: use one of {}", SHAPE_NAMES.join(", ")))
}

/// A number in −1 .. 1 that depends on `seed` only.
fn number(seed: usize) -> f64 {
    let mixed = (seed as u64 ^ 0x5DEE_CE66).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11;
    mixed as f64 / (1u64 << 52) as f64 - 1.0
}

fn weights(inputs: usize, outputs: usize) -> Arc<dyn Weights> {
    let size = 1.0 / (inputs as f64).sqrt();
    Arc::new(FnWeights::new(inputs, outputs, move |i, o| size * number(i * outputs + o)))
}

impl Linear {
    /// Runs the measurement and prints a table.
    pub fn run(self) -> anyhow::Result<()> {
        let shape = shape(&self.shape)?;
        let (parameters, insecure) = parameters(&self.preset, self.level, widest(&shape))?;
        let name = parameters.literal().name;
        let heads = shape.attention;
        let tokens = self.tokens.unwrap_or_else(|| 128.min(parameters.slots() / heads.head_dim));
        let mut sizes = BTreeSet::new();
        sizes.insert((shape.hidden, heads.heads * heads.head_dim));
        sizes.insert((shape.hidden, heads.kv_heads * heads.head_dim));
        sizes.insert((heads.heads * heads.head_dim, shape.hidden));
        sizes.insert((shape.hidden, shape.intermediate));
        sizes.insert((shape.intermediate, shape.hidden));
        let client = NativeClient::new(Arc::clone(&parameters))?;
        println!(
            "{} on native {name}, level {}, {} slots, {tokens} tokens in moai and thor",
            self.shape,
            self.level,
            parameters.slots()
        );
        println!(
            "    in    out method          products rotations hoisted conj keys    plaintexts    seconds  measured"
        );
        let mut rows = Vec::new();
        let products = sizes.len();
        for (done, (inputs, outputs)) in sizes.into_iter().enumerate() {
            for method in METHODS {
                if !self.count_only {
                    eprintln!(
                        "measuring {method}, {inputs} to {outputs} (product {} of {products})",
                        done + 1
                    );
                }
                let row = match method {
                    "moai" => self.moai(&client, &parameters, (inputs, outputs), tokens)?,
                    "thor" => self.thor(&client, &parameters, (inputs, outputs), (tokens, heads.head_dim))?,
                    _ => self.vector(&client, &parameters, method, inputs, outputs)?,
                };
                let seconds = row.seconds.map_or("-".to_owned(), |seconds| format!("{seconds:.2}"));
                println!(
                    "{:6} {:6} {:14} {:9} {:9} {:7} {:4} {:4} {:9.1} MiB {:>10} {:8.4}%",
                    row.d_in,
                    row.d_out,
                    row.method,
                    row.plaintext_products,
                    row.rotations,
                    row.rotations_hoisted,
                    row.conjugations,
                    row.rotation_keys,
                    row.plaintext_bytes as f64 / f64::from(1u32 << 20),
                    seconds,
                    100.0 * row.measured_fraction
                );
                rows.push(row);
            }
        }
        if let Some(path) = self.json {
            let body = Body { shape: self.shape, level: self.level, rows };
            Report::new("bench linear", "native", name, insecure, body).write(&path)?;
        }
        Ok(())
    }

    /// Bytes of one plaintext at the level of the inputs.
    fn plaintext_bytes(&self, parameters: &Parameters) -> anyhow::Result<u64> {
        let limbs = parameters.limbs(Level(self.level))?;
        Ok(16 * (parameters.slots() * limbs) as u64)
    }

    /// Evaluator with the rotation keys for `steps` (and conjugation) up to the level of the inputs.
    fn evaluator(
        &self,
        client: &NativeClient,
        steps: &[i64],
    ) -> anyhow::Result<CountingEvaluator<NativeEvaluator>> {
        let mut request = KeyRequest::new();
        request.rotations(steps, client.slots(), Level(self.level)).conjugation(Level(self.level));
        Ok(CountingEvaluator::new(client.evaluator(&request)?))
    }

    fn vector(
        &self,
        client: &NativeClient,
        parameters: &Parameters,
        method: &'static str,
        inputs: usize,
        outputs: usize,
    ) -> anyhow::Result<Row> {
        let slots = parameters.slots();
        let whole = |product| FoldedGeometry::new(product, Folding::Whole, inputs, outputs);
        let geometry = match method {
            "irp" => whole(padded_product(slots, inputs, outputs)?)?,
            "mixed_radix" => whole(mixed_radix_product(slots, inputs, outputs)?)?,
            "folded_columns" => folded_product(slots, inputs, outputs, Folding::Columns)?,
            "folded_rows" => folded_product(slots, inputs, outputs, Folding::Rows)?,
            _ => whole(diagonal_product(slots, inputs, outputs)?)?,
        };
        let counts = geometry.counts();
        let steps = geometry.product().rotation_steps();
        let keys: BTreeSet<usize> = steps.iter().map(|step| normalize_step(*step, slots)).collect();
        let mut row = Row {
            method,
            d_in: inputs,
            d_out: outputs,
            tokens: 1,
            plaintext_products: counts.plaintext_products,
            rotations: counts.rotations,
            rotations_hoisted: counts.rotations_hoisted,
            hoisted_groups: usize::from(counts.rotations_hoisted > 0),
            conjugations: counts.conjugations,
            rotation_keys: keys.len(),
            plaintext_bytes: counts.plaintext_products as u64 * self.plaintext_bytes(parameters)?,
            seconds: None,
            measured_fraction: 0.0,
        };
        if self.count_only {
            return Ok(row);
        }
        let product = FoldedProduct::new(geometry, &weights(inputs, outputs))?;
        let x: Vec<f64> = (0..inputs).map(number).collect();
        let x = client.encrypt(&product.input_slots(&x)?, Level(self.level))?;
        let x = Packed::new(x, geometry.product().input());
        let evaluator = self.evaluator(client, &steps)?;
        let start = Instant::now();
        product.apply(&evaluator, &x)?;
        row.seconds = Some(start.elapsed().as_secs_f64());
        row.measured_fraction = 1.0;
        let counted = evaluator.take_counts().total();
        row.plaintext_products = counted.plaintext_products;
        row.rotations = counted.rotations;
        row.rotations_hoisted = counted.rotations_hoisted;
        row.hoisted_groups = counted.hoisted_groups;
        row.conjugations = counted.conjugations;
        Ok(row)
    }

    fn moai(
        &self,
        client: &NativeClient,
        parameters: &Parameters,
        (inputs, outputs): (usize, usize),
        tokens: usize,
    ) -> anyhow::Result<Row> {
        let moai = Moai::new(parameters.slots(), tokens)?;
        let mut row = Row {
            method: "moai",
            d_in: inputs,
            d_out: outputs,
            tokens,
            plaintext_products: inputs * outputs,
            rotations: 0,
            rotations_hoisted: 0,
            hoisted_groups: 0,
            conjugations: 0,
            rotation_keys: 0,
            // Its plaintexts are scalars.
            plaintext_bytes: 8 * (inputs * outputs) as u64,
            seconds: None,
            measured_fraction: 0.0,
        };
        if self.count_only {
            return Ok(row);
        }
        let sample = inputs.min(32);
        let column: Vec<Complex64> =
            (0..parameters.slots()).map(|slot| Complex64::new(number(slot), 0.0)).collect();
        let columns = vec![client.encrypt(&column, Level(self.level))?; sample];
        let evaluator = self.evaluator(client, &[])?;
        let start = Instant::now();
        moai.product_column(&evaluator, &columns, weights(sample, 1).as_ref(), 0)?;
        row.measured_fraction = sample as f64 / (inputs * outputs) as f64;
        row.seconds = Some(start.elapsed().as_secs_f64() / row.measured_fraction);
        Ok(row)
    }

    fn thor(
        &self,
        client: &NativeClient,
        parameters: &Parameters,
        (inputs, outputs): (usize, usize),
        (tokens, head_dim): (usize, usize),
    ) -> anyhow::Result<Row> {
        let thor = Thor::new(parameters.slots(), tokens, head_dim)?;
        let (sources, pairs) = (thor.ciphertexts(inputs), thor.ciphertexts(outputs).div_ceil(2));
        let split = Split::cheapest(thor.diagonals());
        let products = sources * pairs * thor.diagonals();
        let mut row = Row {
            method: "thor",
            d_in: inputs,
            d_out: outputs,
            tokens,
            plaintext_products: products,
            rotations: pairs * (split.giants - 1),
            rotations_hoisted: sources * (split.babies - 1),
            hoisted_groups: sources,
            // One to take a folded pair of outputs apart.
            conjugations: pairs,
            rotation_keys: split.babies + split.giants - 2,
            plaintext_bytes: products as u64 * self.plaintext_bytes(parameters)?,
            seconds: None,
            measured_fraction: 0.0,
        };
        if self.count_only {
            return Ok(row);
        }
        let steps: Vec<i64> = (1..split.babies)
            .chain((1..split.giants).map(|giant| giant * split.babies))
            .filter_map(|diagonals| i64::try_from(diagonals * tokens).ok())
            .collect();
        let evaluator = self.evaluator(client, &steps)?;
        // One input ciphertext into one (folded) pair of outputs.
        let features = thor.heads() * head_dim;
        let column: Vec<Complex64> =
            (0..parameters.slots()).map(|slot| Complex64::new(number(slot), 0.0)).collect();
        let x = client.encrypt(&column, Level(self.level))?;
        let start = Instant::now();
        thor.product(&evaluator, &[x], weights(features, 2 * features).as_ref())?;
        row.measured_fraction = 1.0 / (sources * pairs) as f64;
        row.seconds = Some(start.elapsed().as_secs_f64() / row.measured_fraction);
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(shape: &str, count_only: bool, tokens: Option<usize>) -> anyhow::Result<serde_json::Value> {
        let folder = tempfile::tempdir()?;
        let json = folder.path().join("rows.json");
        let preset = "test".to_owned();
        let shape = shape.to_owned();
        Linear { shape, preset, level: 2, tokens, count_only, json: Some(json.clone()) }.run()?;
        Ok(serde_json::from_slice(&std::fs::read(json)?)?)
    }

    #[test]
    fn every_shape_is_counted_with_every_method_and_folding_halves_the_fewest_plaintexts() {
        for shape in SHAPE_NAMES {
            let report = run(shape, true, None).unwrap();
            let rows = report["rows"].as_array().unwrap();
            assert!(
                !rows.is_empty() && rows.len().is_multiple_of(METHODS.len()),
                "{shape}: {} rows",
                rows.len()
            );
            for product in rows.chunks(METHODS.len()) {
                let count = |method: &str| {
                    let row = product.iter().find(|row| row["method"] == method).unwrap();
                    row["plaintext_products"].as_u64().unwrap()
                };
                assert!(count("mixed_radix") <= count("irp"), "{shape}: {product:?}");
                for folded in ["folded_columns", "folded_rows"] {
                    assert!(2 * count(folded) <= count("mixed_radix"), "{shape}: {product:?}");
                }
                assert!(count("irp") <= count("diagonal"), "{shape}: {product:?}");
                assert_eq!(product[0]["seconds"], serde_json::Value::Null, "only counted");
            }
        }
    }

    /// A small product by each method on one vector, run at the test preset: counts as predicted, and a time.
    #[test]
    fn products_on_one_vector_run_at_the_test_preset_with_the_predicted_counts() {
        let linear = |count_only| Linear {
            shape: "smollm2-135m".to_owned(),
            preset: "test".to_owned(),
            level: 1,
            tokens: None,
            count_only,
            json: None,
        };
        let (parameters, insecure) = parameters("test", 1, 160).unwrap();
        assert!(insecure);
        let client = NativeClient::from_insecure_fixed_seed(Arc::clone(&parameters), 5).unwrap();
        for method in METHODS.into_iter().take(5) {
            let [predicted, measured] = [true, false]
                .map(|count| linear(count).vector(&client, &parameters, method, 96, 160).unwrap());
            let counts = |row: &Row| {
                [
                    row.plaintext_products,
                    row.rotations,
                    row.rotations_hoisted,
                    row.hoisted_groups,
                    row.conjugations,
                ]
            };
            assert_eq!(counts(&predicted), counts(&measured), "{method}");
            assert_eq!(measured.conjugations, usize::from(method == "folded_rows"), "{method}");
            assert!(predicted.seconds.is_none() && measured.seconds.is_some_and(|s| s > 0.0), "{method}");
        }
    }

    #[test]
    fn unknown_shapes_presets_and_tokens_that_do_not_fit_are_refused_by_name() {
        assert!(run("gpt5", true, None).unwrap_err().to_string().contains("smollm2-135m"));
        assert!(parameters("n17", 2, 64).unwrap_err().to_string().contains("n17"));
        let error = run("smollm2-135m", true, Some(4096)).unwrap_err().to_string();
        assert!(error.contains("4096 tokens of 64"), "{error}");
    }
}
