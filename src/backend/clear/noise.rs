//! Gaussian noise per operation, reproducible by seed.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::contract::{Complex64, Scale};

/// Slots that one task draws for.
const TASK: usize = 4096;
/// Words of 32 bits that the generator spends on a slot: two uniforms of 64.
const WORDS_PER_SLOT: u128 = 4;

/// What a second iteration leaves of the error of a bootstrap: `native` at N = 2^16 went from 22 to 29 bits.
pub(crate) const SECOND_ITERATION: f64 = 1.0 / 128.0;

/// Standard deviations of the noise that operations add, of a real or imaginary part; what `native` adds is
/// [`crate::backend::native::noise_model`]. Simulation only: no security rests on this generator.
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
    /// Bootstrap of one iteration, per slot, absolute.
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

    /// The source of a client: streams far from those of its evaluators, whose noise would otherwise repeat its own.
    pub(super) fn of_client(model: NoiseModel) -> Self {
        Self { model, operations: AtomicU64::new(1 << 63) }
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

    pub(super) fn bootstrap(&self, values: &mut [Complex64], iterations: usize) {
        let largest = values.iter().map(|z| z.re.abs().max(z.im.abs())).fold(0.0, f64::max);
        let once = self.model.bootstrap_relative.mul_add(largest, self.model.bootstrap_absolute);
        self.add(values, if iterations > 1 { once * SECOND_ITERATION } else { once });
    }

    /// Adds complex Gaussian noise whose real and imaginary parts have standard deviation `deviation`. Tasks draw
    /// from places of their own in one stream, so that noise does not depend on the number of threads.
    fn add(&self, values: &mut [Complex64], deviation: f64) {
        if deviation <= 0.0 {
            return;
        }
        let stream = self.operations.fetch_add(1, Ordering::Relaxed);
        values.par_chunks_mut(TASK).enumerate().for_each(|(task, values)| {
            let mut generator = ChaCha8Rng::seed_from_u64(self.model.seed);
            generator.set_stream(stream);
            generator.set_word_pos((task * TASK) as u128 * WORDS_PER_SLOT);
            add_normals(values, deviation, &mut generator);
        });
    }
}

/// Box–Muller: two independent normals from two uniforms a value.
fn add_normals(values: &mut [Complex64], deviation: f64, generator: &mut ChaCha8Rng) {
    for value in values {
        let radius = (-2.0 * (1.0 - generator.random::<f64>()).ln()).sqrt() * deviation;
        let angle = std::f64::consts::TAU * generator.random::<f64>();
        *value += Complex64::from_polar(radius, angle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_drawn_in_tasks_is_that_of_one_stream() {
        let source = NoiseSource::new(NoiseModel {
            seed: 5,
            encryption: 0.0,
            key_switch: 0.0,
            rescale: 0.0,
            bootstrap_relative: 0.0,
            bootstrap_absolute: 0.0,
        });
        let mut together = vec![Complex64::ZERO; 2 * TASK + 77];
        source.add(&mut together, 0.5);
        let mut alone = vec![Complex64::ZERO; together.len()];
        add_normals(&mut alone, 0.5, &mut ChaCha8Rng::seed_from_u64(5));
        assert_eq!(together, alone);
        let variance = together.iter().map(|z| z.norm_sqr()).sum::<f64>() / (2 * together.len()) as f64;
        assert!((variance / 0.25 - 1.0).abs() < 0.05, "{variance}");
    }
}
