//! Noise of bootstraps for the f64 twin: what the simulator's bootstraps add, without ciphertexts.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::backend::clear::SECOND_ITERATION;

use crate::decoder::schedule::Refresh;

/// Noise that every bootstrap adds to every slot.
#[derive(Clone, Copy, Debug)]
pub struct BootstrapNoise {
    /// The real and the imaginary part of a slot get normal noise with a standard deviation of 2^−`bits`, where
    /// values are held within ±1.
    pub bits: f64,
    /// Seed of the noise.
    pub seed: u64,
}

/// Draws the noise.
pub(crate) struct NoiseSource {
    deviation: f64,
    generator: ChaCha20Rng,
}

impl NoiseSource {
    /// The source of `noise`.
    pub(crate) fn new(noise: BootstrapNoise) -> Self {
        Self { deviation: (-noise.bits).exp2(), generator: ChaCha20Rng::seed_from_u64(noise.seed) }
    }

    /// Standard deviation of what the bootstrap `refresh` adds to the real and to the imaginary part of a slot.
    pub(crate) fn deviation(&self, refresh: Refresh) -> f64 {
        if refresh.iterations > 1 { self.deviation * SECOND_ITERATION } else { self.deviation }
    }

    /// Standard normal deviate by the polar method of Marsaglia.
    pub(crate) fn normal(&mut self) -> f64 {
        loop {
            let (x, y): (f64, f64) =
                (self.generator.random_range(-1.0..1.0), self.generator.random_range(-1.0..1.0));
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * square.ln() / square).sqrt();
            }
        }
    }
}
