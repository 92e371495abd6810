//! What every backend is.
//!
//! Two sides that share ciphertexts and nothing else: the [`Client`] holds the secret key (encode, encrypt,
//! decrypt, key generation), the [`Evaluator`] holds evaluation keys only. Everything above (`circuits`,
//! `packing`, `decoder`) is generic over [`Evaluator`] and runs unchanged on every backend.
//!
//! # Levels and scales
//! A ciphertext at [`Level`] ℓ survives ℓ rescales; level 0 must be bootstrapped before the next product.
//! Every level has one **canonical scale** Δ_ℓ with Δ_{ℓ−1} = Δ_ℓ² / q_ℓ ([`LevelChain`]). A value at its
//! canonical scale is multiplied by another one (or by a plaintext encoded at Δ_ℓ), rescaled, and stands again at
//! the canonical scale, exactly. Additions demand equal levels and equal scales; [`Evaluator::lower`] brings a value
//! to a lower level *and* its canonical scale.
//!
//! # Slots
//! Values are complex numbers in S = N/2 slots; `rot(x, k)[s] = x[(s + k) mod S]`, so a positive step rotates left.

mod bootstrap;
pub mod checks;
mod ciphertext_info;
mod client;
mod counting;
mod error;
mod evaluator;
mod key_request;
mod level;
mod level_chain;
mod linear_transform;
mod occupied_slots;

pub use bootstrap::{BootstrapRequest, BootstrapSummary, FewSummary, FewValues, Refreshed};
pub use ciphertext_info::CiphertextInfo;
pub use client::Client;
pub use counting::{CountingEvaluator, LevelCounts, OperationCounts};
pub use error::{Error, Result};
pub use evaluator::{Evaluator, LinearTerm};
pub use key_request::{BootstrapKeys, KeyRequest, normalize_step};
pub use level::{Level, Scale};
pub use level_chain::LevelChain;
pub use linear_transform::{Diagonal, GiantStep, LinearTransform};
pub use num_complex::Complex64;
pub use occupied_slots::OccupiedSlots;
