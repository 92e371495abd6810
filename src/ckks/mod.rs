//! Levelled RNS-CKKS: parameters, encoding, keys, evaluation. Nothing here knows of bootstrapping or models.
//!
//! Cheon–Kim–Kim–Song 2017, in full RNS (Cheon–Han–Kim–Kim–Song 2018) with hybrid key switching (Han–Ki 2020) and
//! double hoisting (Bossuat–Mouchet–Troncoso-Pastoriza–Hubaux 2021).

mod arithmetic;
mod ciphertext;
mod client;
mod composed;
pub mod container;
mod container_stream;
mod encoder;
mod evaluation_keys;
mod evaluator;
pub mod fields;
mod key_switching;
mod key_switching_key;
mod linear_combination;
mod linear_transform;
mod parameters;
mod rotation;
mod secret_key;
pub mod security;
mod serialization;
mod stored_keys;

pub(crate) use container_stream::{ContainerReader, ContainerWriter};

pub use ciphertext::{Ciphertext, Plaintext, Tensor};
pub use client::{CkksClient, PublicKey};
pub use encoder::Encoder;
pub use evaluation_keys::EvaluationKeys;
pub use evaluator::CkksEvaluator;
pub(crate) use key_switching::{Decomposition, Extended};
pub use key_switching_key::KeySwitchingKey;
pub use parameters::{Parameters, ParametersLiteral, Security, Stretch};
pub use secret_key::SecretKey;

#[cfg(test)]
mod stored_keys_tests;
#[cfg(test)]
mod tests;
