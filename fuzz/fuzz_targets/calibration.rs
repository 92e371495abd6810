//! Any bytes as a calibration of a model of one layer: an error, or a table that is written back and read again, and
//! whose shifts can be asked.
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
    if let Ok(table) = CalibrationTable::parse(data, "fuzzed", &CONFIG, "fuzzed", &[1]) {
        let text = table.to_json().unwrap();
        let again = CalibrationTable::parse(text.as_bytes(), "written", &CONFIG, "fuzzed", &[1]).unwrap();
        assert_eq!(again.ranges.layers.len(), table.ranges.layers.len());
        table.ranges.check(&CONFIG).unwrap();
        let _ = table.check_context(usize::MAX);
        for head in table.ranges.layers.iter().flat_map(|layer| &layer.heads) {
            let _ = head.shift_of([1.0, -1.0].into_iter());
        }
    }
});
