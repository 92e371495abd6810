//! Least seconds that the rest of a graph still takes, bootstraps included: what lets the exact search drop a state
//! early.
//!
//! The relaxation follows one chain of values from an input to an output, the deepest there is, and forgets the levels
//! of all others: every operation runs at its own cheapest level unless it carries the chain on, and a bootstrap is
//! paid only where the chain itself has not got the level it needs. What a real placement pays on top is never
//! negative.

use super::graph::{LevelGraph, Operation, ValueId};

/// Lower bounds by operation and level of the chain's value.
pub(super) struct LowerBound {
    /// `chain[k]`: the chain's value before operation k (and, last, after all); none before the chain begins.
    chain: Vec<Option<ValueId>>,
    /// `seconds[k][ℓ]`: least seconds of operations k and later when the chain's value before them has level ℓ.
    seconds: Vec<Vec<f64>>,
}

impl LowerBound {
    /// Bounds for `graph`; `raise[v][ℓ]` are the least seconds that bring value v to level ℓ or higher, alone or with
    /// others, from any level.
    pub(super) fn new(graph: &LevelGraph, raise: &[Vec<f64>]) -> Self {
        let chain = deepest_chain(graph);
        let levels = graph.max_level().0 + 1;
        let mut after = vec![0.0; levels];
        let mut seconds = vec![after.clone()];
        let steps = graph.operations().iter().zip(chain.iter().zip(chain.iter().skip(1)));
        for (operation, (before, next)) in steps.rev() {
            after = match (before, next) {
                (Some(value), Some(next)) if value != next => {
                    carried(operation, (*value, *next), raise.get(value.0).map_or(&[], Vec::as_slice), &after)
                }
                _ => {
                    let cheapest = operation.runs().map(|run| run.1).fold(f64::INFINITY, f64::min);
                    after.iter().map(|rest| rest + cheapest).collect()
                }
            };
            seconds.push(after.clone());
        }
        seconds.reverse();
        Self { chain, seconds }
    }

    /// Where the level that [`LowerBound::at`] asks for stands in the list of values alive before operation `index`.
    pub(super) fn position(&self, graph: &LevelGraph, index: usize) -> Option<usize> {
        let value = (*self.chain.get(index)?)?;
        graph.alive_before(index).iter().position(|alive| *alive == value)
    }

    /// Least seconds from operation `index` on, with the chain's value at `level` (the highest where it is not alive).
    pub(super) fn at(&self, index: usize, level: usize) -> f64 {
        self.seconds
            .get(index)
            .and_then(|row| row.get(level.min(row.len().saturating_sub(1))))
            .copied()
            .unwrap_or(0.0)
    }
}

/// The bounds before an operation that reads the chain's value and writes the next.
fn carried(
    operation: &Operation,
    (value, next): (ValueId, ValueId),
    raise: &[f64],
    after: &[f64],
) -> Vec<f64> {
    let above = operation.reads.iter().find(|read| read.value == value).map_or(0, |read| read.above);
    let depth = operation.writes.iter().find(|write| write.value == next).map_or(0, |write| write.depth);
    let run = |level: usize, seconds: f64| {
        seconds + level.checked_sub(depth).and_then(|left| after.get(left)).copied().unwrap_or(f64::INFINITY)
    };
    (0..after.len())
        .map(|level| {
            operation
                .runs()
                .map(|(at, seconds)| {
                    let needed = at.0 + above;
                    let lift = match needed <= level {
                        true => 0.0,
                        false => raise.get(needed).copied().unwrap_or(f64::INFINITY),
                    };
                    lift + run(at.0, seconds)
                })
                .fold(f64::INFINITY, f64::min)
        })
        .collect()
}

/// What lies between a value and the outputs.
#[derive(Clone, Copy)]
struct Below {
    /// Greatest sum of depths.
    depth: usize,
    /// Operation that reads the value and the value it writes, on the way of that depth.
    onward: Option<(usize, ValueId)>,
}

/// The chain of values with the greatest sum of depths from an input to an output, by operation.
fn deepest_chain(graph: &LevelGraph) -> Vec<Option<ValueId>> {
    let operations = graph.operations();
    let mut below: Vec<Option<Below>> = vec![None; graph.values().len()];
    for output in graph.outputs() {
        if let Some(slot) = below.get_mut(output.0) {
            *slot = Some(Below { depth: 0, onward: None });
        }
    }
    for (index, operation) in operations.iter().enumerate().rev() {
        let written = operation.writes.iter().filter_map(|write| {
            let known = below.get(write.value.0).copied().flatten()?;
            Some((known.depth + write.depth, write.value))
        });
        let Some((depth, next)) = written.max_by_key(|(depth, _)| *depth) else { continue };
        for read in &operation.reads {
            let depth = depth + read.above;
            if let Some(slot) = below.get_mut(read.value.0)
                && slot.is_none_or(|known| depth >= known.depth)
            {
                *slot = Some(Below { depth, onward: Some((index, next)) });
            }
        }
    }
    let inputs = graph.inputs().iter().copied();
    let start =
        inputs.max_by_key(|input| below.get(input.0).copied().flatten().map_or(0, |known| known.depth));
    let mut chain = vec![None; operations.len() + 1];
    let (mut at, mut from) = (start, 0);
    while let Some(value) = at {
        let onward = below.get(value.0).copied().flatten().and_then(|known| known.onward);
        let until = onward.map_or(operations.len(), |(operation, _)| operation);
        chain.iter_mut().take(until + 1).skip(from).for_each(|slot| *slot = Some(value));
        from = until + 1;
        at = onward.map(|(_, next)| next);
    }
    chain
}
