//! A decoder layer before it has costs: operations, their depth, and the work they do at each level on the way down.

use super::cost_file::CostFile;
use super::graph::{LevelGraph, Operation, Read, Value, ValueId, Write};
use super::operation_costs::{OperationCosts, Source};
use super::work::Work;
use crate::contract::{Error, Level, Result};

/// One operation of a layer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OperationTemplate {
    /// Name, unique in its layer.
    pub name: String,
    /// Values read.
    pub reads: Vec<Read>,
    /// Values written.
    pub writes: Vec<Write>,
    /// `stages[i]`: work at i levels below the one at which the operation runs.
    pub stages: Vec<Work>,
    /// Lowest and highest level at which it may run, when something else than its depth binds it (a cache held at a
    /// level).
    pub levels: std::ops::RangeInclusive<usize>,
}

/// A layer whose operations are counted, and not priced yet.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LayerTemplate {
    /// Name of the layer.
    pub name: String,
    /// Values.
    pub values: Vec<Value>,
    /// Values that enter.
    pub inputs: Vec<ValueId>,
    /// Values that leave.
    pub outputs: Vec<ValueId>,
    /// Operations in running order.
    pub operations: Vec<OperationTemplate>,
}

impl LayerTemplate {
    /// An empty layer.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds a value of `ciphertexts` ciphertexts, of which `lanes` fit one when they are bootstrapped.
    pub fn value(&mut self, name: &str, ciphertexts: usize, lanes: usize) -> ValueId {
        self.values.push(Value {
            name: name.to_owned(),
            ciphertexts: ciphertexts.max(1),
            lanes,
            may_bootstrap: true,
        });
        ValueId(self.values.len() - 1)
    }

    /// Adds an operation whose work is spread evenly over `depth` levels (all of it at the top for depth 0).
    pub fn evenly(&mut self, name: &str, reads: &[ValueId], writes: &[ValueId], depth: usize, work: Work) {
        let stages = depth.max(1);
        self.staged(name, reads, writes, depth, vec![work * (1.0 / stages as f64); stages]);
    }

    /// Adds an operation with its work level by level.
    pub fn staged(
        &mut self,
        name: &str,
        reads: &[ValueId],
        writes: &[ValueId],
        depth: usize,
        stages: Vec<Work>,
    ) {
        self.operations.push(OperationTemplate {
            name: name.to_owned(),
            reads: reads.iter().map(|value| Read { value: *value, above: 0 }).collect(),
            writes: writes.iter().map(|value| Write { value: *value, depth }).collect(),
            stages,
            levels: 0..=LevelGraph::MAX_LEVEL,
        });
    }

    /// Binds the operation added last to run at no other levels than these.
    pub fn only_at(&mut self, levels: std::ops::RangeInclusive<usize>) {
        if let Some(operation) = self.operations.last_mut() {
            operation.levels = levels;
        }
    }

    /// All work of one pass.
    #[must_use]
    pub fn work(&self) -> Work {
        self.operations.iter().flat_map(|operation| operation.stages.iter().copied()).sum()
    }

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
    /// Levels it takes on its deepest output.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.writes.iter().map(|write| write.depth).max().unwrap_or(0)
    }

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
