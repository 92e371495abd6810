//! One decoder layer of a Llama-like model as a level graph, for the packings that the decoder is compared with.
//!
//! Operation counts follow section 9 of the executable specification; products in interleaved replicated packing are
//! counted by the geometry the packings themselves run by, MOAI and THOR by whoever runs them ([`RecomputeCounts`]).
//! Names of values and operations are those the encrypted decoder uses.

mod cached;
mod counts;
mod functions;
mod products;
mod recompute;
mod shape;

pub use cached::{CachedPackings, cached_layer};
pub use counts::{RecomputeCounts, Stages, sum, times};
pub use functions::{FunctionWork, Functions};
pub use recompute::{Recompute, recompute_layer};
pub use shape::ModelShape;

#[cfg(test)]
mod tests;
