//! Any payload, wrapped in a container with a checksum that fits, into the ciphertext reader of the native backend: an
//! error or a ciphertext that is written back to the same bytes. Finds what the checksum would hide.
//!
//! `cargo +nightly fuzz run ciphertext`

#![no_main]

use std::sync::{Arc, LazyLock};

use cachemir::backend::native::{NativeClient, NativeEvaluator, test_levelled};
use cachemir::ckks::container::{Kind, write_container};
use cachemir::ckks::Parameters;
use cachemir::contract::{Client, Evaluator, KeyRequest};

static EVALUATOR: LazyLock<NativeEvaluator> = LazyLock::new(|| {
    let parameters = Arc::new(Parameters::new(test_levelled(5, 2)).unwrap());
    let client = NativeClient::from_insecure_fixed_seed(parameters, 1).unwrap();
    client.evaluator(&KeyRequest::new()).unwrap()
});

libfuzzer_sys::fuzz_target!(|sections: Vec<Vec<u8>>| {
    let borrowed: Vec<&[u8]> = sections.iter().map(Vec::as_slice).collect();
    let fingerprint = *EVALUATOR.parameters().fingerprint();
    let Ok(bytes) = write_container(Kind::Ciphertext, fingerprint, &borrowed) else { return };
    if let Ok(ciphertext) = EVALUATOR.ciphertext_from_bytes(&bytes) {
        assert_eq!(EVALUATOR.ciphertext_to_bytes(&ciphertext).unwrap(), bytes);
    }
});
