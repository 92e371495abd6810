//! One side of a comparison: runs the operations of a backend and measures time and precision.

use std::time::Instant;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::cli::machine::{cpu_seconds, peak_memory_bytes};
use crate::contract::{
    BootstrapRequest, CiphertextInfo, Client, Complex64, Diagonal, Evaluator, GiantStep, KeyRequest, Level,
    LinearTransform, normalize_step,
};

/// Hoisted rotations measured together.
const HOISTED_STEPS: [i64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
/// Baby and giant steps of the measured linear transform: 16 diagonals.
const BABIES: [i64; 4] = [0, 1, 2, 3];
const GIANTS: [i64; 4] = [0, 4, 8, 12];

/// An operation that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Operation {
    /// Product of two ciphertexts, relinearized, not rescaled.
    Mult,
    /// Product with an encoded plaintext.
    MultPlain,
    /// Division by the last prime.
    Rescale,
    /// One rotation.
    Rotate,
    /// One of eight rotations that share their decomposition (an eighth of the time of all).
    RotateHoisted,
    /// Sixteen encoded diagonals in four baby and four giant steps.
    LinearTransform,
    /// Full-slot bootstrap.
    Bootstrap,
}

impl Operation {
    /// Name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Mult => "mult",
            Operation::MultPlain => "mult_plain",
            Operation::Rescale => "rescale",
            Operation::Rotate => "rotate",
            Operation::RotateHoisted => "rotate_hoisted",
            Operation::LinearTransform => "linear_transform",
            Operation::Bootstrap => "bootstrap",
        }
    }
}

/// What to measure.
pub struct Work<'a> {
    /// The operations.
    pub operations: &'a [Operation],
    /// Limb counts of the inputs of all operations but the bootstrap.
    pub limbs: &'a [usize],
    /// Timed runs of each, after one untimed.
    pub repetitions: usize,
}

/// Times and precision of one operation at one number of limbs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Samples {
    /// Which operation.
    pub op: Operation,
    /// Limbs of its input.
    pub limbs: usize,
    /// Every timed run.
    pub milliseconds: Vec<f64>,
    /// Processor time of every timed run, all threads together.
    pub cpu_milliseconds: Vec<f64>,
    /// −log2 of the largest error of any slot, in the last run.
    pub precision_min_bits: f64,
    /// Mean over the slots of −log2 of the error, in the last run.
    pub precision_mean_bits: f64,
    /// Level of a bootstrap's result minus the lowest level of its input: what a program can use in between.
    pub levels_between_bootstraps: Option<usize>,
    /// Largest resident memory of the process by then.
    pub peak_bytes: Option<u64>,
}

/// Runs `work`'s levelled operations with `client`.
pub fn levelled<C: Client>(client: &C, work: &Work<'_>) -> anyhow::Result<Vec<Samples>> {
    let slots = client.slots();
    let top = client.evaluator(&KeyRequest::new())?.chain().max_level();
    let mut request = KeyRequest::new();
    request.relinearization(top);
    for steps in [&HOISTED_STEPS[..], &BABIES[..], &GIANTS[..]] {
        request.rotations(steps, slots, top);
    }
    let evaluator = client.evaluator(&request)?;
    let mut results = Vec::new();
    for limbs in work.limbs {
        let level = Level(limbs.checked_sub(1).context("0 limbs")?);
        if level > top || level == Level(0) {
            bail!("{limbs} limbs: this chain has 2 to {}", top.0 + 1);
        }
        for op in work.operations.iter().filter(|op| **op != Operation::Bootstrap) {
            results.push(one(client, &evaluator, *op, level, work.repetitions)?);
        }
    }
    Ok(results)
}

/// Bootstraps a full ciphertext of uniform values to the highest level there is.
pub fn bootstrap<C: Client>(client: &C, repetitions: usize) -> anyhow::Result<Samples> {
    let slots = client.slots();
    let mut request = KeyRequest::new();
    request.bootstrapping(slots);
    let evaluator = client.evaluator(&request)?;
    let summary = evaluator.bootstrapping().context("these parameters do not bootstrap")?;
    let level = summary.minimum_input_level;
    let x = values(slots, 1);
    let a = client.encrypt(&x, level)?;
    let request = BootstrapRequest::all(summary.output_level, slots);
    let (times, output) = timed(repetitions, || Ok(evaluator.bootstrap(&a, &request)?))?;
    let (precision_min_bits, precision_mean_bits) = precision(&client.decrypt(&output)?, &x);
    Ok(Samples {
        op: Operation::Bootstrap,
        limbs: level.0 + 1,
        milliseconds: times.elapsed,
        cpu_milliseconds: times.processor,
        precision_min_bits,
        precision_mean_bits,
        levels_between_bootstraps: Some(summary.output_level.minus(level.0, "bootstrap")?.0),
        peak_bytes: peak_memory_bytes(),
    })
}

fn one<C: Client>(
    client: &C,
    evaluator: &C::Evaluator,
    op: Operation,
    level: Level,
    repetitions: usize,
) -> anyhow::Result<Samples> {
    let slots = client.slots();
    let scale = evaluator.chain().canonical_scale(level)?;
    let (x, y) = (values(slots, 1), values(slots, 2));
    let (a, b) = (client.encrypt(&x, level)?, client.encrypt(&y, level)?);
    let (times, output, expected) = match op {
        Operation::Mult => {
            let (times, output) =
                timed(repetitions, || Ok(evaluator.relinearize(&evaluator.tensor(&a, &b)?)?))?;
            (times, output, zip(&x, &y, |x, y| x * y))
        }
        Operation::MultPlain => {
            let plaintext = evaluator.encode(&y, level, scale)?;
            let (times, output) = timed(repetitions, || Ok(evaluator.mul_plain(&a, &plaintext)?))?;
            (times, output, zip(&x, &y, |x, y| x * y))
        }
        Operation::Rescale => {
            let product = evaluator.mul_constant(&a, Complex64::new(1.0, 0.0), scale)?;
            let (times, output) = timed(repetitions, || Ok(evaluator.rescale(&product)?))?;
            (times, output, x)
        }
        Operation::Rotate => {
            let (times, output) = timed(repetitions, || Ok(evaluator.rotate(&a, 1)?))?;
            (times, output, rotated(&x, 1))
        }
        Operation::RotateHoisted => {
            let (times, mut outputs) = timed(repetitions, || Ok(evaluator.rotate_many(&a, &HOISTED_STEPS)?))?;
            let times = times.divided_by(HOISTED_STEPS.len());
            let last = HOISTED_STEPS.last().copied().unwrap_or_default();
            (times, outputs.pop().context("no rotation came back")?, rotated(&x, last))
        }
        Operation::LinearTransform => {
            let mut diagonals = Vec::new();
            let mut expected = vec![Complex64::ZERO; slots];
            for (index, giant) in GIANTS.iter().enumerate() {
                let mut inner = vec![Complex64::ZERO; slots];
                let mut row = Vec::new();
                for (place, baby) in BABIES.iter().enumerate() {
                    let diagonal = values(slots, (10 + BABIES.len() * index + place) as u64);
                    inner = zip(&inner, &zip(&diagonal, &rotated(&x, *baby), |d, x| d * x), |s, p| s + p);
                    row.push(evaluator.encode(&diagonal, level, scale)?);
                }
                expected = zip(&expected, &rotated(&inner, *giant), |s, p| s + p);
                diagonals.push(row);
            }
            let transform = LinearTransform {
                giants: GIANTS
                    .iter()
                    .zip(&diagonals)
                    .map(|(step, row)| GiantStep {
                        step: *step,
                        babies: BABIES.iter().copied().zip(row.iter().map(Diagonal::Encoded)).collect(),
                    })
                    .collect(),
            };
            let (times, output) =
                timed(repetitions, || Ok(evaluator.linear_transform(&a, &transform, scale)?))?;
            (times, output, expected)
        }
        Operation::Bootstrap => bail!("a bootstrap has its own parameters"),
    };
    if output.scale().0 <= 0.0 {
        bail!("{} returned a scale of {}", op.name(), output.scale().0);
    }
    let (precision_min_bits, precision_mean_bits) = precision(&client.decrypt(&output)?, &expected);
    Ok(Samples {
        op,
        limbs: level.0 + 1,
        milliseconds: times.elapsed,
        cpu_milliseconds: times.processor,
        precision_min_bits,
        precision_mean_bits,
        levels_between_bootstraps: None,
        peak_bytes: peak_memory_bytes(),
    })
}

/// Milliseconds of every timed run.
#[derive(Default)]
struct Times {
    elapsed: Vec<f64>,
    processor: Vec<f64>,
}

impl Times {
    fn divided_by(self, count: usize) -> Self {
        let each = |times: Vec<f64>| times.into_iter().map(|time| time / count as f64).collect();
        Self { elapsed: each(self.elapsed), processor: each(self.processor) }
    }
}

/// Runs `action` once untimed and then `repetitions` times; milliseconds of each, and the last result.
fn timed<T>(repetitions: usize, mut action: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<(Times, T)> {
    // The first run of the native bootstrap encodes its transforms, which OpenFHE does while it makes keys.
    let mut last = Some(action()?);
    let mut times = Times::default();
    for _ in 0..repetitions {
        drop(last.take());
        let (started, before) = (Instant::now(), cpu_seconds());
        last = Some(action()?);
        times.elapsed.push(started.elapsed().as_secs_f64() * 1e3);
        if let (Some(before), Some(after)) = (before, cpu_seconds()) {
            times.processor.push((after - before) * 1e3);
        }
    }
    Ok((times, last.context("0 repetitions")?))
}

/// Reproducible values with both parts uniform in −1 .. 1.
fn values(slots: usize, seed: u64) -> Vec<Complex64> {
    use rand::{Rng, SeedableRng};
    let mut generator = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..slots)
        .map(|_| Complex64::new(generator.random_range(-1.0..1.0), generator.random_range(-1.0..1.0)))
        .collect()
}

fn rotated(values: &[Complex64], step: i64) -> Vec<Complex64> {
    let mut result = values.to_vec();
    result.rotate_left(normalize_step(step, values.len()));
    result
}

fn zip(
    a: &[Complex64],
    b: &[Complex64],
    combine: impl Fn(Complex64, Complex64) -> Complex64,
) -> Vec<Complex64> {
    a.iter().zip(b).map(|(x, y)| combine(*x, *y)).collect()
}

/// −log2 of the error of a slot: the worst slot, and the mean over all.
fn precision(got: &[Complex64], expected: &[Complex64]) -> (f64, f64) {
    let bits: Vec<f64> =
        got.iter().zip(expected).map(|(x, y)| -(x - y).norm().max(f64::MIN_POSITIVE).log2()).collect();
    (bits.iter().copied().fold(f64::INFINITY, f64::min), bits.iter().sum::<f64>() / bits.len().max(1) as f64)
}
