//! Packings against dense f64 linear algebra, on the simulator and (smaller) on `native` to the predicted noise, and
//! counted operations against the formulas.

mod attention;
mod baselines;
mod cache_bytes;
mod complex_heads;
mod counts;
mod folded_products;
mod folding;
mod native;
mod products;

use std::sync::Arc;

use super::{FnWeights, Order, Packed, VectorLayout, Weights};
use crate::backend::clear::{ClearClient, ClearParameters};
use crate::contract::{Client, Complex64, Evaluator, Level};

/// Client of a simulator with `slots` slots and `levels` levels.
pub(super) fn client(slots: usize, levels: usize) -> ClearClient {
    ClearClient::new(ClearParameters::new(slots, levels, 40).unwrap())
}

/// A reproducible number in −1 .. 1.
pub(super) fn number(seed: u64, index: usize) -> f64 {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (index as u64).wrapping_mul(0xD1B5_4A32_D192_ED03);
    x ^= x >> 32;
    x = x.wrapping_mul(0xDABA_0B6E_B093_22E3);
    x ^= x >> 32;
    (x >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// A reproducible vector.
pub(super) fn vector(seed: u64, length: usize) -> Vec<f64> {
    (0..length).map(|index| number(seed, index)).collect()
}

/// A reproducible matrix with entries of variance about 1/inputs.
pub(super) fn matrix(seed: u64, inputs: usize, outputs: usize) -> Arc<dyn Weights> {
    let size = (3.0 / inputs as f64).sqrt();
    Arc::new(FnWeights::new(inputs, outputs, move |i, o| size * number(seed, i * outputs + o)))
}

/// x·W in f64.
pub(super) fn dense(x: &[f64], weights: &dyn Weights) -> Vec<f64> {
    (0..weights.outputs())
        .map(|o| x.iter().enumerate().map(|(i, x)| x * weights.weight(i, o)).sum())
        .collect()
}

/// Ciphertext of a client.
pub(super) type CiphertextOf<C> = <<C as Client>::Evaluator as Evaluator>::Ciphertext;

/// Encrypts features in a layout.
pub(super) fn encrypt<C: Client>(
    client: &C,
    layout: VectorLayout,
    order: &Order,
    features: &[f64],
    level: usize,
) -> Packed<CiphertextOf<C>> {
    let slots = order.pack(&layout, features).unwrap();
    Packed::new(client.encrypt(&slots, Level(level)).unwrap(), layout)
}

/// Decrypts features from their layout.
pub(super) fn decrypt<C: Client>(
    client: &C,
    packed: &Packed<CiphertextOf<C>>,
    order: &Order,
    count: usize,
) -> Vec<Complex64> {
    order.unpack(&packed.layout, &client.decrypt(&packed.ciphertext).unwrap(), count).unwrap()
}

/// What a computation on ciphertexts gave, and what dense algebra gives.
pub(super) struct Compared {
    pub(super) what: String,
    pub(super) got: Vec<Complex64>,
    pub(super) want: Vec<Complex64>,
}

impl Compared {
    pub(super) fn new(what: impl Into<String>, got: Vec<Complex64>, want: Vec<Complex64>) -> Self {
        let what = what.into();
        assert_eq!(got.len(), want.len(), "{what}: lengths");
        Self { what, got, want }
    }

    /// With real numbers wanted.
    pub(super) fn real(what: impl Into<String>, got: Vec<Complex64>, want: &[f64]) -> Self {
        Self::new(what, got, want.iter().map(|x| Complex64::new(*x, 0.0)).collect())
    }

    pub(super) fn errors(&self) -> impl Iterator<Item = f64> + '_ {
        self.got.iter().zip(&self.want).map(|(got, want)| (got - want).norm())
    }

    pub(super) fn assert_within(&self, tolerance: f64) {
        for (index, error) in self.errors().enumerate() {
            let (got, want) = (self.got[index], self.want[index]);
            assert!(error <= tolerance, "{}: index {index} is {got}, wanted {want} ({error:e})", self.what);
        }
    }
}

/// That the real parts equal `want` and nothing is imaginary, to `tolerance`.
pub(super) fn assert_close(got: &[Complex64], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).norm();
        assert!(error <= tolerance, "{what}: index {index} is {got}, wanted {want} (error {error:e})");
    }
}
