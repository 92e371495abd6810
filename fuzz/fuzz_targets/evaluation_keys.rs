//! Any payload, wrapped in a container with a checksum that fits, into the reader of stored evaluation keys: an error, or
//! keys that are written back to the same bytes.
//!
//! `cargo +nightly fuzz run evaluation_keys`

#![no_main]

use std::sync::LazyLock;

use cachemir::backend::native::test_levelled;
use cachemir::ckks::container::{Kind, write_container};
use cachemir::ckks::{EvaluationKeys, Parameters};

static PARAMETERS: LazyLock<Parameters> = LazyLock::new(|| Parameters::new(test_levelled(5, 2)).unwrap());

libfuzzer_sys::fuzz_target!(|sections: Vec<Vec<u8>>| {
    let borrowed: Vec<&[u8]> = sections.iter().map(Vec::as_slice).collect();
    let fingerprint = *PARAMETERS.fingerprint();
    let Ok(bytes) = write_container(Kind::EvaluationKeys, fingerprint, &borrowed) else { return };
    if let Ok(keys) = EvaluationKeys::read_from(&PARAMETERS, bytes.as_slice()) {
        let mut written = Vec::new();
        keys.write_to(&PARAMETERS, &mut written).unwrap();
        assert_eq!(written, bytes);
    }
});
