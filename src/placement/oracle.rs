//! The oracle the solver is tested against: every sequence of elementary moves on a small graph.
//!
//! A move bootstraps any set of values alive to any level at any time, or runs the next operation at any level. No
//! dominance, no laziness, no pruning.

use std::collections::HashMap;

use super::bootstrap::BootstrapCosts;
use super::graph::{LevelGraph, Operation, Value, ValueId};
use crate::contract::Level;

type State = Vec<Option<usize>>;

/// Least seconds for every tuple of output levels that can be reached, by exhaustion; outputs may be bootstrapped at
/// the end too.
pub fn exhaust(graph: &LevelGraph, costs: &BootstrapCosts, entry: &[Level]) -> HashMap<Vec<usize>, f64> {
    let mut start: State = vec![None; graph.values().len()];
    for (input, level) in graph.inputs().iter().zip(entry) {
        start[input.0] = Some(level.0);
    }
    let mut states = HashMap::from([(start, 0.0)]);
    for (index, operation) in graph.operations().iter().enumerate() {
        states = forget(graph, index, states);
        states = close_under_bootstraps(graph, costs, states);
        states = run_everywhere(operation, &states);
    }
    states = forget(graph, graph.operations().len(), states);
    outputs_of(graph, close_under_bootstraps(graph, costs, states))
}

/// Exit levels and least seconds, by exhaustion, of placements whose `ends` leave bootstraps of outputs to whoever
/// reads them next.
pub fn exhaust_ends(
    graph: &LevelGraph,
    costs: &BootstrapCosts,
    ends: &[(Vec<usize>, f64)],
) -> HashMap<Vec<usize>, f64> {
    let mut states = HashMap::new();
    for (exit, seconds) in ends {
        let mut state: State = vec![None; graph.values().len()];
        graph.outputs().iter().zip(exit).for_each(|(output, level)| state[output.0] = Some(*level));
        lower(&mut states, state, *seconds);
    }
    outputs_of(graph, close_under_bootstraps(graph, costs, states))
}

fn outputs_of(graph: &LevelGraph, states: HashMap<State, f64>) -> HashMap<Vec<usize>, f64> {
    let mut ends = HashMap::new();
    for (state, seconds) in states {
        let exit: Vec<usize> = graph.outputs().iter().map(|output| state[output.0].unwrap()).collect();
        lower(&mut ends, exit, seconds);
    }
    ends
}

fn lower<K: std::hash::Hash + Eq>(map: &mut HashMap<K, f64>, key: K, seconds: f64) -> bool {
    let best = map.entry(key).or_insert(f64::INFINITY);
    let better = seconds < *best;
    if better {
        *best = seconds;
    }
    better
}

/// Drops values that nobody reads any more.
fn forget(graph: &LevelGraph, from: usize, states: HashMap<State, f64>) -> HashMap<State, f64> {
    let wanted = |value: usize| {
        graph.outputs().contains(&ValueId(value))
            || graph.operations()[from..].iter().any(|op| op.reads.iter().any(|read| read.value.0 == value))
    };
    let mut next = HashMap::new();
    for (mut state, seconds) in states {
        for (value, level) in state.iter_mut().enumerate() {
            if !wanted(value) {
                *level = None;
            }
        }
        lower(&mut next, state, seconds);
    }
    next
}

fn close_under_bootstraps(
    graph: &LevelGraph,
    costs: &BootstrapCosts,
    mut states: HashMap<State, f64>,
) -> HashMap<State, f64> {
    let mut open: Vec<State> = states.keys().cloned().collect();
    while let Some(state) = open.pop() {
        let seconds = states[&state];
        let alive: Vec<usize> = (0..state.len())
            .filter(|value| state[*value].is_some_and(|level| level >= costs.minimum_input_level.0))
            .collect();
        for set in 1u32..1 << alive.len() {
            let members: Vec<usize> =
                alive.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, v)| *v).collect();
            if members.len() > costs.largest_group() {
                continue;
            }
            let values: Vec<&Value> = members.iter().map(|value| &graph.values()[*value]).collect();
            for target in 0..costs.seconds.len() {
                let Some(cost) = costs.group(&values, Level(target)) else { continue };
                let mut raised = state.clone();
                members.iter().for_each(|value| raised[*value] = Some(target));
                if lower(&mut states, raised.clone(), seconds + cost.seconds) {
                    open.push(raised);
                }
            }
        }
    }
    states
}

fn run_everywhere(operation: &Operation, states: &HashMap<State, f64>) -> HashMap<State, f64> {
    let mut next = HashMap::new();
    for (state, seconds) in states {
        for (level, cost) in operation.runs() {
            let high_enough =
                operation.reads.iter().all(|read| state[read.value.0].unwrap() >= level.0 + read.above);
            if high_enough {
                let mut after = state.clone();
                for write in &operation.writes {
                    after[write.value.0] = Some(level.0 - write.depth);
                }
                lower(&mut next, after, seconds + cost);
            }
        }
    }
    next
}
