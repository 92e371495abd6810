//! Parameters of the simulator.

use super::NoiseModel;
use crate::contract::{BootstrapSummary, Error, LevelChain, Result, Scale};

/// Slots, chain, bootstrapping and noise of a simulated scheme.
#[derive(Clone, Debug, PartialEq)]
pub struct ClearParameters {
    /// Number of slots, a power of two.
    pub slots: usize,
    /// Levels, moduli and canonical scales.
    pub chain: LevelChain,
    /// What a bootstrap offers, if there is one.
    pub bootstrapping: Option<BootstrapSummary>,
    /// Gaussian noise per operation, if wanted.
    pub noise: Option<NoiseModel>,
}

impl ClearParameters {
    /// A chain of `levels` moduli near 2^`log2_scale` (a little off the power of two, as primes are, so that scale
    /// mistakes show), on `slots` slots; no bootstrapping, no noise. The base modulus is 2^(log2_scale + 8).
    ///
    /// # Errors
    /// [`Error::Parameters`] when `slots` is not a power of two ≥ 2 or the scale is outside 2^10 .. 2^60.
    pub fn new(slots: usize, levels: usize, log2_scale: u32) -> Result<Self> {
        if !slots.is_power_of_two() || slots < 2 || !(10..=60).contains(&log2_scale) {
            return Err(Error::Parameters {
                what: format!("{slots} slots at scale 2^{log2_scale}"),
                remedy: "use a power of two of at least 2 slots and a scale of 2^10 to 2^60".to_owned(),
            });
        }
        let scale = f64::from(log2_scale).exp2();
        let mut moduli: Vec<f64> = Vec::with_capacity(levels);
        let mut canonical = scale;
        // From the top down, each modulus pulls the canonical scale back to 2^log2_scale, up to a gap like that
        // between primes.
        for level in (1..=levels).rev() {
            let gap = if level % 2 == 0 { 1.0 } else { -1.0 } * (level as f64) / f64::from(1u32 << 24);
            let modulus = canonical * canonical / scale * (1.0 + gap);
            canonical = canonical * canonical / modulus;
            moduli.push(modulus);
        }
        moduli.reverse();
        Ok(Self {
            slots,
            chain: LevelChain::new(scale * 256.0, moduli, Scale(scale)),
            bootstrapping: None,
            noise: None,
        })
    }

    /// These parameters with bootstrapping.
    #[must_use]
    pub fn with_bootstrapping(mut self, summary: BootstrapSummary) -> Self {
        self.bootstrapping = Some(summary);
        self
    }

    /// These parameters with noise.
    #[must_use]
    pub fn with_noise(mut self, noise: NoiseModel) -> Self {
        self.noise = Some(noise);
        self
    }
}
