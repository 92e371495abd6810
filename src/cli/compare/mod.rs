//! `cachemir compare`: native and OpenFHE in turn, on the same ring, limbs and digits.
//!
//! The two sides run as alternating child processes (native, OpenFHE, native, …), so that both never sit in memory at
//! once and both meet the same state of the machine. One child measures every operation a few times; the figures are
//! medians over all children of a side. A bootstrap runs under each side's own bootstrapping chain (same ring, same
//! slots, same threads): OpenFHE's leaves fewer levels, with which its memory stays below 14 GB at N = 2^16.

mod measure;
mod render;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::backend::native::{NativeClient, n16_levelled, test_levelled};
use crate::bootstrapping::BootstrapParameters;
use crate::ckks::Parameters;
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use self::measure::{Operation, Samples, Work};
use super::machine::available_memory_bytes;
use super::report::{Report, write_atomically};

/// Parameters both sides share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Preset {
    /// N = 2^12: no security, for tests.
    Test,
    /// N = 2^16: 24 limbs of 50 bits, 3 digits; bootstraps of all slots under either side's own chain.
    N16,
}

impl Preset {
    fn name(self) -> &'static str {
        match self {
            Preset::Test => "test",
            Preset::N16 => "n16",
        }
    }

    /// Limb counts that are measured unless the user names others.
    fn limbs(self) -> Vec<usize> {
        match self {
            Preset::Test => vec![4, 8],
            Preset::N16 => vec![5, 20],
        }
    }

    /// Memory of the dearer side, by measurement.
    fn bytes(self, bootstrap: bool) -> u64 {
        match (self, bootstrap) {
            (Preset::Test, _) => 1 << 30,
            (Preset::N16, false) => 4 << 30,
            (Preset::N16, true) => 14 << 30,
        }
    }
}

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Side {
    Native,
    Openfhe,
}

/// Flags of `compare`.
#[derive(Args)]
pub struct Compare {
    /// Parameters of both sides.
    #[arg(long, value_enum, default_value = "test")]
    preset: Preset,
    /// Operations, separated by commas; all when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    ops: Vec<Operation>,
    /// Limb counts of the inputs, separated by commas.
    #[arg(long, value_delimiter = ',')]
    limbs: Vec<usize>,
    /// How often each side gets its turn.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Timed runs of every operation in one turn.
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// Threads of either side. The prebuilt OpenFHE has one, whatever is asked.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a table in Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write a drawing.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure one side only and print its samples: what the child processes run.
    #[arg(long, value_enum, hide = true)]
    side: Option<Side>,
}

/// One line of the comparison.
#[derive(Clone, Debug, Serialize)]
struct Row {
    op: Operation,
    limbs: usize,
    native_ms: Option<f64>,
    native_min_ms: Option<f64>,
    openfhe_ms: Option<f64>,
    openfhe_min_ms: Option<f64>,
    ratio: Option<f64>,
    /// Processor time of all threads: what a busy machine distorts least.
    native_cpu_ms: Option<f64>,
    openfhe_cpu_ms: Option<f64>,
    cpu_ratio: Option<f64>,
    native_precision_min_bits: Option<f64>,
    openfhe_precision_min_bits: Option<f64>,
    native_precision_mean_bits: Option<f64>,
    openfhe_precision_mean_bits: Option<f64>,
    /// Bootstraps only: levels a program can use between two of them.
    native_levels_between_bootstraps: Option<usize>,
    openfhe_levels_between_bootstraps: Option<usize>,
    native_peak_bytes: Option<u64>,
    openfhe_peak_bytes: Option<u64>,
    samples: usize,
}

#[derive(Serialize)]
struct Body {
    threads: usize,
    rounds: usize,
    openfhe_version: String,
    failures: Vec<String>,
    rows: Vec<Row>,
}

impl Compare {
    /// Runs both sides in turn and reports, or one side when asked for it.
    pub fn run(mut self) -> anyhow::Result<()> {
        if self.rounds == 0 || self.repetitions == 0 {
            bail!("--rounds and --repetitions start at 1");
        }
        if self.ops.is_empty() {
            self.ops = Operation::value_variants().to_vec();
        }
        if self.limbs.is_empty() {
            self.limbs = self.preset.limbs();
        }
        if let Some(side) = self.side {
            let samples = self.measure(side)?;
            println!("{}", serde_json::to_string(&samples)?);
            return Ok(());
        }
        let openfhe_version = openfhe_version()?;
        let needed = self.preset.bytes(self.ops.contains(&Operation::Bootstrap));
        if let Some(available) = available_memory_bytes()
            && available < needed
        {
            bail!(
                "this needs {needed} bytes of memory, {available} are available: leave out `bootstrap`, or use --preset test"
            );
        }

        let mut collected: BTreeMap<(Side, Operation, usize), Vec<Samples>> = BTreeMap::new();
        let mut failures = Vec::new();
        for round in 1..=self.rounds {
            for side in [Side::Native, Side::Openfhe] {
                for op in self.ops.clone() {
                    // A bootstrap has parameters, and gigabytes, of its own: a process of its own too.
                    if op != Operation::Bootstrap
                        && self.ops.iter().find(|o| **o != Operation::Bootstrap) != Some(&op)
                    {
                        continue;
                    }
                    let ops: Vec<Operation> = if op == Operation::Bootstrap {
                        vec![op]
                    } else {
                        self.ops.iter().copied().filter(|op| *op != Operation::Bootstrap).collect()
                    };
                    eprintln!("round {round} of {}: {side:?} {}", self.rounds, names(&ops));
                    match self.child(side, &ops) {
                        Ok(samples) => {
                            for sample in samples {
                                collected.entry((side, sample.op, sample.limbs)).or_default().push(sample);
                            }
                        }
                        Err(error) => {
                            eprintln!("{side:?} failed: {error:#}");
                            failures.push(format!("{side:?} {}: {error:#}", names(&ops)));
                        }
                    }
                }
            }
        }
        if collected.is_empty() {
            bail!("neither side measured anything");
        }
        let rows = self.rows(&collected);
        let title = format!(
            "cachemir {} and OpenFHE {openfhe_version}, preset {}, {} thread(s)",
            env!("CARGO_PKG_VERSION"),
            self.preset.name(),
            self.threads
        );
        let table = render::markdown(&title, &rows);
        print!("{table}");
        if let Some(path) = &self.markdown {
            write_atomically(path, table.as_bytes())?;
        }
        if let Some(path) = &self.svg {
            write_atomically(path, render::svg(&title, &rows).as_bytes())?;
        }
        if let Some(path) = &self.json {
            let (threads, rounds, failures) = (self.threads, self.rounds, failures.clone());
            let body = Body { threads, rounds, openfhe_version, failures, rows };
            // OpenFHE's special primes have 60 bits and its bootstrapping chain is longer: no security is claimed for
            // that side, whatever the preset.
            Report::new("compare", "native,openfhe", self.preset.name(), true, body).write(path)?;
        }
        if !failures.is_empty() {
            bail!("{} turns failed: {}", failures.len(), failures.join("; "));
        }
        Ok(())
    }

    /// One line for every operation and number of limbs that either side measured.
    fn rows(&self, collected: &BTreeMap<(Side, Operation, usize), Vec<Samples>>) -> Vec<Row> {
        let mut places: Vec<(Operation, usize)> = Vec::new();
        for (_, op, limbs) in collected.keys() {
            // A bootstrap starts from as few limbs as either side needs: one line for both.
            let place = (*op, if *op == Operation::Bootstrap { 0 } else { *limbs });
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places.sort_unstable();
        let of = |side: Side, (op, limbs): (Operation, usize)| -> Vec<&Samples> {
            collected
                .iter()
                .filter(|((s, o, l), _)| *s == side && *o == op && (limbs == 0 || *l == limbs))
                .flat_map(|(_, samples)| samples)
                .collect()
        };
        places
            .into_iter()
            .map(|place| {
                let (native, openfhe) = (of(Side::Native, place), of(Side::Openfhe, place));
                let (native_ms, openfhe_ms) = (median(&native), median(&openfhe));
                let (native_cpu_ms, openfhe_cpu_ms) = (median_cpu(&native), median_cpu(&openfhe));
                Row {
                    op: place.0,
                    limbs: native.first().or(openfhe.first()).map_or(place.1, |samples| samples.limbs),
                    native_ms,
                    native_min_ms: least(&native),
                    openfhe_ms,
                    openfhe_min_ms: least(&openfhe),
                    ratio: native_ms.zip(openfhe_ms).map(|(native, openfhe)| openfhe / native),
                    native_cpu_ms,
                    openfhe_cpu_ms,
                    cpu_ratio: native_cpu_ms.zip(openfhe_cpu_ms).map(|(native, openfhe)| openfhe / native),
                    native_precision_min_bits: worst(&native),
                    openfhe_precision_min_bits: worst(&openfhe),
                    native_precision_mean_bits: mean_bits(&native),
                    openfhe_precision_mean_bits: mean_bits(&openfhe),
                    native_levels_between_bootstraps: levels(&native),
                    openfhe_levels_between_bootstraps: levels(&openfhe),
                    native_peak_bytes: native.iter().filter_map(|samples| samples.peak_bytes).max(),
                    openfhe_peak_bytes: openfhe.iter().filter_map(|samples| samples.peak_bytes).max(),
                    samples: native.iter().chain(&openfhe).map(|samples| samples.milliseconds.len()).sum(),
                }
            })
            .collect()
    }

    /// Runs this program again for one side.
    fn child(&self, side: Side, ops: &[Operation]) -> anyhow::Result<Vec<Samples>> {
        let program = std::env::current_exe().context("this program does not know its own path")?;
        let limbs: Vec<String> = self.limbs.iter().map(ToString::to_string).collect();
        let value = |name: Option<clap::builder::PossibleValue>| {
            name.map(|value| value.get_name().to_owned()).unwrap_or_default()
        };
        let output = Command::new(program)
            .args(["compare", "--preset", self.preset.name()])
            .args(["--side", &value(side.to_possible_value())])
            .args(["--ops", &names(ops)])
            .args(["--limbs", &limbs.join(",")])
            .args(["--repetitions", &self.repetitions.to_string()])
            .env("RAYON_NUM_THREADS", self.threads.to_string())
            .env("OMP_NUM_THREADS", self.threads.to_string())
            .stderr(Stdio::piped())
            .output()
            .context("the child process did not start")?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            bail!("{} ({})", text.trim(), output.status);
        }
        // OpenFHE prints notes of its own to stdout: the samples are the last line.
        let text = String::from_utf8(output.stdout)?;
        let line = text.lines().last().context("the child process printed nothing")?;
        serde_json::from_str(line).context("the child process printed something else than samples")
    }

    /// Measures one side in this process.
    fn measure(&self, side: Side) -> anyhow::Result<Vec<Samples>> {
        let work = Work { operations: &self.ops, limbs: &self.limbs, repetitions: self.repetitions };
        let mut samples = Vec::new();
        if self.ops.iter().any(|op| *op != Operation::Bootstrap) {
            samples.extend(match side {
                Side::Native => {
                    let literal = match self.preset {
                        Preset::Test => test_levelled(12, 8),
                        Preset::N16 => n16_levelled(),
                    };
                    measure::levelled(&NativeClient::new(Arc::new(Parameters::new(literal)?))?, &work)?
                }
                Side::Openfhe => openfhe_levelled(self.preset, &work)?,
            });
        }
        if self.ops.contains(&Operation::Bootstrap) {
            // A bootstrap at N = 2^16 takes a minute: once a turn.
            let repetitions = if self.preset == Preset::Test { self.repetitions } else { 1 };
            samples.push(match side {
                Side::Native => {
                    let parameters = match self.preset {
                        Preset::Test => BootstrapParameters::test(12, 5),
                        Preset::N16 => BootstrapParameters::n16(),
                    };
                    measure::bootstrap(&NativeClient::with_bootstrapping(parameters, None)?, repetitions)?
                }
                Side::Openfhe => openfhe_bootstrap(self.preset, repetitions)?,
            });
        }
        Ok(samples)
    }
}

fn names(ops: &[Operation]) -> String {
    ops.iter().map(|op| op.name()).collect::<Vec<_>>().join(",")
}

/// Sorted times of all turns.
fn times<'a>(samples: &[&'a Samples], of: impl Fn(&'a Samples) -> &'a [f64]) -> Vec<f64> {
    let mut times: Vec<f64> = samples.iter().flat_map(|samples| of(samples).iter().copied()).collect();
    times.sort_unstable_by(f64::total_cmp);
    times
}

fn middle(times: &[f64]) -> Option<f64> {
    times.get(times.len() / 2).copied()
}

fn median(samples: &[&Samples]) -> Option<f64> {
    middle(&times(samples, |samples| &samples.milliseconds))
}

fn median_cpu(samples: &[&Samples]) -> Option<f64> {
    middle(&times(samples, |samples| &samples.cpu_milliseconds))
}

fn least(samples: &[&Samples]) -> Option<f64> {
    times(samples, |samples| &samples.milliseconds).first().copied()
}

fn worst(samples: &[&Samples]) -> Option<f64> {
    samples.iter().map(|samples| samples.precision_min_bits).min_by(f64::total_cmp)
}

/// Mean over the turns.
fn mean_bits(samples: &[&Samples]) -> Option<f64> {
    let sum: f64 = samples.iter().map(|samples| samples.precision_mean_bits).sum();
    (!samples.is_empty()).then(|| sum / samples.len() as f64)
}

fn levels(samples: &[&Samples]) -> Option<usize> {
    samples.iter().find_map(|samples| samples.levels_between_bootstraps)
}

#[cfg(feature = "openfhe")]
mod openfhe {
    use super::Preset;
    use super::measure::{self, Samples, Work};
    use crate::backend::openfhe::{OpenFheBootstrapping, OpenFheClient, OpenFheParameters, version};

    pub fn openfhe_version() -> anyhow::Result<String> {
        Ok(version()?)
    }

    /// The native side's ring, limbs and digits.
    pub fn openfhe_levelled(preset: Preset, work: &Work<'_>) -> anyhow::Result<Vec<Samples>> {
        let parameters = match preset {
            Preset::Test => OpenFheParameters {
                log2_n: 12,
                levels: 8,
                log2_scale: 41,
                log2_base: 50,
                digits: 3,
                bootstrapping: None,
            },
            Preset::N16 => OpenFheParameters {
                log2_n: 16,
                levels: 23,
                log2_scale: 50,
                log2_base: 58,
                digits: 3,
                bootstrapping: None,
            },
        };
        measure::levelled(&OpenFheClient::new(parameters)?, work)
    }

    pub fn openfhe_bootstrap(preset: Preset, repetitions: usize) -> anyhow::Result<Samples> {
        let parameters = match preset {
            Preset::Test => OpenFheParameters::test_bootstrapping(),
            Preset::N16 => OpenFheParameters {
                log2_n: 16,
                levels: 10,
                log2_scale: 50,
                log2_base: 58,
                digits: 3,
                bootstrapping: Some(OpenFheBootstrapping {
                    budget_encode: 3,
                    budget_decode: 3,
                    correction_factor: 8,
                    iteration_precision: 10,
                    iterations: 1,
                }),
            },
        };
        measure::bootstrap(&OpenFheClient::new(parameters)?, repetitions)
    }
}

#[cfg(not(feature = "openfhe"))]
mod openfhe {
    use super::Preset;
    use super::measure::{Samples, Work};

    fn missing<T>() -> anyhow::Result<T> {
        anyhow::bail!(
            "this program was built without OpenFHE: build it with `cargo build --release --features openfhe`"
        )
    }

    pub fn openfhe_version() -> anyhow::Result<String> {
        missing()
    }

    pub fn openfhe_levelled(_preset: Preset, _work: &Work<'_>) -> anyhow::Result<Vec<Samples>> {
        missing()
    }

    pub fn openfhe_bootstrap(_preset: Preset, _repetitions: usize) -> anyhow::Result<Samples> {
        missing()
    }
}

use openfhe::{openfhe_bootstrap, openfhe_levelled, openfhe_version};
