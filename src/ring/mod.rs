//! The polynomial ring `Z_q[X]/(X^N + 1)` in RNS form: primes, NTT, polynomials, base conversion, samplers.
//!
//! Residues are canonical (in [0, q)) between operations, limb-major, one row of N words a prime. All primes lie below
//! 2^50 so that the AVX2/FMA and the AVX512-IFMA kernels apply and results do not depend on the machine.

mod automorphism;
mod base_conversion;
mod buffer;
mod context;
mod division;
pub mod kernels;
mod ntt;
mod polynomial;
mod prime;
mod radix52;
mod sampling;

pub use automorphism::{Automorphism, conjugation_element, inverse_element, rotation_element};
pub use base_conversion::BaseConversion;
pub use buffer::{Workspace, idle_bytes};
pub use context::{Limb, RingContext};
pub use ntt::NttPlan;
pub use polynomial::{Coefficients, Domain, Evaluations, RnsPolynomial};
pub use prime::{MAX_PRIME_BITS, Prime, primes_near};
pub use sampling::{
    ERROR_VARIANCE, Randomness, Seed, sample_error, sample_sparse_ternary, sample_ternary, uniform_limb,
};
