//! Time, precision and cost of bootstraps on the native backend, of all slots and of few values.

use serde::Serialize;

use super::values::Input;
use crate::backend::native::{NativeClient, NativeEvaluator};
use crate::bootstrapping::BootstrapParameters;
use crate::contract::{
    BootstrapRequest, BootstrapSummary, Client, Complex64, Error, Evaluator, FewValues, KeyRequest, Level,
    OccupiedSlots, Refreshed, Result,
};
use crate::measure::{Parts, Precision, Rounds, Statistics, check_memory, peak_memory_bytes, time};

/// Limbs of the rotation that bootstraps are compared with.
const REFERENCE_LIMBS: usize = 24;
/// Timed runs of that rotation.
const REFERENCE_ROUNDS: Rounds = Rounds { untimed: 0, timed: 7 };
/// Level to which a result falls before its junk is masked away, in a chain of bootstraps of few values.
const MASK_LEVEL: Level = Level(2);

/// What is refreshed, with names for reports.
#[derive(Clone, Debug)]
pub struct BootstrapKind {
    /// `all` or `few`.
    pub name: &'static str,
    /// Layout in words.
    pub layout: &'static str,
    /// What is refreshed; of all slots complex ones, unless the input is real.
    pub refreshed: Refreshed,
}

impl BootstrapKind {
    /// All slots, of period `period`.
    #[must_use]
    pub fn all(period: usize) -> Self {
        Self { name: "all", layout: "all slots", refreshed: Refreshed::All { period, real: false } }
    }

    /// The layouts of a decode step of SmolLM2 in a ring of `total` slots: the residual stream, and complex values far
    /// apart.
    ///
    /// # Errors
    /// [`Error::Shape`] for a ring too small for them.
    pub fn few(total: usize) -> Result<Vec<Self>> {
        let (block, apart) = (total / 64, (total / 512).max(64));
        let residual = (0..64).flat_map(|b| (0..9).map(move |value| b * block + value)).collect();
        let pairs = (0..total / apart).map(|pair| pair * apart).collect();
        let kind = |layout, slots: Vec<usize>, real| -> Result<Self> {
            let few = FewValues { slots: OccupiedSlots::new(slots)?, real };
            Ok(Self { name: "few", layout, refreshed: Refreshed::Few(few) })
        };
        Ok(vec![
            kind("64 blocks of 9 real values", residual, true)?,
            kind("complex values far apart", pairs, false)?,
        ])
    }

    /// Number of values: slots of the period, or slots occupied.
    #[must_use]
    pub fn values(&self) -> usize {
        match &self.refreshed {
            Refreshed::All { period, .. } => *period,
            Refreshed::Few(few) => few.slots.len(),
        }
    }

    /// Whether what is refreshed for `input` is real: always, or because the input is.
    fn is_real(&self, input: Input) -> bool {
        match &self.refreshed {
            Refreshed::All { .. } => input == Input::Real,
            Refreshed::Few(few) => few.real,
        }
    }
}

/// Bootstraps of one kind of input.
#[derive(Clone, Debug, Serialize)]
pub struct BootstrapTime {
    /// `all` or `few`.
    pub kind: &'static str,
    /// Layout in words.
    pub layout: &'static str,
    /// Kind of values.
    pub input: Input,
    /// Slots of the ring.
    pub slots: usize,
    /// Values: slots of the period, or slots occupied.
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
    /// −log2 of the largest error of all repetitions.
    pub precision_min_bits: f64,
    /// Mean of −log2 of the errors of all repetitions.
    pub precision_mean_bits: f64,
    /// Level of the result.
    pub levels_after: usize,
    /// Lowest level of an input.
    pub minimum_input_level: usize,
    /// Bytes of the evaluation keys.
    pub key_bytes: u64,
    /// Bytes of the encoded transforms.
    pub plaintext_bytes: u64,
    /// Largest resident memory of the process by then, where the system tells.
    pub peak_bytes: Option<u64>,
    /// log2 of the probability that one bootstrap fails; `None` where no figure is known.
    pub log2_failure: Option<f64>,
}

/// The error after a number of bootstraps, each of the result of the one before.
#[derive(Clone, Debug, Serialize)]
pub struct ChainedPrecision {
    /// `all` or `few`.
    pub kind: &'static str,
    /// Values: slots of the period, or slots occupied.
    pub values: usize,
    /// Bootstraps so far.
    pub bootstraps: usize,
    /// −log2 of the largest error.
    pub precision_min_bits: f64,
    /// Mean of −log2 of the errors.
    pub precision_mean_bits: f64,
    /// Root of the mean square of the errors.
    pub rms_error: f64,
}

/// A client and evaluator with the keys for bootstraps of one kind, in a process and a pool of threads.
pub struct BootstrapBench {
    pub(super) parameters: BootstrapParameters,
    pub(super) client: NativeClient,
    pub(super) evaluator: NativeEvaluator,
    pub(super) summary: BootstrapSummary,
    pub(super) kind: BootstrapKind,
    key_generation_s: f64,
    reference: Statistics,
    seed: u64,
}

impl BootstrapBench {
    /// Makes the keys for bootstraps of `kind`, and for one rotation to compare with, and times that rotation. Values
    /// are drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Memory`] when keys and working memory do not fit, before keys are made; what key generation returns.
    pub fn new(parameters: BootstrapParameters, kind: BootstrapKind, seed: u64) -> Result<Self> {
        let client = NativeClient::with_bootstrapping(parameters.clone(), None)?;
        let top = client.ckks().parameters().chain().max_level();
        let reference_level = Level((REFERENCE_LIMBS - 1).min(top.0));
        let mut request = KeyRequest::new();
        request.bootstrapping_of(&request_of(&kind, 1)).rotation(1, reference_level);
        let predicted = client.predicted_key_bytes(&request)?;
        check_memory("bench bootstrap", predicted + predicted / 2)?;
        let once = Rounds { untimed: 0, timed: 1 };
        let (key_generation, evaluator) = time(once, || client.evaluator(&request))?;
        let key_generation_s = Statistics::of(&key_generation.seconds)?.median;
        let summary = evaluator
            .bootstrapping()
            .ok_or(Error::EvaluationKey { key: "bootstrapping", level: Level(0) })?;
        let x = client.encrypt(&vec![Complex64::from(0.5); client.slots()], reference_level)?;
        let (timings, _) = time(REFERENCE_ROUNDS, || evaluator.rotate(&x, 1))?;
        let reference = Statistics::of(&timings.seconds)?;
        Ok(Self { parameters, client, evaluator, summary, kind, key_generation_s, reference, seed })
    }

    /// What is refreshed.
    #[must_use]
    pub fn kind(&self) -> &BootstrapKind {
        &self.kind
    }

    /// Seconds that key generation took.
    #[must_use]
    pub fn key_generation_s(&self) -> f64 {
        self.key_generation_s
    }

    /// Bytes of the evaluation keys.
    #[must_use]
    pub fn key_bytes(&self) -> u64 {
        self.evaluator.key_bytes()
    }

    /// Seconds of one rotation at 24 limbs, or at the most that the chain has.
    #[must_use]
    pub fn reference_rotation(&self) -> Statistics {
        self.reference
    }

    /// log2 of the probability that one bootstrap of this kind fails; `None` where no figure is known.
    #[must_use]
    pub fn log2_failure(&self) -> Option<f64> {
        match &self.kind.refreshed {
            Refreshed::All { .. } => Some(self.parameters.log2_failure()),
            Refreshed::Few(_) => self.parameters.log2_failure_few(),
        }
    }

    /// Times `repeat` bootstraps of a fresh ciphertext at the lowest input level to the highest level there is.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other iterations than 1 and 2, [`Error::Shape`] for 0 repetitions,
    /// [`Error::OutOfInterval`] for a result beyond the bound.
    pub fn time(&self, input: Input, iterations: usize, repeat: usize) -> Result<BootstrapTime> {
        let wanted = self.slots(input);
        let request = self.request(input, iterations)?;
        let (lowest, _) = self.summary.levels(&request, "native")?;
        let ciphertext = self.client.encrypt(&wanted, lowest)?;
        let (mut seconds, mut precisions) = (Vec::new(), Vec::new());
        for _ in 0..repeat {
            let once = Rounds { untimed: 0, timed: 1 };
            let (timings, result) = time(once, || self.evaluator.bootstrap(&ciphertext, &request))?;
            seconds.extend(timings.seconds);
            precisions.push(self.precision(&result, &wanted, &request)?);
        }
        let times = Statistics::of(&seconds)?;
        let bits = |of: fn(&Precision) -> f64| precisions.iter().map(of).collect::<Vec<f64>>();
        let mean_bits = bits(|precision| precision.mean_bits);
        Ok(BootstrapTime {
            kind: self.kind.name,
            layout: self.kind.layout,
            input,
            slots: self.client.slots(),
            values: self.kind.values(),
            threads: rayon::current_num_threads(),
            iterations,
            real: request.refreshed.is_real(),
            median_s: times.median,
            min_s: times.min,
            reference_rotate_ms: self.reference.median * 1e3,
            rotations: times.min / self.reference.median,
            precision_min_bits: Statistics::of(&bits(|precision| precision.min_bits))?.min,
            precision_mean_bits: mean_bits.iter().sum::<f64>() / mean_bits.len() as f64,
            levels_after: request.level.0,
            minimum_input_level: lowest.0,
            key_bytes: self.key_bytes(),
            plaintext_bytes: self
                .evaluator
                .bootstrapper()
                .map_or(0, |bootstrapper| bootstrapper.encoded_bytes()),
            peak_bytes: peak_memory_bytes(),
            log2_failure: self.log2_failure(),
        })
    }

    /// Precision after 1, 2, … `length` bootstraps of uniform values, each of the result before, told one by one. Junk
    /// beside few values is masked away in between, as a circuit would.
    ///
    /// # Errors
    /// What a bootstrap returns; [`Error::OutOfInterval`] for a result beyond the bound.
    pub fn chain(
        &self,
        length: usize,
        told: &mut dyn FnMut(&ChainedPrecision),
    ) -> Result<Vec<ChainedPrecision>> {
        let wanted = self.slots(Input::Uniform);
        let request = self.request(Input::Uniform, 1)?;
        let mut ciphertext = self.client.encrypt(&wanted, self.summary.levels(&request, "native")?.0)?;
        let mut rows = Vec::with_capacity(length);
        for bootstraps in 1..=length {
            ciphertext = self.evaluator.bootstrap(&ciphertext, &request)?;
            let precision = self.precision(&ciphertext, &wanted, &request)?;
            let row = ChainedPrecision {
                kind: self.kind.name,
                values: self.kind.values(),
                bootstraps,
                precision_min_bits: precision.min_bits,
                precision_mean_bits: precision.mean_bits,
                rms_error: precision.rms_error,
            };
            told(&row);
            rows.push(row);
            if let Refreshed::Few(few) = &self.kind.refreshed {
                let low = self.evaluator.lower(&ciphertext, MASK_LEVEL)?;
                ciphertext = self.evaluator.mul_values(&low, &few.slots.mask(self.client.slots()))?;
            }
        }
        Ok(rows)
    }

    /// The request for `input` to the highest level.
    pub(super) fn request(&self, input: Input, iterations: usize) -> Result<BootstrapRequest> {
        let request = request_of(&self.kind, iterations).real(self.kind.is_real(input));
        let (_, highest) = self.summary.levels(&request, "native")?;
        Ok(request.to(highest))
    }

    /// All slots of an input of one kind.
    pub(super) fn slots(&self, input: Input) -> Vec<Complex64> {
        let total = self.client.slots();
        let mut values = input.values(self.kind.values(), self.seed);
        if self.kind.is_real(input) {
            values.iter_mut().for_each(|value| value.im = 0.0);
        }
        match &self.kind.refreshed {
            Refreshed::All { .. } => values.into_iter().cycle().take(total).collect(),
            Refreshed::Few(few) => {
                let mut slots = vec![Complex64::ZERO; total];
                for (slot, value) in few.slots.slots().iter().zip(values) {
                    if let Some(place) = slots.get_mut(*slot) {
                        *place = value;
                    }
                }
                slots
            }
        }
    }

    /// Precision of a result, junk left out.
    fn precision(
        &self,
        result: &<NativeEvaluator as Evaluator>::Ciphertext,
        wanted: &[Complex64],
        request: &BootstrapRequest,
    ) -> Result<Precision> {
        let found = self.client.decrypt(result)?;
        let parts = if request.refreshed.is_real() { Parts::Real } else { Parts::Complex };
        match &self.kind.refreshed {
            Refreshed::All { .. } => {
                self.summary.check(&found)?;
                Precision::of_slots(&found, wanted, parts)
            }
            Refreshed::Few(few) => {
                let found = self.summary.few_values(&found, &few.slots)?;
                Precision::of_slots(&found, &self.summary.few_values(wanted, &few.slots)?, parts)
            }
        }
    }
}

/// A request for `kind`, its level still to be set.
fn request_of(kind: &BootstrapKind, iterations: usize) -> BootstrapRequest {
    BootstrapRequest { level: Level(0), iterations, refreshed: kind.refreshed.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstraps_of_all_slots_in_the_small_ring_are_timed_and_precise() {
        let kind = BootstrapKind::all(64);
        let bench = BootstrapBench::new(BootstrapParameters::test(12, 3), kind, 1).unwrap();
        let row = bench.time(Input::Real, 1, 2).unwrap();
        assert_eq!((row.slots, row.values, row.real), (1 << 11, 64, true));
        assert!(row.min_s > 0.0 && row.min_s <= row.median_s, "{row:?}");
        assert!(
            row.precision_min_bits > 12.0 && row.precision_min_bits <= row.precision_mean_bits,
            "{row:?}"
        );
        assert!(bench.time(Input::Uniform, 1, 0).is_err() && bench.time(Input::Uniform, 3, 1).is_err());

        let mut told = 0;
        let chain = bench.chain(2, &mut |_| told += 1).unwrap();
        assert_eq!((chain.len(), told), (2, 2));
        assert!(chain[0].rms_error > 0.0 && chain[1].rms_error > chain[0].rms_error / 2.0, "{chain:?}");

        let overflow = bench.overflow().unwrap();
        assert_eq!(overflow.rows[0].measured, 1 << 12, "every coefficient has some integer part");
        assert!(overflow.margin_to_interval > 0.0, "{overflow:?}");
        assert!(bench.junk().unwrap().is_empty(), "all slots leave no junk");
    }

    #[test]
    fn bootstraps_of_few_values_in_the_small_ring_are_timed_without_their_junk() {
        for kind in BootstrapKind::few(1 << 11).unwrap() {
            let real = kind.layout.contains("real");
            let bench = BootstrapBench::new(BootstrapParameters::test(12, 3), kind, 1).unwrap();
            let row = bench.time(Input::Uniform, 1, 1).unwrap();
            assert_eq!((row.kind, row.real), ("few", real));
            assert!(row.precision_min_bits > 12.0, "{row:?}");
            assert_eq!(bench.chain(2, &mut |_| ()).unwrap().len(), 2);
            let junk = bench.junk().unwrap();
            assert!(junk[0].measured > 0 && junk[0].kind == "junk", "{junk:?}");
        }
    }
}
