//! Time, precision and cost of bootstraps on the native backend.

use serde::Serialize;

use super::values::Input;
use crate::backend::native::{NativeClient, NativeEvaluator};
use crate::bootstrapping::BootstrapParameters;
use crate::contract::{
    BootstrapRequest, BootstrapSummary, Client, Complex64, Error, Evaluator, KeyRequest, Level, Result,
};
use crate::measure::{Parts, Precision, Rounds, Statistics, check_memory, peak_memory_bytes, time};

/// Limbs of the rotation that bootstraps are compared with.
const REFERENCE_LIMBS: usize = 24;
/// Timed runs of that rotation.
const REFERENCE_ROUNDS: Rounds = Rounds { untimed: 1, timed: 7 };

/// Bootstraps of one kind of input.
#[derive(Clone, Debug, Serialize)]
pub struct BootstrapTime {
    /// Which transforms: `all` for those of all slots of the period.
    pub kind: &'static str,
    /// Kind of values.
    pub input: Input,
    /// Slots of one period, which are bootstrapped.
    pub slots: usize,
    /// Values that come out: two in a complex slot, one in a real one.
    pub values: usize,
    /// Threads.
    pub threads: usize,
    /// Bootstraps after one another of the value and its error: 2 is the precise mode.
    pub iterations: usize,
    /// Whether imaginary parts were left out.
    pub real: bool,
    /// Median of one bootstrap in seconds.
    pub median_s: f64,
    /// Least in seconds.
    pub min_s: f64,
    /// Median of one rotation at 24 limbs (or the most there are) in this process, in milliseconds.
    pub reference_rotate_ms: f64,
    /// The least time in such rotations.
    pub rotations: f64,
    /// −log2 of the largest error.
    pub precision_min_bits: f64,
    /// Mean of −log2 of the errors.
    pub precision_mean_bits: f64,
    /// Level of the result.
    pub levels_after: usize,
    /// Lowest level of an input.
    pub minimum_input_level: usize,
    /// Bytes of the evaluation keys.
    pub key_bytes: u64,
    /// Largest resident memory of the process by then, where the system tells.
    pub peak_bytes: Option<u64>,
    /// log2 of the probability that one bootstrap fails.
    pub log2_failure: f64,
}

/// The error after a number of bootstraps, each of the result of the one before.
#[derive(Clone, Debug, Serialize)]
pub struct ChainedPrecision {
    /// Bootstraps so far.
    pub bootstraps: usize,
    /// −log2 of the largest error.
    pub precision_min_bits: f64,
    /// Mean of −log2 of the errors.
    pub precision_mean_bits: f64,
    /// Root of the mean square of the errors.
    pub rms_error: f64,
}

/// What to bootstrap, and how often.
#[derive(Clone, Copy, Debug)]
pub struct BootstrapCase {
    /// Kind of values.
    pub input: Input,
    /// Seed of the values.
    pub seed: u64,
    /// 1, or 2 for the precise mode, whose result is one level lower.
    pub iterations: usize,
    /// Timed bootstraps.
    pub repeat: usize,
}

/// A client and evaluator with the keys to bootstrap slots of one period.
pub struct BootstrapBench {
    pub(super) parameters: BootstrapParameters,
    pub(super) client: NativeClient,
    pub(super) evaluator: NativeEvaluator,
    pub(super) summary: BootstrapSummary,
    pub(super) slots: usize,
}

impl BootstrapBench {
    /// Makes the keys for bootstraps of period `slots` (all slots for `None`), and for one rotation to compare with.
    ///
    /// # Errors
    /// [`Error::Memory`] when keys and working memory do not fit, before keys are made; what key generation returns.
    pub fn new(parameters: BootstrapParameters, slots: Option<usize>) -> Result<Self> {
        let client = NativeClient::with_bootstrapping(parameters.clone(), None)?;
        let slots = slots.unwrap_or(client.slots());
        let mut request = KeyRequest::new();
        request.bootstrapping(slots).rotation(1, reference_level(&client));
        let predicted = client.predicted_key_bytes(&request)?;
        check_memory("bench bootstrap", predicted + predicted / 2)?;
        let evaluator = client.evaluator(&request)?;
        let summary = evaluator
            .bootstrapping()
            .ok_or(Error::EvaluationKey { key: "bootstrapping", level: Level(0) })?;
        Ok(Self { parameters, client, evaluator, summary, slots })
    }

    /// Levels in and out of a bootstrap.
    #[must_use]
    pub fn summary(&self) -> BootstrapSummary {
        self.summary
    }

    /// Bytes of the evaluation keys.
    #[must_use]
    pub fn key_bytes(&self) -> u64 {
        self.evaluator.key_bytes()
    }

    /// Seconds of one rotation at 24 limbs, or at the most that the chain has.
    ///
    /// # Errors
    /// What the rotation returns.
    pub fn reference_rotation(&self) -> Result<Statistics> {
        let values = vec![Complex64::from(0.5); self.client.slots()];
        let ciphertext = self.client.encrypt(&values, reference_level(&self.client))?;
        let (timings, _) = time(REFERENCE_ROUNDS, || self.evaluator.rotate(&ciphertext, 1))?;
        Statistics::of(&timings.seconds)
    }

    /// Times bootstraps of a fresh ciphertext at the lowest input level; the precision is the worst over the
    /// repetitions. `reference` is the time of [`BootstrapBench::reference_rotation`] in the same pool of `threads`.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for more iterations than levels; [`Error::Shape`] for 0 repetitions.
    pub fn time(&self, case: BootstrapCase, threads: usize, reference: Statistics) -> Result<BootstrapTime> {
        let BootstrapCase { input, seed, iterations, repeat } = case;
        let wanted = input.values(self.slots, self.client.slots(), seed);
        let ciphertext = self.client.encrypt(&wanted, self.summary.minimum_input_level)?;
        let level = self.summary.output_level.minus(iterations.saturating_sub(1), "bootstrap")?;
        let real = input == Input::Real;
        let request = BootstrapRequest { level, slots: self.slots, iterations, real };
        let (mut seconds, mut precisions) = (Vec::new(), Vec::new());
        for _ in 0..repeat {
            let (timings, result) =
                time(Rounds { untimed: 0, timed: 1 }, || self.evaluator.bootstrap(&ciphertext, request))?;
            seconds.extend(timings.seconds);
            precisions.push(self.precision(&result, &wanted, real)?);
        }
        let times = Statistics::of(&seconds)?;
        let bits = |of: fn(&Precision) -> f64| precisions.iter().map(of).collect::<Vec<f64>>();
        let mean_bits = bits(|precision| precision.mean_bits);
        Ok(BootstrapTime {
            kind: "all",
            input,
            slots: self.slots,
            values: if real { self.slots } else { 2 * self.slots },
            threads,
            iterations,
            real,
            median_s: times.median,
            min_s: times.min,
            reference_rotate_ms: reference.median * 1e3,
            rotations: times.min / reference.median,
            precision_min_bits: Statistics::of(&bits(|precision| precision.min_bits))?.min,
            precision_mean_bits: mean_bits.iter().sum::<f64>() / mean_bits.len() as f64,
            levels_after: level.0,
            minimum_input_level: self.summary.minimum_input_level.0,
            key_bytes: self.key_bytes(),
            peak_bytes: peak_memory_bytes(),
            log2_failure: self.parameters.log2_failure(),
        })
    }

    /// Precision after 1, 2, … `length` bootstraps of uniform values, each of the result before, told one by one.
    ///
    /// # Errors
    /// What a bootstrap returns.
    pub fn chain(
        &self,
        length: usize,
        seed: u64,
        told: &mut dyn FnMut(&ChainedPrecision),
    ) -> Result<Vec<ChainedPrecision>> {
        let wanted = Input::Uniform.values(self.slots, self.client.slots(), seed);
        let mut ciphertext = self.client.encrypt(&wanted, self.summary.minimum_input_level)?;
        let level = self.summary.output_level;
        let request = BootstrapRequest { level, slots: self.slots, iterations: 1, real: false };
        let mut rows = Vec::with_capacity(length);
        for bootstraps in 1..=length {
            ciphertext = self.evaluator.bootstrap(&ciphertext, request)?;
            let Precision { min_bits, mean_bits, rms_error } = self.precision(&ciphertext, &wanted, false)?;
            let row = ChainedPrecision {
                bootstraps,
                precision_min_bits: min_bits,
                precision_mean_bits: mean_bits,
                rms_error,
            };
            told(&row);
            rows.push(row);
        }
        Ok(rows)
    }

    fn precision(
        &self,
        result: &<NativeEvaluator as Evaluator>::Ciphertext,
        wanted: &[Complex64],
        real: bool,
    ) -> Result<Precision> {
        let found = self.client.decrypt_bootstrapped(result, self.summary)?;
        Precision::of_slots(&found, wanted, if real { Parts::Real } else { Parts::Complex })
    }
}

fn reference_level(client: &NativeClient) -> Level {
    Level((REFERENCE_LIMBS - 1).min(client.ckks().parameters().chain().max_level().0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstraps_of_the_small_ring_are_timed_and_precise() {
        let bench = BootstrapBench::new(BootstrapParameters::test(12, 3), Some(64)).unwrap();
        let reference = bench.reference_rotation().unwrap();
        let case = BootstrapCase { input: Input::Real, seed: 1, iterations: 1, repeat: 2 };
        let row = bench.time(case, 1, reference).unwrap();
        assert_eq!((row.slots, row.values, row.real), (64, 64, true));
        assert!(row.min_s > 0.0 && row.min_s <= row.median_s, "{row:?}");
        assert!(
            row.precision_min_bits > 12.0 && row.precision_min_bits <= row.precision_mean_bits,
            "{row:?}"
        );
        assert!(bench.time(BootstrapCase { repeat: 0, ..case }, 1, reference).is_err());

        let mut told = 0;
        let chain = bench.chain(2, 1, &mut |_| told += 1).unwrap();
        assert_eq!((chain.len(), told), (2, 2));
        assert!(chain[0].rms_error > 0.0 && chain[1].rms_error > chain[0].rms_error / 2.0, "{chain:?}");

        let overflow = bench.overflow(1).unwrap();
        assert_eq!(overflow.rows[0].measured, 1 << 12, "every coefficient has some integer part");
        assert!(overflow.margin_to_interval > 0.0, "{overflow:?}");
    }
}
