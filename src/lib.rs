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
//! | [`pages`] | tables, charts and HTML pages of results |
//! | [`benchmarks`] | what benches and comparisons measure |
//! | [`setup`] | what a model and a preset make ready for both parties |
//! | [`fidelity`] | exact against encrypted: teacher forcing, shadow runs, verification |
//! | [`generation`] | client, server, chat, sampling, checkpoint |
//! | [`related_work`] | MOAI, THOR, recomputation, published figures: to compare with |
//! | [`decoder`] | the encrypted decoder |
//! | [`calibration`] | from texts to the ranges of every function |
//! | [`model`] | files, configuration, weights, tokenizer, chat template, exact f32 reference |
//! | [`placement`] | where to bootstrap: level graph, cost tables, solver, reports |
//! | [`packing`] | slot layouts, matrix products, RoPE, KV cache, attention |
//! | [`backend`] | `clear`, `native`, `openfhe` and the conformance suite all three pass |
//! | [`bootstrapping`] | ModRaise, CoeffsToSlots, EvalMod, SlotsToCoeffs of the native backend |
//! | [`circuits`] | functions over any backend: Chebyshev, homomorphic DFT, 1/x, 1/√x, exp, SiLU |
//! | [`ckks`] | levelled RNS-CKKS |
//! | [`ring`] | primes, NTT, RNS polynomials, base conversion, samplers |
//! | [`measure`] | medians, bits of precision, memory, reports, atomic files: one of each |
//! | [`contract`] | what every backend is: traits, levels, scales, errors |

pub mod backend;
pub mod benchmarks;
pub mod bootstrapping;
pub mod calibration;
pub mod circuits;
pub mod ckks;
#[doc(hidden)]
pub mod cli;
pub mod contract;
pub mod decoder;
pub mod fidelity;
pub mod generation;
pub mod measure;
pub mod model;
pub mod packing;
pub mod pages;
pub mod placement;
pub mod related_work;
pub mod ring;
pub mod setup;

pub use contract::{Error, Result};
pub use generation::chat::{Chat, Token};
pub use generation::client::Client;
pub use generation::sampling::Sampling;
pub use generation::server::Server;
pub use setup::{Model, Preset, Setup, SetupOptions};

/// The examples of the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
