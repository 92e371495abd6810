//! Ciphertexts, unrelinearized products and plaintexts: an OpenFHE object with our level and scale.

use std::sync::Arc;

use cxx::SharedPtr;

use super::bridge::ffi;
use crate::ckks::container::Fingerprint;
use crate::contract::{CiphertextInfo, Level, Scale};

macro_rules! with_level_and_scale {
    ($name:ident) => {
        impl CiphertextInfo for $name {
            fn level(&self) -> Level {
                self.level
            }
            fn scale(&self) -> Scale {
                self.scale
            }
        }
    };
}

/// A degree-1 ciphertext of OpenFHE, in NTT form.
#[derive(Clone)]
pub struct OpenFheCiphertext {
    pub(super) inner: SharedPtr<ffi::Ciphertext>,
    pub(super) level: Level,
    pub(super) scale: Scale,
    /// Tag of the secret key it is encrypted under.
    pub(super) tag: Arc<str>,
}

/// A product of two ciphertexts before relinearization.
#[derive(Clone)]
pub struct OpenFheTensor {
    pub(super) inner: SharedPtr<ffi::Ciphertext>,
    pub(super) level: Level,
    pub(super) scale: Scale,
    pub(super) tag: Arc<str>,
}

/// A plaintext of OpenFHE, in NTT form over the primes of its level.
#[derive(Clone)]
pub struct OpenFhePlaintext {
    pub(super) inner: SharedPtr<ffi::Polynomial>,
    pub(super) level: Level,
    pub(super) scale: Scale,
    /// Fingerprint of ring and primes.
    pub(super) fingerprint: Fingerprint,
}

with_level_and_scale!(OpenFheCiphertext);
with_level_and_scale!(OpenFheTensor);
with_level_and_scale!(OpenFhePlaintext);
