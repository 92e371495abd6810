//! Cheapest placement of a level graph: shortest path over (operation, levels of the values alive).
//!
//! Cachemir, §5, searches (layer, level) along a chain. Here the state before operation k is the level of every value
//! alive. A step runs operation k at some level, after bootstrapping inputs that stand too low, each alone or shared
//! with other values alive. Three facts keep the search exact and small:
//!
//! * lowering is free, so a state whose levels are all at least another's, at no higher cost, makes the other one
//!   useless (costs need not grow with the level); so does a state that would still be cheaper after bootstrapping
//!   every value in which it stands lower;
//! * a bootstrap can wait until the first of its values is read at a level it has not got;
//! * the cost of a bootstrap does not depend on the level it starts from.
//!
//! A first pass that keeps few states finds a good placement; the exact one then drops every state from which even
//! [`LowerBound`] ends dearer.
//!
//! Cost: polynomial in the number of levels for a bounded number of values alive, linear in the operations.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::bootstrap::BootstrapCosts;
use super::graph::{LevelGraph, Operation, Value, ValueId};
use super::greedy::greedy;
use super::lower_bound::LowerBound;
use super::pruning;
use super::solution::{Bootstrap, Solution, Step};
use crate::contract::{Error, Level, Result};

/// How to search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// Every useful state.
    #[default]
    Exact,
    /// The paper's pruning (§5): bootstrap only from the lowest level, otherwise run at the level at hand. Refused
    /// where it could miss the optimum ([`super::pruning_obstacles`]).
    Pruned,
}

type Levels = [u8; LevelGraph::MAX_ALIVE];

/// Bootstrap of the alive values in `members` (bits are positions in the list of values alive) to `level`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Group {
    members: u16,
    level: u8,
}

#[derive(Clone, Copy, Debug, Default)]
struct Groups {
    list: [Group; LevelGraph::MAX_READS],
    count: usize,
}

impl Groups {
    fn with(mut self, group: Group) -> Self {
        if let Some(slot) = self.list.get_mut(self.count) {
            *slot = group;
            self.count += 1;
        }
        self
    }

    fn iter(&self) -> impl Iterator<Item = Group> + '_ {
        self.list.iter().take(self.count).copied()
    }
}

#[derive(Clone, Copy, Debug)]
struct Reached {
    seconds: f64,
    /// Index of the state before in the list of the previous stage.
    parent: usize,
    run_level: u8,
    groups: Groups,
}

struct Stage {
    states: Vec<(Levels, Reached)>,
}

/// Every placement worth having for inputs at `entry`: no other one ends with all outputs as high at no higher cost.
/// A bootstrap that no operation of this graph needs is left to whatever reads the outputs next.
///
/// # Errors
/// [`Error::Plan`] when `entry` does not fit the graph, when costs are not usable, when no placement exists, or when
/// [`Search::Pruned`] is asked for where its preconditions fail.
pub fn solve(
    graph: &LevelGraph,
    costs: &BootstrapCosts,
    entry: &[Level],
    search: Search,
) -> Result<Vec<Solution>> {
    let (solver, stages) = explore(graph, costs, entry, search)?;
    let last = stages.last().map_or(0, |stage| stage.states.len());
    (0..last).map(|index| solver.trace(&stages, index, entry)).collect()
}

/// How many states [`solve`] keeps over all operations: the size of the search, whatever machine runs it.
///
/// # Errors
/// [`Error::Plan`] when `entry` or `costs` do not fit the graph, or when no placement exists ([`solve`]).
pub fn states_kept(
    graph: &LevelGraph,
    costs: &BootstrapCosts,
    entry: &[Level],
    search: Search,
) -> Result<usize> {
    let (_, stages) = explore(graph, costs, entry, search)?;
    Ok(stages.iter().map(|stage| stage.states.len()).sum())
}

/// All states worth keeping, operation by operation.
fn explore<'a>(
    graph: &'a LevelGraph,
    costs: &'a BootstrapCosts,
    entry: &[Level],
    search: Search,
) -> Result<(Solver<'a>, Vec<Stage>)> {
    costs.check()?;
    if search == Search::Pruned {
        pruning::check(graph, costs)?;
    }
    let mut solver = Solver::new(graph, costs, search)?;
    // Values that enter higher than bootstraps reach may leave higher too: what they cost has no bound then.
    let reachable = |level: &Level| level.0 <= usize::from(solver.output_level);
    if search == Search::Exact && entry.iter().all(reachable) {
        solver.bound = solver.greedy_bound(entry);
        if let Ok(stages) = solver.stages(entry, FEW_STATES) {
            solver.bound = solver.bound.min(solver.bound_of_ends(&stages));
        }
    }
    let stages = solver.stages(entry, usize::MAX)?;
    Ok((solver, stages))
}

/// States kept after each operation by the first pass.
const FEW_STATES: usize = 24;

/// The cheapest placement for inputs at `entry`, whatever level its outputs end at.
///
/// # Errors
/// [`Error::Plan`] when `entry` or `costs` do not fit the graph, or when no placement exists ([`solve`]).
pub fn cheapest(
    graph: &LevelGraph,
    costs: &BootstrapCosts,
    entry: &[Level],
    search: Search,
) -> Result<Solution> {
    solve(graph, costs, entry, search)?
        .into_iter()
        .min_by(|a, b| a.seconds.total_cmp(&b.seconds))
        .ok_or_else(|| Error::Internal("a solved graph without solution".to_owned()))
}

struct Solver<'a> {
    graph: &'a LevelGraph,
    costs: &'a BootstrapCosts,
    search: Search,
    output_level: u8,
    minimum_input: u8,
    /// `raise[v][ℓ]`: least seconds that bring value v alone to level ℓ or higher.
    raise: Vec<Vec<f64>>,
    /// Least seconds of what is left.
    lower: LowerBound,
    /// Seconds above which no placement is worth keeping.
    bound: f64,
}

/// What the transitions of one operation need to know.
struct Stop<'a> {
    alive: &'a [ValueId],
    values: Vec<&'a Value>,
    /// Positions read, with the levels they must have above the run level.
    reads: Vec<(usize, u8)>,
    /// Positions still alive after the operation.
    survives: u16,
    /// Positions that are inputs of the graph.
    origins: u16,
    /// Positions that may be bootstrapped.
    bootstrapped: u16,
    /// For every position alive after the operation: where its level comes from.
    next: Vec<Source>,
    /// Operations done after this one.
    done: usize,
    /// Position, after the operation, of the value that the lower bound follows.
    chain: Option<usize>,
    /// By set of members: seconds of bootstrapping them together to each level, infinite where that is not possible.
    groups: Vec<OnceCell<Vec<f64>>>,
}

#[derive(Clone, Copy)]
enum Source {
    Kept(usize),
    Written { depth: u8 },
}

impl<'a> Solver<'a> {
    fn new(graph: &'a LevelGraph, costs: &'a BootstrapCosts, search: Search) -> Result<Self> {
        let output_level = costs.output_level()?;
        if output_level > graph.max_level() {
            return Err(Error::Plan {
                why: format!(
                    "bootstraps end at level {output_level}, graph `{}` knows levels up to {}",
                    graph.name(),
                    graph.max_level()
                ),
                remedy: "give the graph costs up to the level bootstraps reach".to_owned(),
            });
        }
        let raise: Vec<Vec<f64>> =
            graph.values().iter().map(|value| raise(value, costs, output_level)).collect();
        Ok(Self {
            lower: LowerBound::new(graph, &raise),
            bound: f64::INFINITY,
            raise,
            graph,
            costs,
            search,
            output_level: to_u8(output_level)?,
            minimum_input: to_u8(costs.minimum_input_level)?,
        })
    }

    /// All states worth keeping, operation by operation, at most `most` after each.
    fn stages(&self, entry: &[Level], most: usize) -> Result<Vec<Stage>> {
        let mut stages = vec![Stage { states: vec![self.start(entry)?] }];
        for (index, operation) in self.graph.operations().iter().enumerate() {
            let previous = stages.last().ok_or_else(|| Error::Internal("no stage".to_owned()))?;
            let states = self.advance(index, operation, &previous.states, most)?;
            if states.is_empty() {
                return Err(Error::Plan {
                    why: format!(
                        "graph `{}` with inputs at {:?}: no level reaches `{}`",
                        self.graph.name(),
                        entry.iter().map(|level| level.0).collect::<Vec<_>>(),
                        operation.name
                    ),
                    remedy:
                        "let bootstraps end higher or start lower, or split the operation into shallower ones"
                            .to_owned(),
                });
            }
            stages.push(Stage { states });
        }
        Ok(stages)
    }

    /// What greedy placement costs with its outputs bootstrapped to the top, which makes dearer placements useless.
    /// Infinite where greedy placement fails.
    fn greedy_bound(&self, entry: &[Level]) -> f64 {
        greedy(self.graph, self.costs, entry)
            .map_or(f64::INFINITY, |solution| self.with_outputs_raised(solution.seconds, &solution.exit))
    }

    /// What the best end of `stages` costs with its outputs bootstrapped to the top; infinite without one.
    fn bound_of_ends(&self, stages: &[Stage]) -> f64 {
        let ends = stages.last().into_iter().flat_map(|stage| &stage.states);
        ends.map(|(levels, reached)| {
            self.exit(levels).map_or(f64::INFINITY, |exit| self.with_outputs_raised(reached.seconds, &exit))
        })
        .fold(f64::INFINITY, f64::min)
    }

    fn with_outputs_raised(&self, seconds: f64, exit: &[Level]) -> f64 {
        let mut seconds = seconds;
        for (output, exit) in self.graph.outputs().iter().zip(exit) {
            if exit.0 < usize::from(self.minimum_input) {
                return f64::INFINITY;
            }
            let row = self.raise.get(output.0);
            seconds += row.and_then(|row| row.last().copied()).unwrap_or(f64::INFINITY);
        }
        // Room for rounding of sums taken in another order.
        seconds * (1.0 + 1e-9) + 1e-9
    }

    fn start(&self, entry: &[Level]) -> Result<(Levels, Reached)> {
        let inputs = self.graph.inputs();
        if entry.len() != inputs.len() || entry.iter().any(|level| *level > self.graph.max_level()) {
            return Err(Error::Plan {
                why: format!(
                    "inputs at {:?} for a graph of {} inputs and levels up to {}",
                    entry.iter().map(|level| level.0).collect::<Vec<_>>(),
                    inputs.len(),
                    self.graph.max_level()
                ),
                remedy: "give one level for each input".to_owned(),
            });
        }
        let mut levels = Levels::default();
        for (slot, value) in levels.iter_mut().zip(self.graph.alive_before(0)) {
            let position = inputs.iter().position(|input| input == value);
            let level = position.and_then(|position| entry.get(position)).ok_or_else(|| {
                Error::Internal(format!("value {} is alive at the start and no input", value.0))
            })?;
            *slot = to_u8(*level)?;
        }
        let reached = Reached { seconds: 0.0, parent: 0, run_level: 0, groups: Groups::default() };
        Ok((levels, reached))
    }

    fn stop(&self, index: usize, operation: &'a Operation) -> Result<Stop<'a>> {
        let alive = self.graph.alive_before(index);
        let after = self.graph.alive_before(index + 1);
        let position = |value: ValueId| alive.iter().position(|other| *other == value);
        let mut reads = Vec::with_capacity(operation.reads.len());
        for read in &operation.reads {
            let at = position(read.value)
                .ok_or_else(|| Error::Internal(format!("value {} is read and dead", read.value.0)))?;
            reads.push((at, to_u8(Level(read.above))?));
        }
        let mut next = Vec::with_capacity(after.len());
        for value in after {
            let written = operation.writes.iter().find(|write| write.value == *value);
            next.push(match (written, position(*value)) {
                (Some(write), _) => Source::Written { depth: to_u8(Level(write.depth))? },
                (None, Some(at)) => Source::Kept(at),
                (None, None) => {
                    return Err(Error::Internal(format!("value {} is alive from nowhere", value.0)));
                }
            });
        }
        let bits = |keep: &dyn Fn(&ValueId) -> bool| {
            alive.iter().enumerate().filter(|(_, value)| keep(value)).fold(0u16, |all, (at, _)| all | 1 << at)
        };
        Ok(Stop {
            values: alive.iter().map(|value| self.graph.value(*value)).collect::<Result<_>>()?,
            survives: bits(&|value| after.contains(value)),
            bootstrapped: bits(&|value| self.graph.value(*value).is_ok_and(|value| value.may_bootstrap)),
            origins: bits(&|value| self.graph.inputs().contains(value)),
            groups: vec![OnceCell::new(); 1 << alive.len()],
            done: index + 1,
            chain: self.lower.position(self.graph, index + 1),
            alive,
            reads,
            next,
        })
    }

    fn advance(
        &self,
        index: usize,
        operation: &'a Operation,
        states: &[(Levels, Reached)],
        most: usize,
    ) -> Result<Vec<(Levels, Reached)>> {
        let stop = self.stop(index, operation)?;
        let mut found: HashMap<Levels, Reached> = HashMap::new();
        // A state is the levels of the values alive and the least seconds to get there. Each is continued by every
        // level at which the operation can run.
        for (parent, (levels, reached)) in states.iter().enumerate() {
            for (run, seconds) in operation.runs() {
                let run_level = to_u8(run)?;
                // How high each value must stand for this run level; zero where it is not read.
                let mut needed = [0u8; LevelGraph::MAX_ALIVE];
                for (at, above) in &stop.reads {
                    if let Some(slot) = needed.get_mut(*at) {
                        *slot = run_level + above;
                    }
                }
                let base = Reached {
                    seconds: reached.seconds + seconds,
                    parent,
                    run_level,
                    groups: Groups::default(),
                };
                self.bootstrap_and_run(&stop, *levels, &needed, base, &mut found);
            }
        }
        Ok(self.in_order(&stop, found, most))
    }

    /// Bootstraps the inputs of `levels` that are below `needed` in every useful way, then runs the operation.
    fn bootstrap_and_run(
        &self,
        stop: &Stop<'_>,
        levels: Levels,
        needed: &Levels,
        so_far: Reached,
        found: &mut HashMap<Levels, Reached>,
    ) {
        if so_far.seconds + self.lower.at(stop.done, usize::MAX) > self.bound {
            return;
        }
        // The first value that stands too low must be bootstrapped now, alone or with others; then the next one.
        let low = levels.iter().zip(needed).position(|(level, needed)| level < needed);
        let Some(low) = low else {
            return self.run(stop, levels, so_far, found);
        };
        // Before one operation a value is bootstrapped once at most.
        let taken = so_far.groups.iter().fold(0u16, |all, group| all | group.members);
        let free = self.may_ride(stop, &levels, needed) & !taken;
        if free & (1 << low) == 0 {
            return;
        }
        let others = free & !(1 << low);
        let largest = self.costs.largest_group();
        // All subsets of the others, the empty one last.
        let mut riders = others;
        loop {
            let members = riders | 1 << low;
            if members.count_ones() as usize <= largest {
                self.bootstrap_group(stop, levels, needed, so_far, members, found);
            }
            if riders == 0 {
                return;
            }
            riders = (riders - 1) & others;
        }
    }

    /// Values that may take part in a bootstrap now: high enough to enter one, and of use afterwards.
    fn may_ride(&self, stop: &Stop<'_>, levels: &Levels, needed: &Levels) -> u16 {
        let mut bits = 0u16;
        for (at, (level, needed)) in levels.iter().zip(needed).take(stop.alive.len()).enumerate() {
            let of_use = stop.survives & (1 << at) != 0 || level < needed;
            let lowest = *level == self.minimum_input || stop.origins & (1 << at) != 0;
            if *level >= self.minimum_input && of_use && (self.search == Search::Exact || lowest) {
                bits |= 1 << at;
            }
        }
        bits & stop.bootstrapped
    }

    fn bootstrap_group(
        &self,
        stop: &Stop<'_>,
        levels: Levels,
        needed: &Levels,
        so_far: Reached,
        members: u16,
        found: &mut HashMap<Levels, Reached>,
    ) {
        let inside = |at: usize| members & (1 << at) != 0;
        let Some(costs) = stop.groups.get(usize::from(members)) else { return };
        let costs = costs.get_or_init(|| self.group_costs(stop, members));
        let lowest =
            needed.iter().enumerate().filter(|(at, _)| inside(*at)).map(|(_, n)| *n).max().unwrap_or(0);
        // A rider that is above the target already would lose by riding.
        let raises = |target: u8| levels.iter().enumerate().all(|(at, level)| !inside(at) || *level < target);
        let candidates = (lowest..=self.output_level).filter(|target| raises(*target)).filter_map(|target| {
            costs
                .get(usize::from(target))
                .map(|seconds| (target, *seconds))
                .filter(|known| known.1.is_finite())
        });
        let mut apply = |target: u8, seconds: f64| {
            let mut raised = levels;
            for (at, level) in raised.iter_mut().enumerate() {
                if inside(at) {
                    *level = target;
                }
            }
            let groups = so_far.groups.with(Group { members, level: target });
            let reached = Reached { seconds: so_far.seconds + seconds, groups, ..so_far };
            self.bootstrap_and_run(stop, raised, needed, reached, found);
        };
        if members & stop.survives == 0 {
            // Nothing remembers how high they were: the cheapest target that suffices.
            if let Some((target, seconds)) = candidates.min_by(|a, b| a.1.total_cmp(&b.1)) {
                apply(target, seconds);
            }
        } else {
            candidates.for_each(|(target, seconds)| apply(target, seconds));
        }
    }

    /// Seconds of bootstrapping `members` together, by level.
    fn group_costs(&self, stop: &Stop<'_>, members: u16) -> Vec<f64> {
        let values: Vec<&Value> = stop
            .values
            .iter()
            .enumerate()
            .filter(|(at, _)| members & (1 << at) != 0)
            .map(|(_, value)| *value)
            .collect();
        let seconds =
            |level| self.costs.group(&values, Level(level)).map_or(f64::INFINITY, |cost| cost.seconds);
        (0..=usize::from(self.output_level)).map(seconds).collect()
    }

    /// Least seconds of any placement that goes on from `levels` after the operation of `stop`.
    fn least(&self, stop: &Stop<'_>, levels: &Levels, reached: &Reached) -> f64 {
        let level = stop.chain.and_then(|at| levels.get(at)).map_or(usize::MAX, |level| usize::from(*level));
        reached.seconds + self.lower.at(stop.done, level)
    }

    fn run(&self, stop: &Stop<'_>, levels: Levels, reached: Reached, found: &mut HashMap<Levels, Reached>) {
        if self.search == Search::Pruned && !self.worth_running(stop, &levels, &reached) {
            return;
        }
        // Levels behind the operation: kept, or as far below its run level as the value written is deep.
        let mut next = Levels::default();
        for (slot, source) in next.iter_mut().zip(&stop.next) {
            *slot = match source {
                Source::Kept(at) => levels.get(*at).copied().unwrap_or(0),
                Source::Written { depth } => reached.run_level - depth,
            };
        }
        if self.least(stop, &next, &reached) > self.bound {
            return;
        }
        found
            .entry(next)
            .and_modify(|best| {
                if reached.seconds < best.seconds {
                    *best = reached;
                }
            })
            .or_insert(reached);
    }

    /// Pruned search: the operation runs at the level it finds, or right after a bootstrap, or it is the first.
    fn worth_running(&self, stop: &Stop<'_>, levels: &Levels, reached: &Reached) -> bool {
        reached.groups.count > 0
            || stop.reads.iter().any(|(at, above)| {
                stop.origins & (1 << at) != 0
                    || levels.get(*at).is_some_and(|level| *level == reached.run_level + above)
            })
    }

    /// States cheapest first; for the exact search only those that no other state makes useless. The pruned search
    /// bootstraps from the lowest level only, so there a lower level is worth keeping.
    fn in_order(
        &self,
        stop: &Stop<'_>,
        found: HashMap<Levels, Reached>,
        most: usize,
    ) -> Vec<(Levels, Reached)> {
        let stage = stop.done;
        let mut all: Vec<(Levels, Reached)> = found.into_iter().collect();
        // Levels break ties, so that the same graph always gives the same plan.
        all.sort_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds).then_with(|| b.0.cmp(&a.0)));
        if self.search == Search::Pruned {
            return all;
        }
        let raises: Vec<&[f64]> = self
            .graph
            .alive_before(stage)
            .iter()
            .map(|value| self.raise.get(value.0).map_or(&[][..], Vec::as_slice))
            .collect();
        let last = stage == self.graph.operations().len();
        let mut kept: Vec<(Levels, Reached)> = Vec::new();
        for (levels, reached) in all {
            // Useless is what a cheaper state can be lifted to for the difference in seconds.
            let beaten = kept.iter().any(|(other, cheaper)| {
                let room = reached.seconds - cheaper.seconds;
                self.lifts_within(room, &raises, other, &levels, last)
            });
            if !beaten {
                kept.push((levels, reached));
            }
        }
        if kept.len() > most {
            // The most promising ones.
            kept.sort_by(|a, b| self.least(stop, &a.0, &a.1).total_cmp(&self.least(stop, &b.0, &b.1)));
            kept.truncate(most);
        }
        kept
    }

    /// Whether `room` seconds lift every value of `from` to its level in `to`; at the end of the graph nobody pays
    /// them.
    fn lifts_within(&self, room: f64, raises: &[&[f64]], from: &Levels, to: &Levels, last: bool) -> bool {
        let mut left = room;
        for ((low, high), raise) in from.iter().zip(to).zip(raises) {
            if low < high {
                if last || *low < self.minimum_input {
                    return false;
                }
                left -= raise.get(usize::from(*high)).copied().unwrap_or(f64::INFINITY);
                if left < 0.0 {
                    return false;
                }
            }
        }
        true
    }

    fn trace(&self, stages: &[Stage], last: usize, entry: &[Level]) -> Result<Solution> {
        let broken = || Error::Internal("a placement without a beginning".to_owned());
        let mut at = last;
        let mut steps = Vec::with_capacity(self.graph.operations().len());
        let mut exit = Vec::new();
        let mut seconds = 0.0;
        for stage in (1..stages.len()).rev() {
            let (levels, reached) =
                stages.get(stage).and_then(|stage| stage.states.get(at)).ok_or_else(broken)?;
            if stage + 1 == stages.len() {
                seconds = reached.seconds;
                exit = self.exit(levels)?;
            }
            let before = stages
                .get(stage - 1)
                .and_then(|stage| stage.states.get(reached.parent))
                .ok_or_else(broken)?;
            steps.push(self.step(stage - 1, reached, &before.0)?);
            at = reached.parent;
        }
        if stages.len() == 1 {
            exit = self.exit(&stages.first().and_then(|stage| stage.states.first()).ok_or_else(broken)?.0)?;
        }
        steps.reverse();
        Ok(Solution { entry: entry.to_vec(), exit, seconds, steps })
    }

    fn exit(&self, levels: &Levels) -> Result<Vec<Level>> {
        let alive = self.graph.alive_before(self.graph.operations().len());
        self.graph
            .outputs()
            .iter()
            .map(|output| {
                let at = alive.iter().position(|value| value == output);
                at.and_then(|at| levels.get(at))
                    .map(|level| Level(usize::from(*level)))
                    .ok_or_else(|| Error::Internal(format!("output {} is not alive at the end", output.0)))
            })
            .collect()
    }

    fn step(&self, index: usize, reached: &Reached, before: &Levels) -> Result<Step> {
        let alive = self.graph.alive_before(index);
        let operation = self
            .graph
            .operations()
            .get(index)
            .ok_or_else(|| Error::Internal(format!("operation {index} of a shorter graph")))?;
        let level = Level(usize::from(reached.run_level));
        let mut bootstraps = Vec::with_capacity(reached.groups.count);
        for group in reached.groups.iter() {
            let members: Vec<(ValueId, Level)> = alive
                .iter()
                .zip(before)
                .enumerate()
                .filter(|(at, _)| group.members & (1 << at) != 0)
                .map(|(_, (value, level))| (*value, Level(usize::from(*level))))
                .collect();
            let values: Vec<&Value> =
                members.iter().map(|(value, _)| self.graph.value(*value)).collect::<Result<_>>()?;
            let to = Level(usize::from(group.level));
            let cost = self
                .costs
                .group(&values, to)
                .ok_or_else(|| Error::Internal(format!("a bootstrap to {to} without a cost")))?;
            bootstraps.push(Bootstrap {
                values: members.iter().map(|(value, _)| *value).collect(),
                from: members.iter().map(|(_, level)| *level).collect(),
                to,
                seconds: cost.seconds,
                bootstraps: cost.bootstraps,
            });
        }
        let seconds = operation
            .seconds
            .get(level.0)
            .copied()
            .flatten()
            .ok_or_else(|| Error::Internal(format!("`{}` ran at level {level}", operation.name)))?;
        Ok(Step { operation: index, level, seconds, bootstraps })
    }
}

fn to_u8(level: Level) -> Result<u8> {
    u8::try_from(level.0).ok().filter(|level| usize::from(*level) <= LevelGraph::MAX_LEVEL).ok_or_else(|| {
        Error::Plan {
            why: format!("level {level} exceeds {}", LevelGraph::MAX_LEVEL),
            remedy: "use a shorter moduli chain".to_owned(),
        }
    })
}

/// Least seconds that bring `value` alone to each level or higher.
fn raise(value: &Value, costs: &BootstrapCosts, output_level: Level) -> Vec<f64> {
    let mut row: Vec<f64> = (0..=LevelGraph::MAX_LEVEL)
        .map(|level| {
            let reachable = level <= output_level.0;
            let cost = reachable.then(|| costs.group(&[value], Level(level))).flatten();
            cost.map_or(f64::INFINITY, |cost| cost.seconds)
        })
        .collect();
    row.truncate(output_level.0 + 1);
    let mut least = f64::INFINITY;
    for seconds in row.iter_mut().rev() {
        least = least.min(*seconds);
        *seconds = least;
    }
    row
}
