//! Any bytes into the container reader: an error or a container that is written back to the same bytes, never a panic.
//!
//! `cargo +nightly fuzz run container`

#![no_main]

use cachemir::ckks::container::{Container, write_container};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(container) = Container::parse(data) {
        let written = write_container(container.kind, container.fingerprint, &container.sections).unwrap();
        assert_eq!(written, data);
    }
});
