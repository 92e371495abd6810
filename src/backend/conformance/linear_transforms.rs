//! Linear transforms against the dense sum they stand for.

use rand::Rng;

use super::fixture::{Fixture, assert_state, rotated, zip};
use super::{Backend, PlaintextOf};
use crate::contract::{
    Complex64, Diagonal, Evaluator, GiantStep, KeyRequest, Level, LinearTransform, normalize_step,
};

/// Steps and diagonals of a transform in the clear: (giant step, [(baby step, diagonal)]).
type Dense = Vec<(i64, Vec<(i64, Vec<Complex64>)>)>;

/// Σ_j rot( Σ_i diagonal_{j,i} ⊙ rot(x, baby_{j,i}), giant_j ), literally.
fn dense_product(x: &[Complex64], transform: &Dense) -> Vec<Complex64> {
    let mut sum = vec![Complex64::ZERO; x.len()];
    for (giant, babies) in transform {
        let mut inner = vec![Complex64::ZERO; x.len()];
        for (baby, diagonal) in babies {
            let mut diagonal = diagonal.clone();
            diagonal.resize(x.len(), Complex64::ZERO);
            let product = zip(&diagonal, &rotated(x, *baby), |d, x| d * x);
            inner = zip(&inner, &product, |x, y| x + y);
        }
        sum = zip(&sum, &rotated(&inner, *giant), |x, y| x + y);
    }
    sum
}

fn lazy<P>(transform: &Dense) -> LinearTransform<'_, P> {
    LinearTransform {
        giants: transform
            .iter()
            .map(|(step, babies)| GiantStep {
                step: *step,
                babies: babies
                    .iter()
                    .map(|(step, diagonal)| (*step, Diagonal::Lazy(Box::new(move || diagonal.clone()))))
                    .collect(),
            })
            .collect(),
    }
}

fn diagonal_count(transform: &Dense) -> usize {
    transform.iter().map(|(_, babies)| babies.len()).sum()
}

fn ask_for(request: &mut KeyRequest, transform: &Dense, slots: usize, level: Level) {
    for (giant, babies) in transform {
        request.rotations(&[*giant], slots, level);
        for (baby, _) in babies {
            request.rotations(&[*baby], slots, level);
        }
    }
}

/// `giants` × `babies` random steps (also negative, zero and repeated ones) with random diagonals, the last of them
/// short.
fn random_transform<B: Backend>(f: &mut Fixture<B>, giants: usize, babies: usize) -> Dense {
    let half = f.slots as i64 / 2;
    (0..giants)
        .map(|j| {
            let giant = if j == 0 { 0 } else { f.random.random_range(-half..half) };
            let inner = (0..babies)
                .map(|i| {
                    let baby = if i == 1 { 0 } else { f.random.random_range(-half..half) };
                    let mut diagonal = f.values();
                    if i + 1 == babies {
                        diagonal.truncate(f.slots / 3 + 1);
                    }
                    (baby, diagonal)
                })
                .collect();
            (giant, inner)
        })
        .collect()
}

pub(crate) fn linear_transforms_match_the_dense_product<B: Backend>() {
    for (giants, babies) in [(1, 1), (1, 5), (3, 1), (3, 4)] {
        let mut draw = Fixture::<B>::keyless();
        let transform = random_transform(&mut draw, giants, babies);
        let mut f = Fixture::<B>::with_client(draw.client, |request, top, slots| {
            ask_for(request, &transform, slots, top);
        });
        let (x, a) = f.encrypted(f.top);
        let scale = f.canonical(f.top);
        let result = f.evaluator.linear_transform(&a, &lazy(&transform), scale).unwrap();
        let what = format!("{giants} giant × {babies} baby steps");
        assert_state(&what, &result, f.top, scale * scale);
        let rescaled = f.evaluator.rescale(&result).unwrap();
        let factor = 4.0 * diagonal_count(&transform) as f64;
        f.assert_canonical(&what, &rescaled, Level(f.top.0 - 1), &dense_product(&x, &transform), factor);
    }
}

pub(crate) fn encoded_and_lazy_diagonals_agree<B: Backend>() {
    let mut draw = Fixture::<B>::keyless();
    let transform = random_transform(&mut draw, 2, 3);
    let mut f = Fixture::<B>::with_client(draw.client, |request, top, slots| {
        ask_for(request, &transform, slots, top);
    });
    let (x, a) = f.encrypted(f.top);
    let scale = f.canonical(f.top);
    let plaintexts: Vec<Vec<(i64, PlaintextOf<B>)>> = transform
        .iter()
        .map(|(_, babies)| {
            babies.iter().map(|(step, d)| (*step, f.evaluator.encode(d, f.top, scale).unwrap())).collect()
        })
        .collect();
    let encoded = LinearTransform {
        giants: transform
            .iter()
            .zip(&plaintexts)
            .map(|((step, _), babies)| GiantStep {
                step: *step,
                babies: babies.iter().map(|(step, p)| (*step, Diagonal::Encoded(p))).collect(),
            })
            .collect(),
    };
    let expected = dense_product(&x, &transform);
    for (what, transform) in [("encoded", encoded), ("lazy", lazy(&transform))] {
        let result = f.evaluator.linear_transform(&a, &transform, scale).unwrap();
        assert_state(what, &result, f.top, scale * scale);
        f.assert_values(what, &result, &expected, 24.0);
    }
}

/// A square matrix of period n, as 2n−1 diagonals of period n, once plain and once split; the split one's diagonals are
/// rotated right by their giant step, as the contract asks.
pub(crate) fn baby_step_giant_step_equals_the_plain_sum<B: Backend>() {
    let (n, split) = (16i64, 4i64);
    let mut f = Fixture::<B>::new(|request, top, slots| {
        let steps: Vec<i64> = (0..n).collect();
        request.rotations(&steps, slots, top);
    });
    let slots = f.slots;
    let diagonals: Vec<Vec<Complex64>> = (0..n).map(|_| f.values()).collect();
    let plain: Dense = vec![(0, (0..n).zip(diagonals.iter().cloned()).collect())];
    let bsgs: Dense = (0..n / split)
        .map(|j| {
            let giant = j * split;
            let babies = (0..split)
                .map(|i| (i, rotated(&diagonals[normalize_step(giant + i, slots)], -giant)))
                .collect();
            (giant, babies)
        })
        .collect();
    let (x, a) = f.encrypted(f.top);
    let scale = f.canonical(f.top);
    let expected = dense_product(&x, &plain);
    for (what, transform) in [("plain", &plain), ("split", &bsgs)] {
        let result = f.evaluator.linear_transform(&a, &lazy(transform), scale).unwrap();
        f.assert_values(what, &result, &expected, 4.0 * n as f64);
    }
}

pub(crate) fn linear_transforms_work_at_every_level<B: Backend>() {
    let mut draw = Fixture::<B>::keyless();
    let transform = random_transform(&mut draw, 2, 2);
    let mut f = Fixture::<B>::with_client(draw.client, |request, top, slots| {
        ask_for(request, &transform, slots, top);
    });
    for level in 1..=f.top.0 {
        let level = Level(level);
        let (x, a) = f.encrypted(level);
        let result = f.evaluator.linear_transform(&a, &lazy(&transform), f.canonical(level)).unwrap();
        let rescaled = f.evaluator.rescale(&result).unwrap();
        let expected = dense_product(&x, &transform);
        f.assert_canonical("transform", &rescaled, Level(level.0 - 1), &expected, 16.0);
    }
}
