//! `cachemir bench bootstrap`: every figure of a bootstrap, printed and as JSON.

mod inputs;
mod subject;

use std::path::PathBuf;

use crate::bootstrapping::BootstrapParameters;
use anyhow::{bail, ensure};
use clap::Args;
use serde::Serialize;

use crate::measure::{Report, peak_memory_bytes};
use crate::setup::security::{KeyMargin, margins};
use inputs::INPUTS;
use subject::{ChainRow, Kind, OverflowRow, Row, Subject};

/// Time, precision, overflow, memory and security of a bootstrap.
#[derive(Args)]
pub struct BenchBootstrap {
    /// Parameters: n16 (all slots under n16, few values under n16-few), n16-few or n16-few-deep (both kinds under it), or test12 and test13
    /// (insecure).
    #[arg(long, default_value = "n16")]
    preset: String,
    /// Kinds of bootstrap, comma-separated. Few values come first, so that their peak memory is their own.
    #[arg(long, value_delimiter = ',', default_values_t = ["few".to_owned(), "all".to_owned()])]
    kinds: Vec<String>,
    /// Period of the slots for bootstraps of all slots; all of them by default.
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

impl BenchBootstrap {
    /// Runs everything and prints it.
    pub fn run(self) -> anyhow::Result<()> {
        let threads = if self.threads == 0 { rayon::current_num_threads() } else { self.threads };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        pool.install(|| self.measure())
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
        for input in &self.inputs {
            ensure!(INPUTS.contains(&input.as_str()), "no input `{input}`: use {}", INPUTS.join(", "));
        }
        let insecure = self.preset.starts_with("test");
        if insecure {
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
            let (parameters, kinds) = match kind.as_str() {
                "few" => (&few, Kind::few(total)?),
                "all" => (&all, vec![Kind::all(self.slots.unwrap_or(total))]),
                other => bail!("no kind `{other}`: use few and all"),
            };
            print_keys(parameters, insecure, &mut body.keys)?;
            for kind in kinds {
                self.one(&Subject::new(parameters, kind, self.seed)?, &mut body)?;
            }
        }
        println!("peak memory: {:.2} GB", peak_memory_bytes().unwrap_or(0) as f64 / 1e9);
        if let Some(path) = &self.json {
            Report::new("bench bootstrap", "native", &self.preset, body).write(path)?;
        }
        Ok(())
    }

    /// Everything about one kind of bootstrap.
    fn one(&self, subject: &Subject, body: &mut Body) -> anyhow::Result<()> {
        println!(
            "kind values input        iter  seconds (min)   rotations  bits worst / mean  from to  keys GB"
        );
        for iterations in &self.iterations {
            for input in self.inputs.iter().filter(|input| *iterations == 1 || *input == "uniform") {
                let row = subject.row(input, *iterations, self.repeat)?;
                println!(
                    "{:4} {:6} {:12} {:4}  {:7.2} ({:6.2})   {:8.1}   {:6.2} / {:6.2}    {:4} {:2}  {:7.2}",
                    row.kind,
                    row.values,
                    row.input,
                    row.iterations,
                    row.median_s,
                    row.min_s,
                    row.rotations,
                    row.precision_min_bits,
                    row.precision_mean_bits,
                    row.minimum_input_level,
                    row.levels_after,
                    row.key_bytes as f64 / 1e9,
                );
                body.levels_between_bootstraps = row.levels_after - row.minimum_input_level + *iterations - 1;
                body.rows.push(row);
            }
        }
        body.chain.extend(subject.chain(self.chain)?);
        let (overflow, largest) = subject.overflow()?;
        println!("integer parts, |I| at least k: measured / expected (Irwin–Hall)");
        print_overflow(&overflow);
        body.overflow.extend(overflow);
        let junk = subject.junk()?;
        if !junk.is_empty() {
            println!("junk before EvalMod, at least k: measured / at most");
            print_overflow(&junk);
        }
        body.overflow.extend(junk);
        body.largest_integer_part = body.largest_integer_part.max(largest);
        let margin = subject.parameters.interval - largest as f64;
        body.margin_to_interval = body.margin_to_interval.min(margin);
        body.key_generation_s += subject.key_generation_s;
        println!(
            "largest |I| {largest}; log2(failure) {:.1}; peak memory so far {:.2} GB",
            subject.log2_failure(),
            peak_memory_bytes().unwrap_or(0) as f64 / 1e9
        );
        Ok(())
    }
}

fn print_overflow(rows: &[OverflowRow]) {
    for row in rows {
        println!("  {:2}  {:6} / {:9.2}", row.at_least, row.measured, row.expected);
    }
}

/// Prints the margins of `parameters` and adds those not there yet to `keys`.
fn print_keys(
    parameters: &BootstrapParameters,
    insecure: bool,
    keys: &mut Vec<KeyMargin>,
) -> anyhow::Result<()> {
    for key in margins(parameters)? {
        println!("{} key {key}", parameters.chain.name);
        ensure!(
            insecure || key.margin_bits.is_some_and(|margin| margin >= 0.0),
            "key {} is above its limit",
            key.name
        );
        keys.push(key);
    }
    Ok(())
}
