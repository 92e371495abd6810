//! The encrypted model against the exact one: teacher forcing, shadow runs, verification.

pub mod agreement;
pub mod approximated_model;
pub mod shadow;
pub mod teacher_forcing;
pub mod verification;
