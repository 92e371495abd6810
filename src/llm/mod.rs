//! Language models: files, reference, calibration, encrypted decoder, generation.

pub mod block_functions;
pub mod calibrate;
pub mod calibration;
pub mod calibration_fit;
pub mod calibration_record;
pub mod calibration_shift;
pub mod chat;
pub mod config;
pub mod fidelity;
pub mod files;
pub mod gguf;
pub mod gguf_blocks;
pub mod import;
pub mod reference;
pub mod simulation;
pub mod texts;
pub mod tokenizer;
pub mod weights;
