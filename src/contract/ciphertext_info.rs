//! What every ciphertext says of itself.

use super::{Level, Scale};

/// What every ciphertext and plaintext tells about itself.
pub trait CiphertextInfo {
    /// Rescales left.
    fn level(&self) -> Level;
    /// Current scale.
    fn scale(&self) -> Scale;
}
