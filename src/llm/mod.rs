//! Language models: files, reference, calibration, encrypted decoder, generation.

pub mod block_functions;
pub mod config;
pub mod files;
pub mod gguf;
pub mod gguf_blocks;
pub mod import;
pub mod reference;
pub mod tokenizer;
pub mod weights;
