//! The chain that ties levels and scales: what a ciphertext is divided by on its way down.

use super::{Error, Level, Result, Scale};

impl Level {
    /// The level after one rescale.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`] at level 0; `operation` names the caller.
    pub fn below(self, operation: &'static str) -> Result<Level> {
        self.minus(1, operation)
    }

    /// The level after `depth` rescales.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`] when fewer than `depth` levels are left; `operation` names the caller.
    pub fn minus(self, depth: usize, operation: &'static str) -> Result<Level> {
        self.0.checked_sub(depth).map(Level).ok_or(Error::LevelExhausted {
            operation,
            level: self,
            needed: depth,
        })
    }
}

/// The moduli a ciphertext is divided by on its way down, and the canonical scale of every level.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelChain {
    /// `rescale_moduli[ℓ − 1]` = q_ℓ, what a rescale from level ℓ divides by.
    rescale_moduli: Vec<f64>,
    /// `canonical_scales[ℓ]` = Δ_ℓ.
    canonical_scales: Vec<Scale>,
    /// Modulus left at level 0 (the product of its primes).
    base_modulus: f64,
}

impl LevelChain {
    /// Chain with `rescale_moduli[ℓ − 1]` = q_ℓ (any number of levels, also none), canonical scale `top_scale` at the
    /// highest level, and `base_modulus` left at level 0. Δ_{ℓ−1} = Δ_ℓ² / q_ℓ below the top.
    #[must_use]
    pub fn new(base_modulus: f64, rescale_moduli: Vec<f64>, top_scale: Scale) -> Self {
        let mut scales = vec![top_scale];
        for q in rescale_moduli.iter().rev() {
            let above = scales.last().copied().unwrap_or(top_scale);
            scales.push(Scale(above.0 * above.0 / q));
        }
        scales.reverse();
        Self { rescale_moduli, canonical_scales: scales, base_modulus }
    }

    /// Chain whose canonical scales are given level by level (`canonical_scales[ℓ]` = Δ_ℓ, one more than moduli): for
    /// chains of several stretches with primes of different sizes, where the recurrence of [`LevelChain::new`] holds
    /// inside a stretch only.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is not exactly one scale more than there are moduli.
    pub fn with_scales(
        base_modulus: f64,
        rescale_moduli: Vec<f64>,
        canonical_scales: Vec<Scale>,
    ) -> Result<Self> {
        if canonical_scales.len() != rescale_moduli.len() + 1 {
            return Err(Error::Shape {
                operation: "level chain",
                what: format!("{} scales for {} moduli", canonical_scales.len(), rescale_moduli.len()),
                remedy: "give one scale for each level, level 0 included".to_owned(),
            });
        }
        Ok(Self { rescale_moduli, canonical_scales, base_modulus })
    }

    /// Highest level.
    #[must_use]
    pub fn max_level(&self) -> Level {
        Level(self.rescale_moduli.len())
    }

    /// q_ℓ: what a rescale from `level` divides the scale by.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`] at level 0, [`Error::LevelOutOfRange`] above the highest level.
    pub fn rescale_modulus(&self, level: Level) -> Result<f64> {
        self.check(level, "rescale")?;
        let index = level.below("rescale")?;
        self.rescale_moduli.get(index.0).copied().ok_or(Error::LevelOutOfRange {
            operation: "rescale",
            level,
            max: self.max_level(),
        })
    }

    /// How [`super::Evaluator::lower`] brings a value at `level` and `scale` down to `target`: `None` when it stands
    /// there already, otherwise the scale of the constant 1 it is multiplied by one level above `target`.
    ///
    /// # Errors
    /// [`Error::LevelTooLow`] for a target above the value; [`Error::ScaleMismatch`] when it stands at `target` with
    /// another scale, or at a scale so large (a product that was not rescaled) that the constant would lose
    /// precision.
    pub fn lowering_factor(&self, level: Level, scale: Scale, target: Level) -> Result<Option<Scale>> {
        let wanted = self.canonical_scale(target)?;
        if level < target {
            return Err(Error::LevelTooLow { operation: "lower", level, wanted: target });
        }
        if level == target {
            if scale.agrees_with(wanted) {
                return Ok(None);
            }
            return Err(Error::ScaleMismatch { operation: "lower", left: scale, right: wanted });
        }
        let factor = Scale(wanted.0 * self.rescale_modulus(Level(target.0 + 1))? / scale.0);
        // The factor is rounded to an integer: below 2^24 (a product that was not rescaled) that would cost precision.
        if factor.log2() < 24.0 {
            let right = self.canonical_scale(level)?;
            return Err(Error::ScaleMismatch { operation: "lower", left: scale, right });
        }
        Ok(Some(factor))
    }

    /// Δ_ℓ, the scale at which values stand at `level`.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] above the highest level.
    pub fn canonical_scale(&self, level: Level) -> Result<Scale> {
        self.canonical_scales.get(level.0).copied().ok_or(Error::LevelOutOfRange {
            operation: "canonical scale",
            level,
            max: self.max_level(),
        })
    }

    /// log2 of the ciphertext modulus at `level`.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] above the highest level.
    pub fn log2_modulus(&self, level: Level) -> Result<f64> {
        self.check(level, "modulus")?;
        Ok(self.base_modulus.log2() + self.rescale_moduli.iter().take(level.0).map(|q| q.log2()).sum::<f64>())
    }

    /// That `level` exists in this chain.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`]; `operation` names the caller.
    pub fn check(&self, level: Level, operation: &'static str) -> Result<()> {
        if level > self.max_level() {
            return Err(Error::LevelOutOfRange { operation, level, max: self.max_level() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_scales_close_under_squaring_and_rescaling() {
        let chain = LevelChain::new(2f64.powi(50), vec![1.01e12, 0.99e12, 1.0e12], Scale(1.0e12));
        for level in 1..=3 {
            let scale = chain.canonical_scale(Level(level)).unwrap();
            let after = Scale(scale.0 * scale.0 / chain.rescale_modulus(Level(level)).unwrap());
            assert!(
                after.agrees_with(chain.canonical_scale(Level(level - 1)).unwrap()),
                "level {level}: {after}"
            );
        }
    }

    #[test]
    fn levels_outside_the_chain_are_refused() {
        let chain = LevelChain::new(2f64.powi(50), vec![1.0e12], Scale(1.0e12));
        assert!(matches!(chain.rescale_modulus(Level(0)), Err(Error::LevelExhausted { .. })));
        assert!(matches!(chain.canonical_scale(Level(2)), Err(Error::LevelOutOfRange { .. })));
    }
}
