//! The level graph: operations, the values between them, and what each operation costs at each level.
//!
//! Cachemir, §5, models a network as a chain of layers with nested shortcuts. Here it is a directed acyclic graph:
//! a value may be read by several operations (a residual, q/k/v from one norm), an operation may read and write
//! several values, and a value may take several ciphertexts. Nothing here knows what a ciphertext is.
//!
//! An operation **runs at a level** ℓ: every input is lowered to ℓ (free), and output j leaves at ℓ − depth_j.

use crate::contract::{Error, Level, Result};

/// Index of a value of a [`LevelGraph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ValueId(pub usize);

/// Something encrypted that one operation writes and others read.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Value {
    /// Name, unique in its graph; plans and the decoder refer to it.
    pub name: String,
    /// Ciphertexts it takes: a bootstrap of it costs that many.
    pub ciphertexts: usize,
    /// How many values laid out like this one fit one bootstrapped ciphertext: 1 when its slots are complex and full,
    /// 2 when they are real (a + i·b), more when they are interleaved with stride t and clean (2·t; spec section 8).
    pub lanes: usize,
    /// Whether the value may be bootstrapped at all: one that is not bounded by 1, or not clean, may not.
    #[serde(default = "always")]
    pub may_bootstrap: bool,
}

fn always() -> bool {
    true
}

/// An operation reads a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Read {
    /// Which.
    pub value: ValueId,
    /// Levels by which it must stand above the level at which the operation runs, for an input that passes through
    /// some work of its own before it meets the others.
    pub above: usize,
}

/// An operation writes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Write {
    /// Which.
    pub value: ValueId,
    /// Levels that the operation takes from the level at which it runs.
    pub depth: usize,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Name, unique in its graph.
    pub name: String,
    /// Values read.
    pub reads: Vec<Read>,
    /// Values written.
    pub writes: Vec<Write>,
    /// `seconds[ℓ]` when run at level ℓ; `None` where it cannot run. Not necessarily increasing.
    pub seconds: Vec<Option<f64>>,
}

impl Operation {
    /// Levels at which it can run and the seconds there, lowest level first.
    pub fn runs(&self) -> impl Iterator<Item = (Level, f64)> + '_ {
        self.seconds.iter().enumerate().filter_map(|(level, seconds)| Some((Level(level), (*seconds)?)))
    }

    /// Levels it consumes on its deepest output.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.writes.iter().map(|write| write.depth).max().unwrap_or(0)
    }
}

/// Operations in the order in which they run, between the values that enter and those that leave.
///
/// The order matters only for bootstraps shared by several values: they must be alive at the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelGraph {
    name: String,
    max_level: Level,
    values: Vec<Value>,
    inputs: Vec<ValueId>,
    operations: Vec<Operation>,
    outputs: Vec<ValueId>,
    /// `alive[k]`: values that some operation ≥ k reads or that leave the graph, and that exist before operation k.
    alive: Vec<Vec<ValueId>>,
}

impl LevelGraph {
    /// Most values that may be alive at once; states of the solver have this many levels.
    pub const MAX_ALIVE: usize = 12;
    /// Most values one operation may read.
    pub const MAX_READS: usize = 4;
    /// Highest level any graph may have.
    pub const MAX_LEVEL: usize = 63;

    /// Starts a graph of operations between levels 0 and `max_level`.
    #[must_use]
    pub fn builder(name: impl Into<String>, max_level: Level) -> LevelGraphBuilder {
        LevelGraphBuilder {
            name: name.into(),
            max_level,
            values: Vec::new(),
            inputs: Vec::new(),
            operations: Vec::new(),
        }
    }

    /// Name of the graph.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Highest level an operation may run at.
    #[must_use]
    pub fn max_level(&self) -> Level {
        self.max_level
    }

    /// All values.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Values that enter.
    #[must_use]
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Operations in running order.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Values that leave.
    #[must_use]
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// The value with this index.
    ///
    /// # Errors
    /// [`Error::Internal`] for an index of another graph.
    pub fn value(&self, id: ValueId) -> Result<&Value> {
        self.values
            .get(id.0)
            .ok_or_else(|| Error::Internal(format!("value {} of a graph of {}", id.0, self.values.len())))
    }

    /// Values alive before operation `k` (or after the last one, for `k` = number of operations), in index order.
    #[must_use]
    pub fn alive_before(&self, k: usize) -> &[ValueId] {
        self.alive.get(k).map_or(&[], Vec::as_slice)
    }

    /// This graph with every value free to be bootstrapped.
    #[must_use]
    pub fn without_restrictions(&self) -> Self {
        let mut graph = self.clone();
        graph.values.iter_mut().for_each(|value| value.may_bootstrap = true);
        graph
    }

    /// Operations that read `value`.
    pub fn readers(&self, value: ValueId) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(move |operation| operation.reads.iter().any(|read| read.value == value))
    }
}

/// Collects values and operations; [`LevelGraphBuilder::finish`] checks them.
#[derive(Clone, Debug)]
pub struct LevelGraphBuilder {
    name: String,
    max_level: Level,
    values: Vec<Value>,
    inputs: Vec<ValueId>,
    operations: Vec<Operation>,
}

impl LevelGraphBuilder {
    /// A value that an operation will write.
    pub fn value(&mut self, name: impl Into<String>, ciphertexts: usize, lanes: usize) -> ValueId {
        self.values.push(Value { name: name.into(), ciphertexts, lanes, may_bootstrap: true });
        ValueId(self.values.len() - 1)
    }

    /// Says of the value added last whether it may be bootstrapped.
    pub fn may_bootstrap(&mut self, may_bootstrap: bool) {
        if let Some(value) = self.values.last_mut() {
            value.may_bootstrap = may_bootstrap;
        }
    }

    /// A value that enters the graph.
    pub fn input(&mut self, name: impl Into<String>, ciphertexts: usize, lanes: usize) -> ValueId {
        let id = self.value(name, ciphertexts, lanes);
        self.inputs.push(id);
        id
    }

    /// An operation with the same depth for every output, reading every input at the level it runs at.
    pub fn operation(
        &mut self,
        name: impl Into<String>,
        reads: &[ValueId],
        writes: &[ValueId],
        depth: usize,
        seconds: Vec<Option<f64>>,
    ) {
        self.push(Operation {
            name: name.into(),
            reads: reads.iter().map(|value| Read { value: *value, above: 0 }).collect(),
            writes: writes.iter().map(|value| Write { value: *value, depth }).collect(),
            seconds,
        });
    }

    /// Any operation.
    pub fn push(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    /// Checks the graph and closes it; `outputs` leave it.
    ///
    /// # Errors
    /// [`Error::Plan`] when a name is used twice, a value is read before it is written, written twice, or has no
    /// ciphertext; when a cost is negative or not finite, or stands at a level that does not exist or is below the
    /// operation's depth; when an operation can run nowhere; when limits of the solver are exceeded.
    pub fn finish(self, outputs: &[ValueId]) -> Result<LevelGraph> {
        self.check_values()?;
        self.check_order(outputs)?;
        for operation in &self.operations {
            self.check_operation(operation)?;
        }
        let alive = self.liveness(outputs);
        if let Some(most) = alive.iter().map(Vec::len).max().filter(|most| *most > LevelGraph::MAX_ALIVE) {
            return Err(self.refuse(
                format!("{most} values are alive at once, at most {} may be", LevelGraph::MAX_ALIVE),
                "read values sooner, or join them into one operation",
            ));
        }
        Ok(LevelGraph {
            name: self.name,
            max_level: self.max_level,
            values: self.values,
            inputs: self.inputs,
            operations: self.operations,
            outputs: outputs.to_vec(),
            alive,
        })
    }

    fn refuse(&self, what: String, remedy: &str) -> Error {
        Error::Plan { why: format!("graph `{}`: {what}", self.name), remedy: remedy.to_owned() }
    }

    fn check_values(&self) -> Result<()> {
        if self.max_level.0 > LevelGraph::MAX_LEVEL {
            return Err(self.refuse(
                format!("highest level {} exceeds {}", self.max_level, LevelGraph::MAX_LEVEL),
                "use a shorter moduli chain",
            ));
        }
        let mut names = std::collections::BTreeSet::new();
        for value in &self.values {
            if !names.insert(value.name.as_str()) {
                return Err(
                    self.refuse(format!("two values are called `{}`", value.name), "name them differently")
                );
            }
            if value.ciphertexts == 0 || value.lanes == 0 {
                return Err(self.refuse(
                    format!(
                        "value `{}` has {} ciphertexts and {} lanes",
                        value.name, value.ciphertexts, value.lanes
                    ),
                    "give at least one of each",
                ));
            }
        }
        Ok(())
    }

    fn check_order(&self, outputs: &[ValueId]) -> Result<()> {
        let mut written = vec![false; self.values.len()];
        for input in &self.inputs {
            if let Some(slot) = written.get_mut(input.0) {
                *slot = true;
            }
        }
        let mut names = std::collections::BTreeSet::new();
        for operation in &self.operations {
            if !names.insert(operation.name.as_str()) {
                return Err(self.refuse(
                    format!("two operations are called `{}`", operation.name),
                    "name them differently",
                ));
            }
            for read in &operation.reads {
                if written.get(read.value.0) != Some(&true) {
                    return Err(self.refuse(
                        format!("`{}` reads value {} before it is written", operation.name, read.value.0),
                        "list operations in an order in which they can run",
                    ));
                }
            }
            for write in &operation.writes {
                match written.get_mut(write.value.0) {
                    Some(slot) if !*slot => *slot = true,
                    _ => {
                        return Err(self.refuse(
                            format!(
                                "`{}` writes value {}, which exists already or not at all",
                                operation.name, write.value.0
                            ),
                            "give every output a value of its own",
                        ));
                    }
                }
            }
        }
        match outputs.iter().find(|output| written.get(output.0) != Some(&true)) {
            Some(output) => Err(self
                .refuse(format!("output value {} is never written", output.0), "write it, or leave it out")),
            None => Ok(()),
        }
    }

    fn check_operation(&self, operation: &Operation) -> Result<()> {
        let name = &operation.name;
        if operation.reads.is_empty() || operation.reads.len() > LevelGraph::MAX_READS {
            return Err(self.refuse(
                format!(
                    "`{name}` reads {} values, between 1 and {} are possible",
                    operation.reads.len(),
                    LevelGraph::MAX_READS
                ),
                "split the operation",
            ));
        }
        let mut read = std::collections::BTreeSet::new();
        if operation.reads.iter().any(|input| !read.insert(input.value)) {
            return Err(self.refuse(format!("`{name}` reads a value twice"), "list each value once"));
        }
        if operation.seconds.len() > self.max_level.0 + 1 {
            return Err(self.refuse(
                format!(
                    "`{name}` has costs up to level {}, the highest is {}",
                    operation.seconds.len() - 1,
                    self.max_level
                ),
                "cut the table",
            ));
        }
        for (level, seconds) in operation.runs() {
            if !(seconds.is_finite() && seconds >= 0.0) || level.0 < operation.depth() {
                return Err(self.refuse(
                    format!(
                        "`{name}` of depth {} is said to take {seconds} s at level {level}",
                        operation.depth()
                    ),
                    "leave out levels below the depth, and give finite costs",
                ));
            }
        }
        if operation.runs().next().is_none() {
            return Err(self.refuse(
                format!(
                    "`{name}` of depth {} can run at no level up to {}",
                    operation.depth(),
                    self.max_level
                ),
                "split it, or use a longer moduli chain",
            ));
        }
        Ok(())
    }

    fn liveness(&self, outputs: &[ValueId]) -> Vec<Vec<ValueId>> {
        let mut alive: Vec<Vec<ValueId>> = Vec::with_capacity(self.operations.len() + 1);
        let mut now: std::collections::BTreeSet<ValueId> = outputs.iter().copied().collect();
        alive.push(now.iter().copied().collect());
        for operation in self.operations.iter().rev() {
            for write in &operation.writes {
                now.remove(&write.value);
            }
            now.extend(operation.reads.iter().map(|read| read.value));
            alive.push(now.iter().copied().collect());
        }
        alive.reverse();
        alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(levels: usize, depth: usize) -> Vec<Option<f64>> {
        (0..=levels).map(|level| (level >= depth).then_some(1.0)).collect()
    }

    #[test]
    fn liveness_keeps_a_residual_until_it_is_joined() {
        let mut builder = LevelGraph::builder("residual", Level(3));
        let x = builder.input("x", 1, 2);
        let h = builder.value("h", 1, 2);
        let y = builder.value("y", 1, 2);
        builder.operation("square", &[x], &[h], 1, flat(3, 1));
        builder.operation("join", &[x, h], &[y], 0, flat(3, 0));
        let graph = builder.finish(&[y]).unwrap();
        assert_eq!(graph.alive_before(0), [x]);
        assert_eq!(graph.alive_before(1), [x, h]);
        assert_eq!(graph.alive_before(2), [y]);
        assert_eq!(graph.readers(x).count(), 2);
    }

    #[test]
    fn malformed_graphs_are_refused_with_the_name_of_the_culprit() {
        let mut builder = LevelGraph::builder("bad", Level(3));
        let x = builder.input("x", 1, 2);
        let y = builder.value("y", 1, 2);
        let mut unread = builder.clone();
        unread.operation("late", &[y], &[x], 1, flat(3, 1));
        assert!(unread.finish(&[y]).unwrap_err().to_string().contains("late"));
        let mut too_deep = builder.clone();
        too_deep.operation("deep", &[x], &[y], 4, flat(3, 4));
        assert!(too_deep.finish(&[y]).unwrap_err().to_string().contains("no level up to 3"));
        let mut below_depth = builder.clone();
        below_depth.operation("shallow", &[x], &[y], 2, flat(3, 1));
        assert!(below_depth.finish(&[y]).unwrap_err().to_string().contains("level 1"));
        let mut not_finite = builder;
        not_finite.operation("nan", &[x], &[y], 0, vec![Some(f64::NAN)]);
        assert!(not_finite.finish(&[y]).unwrap_err().to_string().contains("NaN"));
    }
}
