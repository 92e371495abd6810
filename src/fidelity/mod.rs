//! The encrypted model against the exact one: teacher forcing, shadow runs, verification; and the decoder's f64 twin.

pub mod agreement;
pub mod approximated_model;
mod bootstrap_noise;
pub mod headroom;
pub mod shadow;
pub mod teacher_forcing;
pub mod twin;
pub mod verification;

pub use bootstrap_noise::BootstrapNoise;
