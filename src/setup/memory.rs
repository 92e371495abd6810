//! Memory that a run needs, known before it starts.

use crate::contract::{Error, Result};

/// Rough memory of a decode step beside the keys, per slot: ciphertexts, diagonals and plaintexts in flight.
const WORKING_BYTES_PER_SLOT: u64 = 60_000;
/// What is in flight while keys are made, as a part of them.
const KEY_SHARE_IN_FLIGHT: u64 = 8;

/// Bytes that a run holds at its peak, by what they are for. An estimate: keys to the byte, the rest roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemoryNeeded {
    /// Evaluation keys, those of bootstrapping included.
    pub key_bytes: u64,
    /// Everything else: keys in the making, ciphertexts, plaintexts.
    pub working_bytes: u64,
}

impl MemoryNeeded {
    /// What a run takes that holds `key_bytes` of evaluation keys and computes in `slots` slots.
    #[must_use]
    pub fn new(key_bytes: u64, slots: usize) -> Self {
        let working_bytes = key_bytes / KEY_SHARE_IN_FLIGHT + WORKING_BYTES_PER_SLOT * slots as u64;
        Self { key_bytes, working_bytes }
    }

    /// Both together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.key_bytes.saturating_add(self.working_bytes)
    }

    /// That it fits into `available_bytes`; `None` where the system does not tell, which always fits.
    ///
    /// # Errors
    /// [`Error::Memory`] in the name of `operation`.
    pub fn check(&self, operation: &'static str, available_bytes: Option<u64>) -> Result<()> {
        match available_bytes {
            Some(available_bytes) if available_bytes < self.total() => {
                Err(Error::Memory { operation, needed_bytes: self.total(), available_bytes })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_does_not_fit_is_refused_with_both_numbers() {
        let needed = MemoryNeeded::new(8_000, 1);
        assert_eq!(needed.total(), 8_000 + 1_000 + 60_000);
        needed.check("generate", Some(69_000)).unwrap();
        needed.check("generate", None).unwrap();
        let error = needed.check("generate", Some(68_999)).unwrap_err().to_string();
        assert!(error.contains("69000") && error.contains("68999"), "{error}");
    }
}
