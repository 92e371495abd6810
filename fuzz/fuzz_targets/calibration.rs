//! Any bytes as a calibration of a model of one layer: an error, or a table that is written back and read again,
//! and whose levels and shifts can be asked.
//!
//! `cargo +nightly fuzz run calibration fuzz/corpus/calibration fuzz/seeds/calibration`

#![no_main]

use std::sync::LazyLock;

use cachemir::calibration::table::CalibrationTable;
use cachemir::model::config::LlamaConfig;

static CONFIG: LazyLock<LlamaConfig> = LazyLock::new(|| {
    let text = br#"{"model_type":"llama","hidden_size":2,"intermediate_size":1,"num_hidden_layers":1,
        "num_attention_heads":1,"vocab_size":1,"tie_word_embeddings":true}"#;
    LlamaConfig::parse(text, "config.json").unwrap()
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(table) = CalibrationTable::parse(data, "fuzzed", &CONFIG, "fuzzed") {
        let again = CalibrationTable::parse(table.to_json().unwrap().as_bytes(), "written", &CONFIG, "fuzzed");
        assert_eq!(again.unwrap().layers.len(), table.layers.len());
        assert!(table.layers.iter().all(|layer| layer.main_path_levels() < 10_000));
        for head in table.layers.iter().flat_map(|layer| &layer.softmax.heads) {
            let _ = head.shift([1.0, -1.0].into_iter());
        }
    }
});
