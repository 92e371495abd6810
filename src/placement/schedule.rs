//! A layer with bootstraps placed by hand: what it costs when every operation runs as high as its inputs allow.

use super::bootstrap::BootstrapCosts;
use super::graph::{LevelGraph, Value, ValueId};
use super::solution::{Bootstrap, Solution, Step};
use crate::contract::{Error, Level, Result};

/// A bootstrap placed by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// Operation right before which it happens; none for the end of the layer.
    pub before: Option<String>,
    /// Names of the values that share it.
    pub values: Vec<String>,
    /// Level afterwards.
    pub to: Level,
}

/// Runs `graph` from `entry` with exactly the bootstraps of `refreshes`, every operation at the highest level its
/// inputs reach. A refresh at the end is counted in the seconds and the exit level, and has no step.
///
/// # Errors
/// [`Error::Plan`] when a name does not exist, an operation finds its inputs too low, or a bootstrap is not possible.
pub fn run_in_order(
    graph: &LevelGraph,
    costs: &BootstrapCosts,
    entry: Level,
    refreshes: &[Refresh],
) -> Result<Solution> {
    let mut run = Run { graph, costs, levels: vec![None; graph.values().len()], seconds: 0.0 };
    for input in graph.inputs() {
        run.set(*input, entry)?;
    }
    let mut steps = Vec::with_capacity(graph.operations().len());
    for (index, operation) in graph.operations().iter().enumerate() {
        let mut bootstraps = Vec::new();
        for refresh in refreshes.iter().filter(|refresh| refresh.before.as_ref() == Some(&operation.name)) {
            bootstraps.push(run.bootstrap(refresh)?);
        }
        let mut highest = graph.max_level().0;
        for read in &operation.reads {
            let level = run.get(read.value)?;
            let room = level.0.checked_sub(read.above);
            highest = highest.min(room.ok_or_else(|| run.refuse(&operation.name, level))?);
        }
        let runs = operation.runs().filter(|(level, _)| level.0 <= highest);
        let (level, seconds) = runs.last().ok_or_else(|| run.refuse(&operation.name, Level(highest)))?;
        run.seconds += seconds;
        for write in &operation.writes {
            run.set(write.value, level.minus(write.depth, "layer schedule")?)?;
        }
        steps.push(Step { operation: index, level, seconds, bootstraps });
    }
    for refresh in refreshes.iter().filter(|refresh| refresh.before.is_none()) {
        run.bootstrap(refresh)?;
    }
    let exit = graph.outputs().iter().map(|output| run.get(*output)).collect::<Result<_>>()?;
    Ok(Solution { entry: vec![entry; graph.inputs().len()], exit, seconds: run.seconds, steps })
}

struct Run<'a> {
    graph: &'a LevelGraph,
    costs: &'a BootstrapCosts,
    levels: Vec<Option<Level>>,
    seconds: f64,
}

impl Run<'_> {
    fn error(&self, why: String) -> Error {
        Error::Plan {
            why: format!("graph `{}`: {why}", self.graph.name()),
            remedy: "give bootstraps that fit the layer".to_owned(),
        }
    }

    fn refuse(&self, operation: &str, level: Level) -> Error {
        self.error(format!("`{operation}` cannot run at level {level} or below"))
    }

    fn get(&self, value: ValueId) -> Result<Level> {
        let known = self.levels.get(value.0).copied().flatten();
        known.ok_or_else(|| self.error(format!("value {} does not exist yet", value.0)))
    }

    fn set(&mut self, value: ValueId, level: Level) -> Result<()> {
        let missing = self.error(format!("there is no value {}", value.0));
        *self.levels.get_mut(value.0).ok_or(missing)? = Some(level);
        Ok(())
    }

    fn bootstrap(&mut self, refresh: &Refresh) -> Result<Bootstrap> {
        let mut values = Vec::with_capacity(refresh.values.len());
        let mut from = Vec::with_capacity(refresh.values.len());
        for name in &refresh.values {
            let found = self.graph.values().iter().position(|value| value.name == *name);
            let id = found.map(ValueId).ok_or_else(|| self.error(format!("there is no value `{name}`")))?;
            let level = self.get(id)?;
            if level < self.costs.minimum_input_level {
                return Err(self.error(format!(
                    "`{name}` enters a bootstrap at level {level}, the lowest is {}",
                    self.costs.minimum_input_level
                )));
            }
            values.push(id);
            from.push(level);
        }
        let known: Vec<&Value> = values.iter().map(|id| self.graph.value(*id)).collect::<Result<_>>()?;
        let group = self.costs.group(&known, refresh.to);
        let cost = group.ok_or_else(|| {
            self.error(format!("no bootstrap of {:?} to level {}", refresh.values, refresh.to))
        })?;
        self.seconds += cost.seconds;
        for id in &values {
            self.set(*id, refresh.to)?;
        }
        Ok(Bootstrap { values, from, to: refresh.to, seconds: cost.seconds, bootstraps: cost.bootstraps })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Search, cheapest};
    use super::*;

    fn graph() -> LevelGraph {
        let mut builder = LevelGraph::builder("layer", Level(4));
        let x = builder.input("x", 1, 2);
        let (y, z) = (builder.value("y", 1, 2), builder.value("z", 1, 2));
        let seconds = |depth: usize| (0..=4).map(|level| (level >= depth).then_some(level as f64)).collect();
        builder.operation("first", &[x], &[y], 3, seconds(3));
        builder.operation("second", &[x, y], &[z], 2, seconds(2));
        builder.finish(&[z]).unwrap()
    }

    fn refresh(before: Option<&str>, value: &str, to: usize) -> Refresh {
        Refresh { before: before.map(str::to_owned), values: vec![value.to_owned()], to: Level(to) }
    }

    #[test]
    fn bootstraps_by_hand_replay_and_cost_no_less_than_the_cheapest_ones() {
        let (graph, costs) = (graph(), BootstrapCosts::constant(10.0, Level(4)));
        let by_hand = run_in_order(&graph, &costs, Level(4), &[refresh(Some("second"), "y", 4)]).unwrap();
        by_hand.replay(&graph, &costs).unwrap();
        // 4 at level 4, 10 for the bootstrap, 4 at level 4.
        assert!((by_hand.seconds - 18.0).abs() < 1e-12, "{} s", by_hand.seconds);
        assert_eq!(by_hand.exit, [Level(2)]);
        let best = cheapest(&graph, &costs, &[Level(4)], Search::Exact).unwrap();
        assert!(best.seconds <= by_hand.seconds, "{} s, by hand {} s", best.seconds, by_hand.seconds);
        let ended = [refresh(Some("second"), "y", 3), refresh(None, "z", 4)];
        let ended = run_in_order(&graph, &costs, Level(4), &ended).unwrap();
        assert_eq!((ended.exit, ended.seconds), (vec![Level(4)], 27.0));
    }

    #[test]
    fn bootstraps_that_do_not_fit_are_refused_by_name() {
        let (graph, costs) = (graph(), BootstrapCosts::constant(10.0, Level(4)));
        for (refreshes, expected) in [
            (vec![], "`second` cannot run"),
            (vec![refresh(Some("second"), "w", 4)], "no value `w`"),
            (vec![refresh(Some("second"), "y", 5)], "to level 5"),
            (vec![refresh(Some("first"), "y", 4)], "does not exist yet"),
        ] {
            let error = run_in_order(&graph, &costs, Level(4), &refreshes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
