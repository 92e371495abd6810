//! Any bytes as a GGUF file: an error or a parsed file, whose tensors decode to as many values as their shapes say; and the
//! whole import of what parses.
//!
//! `cargo +nightly fuzz run gguf fuzz/corpus/gguf fuzz/seeds/gguf`

#![no_main]

use std::sync::LazyLock;

use cachemir::model::gguf::Gguf;
use cachemir::model::import::import_gguf;

static DIRECTORY: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(file) = Gguf::parse(data, "fuzzed") else { return };
    for name in ["w", "token_embd.weight", "output_norm.weight", "blk.0.attn_q.weight"] {
        if let Some(tensor) = file.tensor(name) {
            let count: usize = tensor.shape.iter().product();
            assert_eq!(file.decode(name).unwrap().len(), count, "{name}");
        }
    }
    let path = DIRECTORY.path().join("fuzzed.gguf");
    std::fs::write(&path, data).unwrap();
    let _ = import_gguf(&path, &DIRECTORY.path().join("imported"));
});
