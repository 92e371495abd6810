//! Bootstrapping of the native backend.

mod parameters;

pub use parameters::{BootstrapParameters, ChainLayout, Stretch};
