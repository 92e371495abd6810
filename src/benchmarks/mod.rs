//! What the benches and comparisons measure: single operations, bootstraps, matrix products, attention, the modules of
//! a decoder layer, and two backends side by side.
//!
//! Everything is measured with [`crate::measure`] and generic over the backend where the backend is not the subject.
//! Rows serialize as the JSON reports name them. Nothing prints: long work tells its progress to a caller's function.

pub mod attention;
pub mod bootstrap;
pub mod comparison;
pub mod comparison_rows;
mod layer_check;
pub mod layer_times;
pub mod linear;
mod linear_related;
pub mod modules;
pub mod operations;
pub mod overflow;
pub mod values;

/// Told what is being measured, how many parts of it are done, and of how many.
pub type Observer<'a> = dyn FnMut(&str, usize, usize) + 'a;
