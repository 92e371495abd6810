//! Other methods, to compare with: MOAI, THOR, recomputation of the prefix, the paper's own layer and published
//! figures.

pub mod baselines;
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "benches time the attention; tests hold the products to dense algebra")
)]
mod block;
pub mod formulas;
mod level_matrix;
mod moai;
mod modules;
mod own_layer;
mod published;
mod published_graph;
pub mod recompute_counts;
mod thor;

pub use block::BlockPlan;
#[cfg(test)]
pub use level_matrix::LevelMatrix;
pub use moai::Moai;
pub use own_layer::own_layer;
pub use published::PublishedTable;
pub use thor::Thor;
