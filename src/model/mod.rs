//! A Llama-family model in the clear: files, configuration, weights, tokenizer, chat template, exact f32 reference.

pub mod block_functions;
pub mod chat_frame;
pub mod chat_template;
pub mod config;
mod directory;
pub mod files;
mod fingerprint;
pub mod gguf;
pub mod import;
pub(crate) mod lenient_json;
pub mod prepared;
pub mod python_text;
pub mod reference;
pub mod text_stream;
pub mod texts;
pub mod tokenizer;
mod tokenizer_settings;
pub mod weights;

#[cfg(test)]
mod tokens_grid;
