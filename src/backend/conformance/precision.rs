//! Bits of precision: encryption, encoding, and the noise of key switching against its formula.

use super::fixture::{Fixture, assert_state, root_mean_square, rotated, zip};
use super::{Backend, EvaluatorOf};
use crate::contract::{CiphertextInfo, Client, Complex64, Evaluator, Level};

/// Differences between measured and predicted noise are judged in bits of the standard deviation, which S slots of
/// several ciphertexts pin down to far less than a tenth of a bit.
fn assert_within_bits(what: &str, measured: f64, predicted: f64, bits: f64) {
    let difference = (measured / predicted).log2();
    println!(
        "{what}: measured 2^{:.2}, predicted 2^{:.2}, difference {difference:+.2} bits",
        measured.log2(),
        predicted.log2()
    );
    assert!(
        difference.abs() <= bits,
        "{what}: standard deviation {measured:e}, predicted {predicted:e}: {difference:+.2} bits apart, allowed {bits}"
    );
}

pub(crate) fn fresh_values_come_back_at_every_level<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    println!("{}: level, scale, bits of precision (worst slot, rms)", f.evaluator.name());
    for level in 0..=f.top.0 {
        let level = Level(level);
        let (values, ciphertext) = f.encrypted(level);
        f.assert_canonical("fresh encryption", &ciphertext, level, &values, 1.0);
        let error = zip(&f.client.decrypt(&ciphertext).unwrap(), &values, |x, y| x - y);
        let worst = error.iter().map(|z| z.norm()).fold(0.0, f64::max);
        println!(
            "  {level:>2}  {}  {:.1}  {:.1}",
            ciphertext.scale(),
            -worst.log2(),
            -root_mean_square(&error).log2()
        );
    }
}

pub(crate) fn short_inputs_are_padded_with_zeros<B: Backend>() {
    let f = Fixture::<B>::keyless();
    let few = [Complex64::new(0.5, -0.25), Complex64::new(-0.125, 0.5)];
    for given in [&few[..], &few[..1], &[]] {
        let mut expected = given.to_vec();
        expected.resize(f.slots, Complex64::ZERO);
        let what = format!("{} of {} values", given.len(), f.slots);
        let ciphertext = f.client.encrypt(given, f.top).unwrap();
        f.assert_canonical(&what, &ciphertext, f.top, &expected, 1.0);
        let plaintext = f.evaluator.encode(given, f.top, ciphertext.scale()).unwrap();
        let doubled = f.evaluator.add_plain(&ciphertext, &plaintext).unwrap();
        f.assert_values(&what, &doubled, &zip(&expected, &expected, |x, y| x + y), 1.5);
    }
}

/// The figure: fresh encode → encrypt → decrypt within 2 bits of theory.
pub(crate) fn fresh_precision_matches_theory<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    let mut errors = Vec::new();
    for _ in 0..4 {
        let (values, ciphertext) = f.encrypted(f.top);
        errors.extend(zip(&f.client.decrypt(&ciphertext).unwrap(), &values, |x, y| x - y));
    }
    let measured = root_mean_square(&errors);
    assert!(measured <= (-B::PRECISION_BITS).exp2(), "fresh noise {measured:e}");
    if let Some(noise) = B::predicted_noise(f.evaluator.chain()) {
        assert_within_bits("fresh noise", measured, noise.fresh / f.canonical(f.top).0, 2.0);
    }
}

/// The noise of a rotation is what it changes against the rotation of the decryption: fresh noise cancels.
pub(crate) fn rotation_noise_matches_the_formula<B: Backend>() {
    let mut f = Fixture::<B>::new(|request, top, slots| {
        request.rotations(&[1, -3], slots, top);
    });
    for level in [f.top.0, f.top.0 / 2, 0] {
        let level = Level(level);
        let mut errors = Vec::new();
        for step in [1, -3, 1, -3] {
            let (_, ciphertext) = f.encrypted(level);
            let before = f.client.decrypt(&ciphertext).unwrap();
            let after = f.client.decrypt(&f.evaluator.rotate(&ciphertext, step).unwrap()).unwrap();
            errors.extend(zip(&after, &rotated(&before, step), |x, y| x - y));
        }
        let measured = root_mean_square(&errors);
        assert!(measured <= (-B::PRECISION_BITS).exp2(), "rotation noise {measured:e} at level {level}");
        if let Some(noise) = B::predicted_noise(f.evaluator.chain()) {
            let predicted = (noise.rotation)(level) / f.canonical(level).0;
            assert_within_bits(&format!("rotation noise, level {level}"), measured, predicted, 1.0);
        }
    }
}

/// A relinearized product stands at scale Δ², where f64 cannot show the noise beside values near 1; the product of two
/// encryptions of zero is small enough, and known exactly from their decryptions.
pub(crate) fn relinearization_noise_matches_the_formula<B: Backend>() {
    let f = Fixture::<B>::new(|request, top, _| {
        request.relinearization(top);
    });
    for level in [f.top.0, f.top.0 / 2, 1] {
        let level = Level(level);
        let (mut errors, mut products) = (Vec::new(), Vec::new());
        let mut scale = f.canonical(level);
        for _ in 0..4 {
            let a = f.client.encrypt(&[], level).unwrap();
            let b = f.client.encrypt(&[], level).unwrap();
            let product = f.evaluator.relinearize(&f.evaluator.tensor(&a, &b).unwrap()).unwrap();
            scale = product.scale();
            let expected = zip(&f.client.decrypt(&a).unwrap(), &f.client.decrypt(&b).unwrap(), |x, y| x * y);
            errors.extend(zip(&f.client.decrypt(&product).unwrap(), &expected, |x, y| x - y));
            products.extend(expected);
        }
        let measured = root_mean_square(&errors);
        assert!(measured <= (-B::PRECISION_BITS).exp2(), "relinearization noise {measured:e}, level {level}");
        if let Some(noise) = B::predicted_noise(f.evaluator.chain()) {
            let predicted = (noise.relinearization)(level) / scale.0;
            assert_within_bits(&format!("relinearization noise, level {level}"), measured, predicted, 1.0);
        }
    }
}

/// A plaintext added to an encryption of its negative leaves fresh noise and rounding only, at any scale.
pub(crate) fn encoding_alone_is_exact_to_the_scale<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    for level in 0..=f.top.0 {
        let level = Level(level);
        let (values, ciphertext) = f.encrypted(level);
        let plaintext = f.evaluator.encode(&values, level, f.canonical(level)).unwrap();
        assert_state("plaintext", &plaintext, level, f.canonical(level));
        let negated = f.evaluator.negate(&ciphertext).unwrap();
        let rest = f.evaluator.add_plain(&negated, &plaintext).unwrap();
        f.assert_canonical("value minus itself", &rest, level, &vec![Complex64::ZERO; f.slots], 1.5);
    }
    assert_send_sync::<EvaluatorOf<B>>();
}

fn assert_send_sync<T: Send + Sync>() {}
