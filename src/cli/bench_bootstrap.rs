//! `cachemir bench bootstrap`: every figure of a bootstrap, printed and as JSON.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::benchmarks::bootstrap::{BootstrapBench, BootstrapKind, BootstrapTime, ChainedPrecision};
use crate::benchmarks::operations::pool;
use crate::benchmarks::overflow::OverflowCount;
use crate::benchmarks::values::Input;
use crate::bootstrapping::BootstrapParameters;
use crate::measure::{Report, is_insecure, peak_memory_bytes};
use crate::pages::{bootstraps_table, overflow_table};
use crate::setup::security::{KeyMargin, margins};

/// Time, precision, overflow, memory and security of a bootstrap.
#[derive(Args)]
pub struct BenchBootstrap {
    /// Parameters: n16 (all slots under n16, few values under n16-few), n16-few or n16-few-deep (both kinds under it),
    /// or test12 and test13 (insecure).
    #[arg(long, default_value = "n16")]
    preset: String,
    /// Kinds of bootstrap, comma-separated. Few values come first, so that their peak memory is their own.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [KindFlag::Few, KindFlag::All])]
    kinds: Vec<KindFlag>,
    /// Period of the slots for bootstraps of all slots; all of them by default.
    #[arg(long)]
    slots: Option<usize>,
    /// Kinds of input, comma-separated: uniform, constant, halves, one_hot, interleaved, replicated, real.
    #[arg(long, value_delimiter = ',', default_values_t = Input::ALL)]
    inputs: Vec<Input>,
    /// Timed bootstraps for each kind of input.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// Iterations, comma-separated: 1, and 2 for the precise mode (measured on uniform input only).
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    iterations: Vec<usize>,
    /// Length of a chain of bootstraps, each of the result of the one before.
    #[arg(long, default_value_t = 0)]
    chain: usize,
    /// Threads; all cores by default.
    #[arg(long)]
    threads: Option<usize>,
    /// Seed of the values.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the report here.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindFlag {
    Few,
    All,
}

/// Of several kinds together: their rows, the sum of the seconds, the largest integer part, the least margin.
#[derive(Serialize)]
struct Body {
    log2_n: u32,
    levels_between_bootstraps: usize,
    key_generation_s: f64,
    keys: Vec<KeyMargin>,
    rows: Vec<BootstrapTime>,
    chain: Vec<ChainedPrecision>,
    overflow: Vec<OverflowCount>,
    largest_integer_part: i64,
    margin_to_interval: f64,
}

impl BenchBootstrap {
    /// Runs everything and prints it.
    pub fn run(self) -> anyhow::Result<()> {
        ensure!(self.repeat > 0, "--repeat must be at least 1");
        pool(self.threads.unwrap_or_else(rayon::current_num_threads))?.install(|| self.measure())
    }

    /// Parameters of all slots and of few values.
    fn parameters(&self) -> anyhow::Result<[BootstrapParameters; 2]> {
        let same = |parameters: BootstrapParameters| [parameters.clone(), parameters];
        Ok(match self.preset.as_str() {
            "n16" => [BootstrapParameters::n16(), BootstrapParameters::n16_few()],
            "n16-few" => same(BootstrapParameters::n16_few()),
            "n16-few-deep" => same(BootstrapParameters::n16_few_deep()),
            "test12" => same(BootstrapParameters::test(12, 3)),
            "test13" => same(BootstrapParameters::test(13, 3)),
            other => bail!("no preset `{other}`: use n16, n16-few, n16-few-deep, test12 or test13"),
        })
    }

    fn measure(&self) -> anyhow::Result<()> {
        let [all, few] = self.parameters()?;
        if is_insecure("native", &self.preset) {
            eprintln!("preset {} is INSECURE: for tests only", self.preset);
        }
        let mut body = Body {
            log2_n: all.chain.log2_n,
            levels_between_bootstraps: 0,
            key_generation_s: 0.0,
            keys: Vec::new(),
            rows: Vec::new(),
            chain: Vec::new(),
            overflow: Vec::new(),
            largest_integer_part: 0,
            margin_to_interval: f64::INFINITY,
        };
        let total = 1usize << all.chain.log2_n.saturating_sub(1);
        for kind in &self.kinds {
            let (parameters, kinds) = match kind {
                KindFlag::Few => (&few, BootstrapKind::few(total)?),
                KindFlag::All => (&all, vec![BootstrapKind::all(self.slots.unwrap_or(total))]),
            };
            for key in margins(parameters)? {
                println!("{} key {key}", parameters.chain.name);
                body.keys.push(key);
            }
            for kind in kinds {
                self.one(&BootstrapBench::new(parameters.clone(), kind, self.seed)?, &mut body)?;
            }
        }
        if let Some(path) = &self.json {
            Report::new("bench bootstrap", "native", &self.preset, body).write(path)?;
        }
        Ok(())
    }

    /// Everything about one kind of bootstrap.
    fn one(&self, bench: &BootstrapBench, body: &mut Body) -> anyhow::Result<()> {
        println!(
            "{}, {}: evaluation keys {:.2} GB in {:.1} s; a rotation to compare with: {:.1} ms",
            bench.kind().name,
            bench.kind().layout,
            bench.key_bytes() as f64 / 1e9,
            bench.key_generation_s(),
            bench.reference_rotation().median * 1e3
        );
        let mut rows = Vec::new();
        for iterations in self.iterations.iter().copied() {
            let inputs = self.inputs.iter().filter(|input| iterations == 1 || **input == Input::Uniform);
            for input in inputs.copied() {
                let row = bench.time(input, iterations, self.repeat)?;
                eprintln!("{input}, {iterations} iteration(s): {:.2} s", row.median_s);
                // The correction of a second iteration takes a level.
                body.levels_between_bootstraps = row.levels_after - row.minimum_input_level + iterations - 1;
                rows.push(row);
            }
        }
        print!("{}", bootstraps_table(&rows));
        body.rows.extend(rows);
        body.chain.extend(bench.chain(self.chain, &mut print_chained)?);
        let overflow = bench.overflow()?;
        let mut counts = overflow.rows;
        counts.extend(bench.junk()?);
        print!("{}", overflow_table(&counts));
        body.overflow.extend(counts);
        let largest = overflow.largest_integer_part;
        body.largest_integer_part = body.largest_integer_part.max(largest);
        body.margin_to_interval = body.margin_to_interval.min(overflow.margin_to_interval);
        body.key_generation_s += bench.key_generation_s();
        println!("largest |I| {largest}, margin to the interval {:.1}", overflow.margin_to_interval);
        if let Some(log2) = bench.log2_failure() {
            println!("a bootstrap fails with probability 2^{log2:.1}");
        }
        if let Some(peak) = peak_memory_bytes() {
            println!("peak memory so far: {:.2} GB", peak as f64 / 1e9);
        }
        Ok(())
    }
}

fn print_chained(row: &ChainedPrecision) {
    println!(
        "{} chain of {:2}: worst {:.2}, mean {:.2} bits, rms error {:.3e}, over √k {:.3e}",
        row.kind,
        row.bootstraps,
        row.precision_min_bits,
        row.precision_mean_bits,
        row.rms_error,
        row.rms_error / (row.bootstraps as f64).sqrt()
    );
}
