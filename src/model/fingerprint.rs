//! One number for a model: its configuration and every value of its weights.

use sha2::{Digest, Sha256};

use crate::model::config::LlamaConfig;

/// Values hashed at a time.
const CHUNK: usize = 4096;

/// SHA-256 over a configuration and weights, fed tensor by tensor in one order.
pub(crate) struct Fingerprint(Sha256);

impl Fingerprint {
    /// Begins with the configuration.
    pub(crate) fn new(config: &LlamaConfig) -> Self {
        let mut hash = Sha256::new();
        hash.update(config.to_json().to_string());
        Self(hash)
    }

    /// Adds the values of a tensor, row by row, and their number.
    pub(crate) fn add<'a>(&mut self, values: impl IntoIterator<Item = &'a f32>) {
        let mut bytes = Vec::with_capacity(4 * CHUNK);
        let mut count = 0u64;
        for value in values {
            bytes.extend(value.to_le_bytes());
            count += 1;
            if bytes.len() == 4 * CHUNK {
                self.0.update(&bytes);
                bytes.clear();
            }
        }
        self.0.update(&bytes);
        self.0.update(count.to_le_bytes());
    }

    /// The digest in hexadecimal.
    pub(crate) fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
