//! The default backend: our own CKKS, levelled operations from [`crate::ckks`], bootstrapping from
//! [`crate::bootstrapping`].

mod client;
mod presets;

pub use client::NativeClient;
pub use presets::{n16_levelled, test_levelled};

#[cfg(test)]
mod tests;
