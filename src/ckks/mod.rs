//! Levelled RNS-CKKS.

pub mod container;
pub mod fields;
pub mod security;
