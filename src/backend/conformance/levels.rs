//! Rescaling, dropping, lowering and aligning: bookkeeping of levels and scales.

use super::Backend;
use super::fixture::{Fixture, assert_state, zip};
use crate::contract::{CiphertextInfo, Complex64, Evaluator, Level, Scale};

pub(crate) fn rescaling_divides_by_the_modulus_of_the_level<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    for level in 1..=f.top.0 {
        let level = Level(level);
        let (x, a) = f.encrypted(level);
        let product = f.evaluator.mul_constant(&a, Complex64::new(1.0, 0.0), f.canonical(level)).unwrap();
        let rescaled = f.evaluator.rescale(&product).unwrap();
        let modulus = f.evaluator.chain().rescale_modulus(level).unwrap();
        assert_state("rescaled", &rescaled, Level(level.0 - 1), Scale(product.scale().0 / modulus));
        f.assert_values("rescaled", &rescaled, &x, 3.0);
    }
}

pub(crate) fn dropping_levels_keeps_scale_and_values<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    let (x, a) = f.encrypted(f.top);
    for level in 0..=f.top.0 {
        let dropped = f.evaluator.drop_level(&a, Level(level)).unwrap();
        assert_state("dropped", &dropped, Level(level), a.scale());
        f.assert_values("dropped", &dropped, &x, 1.0);
    }
}

pub(crate) fn lowering_is_exact_from_every_level_to_every_level<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    for from in 0..=f.top.0 {
        let (x, a) = f.encrypted(Level(from));
        for to in 0..=from {
            let lowered = f.evaluator.lower(&a, Level(to)).unwrap();
            f.assert_canonical(&format!("lowered from {from}"), &lowered, Level(to), &x, 3.0);
        }
    }
}

pub(crate) fn aligned_values_can_be_added<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, _| {
        request.relinearization(top);
    });
    let (x, a) = f.encrypted(f.top);
    let (y, b) = f.encrypted(Level(f.top.0 - 1));
    let square = f.evaluator.square(&f.evaluator.square(&a).unwrap()).unwrap();
    for (left, right) in [(&square, &b), (&b, &square), (&b, &b)] {
        let (left, right) = f.evaluator.align(left, right).unwrap();
        assert_state("aligned", &right, left.level(), left.scale());
        f.evaluator.add(&left, &right).unwrap();
    }
    let (left, right) = f.evaluator.align(&square, &b).unwrap();
    let sum = f.evaluator.add(&left, &right).unwrap();
    let expected = zip(&x, &y, |x, y| x * x * x * x + y);
    f.assert_canonical("x⁴ + y", &sum, Level(f.top.0 - 2), &expected, 20.0);
}
