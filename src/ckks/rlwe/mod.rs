//! RLWE under CKKS: secrets, encryptions of zero, hybrid key switching and the evaluation keys. Knows nothing of slots,
//! scales or plaintexts.
//!
//! Everything here is a pair (b, a) with b + a·s small modulo the primes it stands on. Imports run one way, downwards
//! in this list; of the rest of [`crate::ckks`] only the parameters and the container are used:
//!
//! | file | what |
//! |---|---|
//! | `stored_keys` | a whole set of evaluation keys in one streamed container |
//! | `serialization` | one secret or one switching key in its container |
//! | `evaluation_keys` | relinearization, conjugation and rotation keys, each up to its own level |
//! | `galois` | the key of one automorphism |
//! | `key_switching` | ModUp, inner product with a key, ModDown |
//! | `key_switching_key` | a key from one secret to another, in digits |
//! | `encryption` | b = −a·s + e, and P·s: once for ciphertexts and all keys |
//! | `secret` | secret polynomials, wiped when dropped |

mod encryption;
mod evaluation_keys;
mod galois;
mod key_switching;
mod key_switching_key;
mod secret;
mod serialization;
mod stored_keys;

pub(crate) use encryption::{EncryptionOfZero, UniformHalf, add_special_multiple, special_product};
pub use evaluation_keys::EvaluationKeys;
pub(crate) use galois::GaloisKey;
pub(crate) use key_switching::{Decomposition, Extended};
pub use key_switching_key::KeySwitchingKey;
pub use secret::SecretKey;
pub(crate) use secret::SecretPolynomial;
pub(super) use serialization::{polynomial_from_bytes, polynomial_to_bytes};

#[cfg(test)]
mod stored_keys_tests;
