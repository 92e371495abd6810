//! Rotations, plain and hoisted, their sums, and conjugation.

use super::fixture::{Fixture, rotated, zip};
use super::{Backend, CiphertextOf};
use crate::contract::{Complex64, Evaluator, Level};

pub(crate) fn rotations_match_the_slots<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, slots| {
        request.rotations(&[1, -1, 2, 7, slots as i64 / 2], slots, top);
    });
    for level in [f.top, Level(1), Level(0)] {
        let (x, a) = f.encrypted(level);
        for step in [1, -1, 2, 7, f.slots as i64 / 2, f.slots as i64 + 2] {
            let result = f.evaluator.rotate(&a, step).unwrap();
            f.assert_canonical(&format!("rot(a, {step})"), &result, level, &rotated(&x, step), 2.0);
        }
    }
}

pub(crate) fn hoisted_rotations_equal_plain_ones<B: Backend>() {
    let steps = [1, 0, -2, 5, 5, -1, 3];
    let mut f = Fixture::<B>::new(|request, top, slots| {
        request.rotations(&steps, slots, top);
    });
    for level in [f.top, Level(1)] {
        let (x, a) = f.encrypted(level);
        let hoisted = f.evaluator.rotate_many(&a, &steps).unwrap();
        assert_eq!(hoisted.len(), steps.len(), "rotations given back");
        for (step, result) in steps.iter().zip(&hoisted) {
            f.assert_canonical(&format!("hoisted {step}"), result, level, &rotated(&x, *step), 2.0);
            let plain = f.evaluator.rotate(&a, *step).unwrap();
            let difference = f.evaluator.sub(result, &plain).unwrap();
            f.assert_values("hoisted − plain", &difference, &vec![Complex64::ZERO; f.slots], 2.0);
        }
        assert!(f.evaluator.rotate_many(&a, &[]).unwrap().is_empty(), "no steps, no rotations");
    }
}

pub(crate) fn rotations_by_multiples_of_the_slots_need_no_key<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    let (x, a) = f.encrypted(f.top);
    let slots = f.slots as i64;
    for step in [0, slots, -slots, 3 * slots] {
        let result = f.evaluator.rotate(&a, step).unwrap();
        f.assert_canonical(&format!("rot(a, {step})"), &result, f.top, &x, 1.0);
        let hoisted = f.evaluator.rotate_many(&a, &[step]).unwrap();
        f.assert_canonical("hoisted", &hoisted[0], f.top, &x, 1.0);
    }
}

pub(crate) fn rotated_sums_match_the_slots<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, slots| {
        request.rotations(&[1, -4, 9], slots, top);
    });
    for (level, steps) in
        [(f.top, &[1, 0, -4, 9, 1][..]), (Level(1), &[9][..]), (f.top, &[0, 0][..]), (Level(0), &[-4, 1][..])]
    {
        let (values, ciphertexts): (Vec<_>, Vec<CiphertextOf<B>>) =
            steps.iter().map(|_| f.encrypted(level)).unzip();
        let mut expected = vec![Complex64::ZERO; f.slots];
        for (x, step) in values.iter().zip(steps) {
            expected = zip(&expected, &rotated(x, *step), |x, y| x + y);
        }
        let terms: Vec<(&CiphertextOf<B>, i64)> = ciphertexts.iter().zip(steps.iter().copied()).collect();
        let sum = f.evaluator.rotate_sum(&terms).unwrap();
        f.assert_canonical(
            &format!("Σ rot, steps {steps:?}"),
            &sum,
            level,
            &expected,
            2.0 * steps.len() as f64,
        );
    }
}

pub(crate) fn conjugation_matches_the_slots<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, _| {
        request.conjugation(top);
    });
    for level in [f.top, Level(0)] {
        let (x, a) = f.encrypted(level);
        let conjugate = f.evaluator.conjugate(&a).unwrap();
        f.assert_canonical("conjugate", &conjugate, level, &zip(&x, &x, |x, _| x.conj()), 2.0);
    }
}
