//! Misuse gives the error that names the numbers, and never changes the inputs.

use super::fixture::Fixture;
use super::{Backend, CiphertextOf};
use crate::contract::{
    CiphertextInfo, Client, Complex64, Diagonal, Error, Evaluator, KeyRequest, Level, LinearTransform, Scale,
};

/// That `$result` is the error of this pattern, and that its text contains every given number.
macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            Err(other) => panic!("{} gave another error: {other}", stringify!($result)),
            Ok(_) => panic!("{} was accepted", stringify!($result)),
        }
    };
}

const ONE: Complex64 = Complex64::new(1.0, 0.0);

pub(crate) fn inputs_stay_unchanged<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, slots| {
        request.rotations(&[1, 2], slots, top).relinearization(top).conjugation(top);
    });
    let (_, a) = f.encrypted(f.top);
    let (_, b) = f.encrypted(f.top);
    let values = f.values();
    let e = &f.evaluator;
    let scale = f.canonical(f.top);
    let plaintext = e.encode(&values, f.top, scale).unwrap();
    let bytes = |c: &CiphertextOf<B>| e.ciphertext_to_bytes(c).unwrap();
    let (before_a, before_b) = (bytes(&a), bytes(&b));
    let assert_unchanged = |operation: &str| {
        assert!(bytes(&a) == before_a && bytes(&b) == before_b, "{operation} changed its input");
    };
    e.add(&a, &b).unwrap();
    e.sub(&a, &b).unwrap();
    e.negate(&a).unwrap();
    e.add_plain(&a, &plaintext).unwrap();
    e.add_constant(&a, ONE).unwrap();
    e.mul_plain(&a, &plaintext).unwrap();
    e.mul_constant(&a, ONE, scale).unwrap();
    e.mul_integer(&a, 5).unwrap();
    e.mul_by_i(&a).unwrap();
    assert_unchanged("an addition or a plaintext product");
    let tensor = e.tensor(&a, &b).unwrap();
    let before = e.relinearize(&tensor).unwrap();
    e.add_tensor(&tensor, &tensor).unwrap();
    assert!(bytes(&before) == bytes(&e.relinearize(&tensor).unwrap()), "add_tensor changed its input");
    assert_unchanged("a product");
    e.rescale(&a).unwrap();
    e.drop_level(&a, Level(1)).unwrap();
    e.lower(&a, Level(1)).unwrap();
    e.align(&a, &e.lower(&b, Level(1)).unwrap()).unwrap();
    assert_unchanged("a change of level");
    e.rotate(&a, 1).unwrap();
    e.rotate_many(&a, &[1, 2]).unwrap();
    e.rotate_sum(&[(&a, 1), (&b, 2), (&a, 0)]).unwrap();
    e.conjugate(&a).unwrap();
    assert_unchanged("a rotation");
    let transform = LinearTransform::from_diagonals(vec![(1, Diagonal::Encoded(&plaintext))]);
    e.linear_transform(&a, &transform, scale).unwrap();
    assert_unchanged("a linear transform");
}

pub(crate) fn mixed_levels_are_refused<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, slots| {
        request.rotations(&[1], slots, top);
    });
    let (_, high) = f.encrypted(f.top);
    let (_, low) = f.encrypted(Level(1));
    let values = f.values();
    let (e, top) = (&f.evaluator, f.top);
    let plaintext = e.encode(&values, Level(1), f.canonical(Level(1))).unwrap();
    assert_error!(e.add(&high, &low), Error::LevelMismatch { left, right, .. } if left == top && right == Level(1));
    assert_error!(e.sub(&low, &high), Error::LevelMismatch { left, right, .. } if left == Level(1) && right == top);
    assert_error!(e.tensor(&high, &low), Error::LevelMismatch { .. });
    assert_error!(e.mul(&high, &low), Error::LevelMismatch { .. });
    assert_error!(e.add_plain(&high, &plaintext), Error::LevelMismatch { .. });
    assert_error!(e.mul_plain(&high, &plaintext), Error::LevelMismatch { .. });
    assert_error!(e.rotate_sum(&[(&high, 1), (&low, 0)]), Error::LevelMismatch { .. });
    let high_tensor = e.tensor(&high, &high).unwrap();
    let low_tensor = e.tensor(&low, &low).unwrap();
    assert_error!(e.add_tensor(&high_tensor, &low_tensor), Error::LevelMismatch { .. });
    let transform = LinearTransform::from_diagonals(vec![(1, Diagonal::Encoded(&plaintext))]);
    assert_error!(e.linear_transform(&high, &transform, f.canonical(Level(1))), Error::LevelMismatch { .. });
    assert_error!(e.drop_level(&low, top), Error::LevelTooLow { level, wanted, .. } if level == Level(1) && wanted == top);
    assert_error!(e.lower(&low, top), Error::LevelTooLow { .. });
}

pub(crate) fn mixed_scales_are_refused<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, slots| {
        request.rotations(&[1], slots, top);
    });
    let (_, a) = f.encrypted(f.top);
    let values = f.values();
    let (e, scale) = (&f.evaluator, f.canonical(f.top));
    let product = e.mul_constant(&a, ONE, scale).unwrap();
    assert_error!(e.add(&a, &product), Error::ScaleMismatch { left, right, .. } if left.agrees_with(scale) && right.agrees_with(scale * scale));
    assert_error!(e.sub(&product, &a), Error::ScaleMismatch { .. });
    assert_error!(e.rotate_sum(&[(&a, 1), (&product, 1)]), Error::ScaleMismatch { .. });
    let plaintext = e.encode(&values, f.top, Scale(scale.0 * 2.0)).unwrap();
    assert_error!(e.add_plain(&a, &plaintext), Error::ScaleMismatch { .. });
    assert_error!(e.lower(&product, f.top), Error::ScaleMismatch { .. });
    // A scale off by one part in a million is a mistake, one off by the rounding of f64 is not.
    let off = e.encode(&values, f.top, Scale(scale.0 * (1.0 + 1e-6))).unwrap();
    assert_error!(e.add_plain(&a, &off), Error::ScaleMismatch { .. });
    let rounded = e.encode(&values, f.top, Scale(scale.0 * (1.0 + f64::EPSILON))).unwrap();
    e.add_plain(&a, &rounded).unwrap();
    // Encoded diagonals at another scale than the transform's.
    let transform = LinearTransform::from_diagonals(vec![(1, Diagonal::Encoded(&plaintext))]);
    assert_error!(e.linear_transform(&a, &transform, scale), Error::ScaleMismatch { .. });
}

pub(crate) fn missing_rotation_keys_are_named<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, slots| {
        request.rotations(&[1], slots, top);
    });
    let (_, a) = f.encrypted(f.top);
    let (e, top, slots) = (&f.evaluator, f.top, f.slots);
    e.rotate(&a, 1).unwrap();
    assert_error!(e.rotate(&a, -1), Error::RotationKey { step, level, available: None } if step == slots - 1 && level == top);
    assert_error!(e.rotate_many(&a, &[1, 2]), Error::RotationKey { step: 2, available: None, .. });
    assert_error!(e.rotate_sum(&[(&a, 1), (&a, 5)]), Error::RotationKey { step: 5, .. });
    for (giant, baby, missing) in [(0, 3, 3), (4, 1, 4)] {
        let transform = LinearTransform {
            giants: vec![crate::contract::GiantStep {
                step: giant,
                babies: vec![(baby, Diagonal::Lazy(Box::new(|| vec![ONE; 4])))],
            }],
        };
        assert_error!(e.linear_transform(&a, &transform, f.canonical(top)), Error::RotationKey { step, .. } if step == missing);
    }
    let Err(error) = e.rotate(&a, 6) else { panic!("rotation without a key was accepted") };
    let text = error.to_string();
    assert!(text.contains("step 6") && text.contains("KeyRequest"), "the error does not help: {text}");
}

pub(crate) fn rotation_keys_end_at_their_level<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, _, _| {
        request.rotation(1, Level(1)).rotation(2, Level(2)).relinearization(Level(2)).conjugation(Level(1));
    });
    for level in 0..=f.top.0 {
        let level = Level(level);
        let (_, a) = f.encrypted(level);
        let e = &f.evaluator;
        if level <= Level(1) {
            e.rotate(&a, 1).unwrap();
            e.conjugate(&a).unwrap();
        } else {
            assert_error!(e.rotate(&a, 1), Error::RotationKey { step: 1, level: at, available: Some(Level(1)) } if at == level);
            assert_error!(
                e.rotate_many(&a, &[1]),
                Error::RotationKey { step: 1, available: Some(Level(1)), .. }
            );
            assert_error!(e.conjugate(&a), Error::EvaluationKey { key: "conjugation", level: at } if at == level);
        }
        if level > Level(2) {
            assert_error!(e.rotate(&a, 2), Error::RotationKey { step: 2, available: Some(Level(2)), .. });
            let tensor = e.tensor(&a, &a).unwrap();
            assert_error!(e.relinearize(&tensor), Error::EvaluationKey { key: "relinearization", level: at } if at == level);
        } else if level > Level(0) {
            e.rotate(&a, 2).unwrap();
            e.square(&a).unwrap();
        }
    }
}

pub(crate) fn missing_evaluation_keys_are_named<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    let (_, a) = f.encrypted(f.top);
    let e = &f.evaluator;
    let tensor = e.tensor(&a, &a).unwrap();
    assert_error!(e.relinearize(&tensor), Error::EvaluationKey { key: "relinearization", .. });
    assert_error!(e.square(&a), Error::EvaluationKey { key: "relinearization", .. });
    assert_error!(e.conjugate(&a), Error::EvaluationKey { key: "conjugation", .. });
}

pub(crate) fn too_many_values_are_refused<B: Backend>() {
    let f = Fixture::<B>::keyless();
    let values = vec![ONE; f.slots + 1];
    let (given, slots) = (f.slots + 1, f.slots);
    let scale = f.canonical(f.top);
    assert_error!(f.client.encrypt(&values, f.top), Error::TooManyValues { given: g, slots: s, .. } if g == given && s == slots);
    assert_error!(f.evaluator.encode(&values, f.top, scale), Error::TooManyValues { given: g, slots: s, .. } if g == given && s == slots);
    let a = f.client.encrypt(&[ONE], f.top).unwrap();
    let transform = LinearTransform::from_diagonals(vec![(
        0,
        Diagonal::Lazy(Box::new(move || vec![ONE; given]) as Box<dyn Fn() -> Vec<Complex64> + Send + Sync>),
    )]);
    assert_error!(f.evaluator.linear_transform(&a, &transform, scale), Error::TooManyValues { .. });
}

pub(crate) fn values_that_are_not_finite_are_refused<B: Backend>() {
    let f = Fixture::<B>::keyless();
    let (e, scale) = (&f.evaluator, f.canonical(f.top));
    let a = f.client.encrypt(&[ONE], f.top).unwrap();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
        for value in [Complex64::new(bad, 0.0), Complex64::new(0.0, bad)] {
            let values = [ONE, ONE, value];
            assert_error!(f.client.encrypt(&values, f.top), Error::BadValue { index: 2, .. });
            assert_error!(e.encode(&values, f.top, scale), Error::BadValue { index: 2, .. });
            assert_error!(e.add_constant(&a, value), Error::BadValue { .. });
            assert_error!(e.mul_constant(&a, value, scale), Error::BadValue { .. });
            let transform = LinearTransform::from_diagonals(vec![(
                0,
                Diagonal::Lazy(Box::new(move || vec![value]) as Box<dyn Fn() -> Vec<Complex64> + Send + Sync>),
            )]);
            assert_error!(e.linear_transform(&a, &transform, scale), Error::BadValue { .. });
        }
    }
}

pub(crate) fn scales_beyond_the_modulus_are_refused<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    let (e, top) = (&f.evaluator, f.top);
    let bits = e.chain().log2_modulus(Level(1)).unwrap();
    for scale in [bits + 1.0, bits + 400.0].map(|b| Scale(b.exp2())) {
        assert_error!(e.encode(&[ONE], Level(1), scale), Error::ScaleOutOfRange { level: Level(1), .. });
    }
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY].map(Scale) {
        assert_error!(e.encode(&[ONE], top, scale), Error::ScaleOutOfRange { .. });
        let a = f.client.encrypt(&[ONE], top).unwrap();
        assert_error!(e.mul_constant(&a, ONE, scale), Error::ScaleOutOfRange { .. });
    }
    // A product that no longer fits the modulus of its level.
    let (_, low) = f.encrypted(Level(0));
    let e = &f.evaluator;
    let plaintext = e.encode(&[ONE], Level(0), f.canonical(Level(0))).unwrap();
    assert_error!(e.mul_plain(&low, &plaintext), Error::ScaleOutOfRange { level: Level(0), .. });
    assert_error!(e.mul_constant(&low, ONE, f.canonical(Level(0))), Error::ScaleOutOfRange { .. });
    assert_error!(e.tensor(&low, &low), Error::ScaleOutOfRange { .. });
    let a = f.client.encrypt(&[ONE], Level(1)).unwrap();
    let product = e.mul_constant(&a, ONE, f.canonical(Level(1))).unwrap();
    assert_error!(e.drop_level(&product, Level(0)), Error::ScaleOutOfRange { level: Level(0), .. });
}

pub(crate) fn levels_outside_the_chain_are_refused<B: Backend>() {
    let f = Fixture::<B>::keyless();
    let (above, top) = (Level(f.top.0 + 1), f.top);
    assert_error!(f.client.encrypt(&[ONE], above), Error::LevelOutOfRange { level, max, .. } if level == above && max == top);
    assert_error!(f.evaluator.encode(&[ONE], above, f.canonical(top)), Error::LevelOutOfRange { level, max, .. } if level == above && max == top);
    let a = f.client.encrypt(&[ONE], top).unwrap();
    assert_error!(
        f.evaluator.drop_level(&a, above),
        Error::LevelTooLow { .. } | Error::LevelOutOfRange { .. }
    );
    assert_error!(f.evaluator.lower(&a, above), Error::LevelTooLow { .. } | Error::LevelOutOfRange { .. });
}

pub(crate) fn the_last_level_cannot_be_rescaled<B: Backend>() {
    let f = Fixture::<B>::keyless();
    let a = f.client.encrypt(&[ONE], Level(0)).unwrap();
    assert_eq!(a.level(), Level(0));
    assert_error!(f.evaluator.rescale(&a), Error::LevelExhausted { level: Level(0), needed: 1, .. });
}

pub(crate) fn empty_sums_and_transforms_are_refused<B: Backend>() {
    let f = Fixture::<B>::keyless();
    let a = f.client.encrypt(&[ONE], f.top).unwrap();
    assert_error!(f.evaluator.rotate_sum(&[]), Error::Shape { .. });
    for transform in [LinearTransform { giants: vec![] }, LinearTransform::from_diagonals(vec![])] {
        assert_error!(f.evaluator.linear_transform(&a, &transform, f.canonical(f.top)), Error::Shape { .. });
    }
}

pub(crate) fn keys_above_the_chain_are_refused<B: Backend>() {
    let f = Fixture::<B>::keyless();
    let above = Level(f.top.0 + 1);
    let mut rotation = KeyRequest::new();
    rotation.rotation(1, above);
    let mut relinearization = KeyRequest::new();
    relinearization.relinearization(above);
    let mut conjugation = KeyRequest::new();
    conjugation.conjugation(above);
    for request in [rotation, relinearization, conjugation] {
        assert_error!(f.client.evaluator(&request), Error::LevelOutOfRange { level, .. } if level == above);
    }
}
