//! A Llama-family model in the clear: files, configuration, weights, tokenizer, chat template, exact f32 reference.

pub mod block_functions;
pub mod chat_template;
pub mod config;
pub mod files;
pub mod gguf;
pub mod gguf_blocks;
pub mod import;
pub mod prepared;
pub mod reference;
pub mod tokenizer;
pub mod weights;
