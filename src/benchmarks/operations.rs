//! What single operations of the native backend cost.
//!
//! All operations are timed in turn, round after round ([`alternate`]). The unit of comparison is the NTT: a rotation
//! contains D(L + K) + 2K + 2L of them (D digits, L limbs, K special primes), which are timed as one block beside it.

use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use crate::backend::native::{NativeClient, NativeEvaluator};
use crate::ckks::{Ciphertext, CkksEvaluator, EvaluationKeys, Parameters};
use crate::contract::{
    Client, Complex64, Diagonal, Error, Evaluator, GiantStep, KeyRequest, Level, LinearTransform, Result,
};
use crate::measure::{Rounds, Run, Statistics, alternate, check_memory};
use crate::ring::{Limb, RingContext};

/// Steps of the hoisted group, and baby steps of the linear transform.
pub const HOISTED_STEPS: [i64; 4] = [1, 2, 3, 4];
/// Giant steps of the linear transform.
const GIANT_STEPS: [i64; 2] = [0, 4];

/// Time of one operation at one level with one number of threads.
#[derive(Clone, Debug, Serialize)]
pub struct OperationTime {
    /// Which operation, e.g. `rotate`; `ntt` is one transform of one limb.
    pub op: &'static str,
    /// Level of its input.
    pub level: usize,
    /// Limbs of its input.
    pub limbs: usize,
    /// Digits of a key switch at that level.
    pub digits: usize,
    /// Threads.
    pub threads: usize,
    /// Median in milliseconds.
    pub median_ms: f64,
    /// Least in milliseconds.
    pub min_ms: f64,
}

/// Time of a rotation over that of the NTTs it contains.
#[derive(Clone, Debug, Serialize)]
pub struct RotationToNtts {
    /// Level of the rotated ciphertext.
    pub level: usize,
    /// Threads.
    pub threads: usize,
    /// NTTs of single limbs in the rotation.
    pub ntts: usize,
    /// Ratio of the medians.
    pub ratio_of_medians: f64,
    /// Ratio of the least times.
    pub ratio_of_minima: f64,
}

/// A client and evaluator of the levelled native backend with the keys that the operations need.
pub struct OperationBench {
    parameters: Arc<Parameters>,
    client: NativeClient,
    evaluator: NativeEvaluator,
    key_bytes: u64,
}

impl OperationBench {
    /// Makes keys for the operations at every level of `parameters`.
    ///
    /// # Errors
    /// [`Error::Memory`] when keys and the values in flight do not fit, before anything is made; what key generation
    /// returns.
    pub fn new(parameters: Arc<Parameters>) -> Result<Self> {
        let top = parameters.chain().max_level();
        let mut request = KeyRequest::new();
        request.relinearization(top).rotations(&HOISTED_STEPS, parameters.slots(), top);
        let key_bytes = EvaluationKeys::predicted_bytes(&parameters, &request)?;
        let limbs = parameters.ring().chain_limbs() + parameters.ring().special_limbs();
        check_memory("bench ops", key_bytes + 60 * 8 * (limbs * parameters.ring().degree()) as u64)?;
        let client = NativeClient::new(Arc::clone(&parameters))?;
        let evaluator = client.evaluator(&request)?;
        Ok(Self { parameters, client, evaluator, key_bytes })
    }

    /// Bytes of the evaluation keys.
    #[must_use]
    pub fn key_bytes(&self) -> u64 {
        self.key_bytes
    }

    /// Times every operation at `level` in `rounds` timed rounds, in a pool of `threads`. Level 0 has no room for
    /// products: give 1 or higher.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for a level that the parameters do not have; [`Error::Shape`] for 0 rounds or
    /// threads.
    pub fn at(
        &self,
        level: Level,
        threads: usize,
        rounds: usize,
    ) -> Result<(Vec<OperationTime>, RotationToNtts)> {
        let pool = pool(threads)?;
        let times =
            pool.install(|| operation_times(&self.client, self.evaluator.levelled(), level, rounds))?;
        let (limbs, digits) = (self.parameters.limbs(level)?, self.parameters.digits(level)?);
        let ntts = ntts_of_a_rotation(&self.parameters, level)?;
        let row = |time: &NamedTime, op, share: f64| OperationTime {
            op,
            level: level.0,
            limbs,
            digits,
            threads,
            median_ms: time.seconds.median * 1e3 / share,
            min_ms: time.seconds.min * 1e3 / share,
        };
        let rows = times.iter().map(|time| match time.op {
            NTT_BLOCK => row(time, "ntt", ntts as f64),
            op => row(time, op, 1.0),
        });
        let (rotate, block) = (named(&times, "rotate")?, named(&times, NTT_BLOCK)?);
        let ratio = RotationToNtts {
            level: level.0,
            threads,
            ntts,
            ratio_of_medians: rotate.median / block.median,
            ratio_of_minima: rotate.min / block.min,
        };
        Ok((rows.collect(), ratio))
    }
}

/// A pool of `threads` threads, in which parallel work then stays.
///
/// # Errors
/// [`Error::Shape`] for 0 threads; [`Error::Foreign`] when the system refuses them.
pub fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    if threads == 0 {
        return Err(Error::Shape {
            operation: "thread pool",
            what: "0 threads".to_owned(),
            remedy: "measure with at least one".to_owned(),
        });
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| Error::Foreign {
        library: "rayon",
        message: error.to_string(),
        remedy: format!("measure with fewer than {threads} threads"),
    })
}

/// Seconds of an operation.
#[derive(Clone, Copy, Debug)]
pub struct NamedTime {
    /// Which operation.
    pub op: &'static str,
    /// Seconds of one.
    pub seconds: Statistics,
}

/// All NTTs of a rotation together.
const NTT_BLOCK: &str = "ntt block";

fn named(times: &[NamedTime], op: &str) -> Result<Statistics> {
    let found = times.iter().find(|time| time.op == op);
    found.map(|time| time.seconds).ok_or_else(|| Error::Internal(format!("{op} was not measured")))
}

/// Times every operation at `level`, one untimed round and `rounds` timed ones.
///
/// # Errors
/// [`Error::RotationKey`] or [`Error::EvaluationKey`] without the keys for [`HOISTED_STEPS`] and relinearization up to
/// `level`; [`Error::Shape`] for 0 rounds.
pub fn operation_times(
    client: &NativeClient,
    evaluator: &CkksEvaluator,
    level: Level,
    rounds: usize,
) -> Result<Vec<NamedTime>> {
    let values: Vec<Complex64> = (0..evaluator.slots())
        .map(|slot| Complex64::new((slot as f64).sin(), (slot as f64 * 0.7).cos()))
        .collect();
    let scale = evaluator.chain().canonical_scale(level)?;
    let a = client.encrypt(&values, level)?;
    let b = client.encrypt(&values, level)?;
    let plaintext = evaluator.encode(&values, level, scale)?;
    let product = evaluator.mul_plain(&a, &plaintext)?;
    let babies = || HOISTED_STEPS.iter().map(|baby| (*baby, Diagonal::Encoded(&plaintext))).collect();
    let giant = |step: &i64| GiantStep { step: *step, babies: babies() };
    let transform = LinearTransform { giants: GIANT_STEPS.iter().map(giant).collect() };
    let ring = evaluator.parameters().ring();
    let mut ntt_rows = NttRows::new(evaluator.parameters(), level)?;
    let done = |_: Ciphertext| ();
    let constant = Complex64::new(0.3, 0.0);
    let operations: [(&'static str, Run<'_>); 10] = [
        (NTT_BLOCK, Box::new(move || ntt_rows.transform(ring))),
        ("rotate", Box::new(|| evaluator.rotate(&a, 1).map(done))),
        ("rotate_hoisted", Box::new(|| evaluator.rotate_many(&a, &HOISTED_STEPS).map(|_| ()))),
        ("mult", Box::new(|| evaluator.relinearize(&evaluator.tensor(&a, &b)?).map(done))),
        ("mult_plain", Box::new(|| evaluator.mul_plain(&a, &plaintext).map(done))),
        ("mult_constant", Box::new(|| evaluator.mul_constant(&a, constant, scale).map(done))),
        ("add", Box::new(|| evaluator.add(&a, &b).map(done))),
        ("rescale", Box::new(|| evaluator.rescale(&product).map(done))),
        ("encode", Box::new(|| evaluator.encode(&values, level, scale).map(|_| ()))),
        ("linear_transform_8", Box::new(|| evaluator.linear_transform(&a, &transform, scale).map(done))),
    ];
    let (names, mut runs): (Vec<_>, Vec<_>) = operations.into_iter().unzip();
    let samples = alternate(Rounds { untimed: 1, timed: rounds }, &mut runs)?;
    let times = names.into_iter().zip(&samples).map(|(op, samples)| {
        // A hoisted rotation is one of a group that shares its decomposition.
        let share = if op == "rotate_hoisted" { HOISTED_STEPS.len() as f64 } else { 1.0 };
        Ok(NamedTime { op, seconds: Statistics::of(samples)?.scaled(1.0 / share) })
    });
    times.collect()
}

/// NTTs in a rotation: L inverse ones of the input, D(L + K) − L forward ones of the digits, 2K inverse and 2L forward
/// ones of the division by P.
fn ntts_of_a_rotation(parameters: &Parameters, level: Level) -> Result<usize> {
    let (limbs, special) = (parameters.limbs(level)?, parameters.ring().special_limbs());
    Ok(parameters.digits(level)? * (limbs + special) + 2 * special + 2 * limbs)
}

/// Rows to be transformed: as many as a rotation transforms, over the same primes, as many of them inversely.
struct NttRows {
    rows: Vec<(Limb, bool, Vec<u64>)>,
}

impl NttRows {
    fn new(parameters: &Parameters, level: Level) -> Result<Self> {
        let (limbs, special) = (parameters.limbs(level)?, parameters.ring().special_limbs());
        let primes: Vec<Limb> = (0..limbs).map(Limb::Chain).chain((0..special).map(Limb::Special)).collect();
        let inverse = limbs + 2 * special;
        let rows = (0..ntts_of_a_rotation(parameters, level)?)
            .zip(primes.into_iter().cycle())
            .map(|(index, limb)| (limb, index < inverse, vec![index as u64 + 1; parameters.ring().degree()]))
            .collect();
        Ok(Self { rows })
    }

    fn transform(&mut self, ring: &RingContext) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::native::test_levelled;

    #[test]
    fn every_operation_has_a_time_at_each_level_and_the_ntts_of_a_rotation_are_counted() {
        let parameters = Arc::new(Parameters::new(test_levelled(11, 3)).unwrap());
        let bench = OperationBench::new(Arc::clone(&parameters)).unwrap();
        let (rows, ratio) = bench.at(Level(3), 1, 2).unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row.op).collect();
        assert_eq!((names.len(), names.first()), (10, Some(&"ntt")));
        assert!(rows.iter().all(|row| row.min_ms > 0.0 && row.min_ms <= row.median_ms && row.limbs == 4));
        // 4 limbs in ⌈4/3⌉ digits, 3 special primes.
        assert_eq!(ratio.ntts, 2 * (4 + 3) + 2 * 3 + 2 * 4);
        assert!(bench.at(Level(4), 1, 1).is_err(), "there is no level 4");
        assert!(bench.at(Level(3), 0, 1).is_err() && bench.at(Level(3), 1, 0).is_err());
    }
}
