//! `cachemir bench ops`: what single operations of the native backend cost.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use crate::backend::native::{BELOW_THE_BASE, n16_levelled, test_levelled};
use crate::benchmarks::operations::{OperationBench, OperationTime, RotationToNtts};
use crate::ckks::{Parameters, ParametersLiteral, Security, Stretch};
use crate::contract::Level;
use crate::measure::{Report, is_insecure, peak_memory_bytes};
use crate::pages::operations_table;
use crate::setup::Preset;

/// Flags of `bench ops`.
#[derive(Args)]
pub struct BenchOps {
    /// Parameter set, without bootstrapping.
    #[arg(long, value_enum, default_value = "n16")]
    preset: Preset,
    /// Measure a bare ring of degree 2^LOG2_N instead of a preset (claims no security).
    #[arg(long, requires = "limbs", requires = "digits", conflicts_with = "preset")]
    log2_n: Option<u32>,
    /// Limbs of the bare ring, 50 bits each.
    #[arg(long, requires = "log2_n")]
    limbs: Option<usize>,
    /// Digits of a key switch at the top of the bare ring; ⌈limbs / digits⌉ special primes.
    #[arg(long, requires = "log2_n")]
    digits: Option<usize>,
    /// Numbers of threads to measure with.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Levels to measure at, 1 or higher. Default: the top and two below, evenly spaced; `--levels all` for all.
    #[arg(long, value_delimiter = ',')]
    levels: Vec<String>,
    /// Rounds; each operation is timed once a round.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Also write the rows as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Body {
    log2_n: u32,
    log2_qp: f64,
    kernels: &'static str,
    key_bytes: u64,
    peak_bytes: Option<u64>,
    rows: Vec<OperationTime>,
    rotate_to_ntts: Vec<RotationToNtts>,
}

impl BenchOps {
    /// Measures and prints a table.
    pub fn run(self) -> anyhow::Result<()> {
        if self.rounds == 0 || self.threads.contains(&0) {
            bail!("--rounds and --threads must be at least 1");
        }
        let parameters = Arc::new(Parameters::new(self.literal()?)?);
        let name = parameters.literal().name;
        let top = parameters.chain().max_level();
        let levels = self.levels(top)?;
        let bench = OperationBench::new(Arc::clone(&parameters))?;
        let (log2_n, log2_qp) = (parameters.ring().log2_n(), parameters.log2_qp_full()?);
        let (limbs, kernels) = (parameters.limbs(top)?, parameters.ring().kernels().name());
        println!(
            "{name}{}: N = 2^{log2_n}, {limbs} limbs, log2(QP) = {log2_qp:.1}, {kernels} kernels, keys {:.0} MB",
            if is_insecure("native", name) { " (INSECURE)" } else { "" },
            bench.key_bytes() as f64 / 1e6,
        );
        let (mut rows, mut ratios) = (Vec::new(), Vec::new());
        for level in levels {
            for threads in &self.threads {
                eprintln!("level {level}, {threads} thread(s)");
                let (times, ratio) = bench.at(level, *threads, self.rounds)?;
                rows.extend(times);
                ratios.push(ratio);
            }
        }
        print!("{}", operations_table(&rows));
        print_ratios(&ratios, &rows);
        if let Some(path) = &self.json {
            let (key_bytes, peak_bytes) = (bench.key_bytes(), peak_memory_bytes());
            let body = Body { log2_n, log2_qp, kernels, key_bytes, peak_bytes, rows, rotate_to_ntts: ratios };
            Report::new("bench ops", "native", name, body).write(path)?;
        }
        Ok(())
    }

    fn literal(&self) -> anyhow::Result<ParametersLiteral> {
        let (Some(log2_n), Some(limbs), Some(digits)) = (self.log2_n, self.limbs, self.digits) else {
            return Ok(match self.preset {
                Preset::N16 => n16_levelled(),
                Preset::Test => test_levelled(12, 6),
            });
        };
        if limbs < 2 || digits == 0 || digits > limbs {
            bail!("{limbs} limbs in {digits} digits: give at least 2 limbs, and 1 to {limbs} digits");
        }
        Ok(ParametersLiteral {
            name: "bare-ring",
            log2_n,
            base_bits: vec![49.9],
            stretches: vec![Stretch { levels: limbs - 1, log2_scale: BELOW_THE_BASE, primes_per_level: 1 }],
            special_primes: limbs.div_ceil(digits),
            special_bits: 49.9,
            security: Security::InsecureForTests,
        })
    }

    fn levels(&self, top: Level) -> anyhow::Result<Vec<Level>> {
        if self.levels == ["all"] {
            return Ok((1..=top.0).rev().map(Level).collect());
        }
        if self.levels.is_empty() {
            let spread = [top.0, top.0 * 2 / 3, top.0 / 3].map(|level| level.max(1));
            return Ok(BTreeSet::from(spread).into_iter().rev().map(Level).collect());
        }
        let parse = |text: &String| {
            let level: usize = text.parse().with_context(|| format!("level `{text}`"))?;
            if !(1..=top.0).contains(&level) {
                bail!("level {level}: give levels from 1 to {top}");
            }
            Ok(Level(level))
        };
        self.levels.iter().map(parse).collect()
    }
}

fn print_ratios(ratios: &[RotationToNtts], rows: &[OperationTime]) {
    for ratio in ratios {
        println!(
            "level {}, {} thread(s): a rotation takes {:.2} times its {} NTTs (minima: {:.2})",
            ratio.level, ratio.threads, ratio.ratio_of_medians, ratio.ntts, ratio.ratio_of_minima
        );
    }
    let rotations = |threads| rows.iter().filter(move |row| row.op == "rotate" && row.threads == threads);
    for one in rotations(1) {
        for two in rotations(2).filter(|two| two.level == one.level) {
            println!(
                "level {}: a rotation is {:.2} times faster with 2 threads than with 1 (minima: {:.2})",
                one.level,
                one.median_ms / two.median_ms,
                one.min_ms / two.min_ms
            );
        }
    }
}
