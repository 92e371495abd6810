//! `cachemir compare`: native and OpenFHE in turn, on the same ring, limbs and digits.
//!
//! The two sides run as alternating child processes (native, OpenFHE, native, …), so that both never sit in memory at
//! once and both meet the same state of the machine. One child measures every operation a few times; the figures are
//! medians over all children of a side.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::benchmarks::comparison::{Operation, OperationSamples};
use crate::benchmarks::comparison_rows::{
    ComparedRing, ComparisonRow, Side, Turns, openfhe_version, side_samples,
};
use crate::measure::{Report, check_memory, write_atomically};
use crate::pages::{comparison_chart, comparison_markdown};
use crate::setup::Preset;

/// Flags of `compare`.
#[derive(Args)]
pub struct Compare {
    /// Ring, limbs and digits of both sides.
    #[arg(long, value_enum, default_value = "test")]
    preset: Preset,
    /// Operations, separated by commas; all by default: mult, mult_plain, rescale, rotate, rotate_hoisted,
    /// linear_transform, bootstrap.
    #[arg(long, value_delimiter = ',', default_values_t = Operation::ALL, hide_default_value = true)]
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
    side: Option<SideFlag>,
}

#[derive(Clone, Copy, ValueEnum)]
enum SideFlag {
    Native,
    Openfhe,
}

/// The sides in the order of their turns, by the names that their child processes are given.
const SIDES: [(Side, &str); 2] = [(Side::Native, "native"), (Side::OpenFhe, "openfhe")];

#[derive(Serialize)]
struct Body {
    threads: usize,
    rounds: usize,
    openfhe_version: String,
    failures: Vec<String>,
    rows: Vec<ComparisonRow>,
}

impl Compare {
    /// Runs both sides in turn and reports, or one side when asked for it.
    pub fn run(mut self) -> anyhow::Result<()> {
        if self.rounds == 0 || self.repetitions == 0 {
            bail!("--rounds and --repetitions start at 1");
        }
        let ring = match self.preset {
            Preset::Test => ComparedRing::Test,
            Preset::N16 => ComparedRing::N16,
        };
        if self.limbs.is_empty() {
            self.limbs = ring.limbs();
        }
        if let Some(flag) = self.side {
            let side = match flag {
                SideFlag::Native => Side::Native,
                SideFlag::Openfhe => Side::OpenFhe,
            };
            let samples = side_samples(side, ring, &self.ops, &self.limbs, self.repetitions)?;
            println!("{}", serde_json::to_string(&samples)?);
            return Ok(());
        }
        let openfhe_version = openfhe_version()?;
        check_memory("compare", ring.needed_bytes(&self.ops))
            .context("leave out `bootstrap`, or use --preset test")?;
        let (rows, failures) = self.turns()?;
        let title = format!(
            "cachemir {} and OpenFHE {openfhe_version}, preset {}, {} thread(s)",
            env!("CARGO_PKG_VERSION"),
            self.preset.name(),
            self.threads
        );
        self.write(&title, openfhe_version, rows, &failures)?;
        if !failures.is_empty() {
            bail!("{} turns failed: {}", failures.len(), failures.join("; "));
        }
        Ok(())
    }

    /// Rows over all turns, and the turns that failed.
    fn turns(&self) -> anyhow::Result<(Vec<ComparisonRow>, Vec<String>)> {
        let (mut turns, mut failures) = (Turns::default(), Vec::new());
        // A bootstrap has parameters, and gigabytes, of its own: a process of its own too.
        let (bootstraps, levelled): (Vec<_>, Vec<_>) =
            self.ops.iter().copied().partition(|op| *op == Operation::Bootstrap);
        let processes: Vec<String> =
            [levelled, bootstraps].iter().filter(|ops| !ops.is_empty()).map(|ops| names(ops)).collect();
        for round in 1..=self.rounds {
            for (side, name) in SIDES {
                for ops in &processes {
                    eprintln!("round {round} of {}: {name} {ops}", self.rounds);
                    match self.child(name, ops) {
                        Ok(samples) => turns.add(side, samples),
                        Err(error) => {
                            eprintln!("{name} failed: {error:#}");
                            failures.push(format!("{name} {ops}: {error:#}"));
                        }
                    }
                }
            }
        }
        let rows = turns.rows();
        if rows.is_empty() {
            bail!("neither side measured anything: {}", failures.join("; "));
        }
        Ok((rows, failures))
    }

    /// Runs this program again for one side.
    fn child(&self, side: &str, ops: &str) -> anyhow::Result<Vec<OperationSamples>> {
        let program = std::env::current_exe().context("this program does not know its own path")?;
        let limbs: Vec<String> = self.limbs.iter().map(ToString::to_string).collect();
        let output = Command::new(program)
            .args(["compare", "--preset", self.preset.name(), "--side", side, "--ops", ops])
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

    fn write(
        &self,
        title: &str,
        openfhe_version: String,
        rows: Vec<ComparisonRow>,
        failures: &[String],
    ) -> anyhow::Result<()> {
        let table = comparison_markdown(title, &rows);
        print!("{table}");
        if let Some(path) = &self.markdown {
            write_atomically(path, table.as_bytes())?;
        }
        if let Some(path) = &self.svg {
            write_atomically(path, comparison_chart(title, &rows)?.as_bytes())?;
        }
        if let Some(path) = &self.json {
            let (threads, rounds, failures) = (self.threads, self.rounds, failures.to_vec());
            let body = Body { threads, rounds, openfhe_version, failures, rows };
            Report::new("compare", "native,openfhe", self.preset.name(), body).write(path)?;
        }
        Ok(())
    }
}

fn names(ops: &[Operation]) -> String {
    ops.iter().map(|op| op.name()).collect::<Vec<_>>().join(",")
}
