//! Bootstrapping placement: where to bootstrap and to which level.
//!
//! Cachemir (arXiv 2602.11470), §5. A decoder layer is a [`LevelGraph`]: operations with a depth and a cost at every
//! level, and the values between them. [`solve`] finds the cheapest levels and bootstraps. Nothing here knows what a
//! ciphertext is; costs come in seconds from measurements, or composed from measured operations and counts.

mod bootstrap;
mod cost_file;
mod graph;
mod greedy;
mod lower_bound;
mod operation_costs;
mod plan;
mod prices;
mod pruning;
mod schedule;
mod sequence;
mod solution;
mod solver;
mod template;
mod work;

pub use bootstrap::{BootstrapCosts, GroupCost, LaneCosts};
pub use cost_file::{BootstrapRow, CostFile, MeasuredLayer, ModuleRow};
pub use graph::{LevelGraph, LevelGraphBuilder, Operation, Read, Value, ValueId, Write};
pub use greedy::greedy;
pub use operation_costs::{OperationCosts, OperationRow, Priced, Primitive, Source};
pub use plan::{LayerPlan, Plan, PlanBootstrap, PlanStep, PlanTarget};
pub use prices::Prices;
pub use pruning::pruning_obstacles;
pub use schedule::{Refresh, run_in_order};
pub use sequence::{place, place_greedily};
pub use solution::{Bootstrap, Moment, Solution, Step};
pub use solver::{Search, cheapest, solve, states_kept};
pub use template::{LayerTemplate, OperationTemplate};
pub use work::Work;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod random_graphs;
