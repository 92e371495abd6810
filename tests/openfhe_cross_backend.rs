//! The same circuits on the simulator and on OpenFHE: two implementations, one result.
#![cfg(feature = "openfhe")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: what fails, fails the test"
)]

use cachemir::Result;
use cachemir::backend::clear::{ClearClient, ClearParameters};
use cachemir::backend::openfhe::{OpenFheClient, OpenFheParameters};
use cachemir::circuits::{ChebyshevSeries, evaluate_series};
use cachemir::contract::{
    CiphertextInfo, Client, Complex64, Diagonal, Evaluator, GiantStep, KeyRequest, Level, LinearTransform,
};

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

fn largest_difference(a: &[Complex64], b: &[Complex64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y).norm()).fold(0.0, f64::max)
}

/// Results of both circuits, with the keys of `request`.
fn run<C: Client>(client: &C, request: &KeyRequest) -> [Vec<Complex64>; 2] {
    let evaluator = client.evaluator(request).unwrap();
    let x = client.encrypt(&values(1), Level(LEVELS)).unwrap();
    let results = [linear(&evaluator, &x).unwrap(), polynomial(&evaluator, &x).unwrap()];
    assert_eq!(results[0].level(), Level(LEVELS - 1), "{}", evaluator.name());
    assert_eq!(results[1].level(), Level(LEVELS - 7), "{}", evaluator.name());
    results.map(|result| client.decrypt(&result).unwrap())
}

#[test]
fn a_linear_transform_and_a_polynomial_agree_on_clear_and_openfhe() {
    let clear = ClearClient::new(ClearParameters::new(SLOTS, LEVELS, 45).unwrap());
    let dry_run = clear.dry_run();
    let x = clear.encrypt(&values(1), Level(LEVELS)).unwrap();
    linear(&dry_run, &x).unwrap();
    polynomial(&dry_run, &x).unwrap();
    let request = dry_run.recorded();

    let parameters = OpenFheParameters { levels: LEVELS, ..OpenFheParameters::test() };
    let openfhe = run(&OpenFheClient::new(parameters).unwrap(), &request);
    let expected = run(&clear, &request);
    for (circuit, bound) in [("linear transform", 1e-6), ("polynomial", 1e-6)].iter().enumerate() {
        let (name, bound) = bound;
        let difference = largest_difference(&openfhe[circuit], &expected[circuit]);
        assert!(
            difference < *bound,
            "{name}: openfhe differs from clear by {difference:e}, allowed {bound:e}"
        );
    }
}
