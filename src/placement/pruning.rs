//! When the paper's pruned search finds the optimum.
//!
//! Cachemir, §5, keeps two predecessors of a state: the one that needs no bootstrap and the one bootstrapped from the
//! lowest level. That rests on an exchange: running earlier operations lower is never dearer. It fails for costs that
//! fall with the level, for targets that get cheaper when higher, and for a value read twice, which may have to stay
//! high for its second reader.

use super::bootstrap::BootstrapCosts;
use super::graph::{LevelGraph, Operation};
use crate::contract::{Error, Result};

/// Why the pruned search could miss the optimum of `graph`; empty when it cannot.
#[must_use]
pub fn pruning_obstacles(graph: &LevelGraph, costs: &BootstrapCosts) -> Vec<String> {
    let mut obstacles = Vec::new();
    let targets: Vec<f64> = costs.seconds.iter().copied().flatten().collect();
    if !targets.is_sorted() {
        obstacles.push("the cost of a bootstrap falls with the level it ends at".to_owned());
    }
    if targets.len() != costs.seconds.len() {
        obstacles.push("bootstraps cannot end at every level".to_owned());
    }
    if graph.inputs().len() != 1 {
        obstacles.push(format!("{} values enter", graph.inputs().len()));
    }
    for operation in graph.operations() {
        obstacles.extend(shape_obstacle(operation));
        obstacles.extend(cost_obstacle(operation, costs));
    }
    for (index, value) in graph.values().iter().enumerate() {
        let id = super::graph::ValueId(index);
        let uses = graph.readers(id).count() + graph.outputs().iter().filter(|output| **output == id).count();
        if uses > 1 {
            obstacles.push(format!("value `{}` is used {uses} times", value.name));
        }
        if !value.may_bootstrap {
            obstacles.push(format!("value `{}` may not be bootstrapped", value.name));
        }
    }
    obstacles
}

fn shape_obstacle(operation: &Operation) -> Option<String> {
    (operation.reads.len() > 1 || operation.writes.len() > 1).then(|| {
        format!(
            "`{}` reads {} values and writes {}",
            operation.name,
            operation.reads.len(),
            operation.writes.len()
        )
    })
}

fn cost_obstacle(operation: &Operation, costs: &BootstrapCosts) -> Option<String> {
    let runs: Vec<(usize, f64)> = operation.runs().map(|(level, seconds)| (level.0, seconds)).collect();
    let falls = runs.iter().zip(runs.iter().skip(1)).find(|(low, high)| high.1 < low.1);
    if let Some((low, high)) = falls {
        return Some(format!(
            "`{}` takes {:.3} s at level {} and {:.3} s at level {}",
            operation.name, low.1, low.0, high.1, high.0
        ));
    }
    let lowest_wanted = operation.depth() + costs.minimum_input_level.0;
    let first = runs.first().map_or(0, |run| run.0);
    let last = runs.last().map_or(0, |run| run.0);
    (first > lowest_wanted.min(last) || last - first + 1 != runs.len())
        .then(|| format!("`{}` cannot run at every level between {lowest_wanted} and {last}", operation.name))
}

/// # Errors
/// [`Error::Plan`] listing what stands against pruning.
pub(super) fn check(graph: &LevelGraph, costs: &BootstrapCosts) -> Result<()> {
    let obstacles = pruning_obstacles(graph, costs);
    if obstacles.is_empty() {
        return Ok(());
    }
    Err(Error::Plan {
        why: format!(
            "the pruned search could miss the optimum of `{}`: {}",
            graph.name(),
            obstacles.join("; ")
        ),
        remedy: "use the exact search".to_owned(),
    })
}
