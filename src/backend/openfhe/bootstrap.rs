//! Bootstrapping, to a level of the caller's choice.
//!
//! OpenFHE always refreshes to the level its depth leaves; the result is then lowered, exactly in scale.

use super::bridge::ffi;
use super::ciphertext::OpenFheCiphertext;
use super::engine::{NAME, level_after};
use super::evaluator::OpenFheEvaluator;
use super::library::call;
use crate::contract::checks::{BootstrapLevels, no_bootstrapping};
use crate::contract::{BootstrapRequest, Error, Evaluator, Level, Refreshed, Result, Scale};

/// Largest relative difference between OpenFHE's scale after a bootstrap and the canonical one. Both are computed in
/// f64 from the same primes.
const SCALE_TOLERANCE: f64 = 1e-9;

impl OpenFheEvaluator {
    /// Bootstraps `a` as `request` says: what [`Evaluator::bootstrap`] promises, by OpenFHE.
    pub(super) fn refresh(
        &self,
        a: &OpenFheCiphertext,
        request: &BootstrapRequest,
    ) -> Result<OpenFheCiphertext> {
        self.check_tag("bootstrap", &a.tag)?;
        let (Some(summary), Some(boot)) = (self.engine.bootstrapping, self.engine.parameters.bootstrapping)
        else {
            return Err(no_bootstrapping(NAME));
        };
        if !self.keys.bootstrapping.as_ref().is_some_and(|keys| keys.serve(&request.refreshed)) {
            return Err(Error::EvaluationKey { key: "bootstrapping", level: a.level });
        }
        // Few values in slots that are otherwise zero are a special case of all slots; what would be junk stays zero.
        let period = match &request.refreshed {
            Refreshed::All { period, .. } => *period,
            Refreshed::Few(values) => {
                values.slots.check(self.engine.slots())?;
                self.engine.slots()
            }
        };
        summary.levels(request, NAME)?;
        // The parameters may ask for two iterations always.
        let iterations = if request.iterations == 1 { boot.iterations } else { 2 };
        let highest = level_after(&self.engine.parameters, iterations as usize);
        BootstrapLevels { lowest_input: summary.minimum_input_level, highest_output: highest }.check(
            self.chain(),
            a,
            request.level,
        )?;
        // OpenFHE hands a ciphertext back unchanged when it already has as many limbs as a bootstrap leaves; the
        // lowest level suffices as input anyway, and costs least to raise.
        let input = self.lower(a, summary.minimum_input_level)?;
        let slots = Self::index(period)?;
        let (inner, limbs, scale) = call("bootstrap", || {
            let inner = ffi::bootstrap(
                self.context(),
                &input.inner,
                input.scale.0,
                slots,
                iterations,
                boot.iteration_precision,
            )?;
            let (limbs, scale) = (ffi::limb_count(&inner)?, ffi::scaling_factor(&inner)?);
            Ok((inner, limbs, scale))
        })?;
        let level = Level((limbs as usize).saturating_sub(1));
        let canonical = self.engine.chain.canonical_scale(level)?;
        if level < highest || (scale / canonical.0 - 1.0).abs() > SCALE_TOLERANCE {
            return Err(Error::Internal(format!(
                "OpenFHE's bootstrap left level {level} at scale {}, expected {highest} at {canonical}",
                Scale(scale)
            )));
        }
        self.lower(&self.ciphertext(inner, level, canonical), request.level)
    }
}
