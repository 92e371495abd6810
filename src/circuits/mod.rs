//! Functions over encrypted slots, generic over the evaluator.

pub mod approximation;
pub mod exp;
pub mod inverse;
pub mod inverse_sqrt;
pub mod silu;
pub mod slot_sums;
