//! The baseline: bootstrap only when a value is out of levels, and then to the top.

use super::bootstrap::BootstrapCosts;
use super::graph::{LevelGraph, Operation, Value, ValueId};
use super::solution::{Bootstrap, Solution, Step};
use crate::contract::{Error, Level, Result};

/// Runs every operation as high as its inputs allow; inputs too low for the lowest level at which it runs are
/// bootstrapped to the highest level, each alone. Before an operation that would leave a value which is still needed
/// below the level at which a bootstrap can begin, its inputs are bootstrapped first.
///
/// # Errors
/// [`Error::Plan`] when an input cannot be bootstrapped high enough.
pub fn greedy(graph: &LevelGraph, costs: &BootstrapCosts, entry: &[Level]) -> Result<Solution> {
    costs.check()?;
    let mut run = Greedy { graph, costs, levels: vec![None; graph.values().len()] };
    for (input, level) in graph.inputs().iter().zip(entry) {
        run.set(*input, *level);
    }
    let mut solution = Solution { entry: entry.to_vec(), exit: Vec::new(), seconds: 0.0, steps: Vec::new() };
    for (index, operation) in graph.operations().iter().enumerate() {
        let step = run.step(index, operation)?;
        solution.seconds +=
            step.seconds + step.bootstraps.iter().map(|bootstrap| bootstrap.seconds).sum::<f64>();
        solution.steps.push(step);
    }
    solution.exit = graph.outputs().iter().map(|output| run.get(*output)).collect::<Result<_>>()?;
    Ok(solution)
}

struct Greedy<'a> {
    graph: &'a LevelGraph,
    costs: &'a BootstrapCosts,
    levels: Vec<Option<Level>>,
}

impl Greedy<'_> {
    fn get(&self, value: ValueId) -> Result<Level> {
        self.levels.get(value.0).copied().flatten().ok_or_else(|| Error::Plan {
            why: format!("value {} of graph `{}` has no level", value.0, self.graph.name()),
            remedy: "give one level for each input".to_owned(),
        })
    }

    fn set(&mut self, value: ValueId, level: Level) {
        if let Some(slot) = self.levels.get_mut(value.0) {
            *slot = Some(level);
        }
    }

    fn step(&mut self, index: usize, operation: &Operation) -> Result<Step> {
        let mut bootstraps = Vec::new();
        let lowest = self.lowest_run(index, operation);
        for read in &operation.reads {
            if self.get(read.value)?.0 < lowest + read.above {
                bootstraps.push(self.bootstrap(read.value)?);
            }
        }
        let ceiling = operation
            .reads
            .iter()
            .map(|read| Ok(self.get(read.value)?.0.saturating_sub(read.above)))
            .collect::<Result<Vec<usize>>>()?
            .into_iter()
            .min()
            .unwrap_or(0);
        let (level, seconds) = operation
            .runs()
            .filter(|(level, _)| level.0 <= ceiling)
            .last()
            .ok_or_else(|| self.stuck(operation, ceiling))?;
        for write in &operation.writes {
            self.set(write.value, level.minus(write.depth, "greedy placement")?);
        }
        Ok(Step { operation: index, level, seconds, bootstraps })
    }

    /// Lowest level at which `operation` may run so that what it writes, where it is read again, can still be
    /// bootstrapped.
    fn lowest_run(&self, index: usize, operation: &Operation) -> usize {
        let needed_later = |value: ValueId| self.graph.alive_before(index + 1).contains(&value);
        let deepest = operation
            .writes
            .iter()
            .filter(|write| needed_later(write.value))
            .map(|write| write.depth + self.costs.minimum_input_level.0)
            .max()
            .unwrap_or(0);
        let mut runs = operation.runs().map(|(level, _)| level.0);
        runs.find(|level| *level >= deepest)
            .or_else(|| operation.runs().last().map(|run| run.0.0))
            .unwrap_or(0)
    }

    fn bootstrap(&mut self, value: ValueId) -> Result<Bootstrap> {
        let from = self.get(value)?;
        let to = self.costs.output_level()?;
        let alone: [&Value; 1] = [self.graph.value(value)?];
        let cost = self.costs.group(&alone, to).filter(|_| from >= self.costs.minimum_input_level);
        let cost = cost.ok_or_else(|| Error::Plan {
            why: format!("`{}` at level {from} cannot be bootstrapped to {to}", alone[0].name),
            remedy: format!("bootstraps need inputs at level {} or more", self.costs.minimum_input_level),
        })?;
        self.set(value, to);
        Ok(Bootstrap {
            values: vec![value],
            from: vec![from],
            to,
            seconds: cost.seconds,
            bootstraps: cost.bootstraps,
        })
    }

    fn stuck(&self, operation: &Operation, ceiling: usize) -> Error {
        Error::Plan {
            why: format!(
                "`{}` of graph `{}` cannot run at or below level {ceiling}",
                operation.name,
                self.graph.name()
            ),
            remedy: "let bootstraps end higher".to_owned(),
        }
    }
}
