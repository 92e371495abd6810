//! Ciphertexts, unrelinearized products and plaintexts. Data: evaluations (NTT form) over the primes of the level.

use crate::contract::{CiphertextInfo, Level, Scale};
use crate::ring::{Evaluations, RnsPolynomial};

/// (c_0, c_1) with c_0 + c_1·s ≈ Δ·m.
#[derive(Clone, Debug)]
pub struct Ciphertext {
    pub(crate) c0: RnsPolynomial<Evaluations>,
    pub(crate) c1: RnsPolynomial<Evaluations>,
    pub(crate) level: Level,
    pub(crate) scale: Scale,
}

/// (d_0, d_1, d_2) with d_0 + d_1·s + d_2·s² ≈ Δ·m.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(crate) d0: RnsPolynomial<Evaluations>,
    pub(crate) d1: RnsPolynomial<Evaluations>,
    pub(crate) d2: RnsPolynomial<Evaluations>,
    pub(crate) level: Level,
    pub(crate) scale: Scale,
}

/// Δ·m, possibly with special limbs too for use in double-hoisted linear transforms.
#[derive(Clone, Debug)]
pub struct Plaintext {
    pub(crate) polynomial: RnsPolynomial<Evaluations>,
    pub(crate) level: Level,
    pub(crate) scale: Scale,
}

impl Plaintext {
    /// Bytes it holds in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        8 * self.polynomial.words().len() as u64
    }
}

macro_rules! info {
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

info!(Ciphertext);
info!(Tensor);
info!(Plaintext);
