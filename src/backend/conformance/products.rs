//! Products of ciphertexts.

use super::Backend;
use super::fixture::{Fixture, assert_state, zip};
use crate::contract::{CiphertextInfo, Complex64, Evaluator, Level, LinearTerm};

pub(crate) fn products_match_the_slots_and_keep_the_canonical_scale<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, _| {
        request.relinearization(top);
    });
    for level in 1..=f.top.0 {
        let level = Level(level);
        let scale = f.canonical(level);
        let (x, a) = f.encrypted(level);
        let (y, b) = f.encrypted(level);
        let expected = zip(&x, &y, |x, y| x * y);

        let tensor = f.evaluator.tensor(&a, &b).unwrap();
        assert_state("tensor", &tensor, level, scale * scale);
        let product = f.evaluator.relinearize(&tensor).unwrap();
        assert_state("relinearized", &product, level, scale * scale);
        f.assert_values("relinearized", &product, &expected, 3.0);
        let rescaled = f.evaluator.rescale(&product).unwrap();
        f.assert_canonical("rescaled", &rescaled, Level(level.0 - 1), &expected, 4.0);

        let at_once = f.evaluator.mul(&a, &b).unwrap();
        f.assert_canonical("a · b", &at_once, Level(level.0 - 1), &expected, 4.0);
    }
}

pub(crate) fn sums_of_tensors_are_relinearized_once<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, _| {
        request.relinearization(top);
    });
    let level = f.top;
    let (x1, a1) = f.encrypted(level);
    let (y1, b1) = f.encrypted(level);
    let (x2, a2) = f.encrypted(level);
    let (y2, b2) = f.encrypted(level);
    let e = &f.evaluator;
    let sum = e.add_tensor(&e.tensor(&a1, &b1).unwrap(), &e.tensor(&a2, &b2).unwrap()).unwrap();
    assert_state("sum of tensors", &sum, level, f.canonical(level) * f.canonical(level));
    let result = e.rescale(&e.relinearize(&sum).unwrap()).unwrap();
    let expected = zip(&zip(&x1, &y1, |x, y| x * y), &zip(&x2, &y2, |x, y| x * y), |x, y| x + y);
    f.assert_canonical("a1·b1 + a2·b2", &result, Level(level.0 - 1), &expected, 8.0);
}

pub(crate) fn a_chain_of_squarings_uses_every_level<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, _| {
        request.relinearization(top);
    });
    // Values on the unit circle keep their size, so errors show at every depth.
    let mut expected: Vec<_> = f.values().iter().map(|z| z / z.norm()).collect();
    let mut ciphertext = crate::contract::Client::encrypt(&f.client, &expected, f.top).unwrap();
    let mut factor = 2.0;
    for level in (0..f.top.0).rev() {
        ciphertext = f.evaluator.square(&ciphertext).unwrap();
        expected = expected.iter().map(|z| z * z).collect();
        // Squaring doubles the error and adds that of one more product.
        factor = 2.0 * factor + 4.0;
        f.assert_canonical("squared", &ciphertext, Level(level), &expected, factor);
    }
}

pub(crate) fn products_are_relinearized_and_rescaled_with_what_is_added<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, _| {
        request.relinearization(top);
    });
    for level in 1..=f.top.0 {
        let level = Level(level);
        let (x, a) = f.encrypted(level);
        let (y, b) = f.encrypted(level);
        let (z, c) = f.encrypted(f.top);
        let product = f.evaluator.tensor(&a, &b).unwrap();
        let (factor, addend) = (Complex64::new(-0.7, 0.4), Complex64::new(0.25, -0.75));
        let terms = [LinearTerm::at_scale(factor, &c, product.scale())];
        let sum = f.evaluator.relinearize_and_rescale(&product, &terms, addend).unwrap();
        let expected = zip(&zip(&x, &y, |x, y| x * y), &z, |p, z| p + factor * z + addend);
        assert_eq!(sum.level(), Level(level.0 - 1));
        f.assert_values("a·b + c·z + addend", &sum, &expected, 6.0);
        let alone = f.evaluator.relinearize_and_rescale(&product, &[], Complex64::ZERO).unwrap();
        f.assert_canonical("a·b", &alone, Level(level.0 - 1), &zip(&x, &y, |x, y| x * y), 4.0);
    }
    let (_, a) = f.encrypted(Level(0));
    let product = f.evaluator.tensor(&a, &a);
    let refused =
        product.and_then(|product| f.evaluator.relinearize_and_rescale(&product, &[], Complex64::ONE));
    assert!(refused.is_err(), "nothing can be rescaled at level 0");
}
