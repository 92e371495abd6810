//! The default backend: our own CKKS, levelled operations from [`crate::ckks`], bootstrapping from
//! [`crate::bootstrapping`].

mod client;
mod evaluator;
mod presets;

pub use client::NativeClient;
pub use evaluator::NativeEvaluator;
pub use presets::{n16_levelled, test_levelled};

#[cfg(test)]
mod bootstrap_tests;
#[cfg(test)]
mod tests;
