//! A config.json and a model.safetensors of any bytes: an error, or weights of the shapes that the configuration says.
//!
//! `cargo +nightly fuzz run model_directory fuzz/corpus/model_directory fuzz/seeds/model_directory`
//!
//! The input is the configuration, a zero byte, the tensors. Without a zero byte the configuration is a fixed, small one.

#![no_main]

use std::sync::LazyLock;

use cachemir::model::config::LlamaConfig;
use cachemir::model::weights::Weights;

static DIRECTORY: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

const SMALL: &[u8] = br#"{"model_type":"llama","hidden_size":2,"intermediate_size":1,"num_hidden_layers":1,
    "num_attention_heads":1,"vocab_size":1,"tie_word_embeddings":true}"#;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (config, tensors) = match (parts.next(), parts.next()) {
        (Some(config), Some(tensors)) => (config, tensors),
        _ => (SMALL, data),
    };
    let Ok(config) = LlamaConfig::parse(config, "config.json") else { return };
    LlamaConfig::parse(config.to_json().to_string().as_bytes(), "written").unwrap();
    std::fs::write(DIRECTORY.path().join("model.safetensors"), tensors).unwrap();
    if let Ok(weights) = Weights::open(DIRECTORY.path(), &config) {
        if let Ok(layer) = weights.layer(0) {
            assert_eq!(layer.query.dim(), (config.num_attention_heads * config.head_dim, config.hidden_size));
        }
        let _ = (weights.embedding(), weights.final_norm(), weights.output_head());
    }
});
