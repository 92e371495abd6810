//! OpenFHE's CKKS, key switching and bootstrapping behind the contract: an independent second implementation, and the
//! yardstick for speed (feature `openfhe`).
//!
//! Data: OpenFHE's `DCRTPoly`, residues in NTT form; our level ℓ is ℓ + 1 primes. The C++ side is in `cpp/`; the
//! bridge, the only place with `unsafe`, is one file. All of OpenFHE runs behind one process-wide lock, for OpenFHE
//! keeps evaluation keys, ring tables and a random generator in process-wide state. Evaluation keys are cleared from
//! its maps when the last evaluator of a secret key is dropped.

mod bootstrap;
mod bridge;
mod ciphertext;
mod client;
mod engine;
mod evaluator;
mod library;
mod linear;
mod parameters;
mod serialization;
#[cfg(test)]
mod tests;

pub use ciphertext::{OpenFheCiphertext, OpenFhePlaintext, OpenFheTensor};
pub use client::OpenFheClient;
pub use evaluator::OpenFheEvaluator;
pub use library::{listed_contexts, stored_key_tags, version};
pub use parameters::{OpenFheBootstrapping, OpenFheParameters};
