//! Running the steps of a layer one after the other.

use crate::contract::{BootstrapRequest, Error, Evaluator, Level, Result};
use crate::decoder::layer::LayerRun;
use crate::decoder::schedule::Refresh;
use crate::decoder::step::Step;
use crate::decoder::values::{LayerValue, Values};
use crate::packing::KeyValueCache;

/// The observer within one layer: what is bootstrapped, the iterations, whether it is done, and the ciphertext.
pub(crate) type Tell<'a, C> = dyn FnMut(&'static str, usize, bool, &C) + 'a;

impl<E: Evaluator> LayerRun<'_, E> {
    /// Runs `steps` in their order: each bootstraps the value at its seam if the schedule says so, takes what it
    /// reads down to its level, and adds what it writes to `values`. A value leaves `values` when its last reader has
    /// it.
    ///
    /// # Errors
    /// [`Error::OutOfInterval`] naming the layer and the value for one that a bootstrap cannot take; those of the
    /// evaluator.
    pub(crate) fn run(
        &self,
        steps: &[Step],
        values: &mut Values<E::Ciphertext>,
        mut cache: Option<&mut KeyValueCache<E::Ciphertext>>,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<()> {
        for (number, step) in steps.iter().enumerate() {
            let later = steps.get(number + 1..).unwrap_or_default();
            self.bootstrap_at_seam(*step, values, tell)?;
            let reads = self.take_reads(*step, values, later)?;
            values.extend(step.apply(self, &reads, cache.as_deref_mut())?);
        }
        Ok(())
    }

    /// `residual` as the next layer gets it: bootstrapped, if the schedule says so.
    ///
    /// # Errors
    /// Errors of [`LayerRun::run`].
    pub(crate) fn leave(
        &self,
        residual: E::Ciphertext,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<E::Ciphertext> {
        match self.layer.schedule.residual {
            Some(refresh) => self.bootstrap(&residual, refresh, LayerValue::NextResidual, "residual", tell),
            None => Ok(residual),
        }
    }

    /// Bootstraps what stands at the seam of `step`, if the schedule says so.
    fn bootstrap_at_seam(
        &self,
        step: Step,
        values: &mut Values<E::Ciphertext>,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<()> {
        let (Some(refresh), Some(value)) = (self.layer.schedule.refresh(step), step.seam()) else {
            return Ok(());
        };
        let refresh = Refresh { level: Level(refresh.level.0 + self.above_at_seam(step)), ..refresh };
        let list = values.take(value);
        if list.is_empty() {
            return Err(Error::Internal(format!(
                "no `{}` to bootstrap before `{}`",
                value.name(),
                step.name()
            )));
        }
        let refreshed = list.iter().map(|x| self.bootstrap(x, refresh, value, step.stage(), tell));
        let refreshed = refreshed.collect::<Result<Vec<_>>>()?;
        values.set(value, refreshed);
        Ok(())
    }

    /// Levels by which the bootstrap before `step` ends above what the schedule says: where a placement, which knows
    /// waves of one token, has left none for the mask that takes several apart.
    fn above_at_seam(&self, step: Step) -> usize {
        if step != Step::QueryKeyValue || self.layer.schedule.level(step).is_none() {
            return 0;
        }
        self.above(step).into_iter().sum()
    }

    /// `x` of `value`, bootstrapped.
    ///
    /// # Errors
    /// [`Error::OutOfInterval`] naming the layer and `stage`; those of [`Evaluator::bootstrap`].
    fn bootstrap(
        &self,
        x: &E::Ciphertext,
        refresh: Refresh,
        value: LayerValue,
        stage: &'static str,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<E::Ciphertext> {
        tell(stage, refresh.iterations, false, x);
        let request = BootstrapRequest::all(refresh.level, self.evaluator.slots())
            .iterations(refresh.iterations)
            .real(value.is_real());
        let refreshed = self.evaluator.bootstrap(x, &request).map_err(|error| match error {
            Error::OutOfInterval { magnitude, bound, .. } => {
                let site = format!("layer {} {stage}", self.index);
                Error::OutOfInterval { site, magnitude, bound }
            }
            other => other,
        })?;
        tell(stage, refresh.iterations, true, &refreshed);
        Ok(refreshed)
    }

    /// What `step` reads, at the level at which it runs and above it where [`LayerRun::above`] says so; as it stands
    /// where the schedule names no level. Values that no step of `later` reads leave `values`.
    fn take_reads(
        &self,
        step: Step,
        values: &mut Values<E::Ciphertext>,
        later: &[Step],
    ) -> Result<Values<E::Ciphertext>> {
        let mut reads = Values::new();
        let level = self.layer.schedule.level(step);
        for (value, above) in step.edges().0.iter().zip(self.above(step)) {
            let is_read_again = later.iter().any(|later| later.edges().0.contains(value));
            let list = if is_read_again { values.list(*value).to_vec() } else { values.take(*value) };
            let list = match level {
                Some(level) => {
                    let level = Level(level.0 + above);
                    list.iter().map(|x| self.lower(x, level)).collect::<Result<_>>()?
                }
                None => list,
            };
            reads.set(*value, list);
        }
        Ok(reads)
    }
}
