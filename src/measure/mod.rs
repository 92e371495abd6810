//! How the crate measures and reports: one median, one precision, one account of memory, one report, one atomic write.
//!
//! Imports the contract only, so that every layer may use it.

mod files;
mod machine;
mod memory;
mod precision;
mod report;
mod stats;

pub use files::{AtomicFile, write_atomically};
pub use machine::Machine;
pub use memory::{available_memory_bytes, check_memory, peak_memory_bytes};
pub use precision::{Parts, Precision};
pub use report::{Report, is_insecure};
pub use stats::{Rounds, Run, Statistics, Timings, alternate, time};
