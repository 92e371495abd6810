//! The default backend: our own CKKS, levelled operations from [`crate::ckks`], bootstrapping from
//! [`crate::bootstrapping`].

mod client;
mod evaluator;
mod noise;
mod presets;

pub use client::NativeClient;
pub use evaluator::NativeEvaluator;
pub use noise::{
    encryption_deviation, key_switch_deviation, noise_model, noise_model_n16, rescale_deviation,
};
pub use presets::{BELOW_THE_BASE, n16_levelled, test_levelled};

#[cfg(test)]
mod bootstrap_tests;
#[cfg(test)]
mod few_tests;
#[cfg(test)]
mod tests;
