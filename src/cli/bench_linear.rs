//! `cachemir bench linear`: the matrix products of a decoder block, method by method.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use crate::backend::native::{NativeClient, n16_levelled, test_levelled};
use crate::benchmarks::linear::{
    ProductBench, ProductCost, ProductMethod, block_shape, product_sizes, widest,
};
use crate::ckks::Parameters;
use crate::contract::{Level, Result};
use crate::measure::{Report, is_insecure};
use crate::packing::BlockShape;
use crate::pages::products_table;
use crate::setup::Preset;

/// Flags of `bench linear`.
#[derive(Args)]
pub struct Linear {
    /// gpt2, smollm2-135m, tinyllama or llama-3-8b.
    #[arg(long, default_value = "smollm2-135m")]
    shape: String,
    /// n16, or test (insecure; N = 2^13, or larger where the shape does not fit).
    #[arg(long, value_enum, visible_alias = "params", default_value = "n16")]
    preset: Preset,
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
struct Body {
    shape: String,
    level: usize,
    rows: Vec<ProductCost>,
}

/// Levelled parameters of a preset for vectors of a block, with a warning where they are insecure.
pub fn levelled_parameters(preset: Preset, levels: usize, shape: &BlockShape) -> Result<Arc<Parameters>> {
    let literal = match preset {
        Preset::N16 => n16_levelled(),
        Preset::Test => test_levelled(13.max(widest(shape).next_power_of_two().trailing_zeros() + 1), levels),
    };
    if is_insecure("native", literal.name) {
        eprintln!("warning: preset `{}` is insecure", literal.name);
    }
    Ok(Arc::new(Parameters::new(literal)?))
}

impl Linear {
    /// Runs the measurement and prints a table.
    pub fn run(self) -> anyhow::Result<()> {
        let shape = block_shape(&self.shape)?;
        let parameters = levelled_parameters(self.preset, self.level, &shape)?;
        let (name, slots) = (parameters.literal().name, parameters.slots());
        let head_dim = shape.attention.head_dim;
        let client = NativeClient::new(Arc::clone(&parameters))?;
        let bench = ProductBench {
            client: &client,
            level: Level(self.level),
            plaintext_bytes: 16 * (slots * parameters.limbs(Level(self.level))?) as u64,
            tokens: self.tokens.unwrap_or_else(|| 128.min(slots / head_dim)),
            head_dim,
            count_only: self.count_only,
        };
        println!(
            "{} on native {name}, level {}, {slots} slots, {} tokens in moai and thor",
            self.shape, self.level, bench.tokens
        );
        let mut rows = Vec::new();
        for (inputs, outputs) in product_sizes(&shape) {
            for method in ProductMethod::ALL {
                if !self.count_only {
                    eprintln!("measuring {}, {inputs} to {outputs}", method.name());
                }
                rows.push(bench.cost(method, inputs, outputs)?);
            }
        }
        print!("{}", products_table(&rows));
        if let Some(path) = self.json {
            let body = Body { shape: self.shape, level: self.level, rows };
            Report::new("bench linear", "native", name, body).write(&path)?;
        }
        Ok(())
    }
}
