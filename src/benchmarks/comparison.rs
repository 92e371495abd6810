//! Operations of the contract on any backend, timed and checked: one side of a comparison.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::values::uniform;
use crate::contract::{
    BootstrapRequest, CiphertextInfo, Client, Complex64, Diagonal, Error, Evaluator, GiantStep, KeyRequest,
    Level, LinearTransform, Result, normalize_step,
};
use crate::measure::{Parts, Precision, Rounds, Timings, peak_memory_bytes, time};

/// Hoisted rotations measured together.
const HOISTED_STEPS: [i64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
/// Baby steps of the measured linear transform.
const BABIES: [i64; 4] = [0, 1, 2, 3];
/// Giant steps: 16 diagonals.
const GIANTS: [i64; 4] = [0, 4, 8, 12];

/// An operation that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// Bootstrap of all slots.
    Bootstrap,
}

impl Operation {
    /// All operations, in the order of the tables.
    pub const ALL: [Self; 7] = [
        Self::Mult,
        Self::MultPlain,
        Self::Rescale,
        Self::Rotate,
        Self::RotateHoisted,
        Self::LinearTransform,
        Self::Bootstrap,
    ];

    /// Name in tables, in JSON and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mult => "mult",
            Self::MultPlain => "mult_plain",
            Self::Rescale => "rescale",
            Self::Rotate => "rotate",
            Self::RotateHoisted => "rotate_hoisted",
            Self::LinearTransform => "linear_transform",
            Self::Bootstrap => "bootstrap",
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Operation {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name).ok_or_else(|| Error::Shape {
            operation: "comparison",
            what: format!("no operation is called `{name}`"),
            remedy: format!("use {}", Self::ALL.map(Self::name).join(", ")),
        })
    }
}

/// Times and precision of one operation at one number of limbs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OperationSamples {
    /// Which operation.
    pub op: Operation,
    /// Limbs of its input.
    pub limbs: usize,
    /// Every timed run.
    pub milliseconds: Vec<f64>,
    /// Processor time of every timed run, all threads together; empty where the system does not tell.
    pub cpu_milliseconds: Vec<f64>,
    /// −log2 of the largest error of any part of a slot, in the last run.
    pub precision_min_bits: f64,
    /// Mean over the parts of all slots of −log2 of the error, in the last run.
    pub precision_mean_bits: f64,
    /// Level of a bootstrap's result minus the lowest level of its input: what a program can use in between.
    pub levels_between_bootstraps: Option<usize>,
    /// Largest resident memory of the process by then.
    pub peak_bytes: Option<u64>,
}

/// Measures levelled operations with `client` at every number of limbs, each run once untimed and `repetitions` times
/// timed.
///
/// # Errors
/// [`Error::LevelOutOfRange`] for more limbs than the chain has, [`Error::Shape`] for fewer than 2; what the operations
/// return.
pub fn levelled_samples<C: Client>(
    client: &C,
    operations: &[Operation],
    limbs: &[usize],
    repetitions: usize,
) -> Result<Vec<OperationSamples>> {
    let slots = client.slots();
    let top = client.evaluator(&KeyRequest::new())?.chain().max_level();
    let mut request = KeyRequest::new();
    request.relinearization(top);
    for steps in [&HOISTED_STEPS[..], &BABIES[..], &GIANTS[..]] {
        request.rotations(steps, slots, top);
    }
    let evaluator = client.evaluator(&request)?;
    let mut samples = Vec::new();
    for limbs in limbs {
        let level = Level(limbs.saturating_sub(1));
        if level == Level(0) {
            return Err(Error::Shape {
                operation: "comparison",
                what: format!("{limbs} limbs"),
                remedy: format!("give 2 to {}", top.0 + 1),
            });
        }
        if level > top {
            return Err(Error::LevelOutOfRange { operation: "comparison", level, max: top });
        }
        let side = Side { client, evaluator: &evaluator, level, repetitions };
        for operation in operations.iter().filter(|operation| **operation != Operation::Bootstrap) {
            samples.push(side.samples(*operation)?);
        }
    }
    Ok(samples)
}

/// Measures bootstraps of a full ciphertext of uniform values to the highest level there is.
///
/// # Errors
/// [`Error::EvaluationKey`] under parameters that do not bootstrap; what the bootstrap returns.
pub fn bootstrap_samples<C: Client>(client: &C, repetitions: usize) -> Result<OperationSamples> {
    let slots = client.slots();
    let mut request = KeyRequest::new();
    request.bootstrapping(slots);
    let evaluator = client.evaluator(&request)?;
    let summary =
        evaluator.bootstrapping().ok_or(Error::EvaluationKey { key: "bootstrapping", level: Level(0) })?;
    let level = summary.minimum_input_level;
    let x = uniform(slots, 1);
    let a = client.encrypt(&x, level)?;
    let request = BootstrapRequest::all(summary.output_level, slots);
    // The first run of the native bootstrap encodes its transforms, which OpenFHE does while it makes keys.
    let rounds = Rounds { untimed: 1, timed: repetitions };
    let (timings, output) = time(rounds, || evaluator.bootstrap(&a, &request))?;
    let precision = Precision::of_slots(&client.decrypt(&output)?, &x, Parts::Complex)?;
    let levels = summary.output_level.minus(level.0, "bootstrap")?.0;
    Ok(OperationSamples {
        levels_between_bootstraps: Some(levels),
        ..samples_of(Operation::Bootstrap, level, &timings, 1, precision)
    })
}

/// A backend at one level.
struct Side<'a, C: Client> {
    client: &'a C,
    evaluator: &'a C::Evaluator,
    level: Level,
    repetitions: usize,
}

/// Times, the last result and what its slots should be.
struct Outcome<T> {
    timings: Timings,
    output: T,
    expected: Vec<Complex64>,
}

type Ciphertext<C> = <<C as Client>::Evaluator as Evaluator>::Ciphertext;

impl<C: Client> Side<'_, C> {
    fn samples(&self, operation: Operation) -> Result<OperationSamples> {
        let Outcome { timings, output, expected } = self.run(operation)?;
        if output.scale().0 <= 0.0 {
            return Err(Error::Internal(format!("{operation} returned a scale of {}", output.scale().0)));
        }
        let precision = Precision::of_slots(&self.client.decrypt(&output)?, &expected, Parts::Complex)?;
        let share = if operation == Operation::RotateHoisted { HOISTED_STEPS.len() } else { 1 };
        Ok(samples_of(operation, self.level, &timings, share, precision))
    }

    fn run(&self, operation: Operation) -> Result<Outcome<Ciphertext<C>>> {
        let (evaluator, slots) = (self.evaluator, self.client.slots());
        let scale = evaluator.chain().canonical_scale(self.level)?;
        let (x, y) = (uniform(slots, 1), uniform(slots, 2));
        let a = self.client.encrypt(&x, self.level)?;
        let product = || zip(&x, &y, |x, y| x * y);
        match operation {
            Operation::Mult => {
                let b = self.client.encrypt(&y, self.level)?;
                self.timed(product(), || evaluator.relinearize(&evaluator.tensor(&a, &b)?))
            }
            Operation::MultPlain => {
                let plaintext = evaluator.encode(&y, self.level, scale)?;
                self.timed(product(), || evaluator.mul_plain(&a, &plaintext))
            }
            Operation::Rescale => {
                let product = evaluator.mul_constant(&a, Complex64::from(1.0), scale)?;
                self.timed(x, || evaluator.rescale(&product))
            }
            Operation::Rotate => self.timed(rotated(&x, 1), || evaluator.rotate(&a, 1)),
            Operation::RotateHoisted => {
                let last = HOISTED_STEPS.last().copied().unwrap_or_default();
                self.timed(rotated(&x, last), || {
                    let rotations = evaluator.rotate_many(&a, &HOISTED_STEPS)?;
                    let last = rotations.into_iter().next_back();
                    last.ok_or_else(|| Error::Internal("no rotation came back".to_owned()))
                })
            }
            Operation::LinearTransform => self.linear_transform(&x, &a),
            Operation::Bootstrap => Err(Error::Internal("a bootstrap has parameters of its own".to_owned())),
        }
    }

    /// Σ over giant steps g of rot_g(Σ over baby steps b of diagonal_(g,b) · rot_b(x)).
    fn linear_transform(&self, x: &[Complex64], a: &Ciphertext<C>) -> Result<Outcome<Ciphertext<C>>> {
        let (evaluator, slots) = (self.evaluator, x.len());
        let scale = evaluator.chain().canonical_scale(self.level)?;
        let mut encoded = Vec::new();
        let mut expected = vec![Complex64::ZERO; slots];
        for (index, giant) in GIANTS.iter().enumerate() {
            let mut inner = vec![Complex64::ZERO; slots];
            let mut row = Vec::new();
            for (place, baby) in BABIES.iter().enumerate() {
                let diagonal = uniform(slots, (10 + BABIES.len() * index + place) as u64);
                let term = zip(&diagonal, &rotated(x, *baby), |d, x| d * x);
                inner = zip(&inner, &term, |sum, term| sum + term);
                row.push(evaluator.encode(&diagonal, self.level, scale)?);
            }
            expected = zip(&expected, &rotated(&inner, *giant), |sum, term| sum + term);
            encoded.push(row);
        }
        let giants = GIANTS.iter().zip(&encoded).map(|(step, row)| GiantStep {
            step: *step,
            babies: BABIES.iter().copied().zip(row.iter().map(Diagonal::Encoded)).collect(),
        });
        let transform = LinearTransform { giants: giants.collect() };
        self.timed(expected, || evaluator.linear_transform(a, &transform, scale))
    }

    fn timed<T>(&self, expected: Vec<Complex64>, action: impl FnMut() -> Result<T>) -> Result<Outcome<T>> {
        let (timings, output) = time(Rounds { untimed: 1, timed: self.repetitions }, action)?;
        Ok(Outcome { timings, output, expected })
    }
}

/// Samples of runs that each did `share` operations.
fn samples_of(
    op: Operation,
    level: Level,
    timings: &Timings,
    share: usize,
    precision: Precision,
) -> OperationSamples {
    let each = |seconds: &[f64]| seconds.iter().map(|seconds| seconds * 1e3 / share as f64).collect();
    OperationSamples {
        op,
        limbs: level.0 + 1,
        milliseconds: each(&timings.seconds),
        cpu_milliseconds: each(&timings.processor_seconds),
        precision_min_bits: precision.min_bits,
        precision_mean_bits: precision.mean_bits,
        levels_between_bootstraps: None,
        peak_bytes: peak_memory_bytes(),
    }
}

fn rotated(values: &[Complex64], step: i64) -> Vec<Complex64> {
    let mut rotated = values.to_vec();
    rotated.rotate_left(normalize_step(step, values.len()));
    rotated
}

fn zip(
    a: &[Complex64],
    b: &[Complex64],
    combine: impl Fn(Complex64, Complex64) -> Complex64,
) -> Vec<Complex64> {
    a.iter().zip(b).map(|(x, y)| combine(*x, *y)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::native::{NativeClient, test_levelled};
    use crate::ckks::Parameters;

    #[test]
    fn every_levelled_operation_of_native_is_timed_and_right() {
        let parameters = Arc::new(Parameters::new(test_levelled(11, 3)).unwrap());
        let client = NativeClient::new(parameters).unwrap();
        let samples = levelled_samples(&client, &Operation::ALL, &[3], 2).unwrap();
        assert_eq!(samples.len(), Operation::ALL.len() - 1, "the bootstrap has parameters of its own");
        for one in samples {
            assert!(one.precision_min_bits > 20.0, "{one:?}");
            assert!(
                one.milliseconds.len() == 2 && one.milliseconds.iter().all(|time| *time > 0.0),
                "{one:?}"
            );
        }
        for limbs in [0, 1, 5] {
            assert!(levelled_samples(&client, &Operation::ALL, &[limbs], 1).is_err(), "{limbs} limbs");
        }
        assert!("multiply".parse::<Operation>().unwrap_err().to_string().contains("mult_plain"));
    }
}
