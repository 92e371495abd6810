//! Bytes of ciphertexts: round trip, damage, strangers; and sharing between threads.

use rand::Rng;

use super::fixture::{Fixture, assert_state, rotated, zip};
use super::{Backend, CiphertextOf, EvaluatorOf};
use crate::backend::clear::{ClearClient, ClearParameters};
use crate::contract::{CiphertextInfo, Client, Complex64, Error, Evaluator, KeyRequest, Level};

pub(crate) fn ciphertexts_survive_serialization<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    for level in 0..=f.top.0 {
        let (x, a) = f.encrypted(Level(level));
        let product = f.evaluator.mul_integer(&a, 3).unwrap();
        for (ciphertext, k) in [(&a, 1.0), (&product, 3.0)] {
            let bytes = f.evaluator.ciphertext_to_bytes(ciphertext).unwrap();
            let back = f.evaluator.ciphertext_from_bytes(&bytes).unwrap();
            assert_state("read back", &back, ciphertext.level(), ciphertext.scale());
            f.assert_values("read back", &back, &zip(&x, &x, |x, _| x * k), 1.0 + k);
            let again = f.evaluator.ciphertext_to_bytes(&back).unwrap();
            assert!(bytes == again, "level {level}: writing what was read gives other bytes");
        }
    }
}

fn assert_refused<B: Backend>(f: &Fixture<B>, what: &str, bytes: &[u8]) {
    match f.evaluator.ciphertext_from_bytes(bytes) {
        Err(Error::Format { .. } | Error::ParameterMismatch { .. } | Error::LevelOutOfRange { .. }) => {}
        Err(other) => panic!("{what}: unexpected kind of error: {other}"),
        Ok(_) => panic!("{what}: accepted"),
    }
}

pub(crate) fn truncated_bytes_are_refused<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    let (_, a) = f.encrypted(Level(1));
    let bytes = f.evaluator.ciphertext_to_bytes(&a).unwrap();
    let mut lengths: Vec<usize> = (0..bytes.len().min(200)).collect();
    lengths.extend((0..40).map(|_| f.random.random_range(0..bytes.len())));
    lengths.extend(bytes.len().saturating_sub(40)..bytes.len());
    for length in lengths {
        assert_refused(&f, &format!("{length} of {} bytes", bytes.len()), &bytes[..length]);
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_refused(&f, "one byte too many", &longer);
    longer.extend_from_slice(&bytes);
    assert_refused(&f, "two ciphertexts in a row", &longer);
}

pub(crate) fn damaged_bytes_are_refused<B: Backend>() {
    let mut f = Fixture::<B>::keyless();
    let (_, a) = f.encrypted(Level(1));
    let bytes = f.evaluator.ciphertext_to_bytes(&a).unwrap();
    let mut positions: Vec<usize> = (0..bytes.len().min(128)).collect();
    positions.extend((0..60).map(|_| f.random.random_range(0..bytes.len())));
    for position in positions {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1 << f.random.random_range(0..8);
        assert_refused(&f, &format!("bit flipped in byte {position} of {}", bytes.len()), &damaged);
    }
    for length in [0, 1, 7, 8, 63, 64, 1000] {
        let noise: Vec<u8> = (0..length).map(|_| f.random.random()).collect();
        assert_refused(&f, &format!("{length} random bytes"), &noise);
    }
}

/// Bytes of another scheme entirely: a simulator of two slots.
pub(crate) fn bytes_of_other_parameters_are_refused<B: Backend>() {
    let f = Fixture::<B>::keyless();
    let stranger = ClearClient::new(ClearParameters::new(2, 3, 30).unwrap());
    let evaluator = stranger.evaluator(&KeyRequest::new()).unwrap();
    let ciphertext = stranger.encrypt(&[Complex64::new(1.0, 0.0)], Level(1)).unwrap();
    assert_refused(&f, "bytes of a stranger", &evaluator.ciphertext_to_bytes(&ciphertext).unwrap());
}

pub(crate) fn evaluators_work_on_several_threads<B: Backend>() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<B::Client>();
    assert_send_sync::<EvaluatorOf<B>>();
    assert_send_sync::<CiphertextOf<B>>();

    let mut f = Fixture::<B>::new(|request, top, slots| {
        request.rotations(&[1, 2, 3], slots, top).relinearization(top);
    });
    let (x, a) = f.encrypted(f.top);
    let (evaluator, a) = (&f.evaluator, &a);
    let results: Vec<(i64, CiphertextOf<B>, CiphertextOf<B>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = [1, 2, 3]
            .map(|step| {
                scope.spawn(move || (step, evaluator.rotate(a, step).unwrap(), evaluator.square(a).unwrap()))
            })
            .into_iter()
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (step, turned, square) in &results {
        f.assert_canonical("rotated on a thread", turned, f.top, &rotated(&x, *step), 2.0);
        f.assert_values("squared on a thread", square, &zip(&x, &x, |x, _| x * x), 4.0);
    }
}
