//! Native and OpenFHE side by side: the parameters of either side, and the rows that all their turns come to.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::comparison::{Operation, OperationSamples, bootstrap_samples, levelled_samples};
use crate::backend::native::{NativeClient, n16_levelled, test_levelled};
use crate::bootstrapping::BootstrapParameters;
use crate::ckks::Parameters;
use crate::contract::Result;
use crate::measure::Statistics;

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Our own CKKS.
    Native,
    /// OpenFHE's.
    OpenFhe,
}

/// Ring, limbs and digits that both sides share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComparedRing {
    /// N = 2^12, 9 limbs, no security.
    Test,
    /// N = 2^16, 24 limbs of 50 bits in 3 digits; bootstraps of all slots under either side's own chain. No security
    /// is claimed for OpenFHE's side: its special primes have 60 bits and its bootstrapping chain is longer.
    N16,
}

impl ComparedRing {
    /// Limbs of the inputs that are measured unless others are named.
    #[must_use]
    pub fn limbs(self) -> Vec<usize> {
        match self {
            Self::Test => vec![4, 8],
            Self::N16 => vec![5, 20],
        }
    }

    /// Bytes of memory of the dearer side, by measurement.
    #[must_use]
    pub fn needed_bytes(self, operations: &[Operation]) -> u64 {
        match (self, operations.contains(&Operation::Bootstrap)) {
            (Self::Test, _) => 1 << 30,
            (Self::N16, false) => 4 << 30,
            (Self::N16, true) => 14 << 30,
        }
    }
}

/// Measures one side in this process: levelled operations under the shared chain, a bootstrap under the side's own.
///
/// # Errors
/// [`crate::contract::Error::Unsupported`] for OpenFHE in a build without it; what the operations return.
pub fn side_samples(
    side: Side,
    ring: ComparedRing,
    operations: &[Operation],
    limbs: &[usize],
    repetitions: usize,
) -> Result<Vec<OperationSamples>> {
    let mut samples = Vec::new();
    if operations.iter().any(|operation| *operation != Operation::Bootstrap) {
        samples.extend(match side {
            Side::Native => {
                let literal = match ring {
                    ComparedRing::Test => test_levelled(12, 8),
                    ComparedRing::N16 => n16_levelled(),
                };
                let client = NativeClient::new(Arc::new(Parameters::new(literal)?))?;
                levelled_samples(&client, operations, limbs, repetitions)?
            }
            Side::OpenFhe => openfhe::levelled(ring, operations, limbs, repetitions)?,
        });
    }
    if operations.contains(&Operation::Bootstrap) {
        // A bootstrap at N = 2^16 takes a minute: once a turn.
        let repetitions = if ring == ComparedRing::Test { repetitions } else { 1 };
        samples.push(match side {
            Side::Native => {
                let parameters = match ring {
                    ComparedRing::Test => BootstrapParameters::test(12, 5),
                    ComparedRing::N16 => BootstrapParameters::n16(),
                };
                bootstrap_samples(&NativeClient::with_bootstrapping(parameters, None)?, repetitions)?
            }
            Side::OpenFhe => openfhe::bootstrap(ring, repetitions)?,
        });
    }
    Ok(samples)
}

pub use openfhe::version as openfhe_version;

#[cfg(feature = "openfhe")]
mod openfhe {
    use super::{ComparedRing, Operation, OperationSamples, Result, bootstrap_samples, levelled_samples};
    use crate::backend::openfhe::{OpenFheBootstrapping, OpenFheClient, OpenFheParameters};

    /// Version of the OpenFHE that this program was built with.
    ///
    /// # Errors
    /// What the bridge returns.
    pub fn version() -> Result<String> {
        crate::backend::openfhe::version()
    }

    /// The native side's ring, limbs and digits.
    pub fn levelled(
        ring: ComparedRing,
        operations: &[Operation],
        limbs: &[usize],
        repetitions: usize,
    ) -> Result<Vec<OperationSamples>> {
        let (log2_n, levels, log2_scale, log2_base) = match ring {
            ComparedRing::Test => (12, 8, 41, 50),
            ComparedRing::N16 => (16, 23, 50, 58),
        };
        let parameters =
            OpenFheParameters { log2_n, levels, log2_scale, log2_base, digits: 3, bootstrapping: None };
        levelled_samples(&OpenFheClient::new(parameters)?, operations, limbs, repetitions)
    }

    /// A chain of its own, which leaves fewer levels: with it OpenFHE's memory stays below 14 GB at N = 2^16.
    pub fn bootstrap(ring: ComparedRing, repetitions: usize) -> Result<OperationSamples> {
        let parameters = match ring {
            ComparedRing::Test => OpenFheParameters::test_bootstrapping(),
            ComparedRing::N16 => OpenFheParameters {
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
        bootstrap_samples(&OpenFheClient::new(parameters)?, repetitions)
    }
}

#[cfg(not(feature = "openfhe"))]
mod openfhe {
    use super::{ComparedRing, Operation, OperationSamples, Result};
    use crate::contract::Error;

    fn missing<T>() -> Result<T> {
        Err(Error::Unsupported {
            backend: "openfhe",
            operation: "be compared in a program that was built without it".to_owned(),
            remedy: "build with `cargo build --release --features openfhe`".to_owned(),
        })
    }

    /// Version of the OpenFHE that this program was built with.
    ///
    /// # Errors
    /// [`Error::Unsupported`]: it was built without.
    pub fn version() -> Result<String> {
        missing()
    }

    pub fn levelled(
        _: ComparedRing,
        _: &[Operation],
        _: &[usize],
        _: usize,
    ) -> Result<Vec<OperationSamples>> {
        missing()
    }

    pub fn bootstrap(_: ComparedRing, _: usize) -> Result<OperationSamples> {
        missing()
    }
}

/// One line of the comparison: an operation at a number of limbs. A figure of a side that was not measured is `None`.
#[derive(Clone, Debug, Serialize)]
pub struct ComparisonRow {
    /// Operation.
    pub op: Operation,
    /// Limbs of its input; of a bootstrap as few as the native side needs.
    pub limbs: usize,
    /// Median of all turns in milliseconds.
    pub native_ms: Option<f64>,
    /// Least of all turns.
    pub native_min_ms: Option<f64>,
    /// Median of all turns in milliseconds.
    pub openfhe_ms: Option<f64>,
    /// Least of all turns.
    pub openfhe_min_ms: Option<f64>,
    /// OpenFHE's median over ours.
    pub ratio: Option<f64>,
    /// Median processor time of all threads: what a busy machine distorts least.
    pub native_cpu_ms: Option<f64>,
    /// Median processor time of all threads.
    pub openfhe_cpu_ms: Option<f64>,
    /// OpenFHE's median processor time over ours.
    pub cpu_ratio: Option<f64>,
    /// Worst of all turns.
    pub native_precision_min_bits: Option<f64>,
    /// Worst of all turns.
    pub openfhe_precision_min_bits: Option<f64>,
    /// Mean of all turns.
    pub native_precision_mean_bits: Option<f64>,
    /// Mean of all turns.
    pub openfhe_precision_mean_bits: Option<f64>,
    /// Bootstraps only: levels a program can use between two of them.
    pub native_levels_between_bootstraps: Option<usize>,
    /// Bootstraps only: levels a program can use between two of them.
    pub openfhe_levels_between_bootstraps: Option<usize>,
    /// Largest resident memory of the side's process.
    pub native_peak_bytes: Option<u64>,
    /// Largest resident memory of the side's process.
    pub openfhe_peak_bytes: Option<u64>,
    /// Timed runs of both sides.
    pub samples: usize,
}

/// Samples of all turns of both sides.
#[derive(Debug, Default)]
pub struct Turns {
    /// By operation and limbs; limbs of a bootstrap are 0, as it starts from as few as either side needs.
    places: BTreeMap<(Operation, usize), BTreeMap<Side, Vec<OperationSamples>>>,
}

impl Turns {
    /// Adds what one turn of `side` measured.
    pub fn add(&mut self, side: Side, samples: Vec<OperationSamples>) {
        for sample in samples {
            let limbs = if sample.op == Operation::Bootstrap { 0 } else { sample.limbs };
            let sides = self.places.entry((sample.op, limbs)).or_default();
            sides.entry(side).or_default().push(sample);
        }
    }

    /// One row for every operation and number of limbs that either side measured.
    #[must_use]
    pub fn rows(&self) -> Vec<ComparisonRow> {
        let row = |((op, limbs), sides): (&(Operation, usize), &BTreeMap<Side, Vec<OperationSamples>>)| {
            let of = |side| sides.get(&side).map_or(&[][..], Vec::as_slice);
            let (native, openfhe) = (Figures::of(of(Side::Native)), Figures::of(of(Side::OpenFhe)));
            let ratio = |native: Option<f64>, openfhe: Option<f64>| {
                native.zip(openfhe).map(|(native, openfhe)| openfhe / native)
            };
            ComparisonRow {
                op: *op,
                limbs: native.limbs.or(openfhe.limbs).unwrap_or(*limbs),
                native_ms: native.median_ms,
                native_min_ms: native.min_ms,
                openfhe_ms: openfhe.median_ms,
                openfhe_min_ms: openfhe.min_ms,
                ratio: ratio(native.median_ms, openfhe.median_ms),
                native_cpu_ms: native.cpu_ms,
                openfhe_cpu_ms: openfhe.cpu_ms,
                cpu_ratio: ratio(native.cpu_ms, openfhe.cpu_ms),
                native_precision_min_bits: native.precision_min_bits,
                openfhe_precision_min_bits: openfhe.precision_min_bits,
                native_precision_mean_bits: native.precision_mean_bits,
                openfhe_precision_mean_bits: openfhe.precision_mean_bits,
                native_levels_between_bootstraps: native.levels,
                openfhe_levels_between_bootstraps: openfhe.levels,
                native_peak_bytes: native.peak_bytes,
                openfhe_peak_bytes: openfhe.peak_bytes,
                samples: native.samples + openfhe.samples,
            }
        };
        self.places.iter().map(row).collect()
    }
}

/// All turns of one side.
struct Figures {
    limbs: Option<usize>,
    median_ms: Option<f64>,
    min_ms: Option<f64>,
    cpu_ms: Option<f64>,
    precision_min_bits: Option<f64>,
    precision_mean_bits: Option<f64>,
    levels: Option<usize>,
    peak_bytes: Option<u64>,
    samples: usize,
}

impl Figures {
    fn of(turns: &[OperationSamples]) -> Self {
        // No statistics of no samples: the side was not measured.
        let statistics = |of: fn(&OperationSamples) -> &[f64]| {
            let samples: Vec<f64> = turns.iter().flat_map(|turn| of(turn).iter().copied()).collect();
            Statistics::of(&samples).ok()
        };
        let elapsed = statistics(|turn| &turn.milliseconds);
        let mean_bits: f64 = turns.iter().map(|turn| turn.precision_mean_bits).sum();
        let count = turns.len();
        Self {
            limbs: turns.first().map(|turn| turn.limbs),
            median_ms: elapsed.map(|elapsed| elapsed.median),
            min_ms: elapsed.map(|elapsed| elapsed.min),
            cpu_ms: statistics(|turn| &turn.cpu_milliseconds).map(|processor| processor.median),
            precision_min_bits: turns.iter().map(|turn| turn.precision_min_bits).min_by(f64::total_cmp),
            precision_mean_bits: (count > 0).then(|| mean_bits / count as f64),
            levels: turns.iter().find_map(|turn| turn.levels_between_bootstraps),
            peak_bytes: turns.iter().filter_map(|turn| turn.peak_bytes).max(),
            samples: turns.iter().map(|turn| turn.milliseconds.len()).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(op: Operation, limbs: usize, milliseconds: &[f64], bits: f64) -> OperationSamples {
        OperationSamples {
            op,
            limbs,
            milliseconds: milliseconds.to_vec(),
            cpu_milliseconds: vec![],
            precision_min_bits: bits,
            precision_mean_bits: bits + 1.0,
            levels_between_bootstraps: (op == Operation::Bootstrap).then_some(limbs),
            peak_bytes: None,
        }
    }

    #[test]
    fn rows_are_medians_over_all_turns_and_bootstraps_of_both_sides_share_one() {
        let mut turns = Turns::default();
        turns.add(Side::Native, vec![samples(Operation::Rotate, 5, &[1.0, 2.0], 30.0)]);
        turns.add(Side::Native, vec![samples(Operation::Rotate, 5, &[6.0], 29.0)]);
        turns.add(Side::OpenFhe, vec![samples(Operation::Rotate, 5, &[8.0], 20.0)]);
        turns.add(Side::Native, vec![samples(Operation::Bootstrap, 4, &[10.0], 19.0)]);
        turns.add(Side::OpenFhe, vec![samples(Operation::Bootstrap, 2, &[25.0], 15.0)]);
        let rows = turns.rows();
        assert_eq!(rows.len(), 2, "{rows:?}");
        let [rotate, bootstrap] = [&rows[0], &rows[1]];
        assert_eq!((rotate.native_ms, rotate.native_min_ms, rotate.ratio), (Some(2.0), Some(1.0), Some(4.0)));
        assert_eq!((rotate.native_precision_min_bits, rotate.samples), (Some(29.0), 4));
        assert_eq!(rotate.native_precision_mean_bits, Some(30.5));
        assert_eq!((bootstrap.limbs, bootstrap.ratio), (4, Some(2.5)));
        assert_eq!(bootstrap.openfhe_levels_between_bootstraps, Some(2));
    }
}
