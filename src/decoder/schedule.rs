//! At which levels the modules of one layer run, and where it bootstraps.
//!
//! Made by hand with the functions of the layer ([`crate::decoder::plan`]), or taken from a placement
//! ([`crate::decoder::placement`]).

use std::collections::BTreeMap;

use crate::contract::{CiphertextInfo, Error, Evaluator, Level, Result};
use crate::placement::LayerPlan;

use crate::decoder::module::Module;

/// One bootstrap point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refresh {
    /// Level afterwards.
    pub level: Level,
    /// 1, or 2 for the precise mode.
    pub iterations: usize,
}

/// The levels and bootstrap points of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LayerSchedule {
    /// Level at which a module runs, inputs lowered to it; one without a level runs at that of its inputs.
    levels: BTreeMap<Module, Level>,
    /// Bootstraps right before a module, of the value at its seam.
    refreshes: BTreeMap<Module, Refresh>,
    /// Bootstrap of the residual stream after the layer.
    pub residual: Option<Refresh>,
}

impl LayerSchedule {
    /// Bootstraps at given places; every module runs at the level of its inputs.
    pub(crate) fn by_hand(
        refreshes: impl IntoIterator<Item = (Module, Refresh)>,
        residual: Option<Refresh>,
    ) -> Self {
        Self { levels: BTreeMap::new(), refreshes: refreshes.into_iter().collect(), residual }
    }

    /// The schedule that `plan` gives, with as many iterations at each seam as in this one, and the bootstrap of the
    /// residual stream before its first module, which belongs to the layer before.
    ///
    /// # Errors
    /// [`Error::Plan`] when it names a module that the decoder has not got, or a bootstrap where it has no seam.
    pub(crate) fn placed(&self, plan: &LayerPlan) -> Result<(Self, Option<Refresh>)> {
        let refuse = |why: String| Error::Plan {
            why,
            remedy: "make the plan with `cachemir plan --model DIR` of this version".to_owned(),
        };
        let mut schedule = Self::default();
        let mut before = None;
        for step in &plan.steps {
            let module = Module::from_name(&step.operation)
                .ok_or_else(|| refuse(format!("the decoder has no module `{}`", step.operation)))?;
            schedule.levels.insert(module, step.level);
            for bootstrap in &step.bootstraps {
                let [value] = bootstrap.values.as_slice() else {
                    return Err(refuse(format!("{} values share a bootstrap", bootstrap.values.len())));
                };
                if module.seam() != Some(value.as_str()) {
                    return Err(refuse(format!("`{value}` is not bootstrapped before `{}`", module.name())));
                }
                let iterations = self.refresh(module).map_or(1, |refresh| refresh.iterations);
                let refresh = Refresh { level: bootstrap.to, iterations };
                if module == Module::InputNormSquare {
                    before = Some(refresh);
                } else {
                    schedule.refreshes.insert(module, refresh);
                }
            }
        }
        Ok((schedule, before))
    }

    /// Level at which `module` runs, when something says so.
    #[must_use]
    pub fn level(&self, module: Module) -> Option<Level> {
        self.levels.get(&module).copied()
    }

    /// The bootstrap right before `module`.
    #[must_use]
    pub fn refresh(&self, module: Module) -> Option<Refresh> {
        self.refreshes.get(&module).copied()
    }

    /// All bootstraps with the module they come before (none for the residual stream after the layer), in running order.
    pub fn refreshes(&self) -> impl Iterator<Item = (Option<Module>, Refresh)> + '_ {
        let inside = self.refreshes.iter().map(|(module, refresh)| (Some(*module), *refresh));
        inside.chain(self.residual.map(|refresh| (None, refresh)))
    }

    /// `x`, lowered to `above` levels over the one at which `module` runs.
    ///
    /// # Errors
    /// Those of [`Evaluator::lower`], for an `x` that stands lower.
    pub(crate) fn lower<E: Evaluator>(
        &self,
        evaluator: &E,
        module: Module,
        above: usize,
        x: &E::Ciphertext,
    ) -> Result<E::Ciphertext> {
        match self.level(module).map(|level| Level(level.0 + above)) {
            Some(level) if level != x.level() => evaluator.lower(x, level),
            _ => Ok(x.clone()),
        }
    }
}
