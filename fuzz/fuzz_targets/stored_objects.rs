//! Any sections, under a checksum that fits, into the readers of parameters, secret keys, switching keys, plaintexts and
//! products: an error, or an object that is written back to the same bytes.
//!
//! `cargo +nightly fuzz run stored_objects`

#![no_main]

use std::sync::LazyLock;

use cachemir::backend::native::test_levelled;
use cachemir::ckks::container::{Kind, write_container};
use cachemir::ckks::{KeySwitchingKey, Parameters, Plaintext, SecretKey};

static PARAMETERS: LazyLock<Parameters> = LazyLock::new(|| Parameters::new(test_levelled(5, 2)).unwrap());

libfuzzer_sys::fuzz_target!(|input: (u8, Vec<Vec<u8>>)| {
    let (reader, mut sections) = input;
    if reader % 4 == 0 {
        // Rings above 2^8 take a second to make; what they are made of is checked alike.
        if let Some(log2_n) = sections.first_mut().and_then(|section| section.first_mut()) {
            *log2_n %= 9;
        }
    }
    let borrowed: Vec<&[u8]> = sections.iter().map(Vec::as_slice).collect();
    let fingerprint = *PARAMETERS.fingerprint();
    let bytes = |kind| write_container(kind, fingerprint, &borrowed).unwrap();
    match reader % 4 {
        0 => drop(Parameters::from_bytes(&bytes(Kind::Parameters))),
        1 => {
            let bytes = bytes(Kind::SecretKey);
            if let Ok(key) = SecretKey::from_bytes(&PARAMETERS, &bytes) {
                assert_eq!(*key.to_bytes(&PARAMETERS).unwrap(), bytes);
            }
        }
        2 => {
            let bytes = bytes(Kind::SwitchingKey);
            if let Ok(key) = KeySwitchingKey::from_bytes(&PARAMETERS, &bytes) {
                assert_eq!(key.to_bytes(&PARAMETERS).unwrap(), bytes);
            }
        }
        _ => {
            let bytes = bytes(Kind::Plaintext);
            if let Ok(plaintext) = Plaintext::from_bytes(&PARAMETERS, &bytes) {
                assert_eq!(plaintext.to_bytes(&PARAMETERS).unwrap(), bytes);
            }
        }
    }
});
