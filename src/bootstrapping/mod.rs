//! Bootstrapping of the native backend: SlotsToCoeffs → ModRaise → CoeffsToSlots → EvalMod.
//!
//! [`BootstrapCircuit`] and [`EvalMod`] run on any evaluator, [`ModRaise`] and [`Bootstrapper`] on our CKKS.
//! [`BootstrapParameters`] says why the steps come in this order and what was considered.

mod bootstrapper;
mod circuit;
mod eval_mod;
pub mod few;
mod mod_raise;
mod overflow;
mod parameters;
mod stored_keys;
#[cfg(test)]
mod stored_keys_tests;

pub use bootstrapper::Bootstrapper;
pub use circuit::{BootstrapCircuit, EncodedTransforms};
pub use eval_mod::EvalMod;
pub use mod_raise::ModRaise;
pub use overflow::{expected_at_least, integer_parts};
pub use parameters::{BootstrapParameters, FewParameters, log2_irwin_hall_tail};
