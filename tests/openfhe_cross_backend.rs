//! Circuits on the simulator, on the native backend and on OpenFHE: three implementations, one result.
#![cfg(feature = "openfhe")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: what fails, fails the test"
)]

use std::sync::Arc;

use cachemir::Result;
use cachemir::backend::clear::{ClearClient, ClearParameters};
use cachemir::backend::native::{NativeClient, test_levelled};
use cachemir::backend::openfhe::{OpenFheClient, OpenFheParameters};
use cachemir::bootstrapping::BootstrapParameters;
use cachemir::circuits::{ChebyshevSeries, evaluate_series};
use cachemir::ckks::Parameters;
use cachemir::contract::{
    BootstrapRequest, BootstrapSummary, CiphertextInfo, Client, Complex64, Diagonal, Evaluator, GiantStep,
    KeyRequest, Level, LinearTransform,
};
use cachemir::packing::complex::split;
use cachemir::packing::{
    AttentionShape, BlockShape, CacheBounds, FnWeights, Grouping, KeyValueCache, Packed, Rope, Weights,
};
use cachemir::related_work::BlockPlan;

const LEVELS: usize = 9;
const SLOTS: usize = 2048;

/// Reproducible real values in −1 .. 1.
fn values(seed: usize) -> Vec<Complex64> {
    (0..SLOTS).map(|slot| Complex64::new(((slot * (7 + seed) + seed) as f64).sin(), 0.0)).collect()
}

/// Nine diagonals in three baby and three giant steps, one level.
fn linear<E: Evaluator>(evaluator: &E, x: &E::Ciphertext) -> Result<E::Ciphertext> {
    let scale = evaluator.chain().canonical_scale(x.level())?;
    let giants = [0, 3, -6]
        .iter()
        .map(|giant| GiantStep {
            step: *giant,
            babies: [0, 1, 2]
                .iter()
                .map(|baby| {
                    let seed = usize::try_from(giant + 10 + baby).unwrap();
                    (
                        *baby,
                        Diagonal::Lazy(Box::new(move || values(seed)) as Box<dyn Fn() -> _ + Send + Sync>),
                    )
                })
                .collect(),
        })
        .collect();
    evaluator.rescale(&evaluator.linear_transform(x, &LinearTransform { giants }, scale)?)
}

/// A degree-127 Chebyshev series of a steep sigmoid, seven levels.
fn polynomial<E: Evaluator>(evaluator: &E, x: &E::Ciphertext) -> Result<E::Ciphertext> {
    let series = ChebyshevSeries::fit(|x| 1.0 / (1.0 + (-20.0 * x).exp()), -1.0, 1.0, 127)?;
    evaluate_series(evaluator, x, &series.complex_coefficients(), None)
}

/// A matrix whose products keep the size of their input.
fn matrix(seed: usize, inputs: usize, outputs: usize) -> Arc<dyn Weights> {
    let size = (1.0 / inputs as f64).sqrt();
    Arc::new(FnWeights::new(inputs, outputs, move |i, o| {
        size * ((i * (11 + seed) + o * (5 + 2 * seed) + seed) as f64).sin()
    }))
}

/// Two tokens through projections, RoPE, the encrypted KV cache, scores and weighted values; weights are scores + 1,
/// for there is no bootstrap here that softmax could follow. Returns denominators and weighted values: eight levels.
fn attention<E: Evaluator>(
    evaluator: &E,
    tokens: &[E::Ciphertext],
) -> Result<(E::Ciphertext, E::Ciphertext)> {
    let heads = AttentionShape { heads: 4, kv_heads: 2, head_dim: 8 };
    let shape = BlockShape { hidden: 32, intermediate: 64, attention: heads };
    let bounds = CacheBounds { maximum_tokens: 40, key_level: Level(5), value_level: Level(3) };
    let plan = BlockPlan::new(SLOTS, shape, Grouping::Duplicated, bounds)?;
    let (stored, rope) = (plan.attention().stored(), Rope::new(heads.head_dim, 10_000.0, 64));
    let query = plan.query(&matrix(1, 32, 32))?;
    let both = plan.key_and_value(&matrix(2, 32, 16), &matrix(3, 32, 16))?;
    let mut cache = KeyValueCache::new(plan.attention().cache_layout());
    let mut last = None;
    for (position, x) in tokens.iter().enumerate() {
        // Only the slots of the layout carry features.
        let x = Packed::new(evaluator.mul_values(x, &plan.residual().mask(1.0))?, plan.residual());
        let x = plan.attention_input(&x)?;
        let prepared = query[0].prepare(evaluator, &x)?;
        let q = query[0].apply_prepared(evaluator, &prepared, None, 0)?;
        last = Some(rope.apply(evaluator, &stored, &q, position, 1.0 / (heads.head_dim as f64).sqrt())?);
        let both = both.apply_prepared(evaluator, &prepared, None, cache.next_offset()?)?;
        let [key, value] = split(evaluator, &both)?;
        let key = rope.apply(evaluator, &stored, &key, position, 1.0)?;
        cache.append(evaluator, &key, &value)?;
    }
    let scores = plan.attention().scores(evaluator, &[last.unwrap()], &cache, 1.0)?;
    let ones = plan.attention().score_layout().values(0, tokens.len(), |_, _| 1.0);
    let weights = vec![evaluator.add_values(&scores[0], &ones)?];
    let sums = plan.attention().denominators(evaluator, &weights, &[0.25])?.remove(0);
    let attended = plan.attention().weighted_values(evaluator, &weights, &cache)?;
    Ok((sums.ciphertext, attended.ciphertext))
}

/// What [`run`] returns, and how many bits of it have to agree. One key switch or rescale is off by at most 2^-27 in
/// the worst slot of values up to 1 (`cachemir compare --preset test`: 2^-28 native at scale 2^41; OpenFHE, whose worst
/// slots stand out, 2^-23 there, so 2^-27 at the 2^45 of these tests).
const CIRCUITS: [(&str, i32); 4] = [
    // Nine products that each carry such an error, summed, and a rescale: 2^-23.
    ("linear transform", 22),
    // Seven levels of it, times Σ|c_n|n² ≈ 50: T_n multiplies an error by up to n², and the coefficients c_n of this
    // sigmoid fall as 0.2·1.169^-n (its poles lie at ±πi/20).
    ("polynomial", 17),
    // q is copied over the token slots, products are summed over 8 head dimensions, weights over all token slots, whose
    // noise adds up where no token stands: 2^8 to 2^12 times one error.
    ("softmax denominators", 14),
    ("attention", 14),
];

/// The circuits, on encryptions by `client` and with the keys of `evaluator`.
fn run<C: Client>(client: &C, evaluator: &C::Evaluator) -> [Vec<Complex64>; 4] {
    let encrypt = |seed| client.encrypt(&values(seed), Level(LEVELS)).unwrap();
    let x = encrypt(1);
    let (sums, attended) = attention(evaluator, &[encrypt(2), encrypt(3)]).unwrap();
    let results = [linear(evaluator, &x).unwrap(), polynomial(evaluator, &x).unwrap(), sums, attended];
    assert_eq!(results[0].level(), Level(LEVELS - 1), "{}", evaluator.name());
    assert_eq!(results[1].level(), Level(LEVELS - 7), "{}", evaluator.name());
    assert_eq!(results[3].level(), Level(1), "{}", evaluator.name());
    results.map(|result| client.decrypt(&result).unwrap())
}

fn largest_difference(a: &[Complex64], b: &[Complex64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y).norm()).fold(0.0, f64::max)
}

/// That two backends agree up to `bound`, after having said how far apart they are.
fn assert_agree(what: &str, left: &[Complex64], right: &[Complex64], bound: f64) {
    let difference = largest_difference(left, right);
    println!("{what}: 2^{:.1}, allowed 2^{:.1}", difference.log2(), bound.log2());
    assert!(difference < bound, "{what}: they differ by {difference:e}, allowed {bound:e}");
}

#[test]
fn levelled_circuits_agree_on_clear_native_and_openfhe() {
    let clear = ClearClient::new(ClearParameters::new(SLOTS, LEVELS, 45).unwrap());
    // The chains have equal depth, so the levels of the recorded keys hold on all three.
    let dry_run = clear.dry_run();
    let expected = run(&clear, &dry_run);
    let request = dry_run.recorded();

    let native = NativeClient::from_insecure_fixed_seed(
        Arc::new(Parameters::new(test_levelled(12, LEVELS)).unwrap()),
        3,
    )
    .unwrap();
    let native = run(&native, &native.evaluator(&request).unwrap());
    let openfhe =
        OpenFheClient::new(OpenFheParameters { levels: LEVELS, ..OpenFheParameters::test() }).unwrap();
    let openfhe = run(&openfhe, &openfhe.evaluator(&request).unwrap());

    for (index, (circuit, bits)) in CIRCUITS.iter().enumerate() {
        let bound = 2f64.powi(-bits);
        assert_agree(&format!("{circuit}, native and clear"), &native[index], &expected[index], bound);
        assert_agree(&format!("{circuit}, openfhe and clear"), &openfhe[index], &expected[index], bound);
        assert_agree(&format!("{circuit}, openfhe and native"), &openfhe[index], &native[index], bound);
    }
}

#[test]
fn bootstraps_agree_on_clear_native_and_openfhe() {
    let x = values(1);
    // A level that both chains have after a bootstrap; a rotation and a product follow.
    let request = BootstrapRequest::all(Level(5), SLOTS);
    let mut keys = KeyRequest::new();
    keys.bootstrapping(SLOTS).relinearization(Level(5)).rotations(&[3], SLOTS, Level(5));
    let native = NativeClient::with_bootstrapping(BootstrapParameters::test(12, 3), Some(4)).unwrap();
    let native = refresh(&native, &keys, &x, &request);
    let openfhe = OpenFheClient::new(OpenFheParameters::test_bootstrapping()).unwrap();
    let openfhe = refresh(&openfhe, &keys, &x, &request);
    let summary =
        BootstrapSummary { output_level: Level(5), minimum_input_level: Level(1), bound: 1.0, few: None };
    let clear = ClearParameters::new(SLOTS, LEVELS, 45).unwrap().with_bootstrapping(summary);
    let expected = refresh(&ClearClient::new(clear), &keys, &x, &request);
    // The native bootstrap keeps 19 bits in the worst slot (its own tests); the product of two such values adds both
    // errors. OpenFHE's keeps 15 to 16 at this scale and ring: SlotsToCoeffs comes last there and multiplies the noise
    // of the sine by √N.
    assert_agree("bootstrap, native and clear", &native, &expected, 2f64.powi(-17));
    assert_agree("bootstrap, openfhe and clear", &openfhe, &expected, 2f64.powi(-12));
    assert_agree("bootstrap, openfhe and native", &openfhe, &native, 2f64.powi(-12));
}

/// y · rot(y, 3) for the bootstrapped y.
fn refresh<C: Client>(
    client: &C,
    keys: &KeyRequest,
    x: &[Complex64],
    request: &BootstrapRequest,
) -> Vec<Complex64> {
    let evaluator = client.evaluator(keys).unwrap();
    let level = evaluator.bootstrapping().unwrap().minimum_input_level;
    let y = evaluator.bootstrap(&client.encrypt(x, level).unwrap(), request).unwrap();
    assert_eq!(y.level(), request.level, "{}", evaluator.name());
    let product = evaluator.mul(&y, &evaluator.rotate(&y, 3).unwrap()).unwrap();
    client.decrypt(&product).unwrap()
}
