//! Additions, plaintexts, constants and the free operations.

use super::Backend;
use super::fixture::{Fixture, assert_state, zip};
use crate::contract::{CiphertextInfo, Complex64, Error, Evaluator, Level, LinearTerm, Scale};

pub(crate) fn sums_and_differences_match_the_slots<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    for level in [f.top, Level(0)] {
        let (x, a) = f.encrypted(level);
        let (y, b) = f.encrypted(level);
        let sum = f.evaluator.add(&a, &b).unwrap();
        f.assert_canonical("a + b", &sum, level, &zip(&x, &y, |x, y| x + y), 2.0);
        let difference = f.evaluator.sub(&a, &b).unwrap();
        f.assert_canonical("a − b", &difference, level, &zip(&x, &y, |x, y| x - y), 2.0);
        let negative = f.evaluator.negate(&a).unwrap();
        f.assert_canonical("−a", &negative, level, &zip(&x, &x, |x, _| -x), 1.0);
    }
}

pub(crate) fn plaintext_operations_match_the_slots<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    for level in 1..=f.top.0 {
        let level = Level(level);
        let scale = f.canonical(level);
        let (x, a) = f.encrypted(level);
        let y = f.values();
        let plaintext = f.evaluator.encode(&y, level, scale).unwrap();

        let sum = f.evaluator.add_plain(&a, &plaintext).unwrap();
        f.assert_canonical("a + p", &sum, level, &zip(&x, &y, |x, y| x + y), 1.5);

        let expected = zip(&x, &y, |x, y| x * y);
        let product = f.evaluator.mul_plain(&a, &plaintext).unwrap();
        assert_state("a · p", &product, level, scale * scale);
        f.assert_values("a · p", &product, &expected, 2.0);
        let rescaled = f.evaluator.rescale(&product).unwrap();
        f.assert_canonical("a · p rescaled", &rescaled, Level(level.0 - 1), &expected, 3.0);
    }
}

pub(crate) fn constants_reach_every_slot<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    let level = f.top;
    let scale = f.canonical(level);
    for c in [
        Complex64::new(0.75, 0.0),
        Complex64::new(0.0, -0.5),
        Complex64::new(-0.3, 0.6),
        Complex64::ZERO,
        Complex64::new(1.0, 0.0),
    ] {
        let (x, a) = f.encrypted(level);
        let sum = f.evaluator.add_constant(&a, c).unwrap();
        f.assert_canonical(&format!("a + {c}"), &sum, level, &zip(&x, &x, |x, _| x + c), 1.5);

        let expected = zip(&x, &x, |x, _| x * c);
        let product = f.evaluator.mul_constant(&a, c, scale).unwrap();
        assert_state("a · c", &product, level, scale * scale);
        f.assert_values(&format!("a · {c}"), &product, &expected, 2.0);
        let rescaled = f.evaluator.rescale(&product).unwrap();
        f.assert_canonical("a · c rescaled", &rescaled, Level(level.0 - 1), &expected, 3.0);
    }
    // Constants far above 1, at a scale that is not the canonical one.
    let (x, a) = f.encrypted(level);
    let small = Scale(2f64.powi(12));
    let product = f.evaluator.mul_constant(&a, Complex64::new(100.5, 0.0), small).unwrap();
    assert_state("a · 100.5", &product, level, scale * small);
    f.assert_values("a · 100.5", &product, &zip(&x, &x, |x, _| x * 100.5), 200.0);
}

pub(crate) fn integers_and_the_imaginary_unit_are_free<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    for level in [f.top, Level(0)] {
        let (x, a) = f.encrypted(level);
        for k in [-3, -1, 0, 1, 2, 7] {
            let product = f.evaluator.mul_integer(&a, k).unwrap();
            let expected = zip(&x, &x, |x, _| x * k as f64);
            f.assert_canonical(&format!("a · {k}"), &product, level, &expected, 1.0 + (k as f64).abs());
        }
        let turned = f.evaluator.mul_by_i(&a).unwrap();
        f.assert_canonical("a · i", &turned, level, &zip(&x, &x, |x, _| x * Complex64::I), 1.0);
        let mut around = a.clone();
        for _ in 0..4 {
            around = f.evaluator.mul_by_i(&around).unwrap();
        }
        let before = f.evaluator.ciphertext_to_bytes(&a).unwrap();
        let after = f.evaluator.ciphertext_to_bytes(&around).unwrap();
        assert!(before == after, "four products with i change the ciphertext: they are not free of noise");
    }
}

pub(crate) fn provided_operations_are_their_definitions<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, _| {
        request.relinearization(top);
    });
    let level = f.top;
    let below = Level(level.0 - 1);
    let (x, a) = f.encrypted(level);
    let y = f.values();
    let c = Complex64::new(0.4, -0.9);
    let e = &f.evaluator;
    f.assert_canonical("a²", &e.square(&a).unwrap(), below, &zip(&x, &x, |x, _| x * x), 4.0);
    f.assert_canonical("a · values", &e.mul_values(&a, &y).unwrap(), below, &zip(&x, &y, |x, y| x * y), 3.0);
    f.assert_canonical("a + values", &e.add_values(&a, &y).unwrap(), level, &zip(&x, &y, |x, y| x + y), 1.5);
    f.assert_canonical("a · scalar", &e.mul_scalar(&a, c).unwrap(), below, &zip(&x, &x, |x, _| x * c), 3.0);
    // Also at a scale that is not canonical.
    let c = Complex64::new(0.375, -0.875); // exact at this scale
    let product = e.mul_constant(&a, c, Scale(2f64.powi(10))).unwrap();
    let shifted = e.add_values(&product, &y).unwrap();
    assert_state("product + values", &shifted, level, product.scale());
    f.assert_values("product + values", &shifted, &zip(&x, &y, |x, y| x * c + y), 4.0);
}

pub(crate) fn linear_combinations_match_the_slots<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    let (x, a) = f.encrypted(f.top);
    let (y, b) = f.encrypted(f.top);
    let c = Complex64::new(0.3, -0.8);
    let addend = Complex64::new(-0.5, 0.25);
    for level in [f.top, Level(f.top.0 - 1)] {
        let scale = a.scale() * f.canonical(level);
        let raised = f.evaluator.mul_constant(&b, Complex64::I, scale / b.scale()).unwrap();
        // A constant, an integer of what stands at the product's scale already, and a value that has no levels to drop.
        let terms = [
            LinearTerm::at_scale(c, &a, scale),
            LinearTerm::integer(-2, &raised),
            LinearTerm::at_scale(Complex64::I, &b, scale),
        ];
        let sum = f.evaluator.linear_combination(&terms, addend, level).unwrap();
        assert_state("Σ c·x + addend", &sum, level, scale);
        let expected = zip(&x, &y, |x, y| c * x - Complex64::I * y + addend);
        f.assert_values("Σ c·x + addend", &sum, &expected, 6.0);
        let only = f.evaluator.linear_combination(&terms[..1], Complex64::ZERO, level).unwrap();
        f.assert_values("c·x", &only, &zip(&x, &x, |x, _| c * x), 2.0);
    }
    let low = f.evaluator.drop_level(&a, Level(1)).unwrap();
    let error = f.evaluator.linear_combination(&[LinearTerm::integer(1, &low)], addend, f.top).err().unwrap();
    assert!(matches!(error, Error::LevelTooLow { level: Level(1), .. }), "{error}");
    let unequal =
        [LinearTerm::integer(1, &a), LinearTerm { scale: Scale(4096.0), ..LinearTerm::integer(1, &b) }];
    let error = f.evaluator.linear_combination(&unequal, addend, f.top).err().unwrap();
    assert!(matches!(error, Error::ScaleMismatch { .. }), "{error}");
    let error = f.evaluator.linear_combination(&[], addend, f.top).err().unwrap();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
}
