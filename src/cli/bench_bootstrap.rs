//! `cachemir bench bootstrap`: every figure of a bootstrap, printed and as JSON.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{bail, ensure};
use clap::Args;
use serde::Serialize;

use crate::benchmarks::bootstrap::{BootstrapBench, BootstrapCase, BootstrapTime, ChainedPrecision};
use crate::benchmarks::operations::pool;
use crate::benchmarks::overflow::Overflow;
use crate::benchmarks::values::Input;
use crate::bootstrapping::BootstrapParameters;
use crate::measure::{Report, is_insecure, peak_memory_bytes};
use crate::pages::Table;
use crate::setup::parameter_sets::{KeyMargin, margins};

/// Time, precision, overflow, memory and security of a bootstrap.
#[derive(Args)]
pub struct BenchBootstrap {
    /// Parameters: n16, or test12 and test13 (insecure).
    #[arg(long, default_value = "n16")]
    preset: String,
    /// Period of the slots; all of them by default.
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

#[derive(Serialize)]
struct Body {
    log2_n: u32,
    levels_between_bootstraps: usize,
    key_generation_s: f64,
    keys: Vec<KeyMargin>,
    rows: Vec<BootstrapTime>,
    chain: Vec<ChainedPrecision>,
    #[serde(flatten)]
    overflow: Overflow,
}

impl BenchBootstrap {
    /// Runs everything and prints it.
    pub fn run(self) -> anyhow::Result<()> {
        let threads = self.threads.unwrap_or_else(rayon::current_num_threads);
        pool(threads)?.install(|| self.measure(threads))
    }

    fn measure(&self, threads: usize) -> anyhow::Result<()> {
        ensure!(self.repeat > 0, "--repeat must be at least 1");
        let parameters = match self.preset.as_str() {
            "n16" => BootstrapParameters::n16(),
            "test12" => BootstrapParameters::test(12, 3),
            "test13" => BootstrapParameters::test(13, 3),
            other => bail!("no preset `{other}`: use n16, test12 or test13"),
        };
        if is_insecure("native", &self.preset) {
            eprintln!("preset {} is INSECURE: for tests only", self.preset);
        }
        let keys = margins(&parameters)?;
        keys.iter().for_each(|key| println!("key {key}"));
        let (log2_n, log2_failure) = (parameters.chain.log2_n, parameters.log2_failure());
        let start = Instant::now();
        let bench = BootstrapBench::new(parameters, self.slots)?;
        let key_generation_s = start.elapsed().as_secs_f64();
        println!(
            "evaluation keys: {:.2} GB, made in {key_generation_s:.1} s",
            bench.key_bytes() as f64 / 1e9
        );
        let rows = self.rows(&bench, threads)?;
        print_rows(&rows);
        let chain = bench.chain(self.chain, self.seed, &mut print_chained)?;
        let overflow = bench.overflow(self.seed)?;
        print_overflow(&overflow);
        let summary = bench.summary();
        let levels_between_bootstraps = summary.output_level.0 - summary.minimum_input_level.0;
        if let Some(peak) = peak_memory_bytes() {
            println!("peak memory: {:.2} GB; log2(failure) {log2_failure:.1}", peak as f64 / 1e9);
        }
        println!("levels between bootstraps: {levels_between_bootstraps}");
        if let Some(path) = &self.json {
            let body =
                Body { log2_n, levels_between_bootstraps, key_generation_s, keys, rows, chain, overflow };
            Report::new("bench bootstrap", "native", &self.preset, body).write(path)?;
        }
        Ok(())
    }

    fn rows(&self, bench: &BootstrapBench, threads: usize) -> anyhow::Result<Vec<BootstrapTime>> {
        let reference = bench.reference_rotation()?;
        let mut rows = Vec::new();
        for iterations in self.iterations.iter().copied() {
            let inputs = self.inputs.iter().filter(|input| iterations == 1 || **input == Input::Uniform);
            for input in inputs.copied() {
                let case = BootstrapCase { input, seed: self.seed, iterations, repeat: self.repeat };
                let row = bench.time(case, threads, reference)?;
                eprintln!("{input}, {iterations} iteration(s): {:.2} s", row.median_s);
                rows.push(row);
            }
        }
        Ok(rows)
    }
}

fn print_rows(rows: &[BootstrapTime]) {
    if let Some(row) = rows.first() {
        println!(
            "one rotation to compare with, {} thread(s): {:.1} ms",
            row.threads, row.reference_rotate_ms
        );
    }
    let mut table = Table::new(&[
        "input",
        "slots",
        "iterations",
        "seconds (min)",
        "rotations",
        "bits worst / mean",
        "level after",
    ]);
    for row in rows {
        table.row([
            row.input.to_string(),
            row.slots.to_string(),
            row.iterations.to_string(),
            format!("{:.2} ({:.2})", row.median_s, row.min_s),
            format!("{:.1}", row.rotations),
            format!("{:.2} / {:.2}", row.precision_min_bits, row.precision_mean_bits),
            row.levels_after.to_string(),
        ]);
    }
    print!("{table}");
}

fn print_chained(row: &ChainedPrecision) {
    println!(
        "chain of {:2}: worst {:.2}, mean {:.2} bits, rms error {:.3e}, over √k {:.3e}",
        row.bootstraps,
        row.precision_min_bits,
        row.precision_mean_bits,
        row.rms_error,
        row.rms_error / (row.bootstraps as f64).sqrt()
    );
}

fn print_overflow(overflow: &Overflow) {
    let mut table = Table::new(&["|I| at least", "measured", "expected (Irwin–Hall)"]);
    for row in &overflow.rows {
        table.row([row.at_least.to_string(), row.measured.to_string(), format!("{:.2}", row.expected)]);
    }
    println!("integer parts after ModRaise:");
    print!("{table}");
    println!(
        "largest |I| {}, margin to the interval {:.1}",
        overflow.largest_integer_part, overflow.margin_to_interval
    );
}
