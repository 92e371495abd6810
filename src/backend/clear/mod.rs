//! The slot simulator: complex f64 slots with levels, scales and keys enforced as the real backends enforce them.
//!
//! Nothing is encrypted. It serves fast tests, operation counts at any model size, dry runs that find the rotation keys
//! a circuit needs, and long fidelity studies with an optional noise model.

mod bootstrap;
mod ciphertext;
mod client;
mod evaluator;
mod noise;
mod parameters;
mod serialization;

pub use ciphertext::{ClearCiphertext, ClearPlaintext, ClearTensor};
pub use client::ClearClient;
pub use evaluator::ClearEvaluator;
pub use noise::NoiseModel;
pub(crate) use noise::SECOND_ITERATION;
pub use parameters::ClearParameters;

#[cfg(test)]
mod tests;
