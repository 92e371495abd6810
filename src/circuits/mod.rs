//! Functions over encrypted slots, generic over the evaluator.

pub mod approximation;
pub mod complex_parts;
pub mod exp;
pub mod inverse;
pub mod inverse_sqrt;
pub mod silu;
pub mod softmax;

mod chebyshev;
mod homomorphic_dft;
#[cfg(test)]
mod native_tests;
mod polynomial;
mod polynomial_basis;
mod polynomial_coefficient;
mod polynomial_plan;

pub use chebyshev::ChebyshevSeries;
pub use homomorphic_dft::{DftDirection, EncodedDft, HomomorphicDft};
pub use polynomial::{evaluate_series, evaluate_with_basis};
pub use polynomial_basis::ChebyshevBasis;
pub use polynomial_coefficient::Coefficient;
pub use polynomial_plan::{PolynomialCost, PolynomialPlan, depth};
