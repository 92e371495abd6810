//! Gaussian noise per operation, reproducible by seed.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::contract::{Complex64, Scale};

/// Standard deviations of the noise that operations add. Simulation only: no security rests on this generator.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NoiseModel {
    /// Seed; equal seeds and equal operation sequences give equal noise.
    pub seed: u64,
    /// Encryption, per slot, in units of 1/scale.
    pub encryption: f64,
    /// Key switch (rotation, relinearization, conjugation), per slot, in units of 1/scale.
    pub key_switch: f64,
    /// Rescale, per slot, in units of 1/scale after it.
    pub rescale: f64,
    /// Bootstrap, per slot, relative to the largest magnitude of the input.
    pub bootstrap_relative: f64,
    /// Bootstrap, per slot, absolute.
    pub bootstrap_absolute: f64,
}

/// Draws noise for one evaluator; every draw uses a fresh stream, so operations may run on several threads.
#[derive(Debug)]
pub(super) struct NoiseSource {
    model: NoiseModel,
    operations: AtomicU64,
}

impl NoiseSource {
    pub(super) fn new(model: NoiseModel) -> Self {
        Self { model, operations: AtomicU64::new(0) }
    }

    pub(super) fn encryption(&self, values: &mut [Complex64], scale: Scale) {
        self.add(values, self.model.encryption / scale.0);
    }

    pub(super) fn key_switch(&self, values: &mut [Complex64], scale: Scale) {
        self.add(values, self.model.key_switch / scale.0);
    }

    pub(super) fn rescale(&self, values: &mut [Complex64], scale: Scale) {
        self.add(values, self.model.rescale / scale.0);
    }

    pub(super) fn bootstrap(&self, values: &mut [Complex64]) {
        let largest = values.iter().map(|z| z.re.abs().max(z.im.abs())).fold(0.0, f64::max);
        self.add(values, self.model.bootstrap_relative.mul_add(largest, self.model.bootstrap_absolute));
    }

    /// Adds complex Gaussian noise whose real and imaginary parts have standard deviation `deviation`.
    fn add(&self, values: &mut [Complex64], deviation: f64) {
        if deviation <= 0.0 {
            return;
        }
        let mut generator = ChaCha8Rng::seed_from_u64(self.model.seed);
        generator.set_stream(self.operations.fetch_add(1, Ordering::Relaxed));
        for value in values {
            // Box–Muller: two independent normals from two uniforms.
            let radius = (-2.0 * (1.0 - generator.random::<f64>()).ln()).sqrt() * deviation;
            let angle = std::f64::consts::TAU * generator.random::<f64>();
            *value += Complex64::from_polar(radius, angle);
        }
    }
}
