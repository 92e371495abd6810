//! Seconds for the operations of a layer: measured where a cost file has them, composed from counts elsewhere.

use super::cost_file::CostFile;
use super::graph::{LevelGraph, Operation, ValueId};
use super::operation_costs::{OperationCosts, Source};
use super::template::{LayerTemplate, OperationTemplate};
use crate::contract::{Error, Level, Result};

/// Where the seconds of a layer's operations come from.
#[derive(Clone, Copy, Debug)]
pub struct Prices<'a> {
    /// Elementary operations.
    pub operations: &'a OperationCosts,
    /// Measured steps, when there are.
    pub file: Option<&'a CostFile>,
}

impl Prices<'_> {
    /// Seconds of an operation that runs at `level`, and whether they were measured or composed.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`] below the depth of the operation; [`Error::Format`] when neither it nor a substitute
    /// was measured ([`OperationCosts::price`]).
    pub fn seconds(&self, operation: &OperationTemplate, level: Level) -> Result<(f64, Source)> {
        let measured = self.file.and_then(|file| file.measured(&operation.name).get(&level).copied());
        if let Some(seconds) = measured {
            return Ok((seconds, Source::Measured));
        }
        let mut seconds = 0.0;
        for (below, work) in operation.stages.iter().enumerate() {
            let at = level.0.checked_sub(below).ok_or(Error::LevelExhausted {
                operation: "cost of an operation",
                level,
                needed: below,
            })?;
            seconds += self.operations.seconds(work, Level(at))?;
        }
        Ok((seconds, Source::Composed))
    }
}

impl LayerTemplate {
    /// Prices the layer between level 0 and `max_level`.
    ///
    /// # Errors
    /// [`Error::Format`] when an operation was not measured ([`OperationCosts::price`]); [`Error::Plan`] when the steps
    /// make no graph ([`super::LevelGraphBuilder::finish`]).
    pub fn graph(&self, costs: &Prices<'_>, max_level: Level) -> Result<LevelGraph> {
        let mut builder = LevelGraph::builder(self.name.clone(), max_level);
        for (index, value) in self.values.iter().enumerate() {
            if self.inputs.contains(&ValueId(index)) {
                builder.input(value.name.clone(), value.ciphertexts, value.lanes);
            } else {
                builder.value(value.name.clone(), value.ciphertexts, value.lanes);
            }
            builder.may_bootstrap(value.may_bootstrap);
        }
        for operation in &self.operations {
            builder.push(Operation {
                name: operation.name.clone(),
                reads: operation.reads.clone(),
                writes: operation.writes.clone(),
                seconds: operation.seconds(costs, max_level)?,
            });
        }
        builder.finish(&self.outputs)
    }
}

impl OperationTemplate {
    fn seconds(&self, costs: &Prices<'_>, max_level: Level) -> Result<Vec<Option<f64>>> {
        let lowest = self.depth().max(self.stages.len().saturating_sub(1));
        (0..=max_level.0)
            .map(|level| {
                let possible = level >= lowest && self.levels.contains(&level);
                possible.then(|| costs.seconds(self, Level(level)).map(|priced| priced.0)).transpose()
            })
            .collect()
    }
}
