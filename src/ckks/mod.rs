//! Levelled RNS-CKKS: parameters, encoding, keys, evaluation. Nothing here knows of bootstrapping or models.
//!
//! Cheon–Kim–Kim–Song 2017, in full RNS (Cheon–Han–Kim–Kim–Song 2018) with hybrid key switching (Han–Ki 2020) and
//! double hoisting (Bossuat–Mouchet–Troncoso-Pastoriza–Hubaux 2021).
//!
//! Imports between the files run one way, downwards in this list:
//!
//! | files | what |
//! |---|---|
//! | `client`, `evaluator` | the two parties |
//! | `message` | the client's slot values as secret polynomials |
//! | `serialization` | parameters, plaintexts and ciphertexts in their container |
//! | `linear_transform`, `inner_sums` | transforms with hoisted baby steps |
//! | `composed`, `linear_combination`, `rotation` | operations made of several, each in one pass |
//! | `constant`, `encoding` | one constant for all slots, and vectors of values, as polynomials |
//! | `ciphertext`, `encoder` | data with level and scale; slots to coefficients |
//! | [`rlwe`] | secrets, encryptions of zero, key switching, evaluation keys |
//! | `parameters`, [`security`] | moduli, levels, and how large they may be |
//! | `container_stream`, [`container`], [`fields`] | bytes that travel or rest |

mod ciphertext;
mod client;
mod composed;
mod constant;
pub mod container;
mod container_stream;
mod encoder;
mod encoding;
mod evaluator;
pub mod fields;
mod inner_sums;
mod linear_combination;
mod linear_transform;
mod message;
mod parameters;
pub mod rlwe;
mod rotation;
pub mod security;
mod serialization;

pub(crate) use container_stream::{ContainerReader, ContainerWriter};

pub use ciphertext::{Ciphertext, Plaintext, Tensor};
pub use client::{CkksClient, PublicKey};
pub use encoder::Encoder;
pub use evaluator::CkksEvaluator;
pub use parameters::{Parameters, ParametersLiteral, Security, Stretch};
pub use rlwe::{EvaluationKeys, KeySwitchingKey, SecretKey};

#[cfg(test)]
mod tests;
