//! Private text generation on ordinary CPUs.
//!
//! A Llama-family model reads an encrypted prompt, keeps an encrypted KV cache and writes encrypted tokens under
//! CKKS fully homomorphic encryption. The packings, the cache layouts and the bootstrapping placement follow the
//! paper *Cachemir* (arXiv 2602.11470).
//!
//! The crate is layered; imports run one way, downwards in this list:
//!
//! | module | what |
//! |---|---|
//! | [`llm`] | model files, f32 reference, calibration, encrypted decoder, generation |
//! | [`placement`] | where to bootstrap: level graph, cost tables, solver, reports |
//! | [`packing`] | slot layouts, matrix products, RoPE, KV cache, attention; MOAI and THOR to compare |
//! | [`backend`] | `clear`, `native`, `openfhe` and the conformance suite all three pass |
//! | [`bootstrapping`] | ModRaise, CoeffsToSlots, EvalMod, SlotsToCoeffs of the native backend |
//! | [`circuits`] | functions over any backend: Chebyshev, homomorphic DFT, 1/x, 1/√x, exp, SiLU |
//! | [`ckks`] | levelled RNS-CKKS |
//! | [`ring`] | primes, NTT, RNS polynomials, base conversion, samplers |
//! | [`contract`] | what every backend is: traits, levels, scales, errors |

pub mod backend;
pub mod bootstrapping;
pub mod circuits;
pub mod ckks;
pub mod contract;
pub mod llm;
pub mod packing;
pub mod placement;
pub mod ring;

pub use contract::{Error, Result};

/// The examples of the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
