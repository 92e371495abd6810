//! `cachemir bench bootstrap`: every figure of a bootstrap, printed and as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use crate::backend::native::{NativeClient, NativeEvaluator};
use crate::bootstrapping::{BootstrapParameters, expected_at_least, integer_parts};
use crate::contract::{BootstrapRequest, BootstrapSummary, Client, Complex64, Evaluator, KeyRequest, Level};
use anyhow::{Context, bail, ensure};
use clap::Args;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::machine::{available_memory_bytes, peak_memory_bytes};
use super::report::Report;
use crate::setup::security::{KeyMargin, margins};

/// Limbs of the rotation a bootstrap is compared with.
const REFERENCE_LIMBS: usize = 24;
/// Kinds of input, as the JSON report names them.
const INPUTS: [&str; 7] = ["uniform", "constant", "halves", "one_hot", "interleaved", "replicated", REAL];
/// Real slots, bootstrapped as such.
const REAL: &str = "real";

/// Time, precision, overflow, memory and security of a bootstrap.
#[derive(Args)]
pub struct BenchBootstrap {
    /// Parameters: n16, or test12 and test13 (insecure).
    #[arg(long, default_value = "n16")]
    preset: String,
    /// Period of the slots; all of them by default.
    #[arg(long)]
    slots: Option<usize>,
    /// Kinds of input, comma-separated.
    #[arg(long, value_delimiter = ',', default_values_t = INPUTS.map(str::to_owned))]
    inputs: Vec<String>,
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
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Seed of the values.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the report here.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    input: String,
    slots: usize,
    threads: usize,
    iterations: usize,
    real: bool,
    median_s: f64,
    min_s: f64,
    reference_rotate_ms: f64,
    rotations: f64,
    precision_min_bits: f64,
    precision_mean_bits: f64,
    levels_after: usize,
    key_bytes: u64,
    peak_bytes: u64,
    log2_failure: f64,
}

#[derive(Serialize)]
struct ChainRow {
    bootstraps: usize,
    precision_min_bits: f64,
    precision_mean_bits: f64,
    rms_error: f64,
}

#[derive(Serialize)]
struct OverflowRow {
    at_least: u32,
    measured: usize,
    expected: f64,
}

#[derive(Serialize)]
struct Body {
    log2_n: u32,
    levels_between_bootstraps: usize,
    key_generation_s: f64,
    keys: Vec<KeyMargin>,
    rows: Vec<Row>,
    chain: Vec<ChainRow>,
    overflow: Vec<OverflowRow>,
    largest_integer_part: i64,
    margin_to_interval: f64,
}

/// What every measurement needs.
struct Setup {
    client: NativeClient,
    evaluator: NativeEvaluator,
    summary: BootstrapSummary,
    slots: usize,
}

impl BenchBootstrap {
    /// Runs everything and prints it.
    pub fn run(self) -> anyhow::Result<()> {
        let threads = if self.threads == 0 { rayon::current_num_threads() } else { self.threads };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        pool.install(|| self.measure(threads))
    }

    fn measure(&self, threads: usize) -> anyhow::Result<()> {
        let parameters = match self.preset.as_str() {
            "n16" => BootstrapParameters::n16(),
            "test12" => BootstrapParameters::test(12, 3),
            "test13" => BootstrapParameters::test(13, 3),
            other => bail!("no preset `{other}`: use n16, test12 or test13"),
        };
        for input in &self.inputs {
            ensure!(INPUTS.contains(&input.as_str()), "no input `{input}`: use {}", INPUTS.join(", "));
        }
        let insecure = self.preset != "n16";
        if insecure {
            eprintln!("preset {} is INSECURE: for tests only", self.preset);
        }
        let client = NativeClient::with_bootstrapping(parameters.clone(), None)?;
        let keys = Self::print_keys(&parameters, insecure)?;
        let slots = self.slots.unwrap_or(client.slots());
        let mut request = KeyRequest::new();
        request.bootstrapping(slots);
        // One rotation to compare with, at 24 limbs where the chain has them.
        let reference_level =
            Level((REFERENCE_LIMBS - 1).min(client.ckks().parameters().chain().max_level().0));
        request.rotation(1, reference_level);
        let predicted = client.predicted_key_bytes(&request)?;
        println!("evaluation keys: {predicted} bytes ({:.2} GB)", predicted as f64 / 1e9);
        if let Some(available) = available_memory_bytes() {
            ensure!(
                predicted + predicted / 2 < available,
                "keys and working memory need about {} bytes, {available} are available",
                predicted + predicted / 2
            );
        }
        let start = Instant::now();
        let evaluator = client.evaluator(&request)?;
        let key_generation_s = start.elapsed().as_secs_f64();
        println!("key generation: {key_generation_s:.1} s");
        let summary = evaluator.bootstrapping().context("the preset does not bootstrap")?;
        let setup = Setup { client, evaluator, summary, slots };
        let reference_ms = setup.reference_rotation(reference_level)?;
        println!(
            "one rotation at {} limbs, {threads} thread(s): {reference_ms:.1} ms",
            reference_level.0 + 1
        );
        println!("input        slots iter  seconds (min)   rotations  bits worst / mean  level after");
        let mut rows = Vec::new();
        for iterations in &self.iterations {
            for input in self.inputs.iter().filter(|input| *iterations == 1 || *input == "uniform") {
                let row = self.row(&setup, &parameters, input, *iterations, threads, reference_ms)?;
                println!(
                    "{:12} {:5} {:4}  {:7.2} ({:6.2})   {:8.1}   {:6.2} / {:6.2}    {}",
                    row.input,
                    row.slots,
                    row.iterations,
                    row.median_s,
                    row.min_s,
                    row.rotations,
                    row.precision_min_bits,
                    row.precision_mean_bits,
                    row.levels_after
                );
                rows.push(row);
            }
        }
        let chain = self.chain_of_bootstraps(&setup)?;
        let (overflow, largest, margin) = self.overflow(&setup, &parameters)?;
        let peak = peak_memory_bytes().unwrap_or(0);
        println!("peak memory: {:.2} GB; log2(failure) {:.1}", peak as f64 / 1e9, parameters.log2_failure());
        let levels_between_bootstraps = summary.output_level.0 - summary.minimum_input_level.0;
        println!("levels between bootstraps: {levels_between_bootstraps}");
        if let Some(path) = &self.json {
            let body = Body {
                log2_n: parameters.chain.log2_n,
                levels_between_bootstraps,
                key_generation_s,
                keys,
                rows,
                chain,
                overflow,
                largest_integer_part: largest,
                margin_to_interval: margin,
            };
            Report::new("bench bootstrap", "native", &self.preset, insecure, body).write(path)?;
        }
        Ok(())
    }

    fn print_keys(parameters: &BootstrapParameters, insecure: bool) -> anyhow::Result<Vec<KeyMargin>> {
        let keys = margins(parameters)?;
        for key in &keys {
            println!("key {key}");
            ensure!(
                insecure || key.margin_bits.is_some_and(|margin| margin >= 0.0),
                "key {} is above its limit",
                key.name
            );
        }
        Ok(keys)
    }

    fn row(
        &self,
        setup: &Setup,
        parameters: &BootstrapParameters,
        input: &str,
        iterations: usize,
        threads: usize,
        reference_ms: f64,
    ) -> anyhow::Result<Row> {
        let wanted = self.values(input, setup.slots, setup.client.slots());
        let ciphertext = setup.client.encrypt(&wanted, setup.summary.minimum_input_level)?;
        let level = Level(setup.summary.output_level.0 - (iterations - 1));
        let request = BootstrapRequest { level, slots: setup.slots, iterations, real: input == REAL };
        let mut seconds = Vec::new();
        let mut errors = Vec::new();
        for _ in 0..self.repeat.max(1) {
            let start = Instant::now();
            let result = setup.evaluator.bootstrap(&ciphertext, request)?;
            seconds.push(start.elapsed().as_secs_f64());
            let found = setup.client.decrypt_bootstrapped(&result, setup.summary)?;
            errors.extend(error_bits(&found, &wanted, request.real));
        }
        seconds.sort_by(f64::total_cmp);
        let min_s = seconds.first().copied().unwrap_or(0.0);
        let median_s = seconds.get(seconds.len() / 2).copied().unwrap_or(0.0);
        let (precision_min_bits, precision_mean_bits) = summarize(&errors);
        Ok(Row {
            input: input.to_owned(),
            slots: setup.slots,
            threads,
            iterations,
            real: input == REAL,
            median_s,
            min_s,
            reference_rotate_ms: reference_ms,
            rotations: min_s * 1e3 / reference_ms,
            precision_min_bits,
            precision_mean_bits,
            levels_after: level.0,
            key_bytes: setup.evaluator.key_bytes(),
            peak_bytes: peak_memory_bytes().unwrap_or(0),
            log2_failure: parameters.log2_failure(),
        })
    }

    fn chain_of_bootstraps(&self, setup: &Setup) -> anyhow::Result<Vec<ChainRow>> {
        let wanted = self.values("uniform", setup.slots, setup.client.slots());
        let mut ciphertext = setup.client.encrypt(&wanted, setup.summary.minimum_input_level)?;
        let request = BootstrapRequest {
            level: setup.summary.output_level,
            slots: setup.slots,
            iterations: 1,
            real: false,
        };
        let mut rows = Vec::new();
        for bootstraps in 1..=self.chain {
            ciphertext = setup.evaluator.bootstrap(&ciphertext, request)?;
            let found = setup.client.decrypt_bootstrapped(&ciphertext, setup.summary)?;
            let (precision_min_bits, precision_mean_bits) = summarize(&error_bits(&found, &wanted, false));
            let squares: f64 = found.iter().zip(&wanted).map(|(x, y)| (x - y).norm_sqr()).sum();
            let rms_error = (squares / (2 * wanted.len()) as f64).sqrt();
            println!(
                "chain of {bootstraps:2}: worst {precision_min_bits:.2}, mean {precision_mean_bits:.2} bits, rms error {rms_error:.3e}, over √k {:.3e}",
                rms_error / (bootstraps as f64).sqrt()
            );
            rows.push(ChainRow { bootstraps, precision_min_bits, precision_mean_bits, rms_error });
        }
        Ok(rows)
    }

    fn overflow(
        &self,
        setup: &Setup,
        parameters: &BootstrapParameters,
    ) -> anyhow::Result<(Vec<OverflowRow>, i64, f64)> {
        let wanted = self.values("uniform", setup.slots, setup.client.slots());
        let ciphertext = setup.client.encrypt(&wanted, setup.summary.minimum_input_level)?;
        let bootstrapper = setup.evaluator.bootstrapper().context("no bootstrapping keys")?;
        let raised = bootstrapper.raised(setup.evaluator.levelled(), &ciphertext, setup.slots)?;
        let counts = integer_parts(setup.client.ckks(), &raised)?;
        let coefficients = counts.values().sum();
        let largest = counts.keys().map(|i| i.abs()).max().unwrap_or(0);
        let rows: Vec<OverflowRow> = (0..=10u32)
            .map(|k| OverflowRow {
                at_least: k,
                measured: counts
                    .iter()
                    .filter(|(i, _)| i.unsigned_abs() >= u64::from(k))
                    .map(|(_, c)| c)
                    .sum(),
                expected: expected_at_least(parameters.ephemeral_weight, k, coefficients),
            })
            .collect();
        println!("integer parts: |I| at least k, measured / expected (Irwin–Hall)");
        for row in &rows {
            println!("  {:2}  {:6} / {:9.2}", row.at_least, row.measured, row.expected);
        }
        let margin = parameters.interval - largest as f64;
        println!("largest |I| {largest}, interval ±{}, margin {margin:.1}", parameters.interval);
        Ok((rows, largest, margin))
    }

    /// Values of one kind with period `slots`.
    fn values(&self, input: &str, slots: usize, total: usize) -> Vec<Complex64> {
        let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
        let mut uniform =
            || Complex64::new(generator.random_range(-1.0..=1.0), generator.random_range(-1.0..=1.0));
        let one_period: Vec<Complex64> = match input {
            "constant" => vec![Complex64::new(1.0, 1.0); slots],
            "halves" => (0..slots)
                .map(|s| if s < slots / 2 { Complex64::new(1.0, 1.0) } else { Complex64::new(-1.0, -1.0) })
                .collect(),
            "one_hot" => (0..slots)
                .map(|s| if s == slots / 3 { Complex64::new(1.0, 0.0) } else { Complex64::ZERO })
                .collect(),
            REAL => (0..slots).map(|_| Complex64::new(uniform().re, 0.0)).collect(),
            "interleaved" => {
                (0..slots).map(|s| if s % 32 == 0 { uniform() } else { Complex64::ZERO }).collect()
            }
            "replicated" => {
                // Sums over 64 values stand in all 64 slots, as after an inner product.
                let mut sums = BTreeMap::new();
                (0..slots)
                    .map(|s| {
                        *sums.entry(s / 64).or_insert_with(|| {
                            (0..64).map(|_| uniform()).sum::<Complex64>() / 64.0_f64.sqrt() / 4.0
                        })
                    })
                    .collect()
            }
            _ => (0..slots).map(|_| uniform()).collect(),
        };
        one_period.into_iter().cycle().take(total).collect()
    }
}

impl Setup {
    /// Median time of one rotation at `level` in milliseconds.
    fn reference_rotation(&self, level: Level) -> anyhow::Result<f64> {
        let values = vec![Complex64::new(0.5, 0.0); self.client.slots()];
        let ciphertext = self.client.encrypt(&values, level)?;
        let mut milliseconds = Vec::new();
        for _ in 0..7 {
            let start = Instant::now();
            self.evaluator.rotate(&ciphertext, 1)?;
            milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        }
        milliseconds.sort_by(f64::total_cmp);
        Ok(milliseconds.get(milliseconds.len() / 2).copied().unwrap_or(f64::NAN))
    }
}

/// −log2 of the error of every real part, and unless slots are real of every imaginary part, at most 60.
fn error_bits(found: &[Complex64], wanted: &[Complex64], real: bool) -> Vec<f64> {
    let parts = if real { 1 } else { 2 };
    found
        .iter()
        .zip(wanted)
        .flat_map(|(x, y)| [x.re - y.re, x.im - y.im].into_iter().take(parts))
        .map(|error| -error.abs().max((-60f64).exp2()).log2())
        .collect()
}

/// Smallest and mean.
fn summarize(bits: &[f64]) -> (f64, f64) {
    let smallest = bits.iter().copied().fold(f64::INFINITY, f64::min);
    (smallest, bits.iter().sum::<f64>() / bits.len().max(1) as f64)
}
