//! `cachemir bench ops`: what single operations of the native backend cost.
//!
//! All operations are timed in turn, round after round, so that a slow moment of the machine hits them alike and ratios
//! inside one run mean something. The unit of comparison is the NTT: a rotation contains D(L + K) + 2K + 2L of them (D
//! digits, L limbs, K special primes), which are timed as one block beside it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::backend::native::{BELOW_THE_BASE, NativeClient};
use crate::ckks::{
    Ciphertext, CkksEvaluator, EvaluationKeys, Parameters, ParametersLiteral, Security, Stretch,
};
use crate::contract::{
    Client, Complex64, Diagonal, Evaluator, GiantStep, KeyRequest, Level, LinearTransform,
};
use crate::ring::{Limb, RingContext};
use anyhow::{Context, bail};
use clap::Args;
use rayon::prelude::*;
use serde::Serialize;

use super::machine::{available_memory_bytes, peak_memory_bytes};
use super::report::Report;

/// Steps of the hoisted group, and baby steps of the linear transform.
pub(super) const HOISTED: [i64; 4] = [1, 2, 3, 4];
/// Giant steps of the linear transform.
const GIANTS: [i64; 2] = [0, 4];

/// Flags of `bench ops`.
#[derive(Args)]
pub struct BenchOps {
    /// Parameter set: `n16` or `test`.
    #[arg(long, value_name = "PRESET", default_value = "n16")]
    preset: String,
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

/// One operation at one level with one number of threads.
#[derive(Serialize)]
struct Row {
    op: &'static str,
    level: usize,
    limbs: usize,
    digits: usize,
    threads: usize,
    median_ms: f64,
    min_ms: f64,
}

/// A rotation beside the NTTs it contains.
#[derive(Serialize)]
struct RotationToNtts {
    level: usize,
    threads: usize,
    ntts: usize,
    ratio_of_medians: f64,
    ratio_of_minima: f64,
}

#[derive(Serialize)]
struct Body {
    log2_n: u32,
    log2_qp: f64,
    kernels: &'static str,
    key_bytes: u64,
    peak_bytes: Option<u64>,
    rows: Vec<Row>,
    rotate_to_ntts: Vec<RotationToNtts>,
}

impl BenchOps {
    /// Measures and prints a table.
    pub fn run(self) -> anyhow::Result<()> {
        if self.rounds == 0 || self.threads.contains(&0) {
            bail!("--rounds and --threads must be at least 1");
        }
        let literal = self.literal()?;
        let insecure = literal.security != Security::Classical128;
        let name = literal.name;
        let parameters = Arc::new(Parameters::new(literal)?);
        let top = parameters.chain().max_level();
        let mut request = KeyRequest::new();
        request.relinearization(top).rotations(&HOISTED, parameters.slots(), top);
        let key_bytes = EvaluationKeys::predicted_bytes(&parameters, &request)?;
        check_memory(&parameters, key_bytes)?;
        println!(
            "{name}{}: N = 2^{}, {} limbs, log2(QP) = {:.1}, {} kernels, keys {:.0} MB",
            if insecure { " (INSECURE)" } else { "" },
            parameters.ring().log2_n(),
            parameters.limbs(top)?,
            parameters.log2_qp_full()?,
            parameters.ring().kernels().name(),
            key_bytes as f64 / 1e6,
        );
        let client = NativeClient::new(Arc::clone(&parameters))?;
        let evaluator = client.evaluator(&request)?;
        let (mut rows, mut ratios) = (Vec::new(), Vec::new());
        println!(
            "{:<22} {:>5} {:>5} {:>6} {:>7} {:>11} {:>11}",
            "op", "level", "limbs", "digits", "threads", "median ms", "min ms"
        );
        for level in self.levels(top)? {
            for threads in &self.threads {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(*threads).build()?;
                let times = pool.install(|| measure(&client, evaluator.levelled(), level, self.rounds))?;
                let (limbs, digits) = (parameters.limbs(level)?, parameters.digits(level)?);
                let ntts = ntts_of_a_rotation(&parameters, level)?;
                ratios.push(ratio_to_ntts(&times, level, *threads, ntts)?);
                for (op, samples) in times {
                    let (op, share) = if op == NTT_BLOCK { ("ntt", ntts as f64) } else { (op, 1.0) };
                    let share = if op == "rotate_hoisted" { HOISTED.len() as f64 } else { share };
                    let row = Row {
                        op,
                        level: level.0,
                        limbs,
                        digits,
                        threads: *threads,
                        median_ms: median(&samples) / share,
                        min_ms: samples.iter().copied().fold(f64::INFINITY, f64::min) / share,
                    };
                    println!(
                        "{:<22} {:>5} {:>5} {:>6} {:>7} {:>11.3} {:>11.3}",
                        row.op, row.level, row.limbs, row.digits, row.threads, row.median_ms, row.min_ms
                    );
                    rows.push(row);
                }
            }
        }
        print_ratios(&ratios, &rows);
        if let Some(path) = &self.json {
            let body = Body {
                log2_n: parameters.ring().log2_n(),
                log2_qp: parameters.log2_qp_full()?,
                kernels: parameters.ring().kernels().name(),
                key_bytes,
                peak_bytes: peak_memory_bytes(),
                rows,
                rotate_to_ntts: ratios,
            };
            Report::new("bench ops", "native", name, insecure, body).write(path)?;
        }
        Ok(())
    }

    fn literal(&self) -> anyhow::Result<ParametersLiteral> {
        let (Some(log2_n), Some(limbs), Some(digits)) = (self.log2_n, self.limbs, self.digits) else {
            return super::params::levelled_preset(&self.preset);
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
            let spread: BTreeSet<usize> =
                [top.0, top.0 * 2 / 3, top.0 / 3].into_iter().map(|level| level.max(1)).collect();
            return Ok(spread.into_iter().rev().map(Level).collect());
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

/// Samples in milliseconds of every operation.
pub(super) type Times = Vec<(&'static str, Vec<f64>)>;
const NTT_BLOCK: &str = "ntt block";

/// Times every operation at `level`, `rounds` times. Needs rotation keys for [`HOISTED`] and relinearization.
pub(super) fn measure(
    client: &NativeClient,
    evaluator: &CkksEvaluator,
    level: Level,
    rounds: usize,
) -> anyhow::Result<Times> {
    let values: Vec<Complex64> = (0..evaluator.slots())
        .map(|slot| Complex64::new((slot as f64).sin(), (slot as f64 * 0.7).cos()))
        .collect();
    let scale = evaluator.chain().canonical_scale(level)?;
    let a = client.encrypt(&values, level)?;
    let b = client.encrypt(&values, level)?;
    let plaintext = evaluator.encode(&values, level, scale)?;
    let product = evaluator.mul_plain(&a, &plaintext)?;
    let transform = LinearTransform {
        giants: GIANTS
            .iter()
            .map(|giant| GiantStep {
                step: *giant,
                babies: HOISTED.iter().map(|baby| (*baby, Diagonal::Encoded(&plaintext))).collect(),
            })
            .collect(),
    };
    let ring = evaluator.parameters().ring();
    let mut ntt_rows = NttRows::new(evaluator.parameters(), level)?;
    type Operation<'a> = Box<dyn FnMut() -> crate::Result<()> + Send + 'a>;
    let done = |_: Ciphertext| ();
    let mut operations: Vec<(&'static str, Operation<'_>)> = vec![
        (NTT_BLOCK, Box::new(move || ntt_rows.transform(ring))),
        ("rotate", Box::new(|| evaluator.rotate(&a, 1).map(done))),
        ("rotate_hoisted", Box::new(|| evaluator.rotate_many(&a, &HOISTED).map(|_| ()))),
        ("mult", Box::new(|| evaluator.relinearize(&evaluator.tensor(&a, &b)?).map(done))),
        ("mult_plain", Box::new(|| evaluator.mul_plain(&a, &plaintext).map(done))),
        ("mult_constant", Box::new(|| evaluator.mul_constant(&a, Complex64::new(0.3, 0.0), scale).map(done))),
        ("add", Box::new(|| evaluator.add(&a, &b).map(done))),
        ("rescale", Box::new(|| evaluator.rescale(&product).map(done))),
        ("encode", Box::new(|| evaluator.encode(&values, level, scale).map(|_| ()))),
        ("linear_transform_8", Box::new(|| evaluator.linear_transform(&a, &transform, scale).map(done))),
    ];
    let mut times: Times = operations.iter().map(|(name, _)| (*name, Vec::with_capacity(rounds))).collect();
    for round in 0..=rounds {
        for ((_, operation), (_, samples)) in operations.iter_mut().zip(&mut times) {
            let start = Instant::now();
            operation()?;
            let elapsed = start.elapsed().as_secs_f64() * 1e3;
            // The first round warms caches and workspaces.
            if round > 0 {
                samples.push(elapsed);
            }
        }
    }
    Ok(times)
}

/// NTTs in a rotation: L inverse ones of the input, D(L + K) − L forward ones of the digits, 2K inverse and 2L forward ones
/// of the division by P.
fn ntts_of_a_rotation(parameters: &Parameters, level: Level) -> crate::Result<usize> {
    let (limbs, special) = (parameters.limbs(level)?, parameters.ring().special_limbs());
    Ok(parameters.digits(level)? * (limbs + special) + 2 * special + 2 * limbs)
}

/// Rows to be transformed: as many as a rotation transforms, over the same primes, as many of them inversely.
struct NttRows {
    rows: Vec<(Limb, bool, Vec<u64>)>,
}

impl NttRows {
    fn new(parameters: &Parameters, level: Level) -> crate::Result<Self> {
        let (limbs, special) = (parameters.limbs(level)?, parameters.ring().special_limbs());
        let primes: Vec<Limb> = (0..limbs).map(Limb::Chain).chain((0..special).map(Limb::Special)).collect();
        let inverse = limbs + 2 * special;
        let rows = (0..ntts_of_a_rotation(parameters, level)?)
            .zip(primes.into_iter().cycle())
            .map(|(index, limb)| (limb, index < inverse, vec![index as u64 + 1; parameters.ring().degree()]))
            .collect();
        Ok(Self { rows })
    }

    fn transform(&mut self, ring: &RingContext) -> crate::Result<()> {
        self.rows.par_iter_mut().try_for_each(|(limb, inverse, row)| {
            let plan = ring.plan(*limb)?;
            if *inverse {
                plan.inverse(row);
            } else {
                plan.forward(row);
            }
            Ok(())
        })
    }
}

/// Keys, and room for the values in flight; refused before anything is generated.
fn check_memory(parameters: &Parameters, key_bytes: u64) -> crate::Result<()> {
    let limbs = parameters.ring().chain_limbs() + parameters.ring().special_limbs();
    let needed_bytes = key_bytes + 60 * 8 * (limbs * parameters.ring().degree()) as u64;
    match available_memory_bytes() {
        Some(available_bytes) if available_bytes < needed_bytes => {
            Err(crate::Error::Memory { operation: "bench ops", needed_bytes, available_bytes })
        }
        _ => Ok(()),
    }
}

fn samples<'a>(times: &'a Times, op: &str) -> anyhow::Result<&'a [f64]> {
    let found = times.iter().find(|(name, _)| *name == op);
    found.map(|(_, samples)| samples.as_slice()).with_context(|| format!("{op} was not measured"))
}

fn ratio_to_ntts(times: &Times, level: Level, threads: usize, ntts: usize) -> anyhow::Result<RotationToNtts> {
    let (rotate, block) = (samples(times, "rotate")?, samples(times, NTT_BLOCK)?);
    let minimum = |samples: &[f64]| samples.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(RotationToNtts {
        level: level.0,
        threads,
        ntts,
        ratio_of_medians: median(rotate) / median(block),
        ratio_of_minima: minimum(rotate) / minimum(block),
    })
}

fn print_ratios(ratios: &[RotationToNtts], rows: &[Row]) {
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

/// The middle sample.
pub(super) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
