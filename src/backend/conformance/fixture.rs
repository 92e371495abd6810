//! A client, an evaluator and the dense arithmetic that checks compare with.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Backend, CiphertextOf, EvaluatorOf};
use crate::contract::{
    CiphertextInfo, Client, Complex64, Evaluator, KeyRequest, Level, Scale, normalize_step,
};

/// One client with one evaluator, and a source of reproducible values.
pub(crate) struct Fixture<B: Backend> {
    pub client: B::Client,
    pub evaluator: EvaluatorOf<B>,
    pub top: Level,
    pub slots: usize,
    pub random: ChaCha8Rng,
}

impl<B: Backend> Fixture<B> {
    /// A fixture without evaluation keys.
    pub fn keyless() -> Self {
        Self::new(|_, _, _| {})
    }

    /// A fixture with the keys that `ask` adds to a request, given the highest level and the number of slots.
    pub fn new(ask: impl FnOnce(&mut KeyRequest, Level, usize)) -> Self {
        Self::with_client(B::client(), ask)
    }

    /// A fixture around `client`, with the keys that `ask` adds to a request.
    pub fn with_client(client: B::Client, ask: impl FnOnce(&mut KeyRequest, Level, usize)) -> Self {
        let slots = client.slots();
        let top = client.evaluator(&KeyRequest::new()).unwrap().chain().max_level();
        assert!(top >= Level(4), "the suite needs four levels, these parameters have {top}");
        let mut request = KeyRequest::new();
        ask(&mut request, top, slots);
        let evaluator = client.evaluator(&request).unwrap();
        assert_eq!(evaluator.slots(), slots, "client and evaluator disagree about the slots");
        Self { client, evaluator, top, slots, random: ChaCha8Rng::seed_from_u64(20_240_917) }
    }

    /// S complex values with real and imaginary parts uniform in −0.7 .. 0.7 (magnitude below 1).
    pub fn values(&mut self) -> Vec<Complex64> {
        let random = &mut self.random;
        (0..self.slots)
            .map(|_| Complex64::new(random.random_range(-0.7..0.7), random.random_range(-0.7..0.7)))
            .collect()
    }

    /// Random values and their encryption at `level`.
    pub fn encrypted(&mut self, level: Level) -> (Vec<Complex64>, CiphertextOf<B>) {
        let values = self.values();
        let ciphertext = self.client.encrypt(&values, level).unwrap();
        (values, ciphertext)
    }

    /// Canonical scale of `level`.
    pub fn canonical(&self, level: Level) -> Scale {
        self.evaluator.chain().canonical_scale(level).unwrap()
    }

    /// That `ciphertext` holds `expected` to the backend's precision times `factor`.
    pub fn assert_values(
        &self,
        what: &str,
        ciphertext: &CiphertextOf<B>,
        expected: &[Complex64],
        factor: f64,
    ) {
        let decrypted = self.client.decrypt(ciphertext).unwrap();
        assert_close(what, &decrypted, expected, factor * (-B::PRECISION_BITS).exp2());
    }

    /// That `ciphertext` holds `expected` to the backend's precision times `factor`, at `level` and its canonical
    /// scale.
    pub fn assert_canonical(
        &self,
        what: &str,
        ciphertext: &CiphertextOf<B>,
        level: Level,
        expected: &[Complex64],
        factor: f64,
    ) {
        assert_state(what, ciphertext, level, self.canonical(level));
        self.assert_values(what, ciphertext, expected, factor);
    }
}

/// That `value` stands at `level` and `scale`.
pub(super) fn assert_state(what: &str, value: &impl CiphertextInfo, level: Level, scale: Scale) {
    assert_eq!(value.level(), level, "{what}: level {}, expected {level}", value.level());
    assert!(value.scale().agrees_with(scale), "{what}: scale {}, expected {scale}", value.scale());
}

/// That all slots agree up to `bound`; the failure names the worst one.
pub(super) fn assert_close(what: &str, found: &[Complex64], expected: &[Complex64], bound: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: {} slots, expected {}", found.len(), expected.len());
    let mut worst = (0, 0.0);
    for (slot, (x, y)) in found.iter().zip(expected).enumerate() {
        let error = (x - y).norm();
        if error > worst.1 || error.is_nan() {
            worst = (slot, error);
        }
    }
    let (slot, error) = worst;
    assert!(
        error <= bound,
        "{what}: slot {slot} is {} instead of {}, off by 2^{:.1}, allowed 2^{:.1}",
        found[slot],
        expected[slot],
        error.log2(),
        bound.log2()
    );
}

/// Root mean square over the real and imaginary parts of all slots.
pub(super) fn root_mean_square(values: &[Complex64]) -> f64 {
    (values.iter().map(Complex64::norm_sqr).sum::<f64>() / (2.0 * values.len() as f64)).sqrt()
}

/// rot(x, step)[s] = x[(s + step) mod S].
pub(super) fn rotated(values: &[Complex64], step: i64) -> Vec<Complex64> {
    let mut result = values.to_vec();
    result.rotate_left(normalize_step(step, values.len()));
    result
}

/// Slot by slot.
pub(super) fn zip(
    a: &[Complex64],
    b: &[Complex64],
    combine: impl Fn(Complex64, Complex64) -> Complex64,
) -> Vec<Complex64> {
    a.iter().zip(b).map(|(x, y)| combine(*x, *y)).collect()
}
