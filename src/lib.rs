//! Private text generation on ordinary CPUs.
//!
//! A Llama-family model reads an encrypted prompt, keeps an encrypted KV cache and writes encrypted tokens under
//! CKKS fully homomorphic encryption. The packings, the cache layouts and the bootstrapping placement follow the
//! paper *Cachemir* (arXiv 2602.11470).
//!
//! # A private answer
//!
//! ```
//! use cachemir::{Chat, Client, Model, Preset, Sampling, Server, SetupOptions};
//!
//! // Public, the same on both sides: weights, functions, placement of the bootstraps, keys needed.
//! let model = Model::bundled()?; // or Model::open("DIR"), in Hugging Face layout
//! let setup = SetupOptions::new(Preset::Test).context(10).build(&model)?; // Preset::N16 is the secure one
//!
//! // The client: its secret key stays here.
//! let client = Client::new(&setup)?;
//! let mut chat = Chat::new(&client, "ROMEO:", Sampling::greedy())?.max_new_tokens(1)?;
//!
//! // The server: evaluation keys, weights, encrypted caches.
//! let mut server = Server::new(&setup, client.keys()?)?;
//! while let Some(token) = chat.next(&mut server)? {
//!     print!("{}", token.text);
//! }
//! # Ok::<(), cachemir::Error>(())
//! ```
//!
//! Two machines do the same with bytes: keys by `NativeEvaluator::write_to` and [`Server::from_keys`], messages by
//! [`Chat::ask`], [`Client::tokens_to_bytes`], [`Server::answer_bytes`], [`Client::answer_from_bytes`] and
//! [`Chat::receive`]; see `examples/client_and_server.rs`. What the server learns is the number of tokens, their
//! timing, and the set-up.
//!
//! # CKKS alone
//!
//! | you want | it is |
//! |---|---|
//! | parameters | [`ckks::Parameters`] of a [`ckks::ParametersLiteral`]; [`bootstrapping::BootstrapParameters`] |
//! | values into slots and back | inside [`contract::Client`] and [`contract::Evaluator`]; alone [`ckks::Encoder`] |
//! | a secret key, encryption, decryption | [`backend::native::NativeClient`], the trait [`contract::Client`] |
//! | the keys needed by a circuit | [`contract::KeyRequest`], from [`backend::clear::ClearClient::dry_run`] |
//! | sums, products, rotations, levels, scales | [`backend::native::NativeEvaluator`], [`contract::Evaluator`] |
//! | a matrix times a vector | [`contract::LinearTransform`]; of a model's shapes: [`packing`] |
//! | a function | [`circuits`]: Chebyshev series, 1/x, 1/√x, exp, SiLU |
//! | a bootstrap | [`contract::Evaluator::bootstrap`]; its parts in [`bootstrapping`] |
//! | keys as bytes | [`backend::native::NativeEvaluator::write_to`], the format in [`ckks::container`] |
//! | ciphertexts as bytes | [`contract::Evaluator::ciphertext_to_bytes`] |
//! | to know the precision beforehand | the simulator [`backend::clear`]; [`backend::native::noise_model`] |
//!
//! `examples/ckks_basics.rs` and `examples/bootstrap.rs` are whole programs. Code that is generic over
//! [`contract::Client`] and [`contract::Evaluator`] runs unchanged on every backend: `clear` (the simulator, encrypts
//! nothing), `native`, and `openfhe` with the feature of that name.
//!
//! # Modules
//!
//! The crate is layered; imports run one way, downwards in this list. Above it stand the types at the root of the
//! crate.
//!
//! | module | what |
//! |---|---|
//! | [`placement`] | where to bootstrap: level graph, cost tables, solver, reports |
//! | [`packing`] | slot layouts, matrix products, RoPE, KV cache, attention |
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
pub mod packing;
pub mod placement;
pub mod ring;

pub(crate) mod benchmarks;
pub(crate) mod fidelity;
pub(crate) mod measure;
pub(crate) mod pages;

// Not for users: `main.rs` needs the first, fuzz targets and tests of the whole crate the others. They change without
// notice.
#[doc(hidden)]
pub mod calibration;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod decoder;
#[doc(hidden)]
pub mod generation;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod related_work;
#[doc(hidden)]
pub mod setup;

pub use contract::{Error, Result};
pub use decoder::head::Answer;
pub use decoder::head_side::HeadSide;
pub use generation::chat::{Chat, GenerationRequest, Token};
pub use generation::client::Client;
pub use generation::protocol::{EncryptedAnswer, EncryptedTokens};
pub use generation::sampling::Sampling;
pub use generation::server::Server;
pub use setup::{
    Backend, MemoryNeeded, Model, Preset, Scheme, Setup, SetupOptions, SimulatedNoise, StoredSecret,
};

/// The examples of the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
