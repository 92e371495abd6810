//! A placement: at which level every operation runs and what is bootstrapped before it.

use super::bootstrap::BootstrapCosts;
use super::graph::{LevelGraph, Value, ValueId};
use crate::contract::{Error, Level, Result};

/// One bootstrap, of one value or of several that share it.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrap {
    /// The values.
    pub values: Vec<ValueId>,
    /// Levels of the values before the bootstrap.
    pub from: Vec<Level>,
    /// Level of all values after the bootstrap.
    pub to: Level,
    /// Seconds, packing included.
    pub seconds: f64,
    /// Ciphertexts bootstrapped.
    pub bootstraps: usize,
}

/// One operation and the bootstraps before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Index of the operation in its graph.
    pub operation: usize,
    /// Level at which it runs.
    pub level: Level,
    /// Seconds of the operation there.
    pub seconds: f64,
    /// Bootstraps right before it.
    pub bootstraps: Vec<Bootstrap>,
}

/// A placement for a whole graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// Levels of the graph's inputs, in their order.
    pub entry: Vec<Level>,
    /// Levels of its outputs.
    pub exit: Vec<Level>,
    /// Seconds of everything.
    pub seconds: f64,
    /// One step an operation, in running order.
    pub steps: Vec<Step>,
}

/// Levels of the values alive at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// Before the bootstraps of a step.
    pub before: Vec<(ValueId, Level)>,
    /// After them, as the operation finds them (before it lowers its inputs).
    pub after_bootstraps: Vec<(ValueId, Level)>,
}

impl Solution {
    /// Ciphertexts bootstrapped.
    #[must_use]
    pub fn bootstraps(&self) -> usize {
        self.steps.iter().flat_map(|step| &step.bootstraps).map(|bootstrap| bootstrap.bootstraps).sum()
    }

    /// Runs the placement on levels alone and returns what is alive before every step, and at the end: a check that
    /// owes nothing to the solver.
    ///
    /// # Errors
    /// [`Error::Plan`] naming the first step that cannot run, or a total that differs from [`Solution::seconds`].
    pub fn replay(&self, graph: &LevelGraph, costs: &BootstrapCosts) -> Result<Vec<Moment>> {
        let mut replay = Replay { graph, costs, levels: vec![None; graph.values().len()], seconds: 0.0 };
        for (input, level) in graph.inputs().iter().zip(&self.entry) {
            replay.set(*input, *level)?;
        }
        if self.steps.len() != graph.operations().len() {
            return Err(replay.refuse(&format!(
                "{} steps for {} operations",
                self.steps.len(),
                graph.operations().len()
            )));
        }
        let mut moments = Vec::with_capacity(self.steps.len() + 1);
        for (index, step) in self.steps.iter().enumerate() {
            moments.push(replay.step(index, step)?);
        }
        let end = replay.alive(self.steps.len());
        moments.push(Moment { before: end.clone(), after_bootstraps: end });
        if (replay.seconds - self.seconds).abs() > 1e-6 * self.seconds.abs().max(1.0) {
            return Err(
                replay.refuse(&format!("steps take {} s, the total says {} s", replay.seconds, self.seconds))
            );
        }
        Ok(moments)
    }
}

struct Replay<'a> {
    graph: &'a LevelGraph,
    costs: &'a BootstrapCosts,
    levels: Vec<Option<Level>>,
    seconds: f64,
}

impl Replay<'_> {
    fn refuse(&self, what: &str) -> Error {
        Error::Plan {
            why: format!("graph `{}`: {what}", self.graph.name()),
            remedy: "make the plan again".to_owned(),
        }
    }

    fn get(&self, value: ValueId) -> Result<Level> {
        self.levels
            .get(value.0)
            .copied()
            .flatten()
            .ok_or_else(|| self.refuse(&format!("value {} does not exist yet", value.0)))
    }

    fn set(&mut self, value: ValueId, level: Level) -> Result<()> {
        let error = self.refuse(&format!("there is no value {}", value.0));
        *self.levels.get_mut(value.0).ok_or(error)? = Some(level);
        Ok(())
    }

    fn alive(&self, step: usize) -> Vec<(ValueId, Level)> {
        self.graph
            .alive_before(step)
            .iter()
            .filter_map(|value| Some((*value, self.levels.get(value.0).copied().flatten()?)))
            .collect()
    }

    fn step(&mut self, index: usize, step: &Step) -> Result<Moment> {
        let graph = self.graph;
        let operation = graph
            .operations()
            .get(step.operation)
            .filter(|_| step.operation == index)
            .ok_or_else(|| self.refuse(&format!("step {index} names operation {}", step.operation)))?;
        let before = self.alive(index);
        for bootstrap in &step.bootstraps {
            self.bootstrap(bootstrap)?;
        }
        let after_bootstraps = self.alive(index);
        for read in &operation.reads {
            let level = self.get(read.value)?;
            if level.0 < step.level.0 + read.above {
                return Err(self.refuse(&format!(
                    "`{}` runs at level {} and finds `{}` at level {level}",
                    operation.name,
                    step.level,
                    graph.value(read.value)?.name
                )));
            }
        }
        let seconds = operation.seconds.get(step.level.0).copied().flatten().ok_or_else(|| {
            self.refuse(&format!("`{}` cannot run at level {}", operation.name, step.level))
        })?;
        self.seconds += seconds;
        for write in &operation.writes {
            self.set(write.value, step.level.minus(write.depth, "placement replay")?)?;
        }
        Ok(Moment { before, after_bootstraps })
    }

    fn bootstrap(&mut self, bootstrap: &Bootstrap) -> Result<()> {
        let values: Vec<&Value> =
            bootstrap.values.iter().map(|value| self.graph.value(*value)).collect::<Result<_>>()?;
        let cost = self
            .costs
            .group(&values, bootstrap.to)
            .ok_or_else(|| self.refuse(&format!("a bootstrap to level {} is not possible", bootstrap.to)))?;
        self.seconds += cost.seconds;
        for value in &bootstrap.values {
            let level = self.get(*value)?;
            if level < self.costs.minimum_input_level {
                return Err(self.refuse(&format!(
                    "value {} enters a bootstrap at level {level}, the lowest is {}",
                    value.0, self.costs.minimum_input_level
                )));
            }
            self.set(*value, bootstrap.to)?;
        }
        Ok(())
    }
}
