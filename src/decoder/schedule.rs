//! At which levels the steps of one layer run, and where it bootstraps.
//!
//! Made by hand with the functions of the layer ([`crate::decoder::plan`]), or taken from a placement
//! ([`crate::decoder::placement`]).

use std::collections::BTreeMap;

use crate::contract::{Error, Level, Result};
use crate::placement::LayerPlan;

use crate::decoder::step::Step;
use crate::decoder::values::LayerValue;

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
    /// Level at which a step runs, inputs lowered to it; one without a level runs at that of its inputs.
    levels: BTreeMap<Step, Level>,
    /// Bootstraps right before a step, of the value at its seam.
    refreshes: BTreeMap<Step, Refresh>,
    /// Bootstrap of the residual stream after the layer.
    pub residual: Option<Refresh>,
}

impl LayerSchedule {
    /// Bootstraps at given places; every step runs at the level of its inputs.
    pub(crate) fn by_hand(
        refreshes: impl IntoIterator<Item = (Step, Refresh)>,
        residual: Option<Refresh>,
    ) -> Self {
        Self { levels: BTreeMap::new(), refreshes: refreshes.into_iter().collect(), residual }
    }

    /// The schedule that `plan` gives, with as many iterations at each seam as in this one, and the bootstrap of the
    /// residual stream before its first step, which belongs to the layer before.
    ///
    /// # Errors
    /// [`Error::Plan`] when it names a step that the decoder has not got, or a bootstrap where it has no seam.
    pub(crate) fn placed(&self, plan: &LayerPlan) -> Result<(Self, Option<Refresh>)> {
        let refuse = |why: String| Error::Plan {
            why,
            remedy: "make the plan with `cachemir plan --model DIR` of this version".to_owned(),
        };
        let mut schedule = Self::default();
        let mut before = None;
        for planned in &plan.steps {
            let step = Step::from_name(&planned.operation)
                .ok_or_else(|| refuse(format!("the decoder has no step `{}`", planned.operation)))?;
            schedule.levels.insert(step, planned.level);
            for bootstrap in &planned.bootstraps {
                let [value] = bootstrap.values.as_slice() else {
                    return Err(refuse(format!("{} values share a bootstrap", bootstrap.values.len())));
                };
                if step.seam().map(LayerValue::name) != Some(value.as_str()) {
                    return Err(refuse(format!("`{value}` is not bootstrapped before `{}`", step.name())));
                }
                let iterations = self.refresh(step).map_or(1, |refresh| refresh.iterations);
                let refresh = Refresh { level: bootstrap.to, iterations };
                if step == Step::InputNormSquare {
                    before = Some(refresh);
                } else {
                    schedule.refreshes.insert(step, refresh);
                }
            }
        }
        Ok((schedule, before))
    }

    /// Level at which `step` runs, when something says so.
    #[must_use]
    pub fn level(&self, step: Step) -> Option<Level> {
        self.levels.get(&step).copied()
    }

    /// The bootstrap right before `step`.
    #[must_use]
    pub fn refresh(&self, step: Step) -> Option<Refresh> {
        self.refreshes.get(&step).copied()
    }

    /// All bootstraps with the step they come before (none for the residual stream after the layer), in running order.
    pub fn refreshes(&self) -> impl Iterator<Item = (Option<Step>, Refresh)> + '_ {
        let inside = self.refreshes.iter().map(|(step, refresh)| (Some(*step), *refresh));
        inside.chain(self.residual.map(|refresh| (None, refresh)))
    }
}
