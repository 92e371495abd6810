//! Bootstraps of a layer placed by hand, five of them: scores; numerator with the half-iterated denominator; residual
//! after attention; up + i·gate; residual after the MLP. A layer with a deep norm before attention has a sixth, behind
//! that norm. A placement ([`crate::decoder::placement`]) then moves them.

use crate::contract::{BootstrapSummary, Error, Level, Result};

use crate::decoder::schedule::{LayerSchedule, Refresh};
use crate::decoder::step::Step;

/// Levels that the functions of a layer take.
pub(crate) struct FunctionDepths {
    pub(crate) input_norm: usize,
    pub(crate) exponential: usize,
    pub(crate) post_norm: usize,
    pub(crate) silu: usize,
}

/// Levels that the iterations of 1/D have, before and after the bootstrap that cuts them in two.
pub(crate) struct DivisionLevels {
    /// Most iterations before it.
    pub(crate) before: usize,
    /// Levels by which the denominator stands above the numerator where the iterations begin.
    pub(crate) gap: usize,
    /// The bootstrap between them.
    pub(crate) once: Refresh,
    /// That bootstrap in two iterations, which takes a level, for denominators that one leaves too noisy.
    pub(crate) twice: Refresh,
    bottom: usize,
}

impl DivisionLevels {
    /// Most iterations after the bootstrap `refresh`: what is left above the mask that takes the tokens of a wave
    /// apart, the output projection and its mask.
    pub(crate) fn after(&self, refresh: Refresh) -> usize {
        refresh.level.0.saturating_sub(self.bottom + 3)
    }
}

/// Where a layer stands between bootstraps placed by hand.
pub(crate) struct HandLevels {
    /// Level of the cached keys and values.
    pub(crate) cache_level: Level,
    /// Levels of the division.
    pub(crate) division: DivisionLevels,
    normed: Option<Refresh>,
    gate: Refresh,
    full: Refresh,
}

/// Levels a norm takes: mask, square, polynomial, product.
pub(crate) fn norm_levels(polynomial: usize) -> usize {
    3 + polynomial
}

impl HandLevels {
    /// Levels of a layer named `site` whose functions take `depths`, under bootstraps of `bootstrap`.
    ///
    /// # Errors
    /// [`Error::Plan`] when a stretch between two bootstraps needs more levels than one gives.
    pub(crate) fn new(site: &str, depths: FunctionDepths, bootstrap: BootstrapSummary) -> Result<Self> {
        let (top, bottom) = (bootstrap.output_level.0, bootstrap.minimum_input_level.0);
        let input_norm = norm_levels(depths.input_norm);
        // Product and RoPE (or the mask of the values) below the norm; below those the scores with their mask, or the
        // weighted values with theirs and one product.
        let fits = input_norm + 5 + bottom <= top;
        // Softmax weights meet the cached values at the values' level, so these need not stand above the weights. One
        // level more is for the mask that takes the tokens of a wave apart.
        let cache = if fits { input_norm + 2 } else { depths.exponential + 1 };
        let stretches = [
            ("norm", input_norm),
            ("norm, projections and scores", cache + 3),
            ("norm and gate projections", norm_levels(depths.post_norm) + 2),
            ("SiLU and down projection", depths.silu + 3),
        ];
        for (name, levels) in stretches {
            if levels + bottom > top {
                return Err(too_deep(&format!("{site} {name}"), levels, top.saturating_sub(bottom)));
            }
        }
        let cache_level = Level(top - cache);
        // Above the cache: the mask that takes tokens apart, the product and RoPE.
        let level = Level((cache_level.0 + 3).min(top));
        Ok(Self {
            cache_level,
            division: Self::division(site, depths.exponential, cache_level, bootstrap)?,
            normed: (!fits).then_some(Refresh { level, iterations: 1 }),
            gate: Refresh { level: Level(bottom + depths.silu + 3), iterations: 1 },
            full: Refresh { level: bootstrap.output_level, iterations: 1 },
        })
    }

    fn division(
        site: &str,
        exponential: usize,
        cache_level: Level,
        bootstrap: BootstrapSummary,
    ) -> Result<DivisionLevels> {
        let (top, bottom) = (bootstrap.output_level.0, bootstrap.minimum_input_level.0);
        // The denominators stand one level below exp; the numerator two below the cache. Factors wait for the
        // numerator when that is lower, which costs one level.
        let denominator =
            top.checked_sub(exponential + 1).filter(|level| *level > bottom + 1).ok_or_else(|| {
                too_deep(&format!("{site} softmax"), exponential + 3, top.saturating_sub(bottom))
            })?;
        let below_cache = cache_level.0.saturating_sub(2);
        let before = if below_cache >= denominator { denominator - bottom } else { denominator - bottom - 1 };
        Ok(DivisionLevels {
            before,
            gap: denominator.saturating_sub(below_cache),
            once: Refresh { level: bootstrap.output_level, iterations: 1 },
            twice: Refresh { level: Level(top - 1), iterations: 2 },
            bottom,
        })
    }

    /// The bootstraps, with `numerator` between the halves of the division; every step runs at the level of its
    /// inputs.
    pub(crate) fn schedule(&self, numerator: Refresh) -> LayerSchedule {
        let refreshes = [
            (Step::QueryKeyValue, self.normed),
            (Step::Exponential, Some(self.full)),
            (Step::DivideLast, Some(numerator)),
            (Step::PostNormSquare, Some(self.full)),
            (Step::Activation, Some(self.gate)),
        ];
        let refreshes = refreshes.into_iter().filter_map(|(module, refresh)| Some((module, refresh?)));
        LayerSchedule::by_hand(refreshes, Some(self.full))
    }
}

/// The error of a stretch called `site` that needs `needed` levels where a bootstrap gives `given`.
pub(crate) fn too_deep(site: &str, needed: usize, given: usize) -> Error {
    Error::Plan {
        why: format!("{site}: {needed} levels between two bootstraps, one gives {given}"),
        remedy: "use parameters with more levels after a bootstrap, or allow a larger error".to_owned(),
    }
}
