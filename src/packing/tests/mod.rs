//! Packings on the simulator against dense f64 linear algebra, and counted operations against the formulas.

mod attention;
mod baselines;
mod cache_bytes;
mod folding;
mod products;

use std::sync::Arc;

use super::{FnWeights, Order, Packed, VectorLayout, Weights};
use crate::backend::clear::{ClearCiphertext, ClearClient, ClearParameters};
use crate::contract::{Client, Complex64, Level};

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

/// Encrypts features in a layout.
pub(super) fn encrypt(
    client: &ClearClient,
    layout: VectorLayout,
    order: &Order,
    features: &[f64],
    level: usize,
) -> Packed<ClearCiphertext> {
    let slots = order.pack(&layout, features).unwrap();
    Packed::new(client.encrypt(&slots, Level(level)).unwrap(), layout)
}

/// Decrypts features from their layout.
pub(super) fn decrypt(
    client: &ClearClient,
    packed: &Packed<ClearCiphertext>,
    order: &Order,
    count: usize,
) -> Vec<Complex64> {
    order.unpack(&packed.layout, &client.decrypt(&packed.ciphertext).unwrap(), count).unwrap()
}

/// That the real parts equal `want` and nothing is imaginary, to `tolerance`.
pub(super) fn assert_close(got: &[Complex64], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).norm();
        assert!(error <= tolerance, "{what}: index {index} is {got}, wanted {want} (error {error:e})");
    }
}
