//! Two real vectors in the real and imaginary parts of one ciphertext.
//!
//! Folding W_a + i·W_b gives two products for the plaintexts of one; z = x_a + i·x_b times W_a − i·W_b has x_a·W_a +
//! x_b·W_b as its real part. [`pair_terms`] and [`real_part_terms`] halve the weights, so that the conjugate sums here,
//! which double, return the values themselves at no level.

use crate::circuits::complex_parts::{self, join_complex, split_complex};
use crate::contract::{Complex64, Evaluator, Result};

use super::{Packed, Term};

/// Terms of (W_a + i·W_b)/2: the product's output goes through [`split`].
#[must_use]
pub fn pair_terms(first: Term, second: Term) -> Vec<Term> {
    vec![first.times(Complex64::new(0.5, 0.0)), second.times(Complex64::new(0.0, 0.5))]
}

/// Terms of (W_a − i·W_b)/2 for an input x_a + i·x_b: the product's output goes through [`twice_real_part`].
#[must_use]
pub fn real_part_terms(first: Term, second: Term) -> Vec<Term> {
    vec![first.times(Complex64::new(0.5, 0.0)), second.times(Complex64::new(0.0, -0.5))]
}

/// \[y + ȳ, i·(ȳ − y)\]: twice the real and twice the imaginary part. One conjugation; level and scale stay.
///
/// # Errors
/// [`crate::Error::EvaluationKey`] without a conjugation key.
pub fn split<E: Evaluator>(evaluator: &E, y: &Packed<E::Ciphertext>) -> Result<[Packed<E::Ciphertext>; 2]> {
    let (real, imaginary) = split_complex(evaluator, &y.ciphertext)?;
    Ok([Packed::new(real, y.layout), Packed::new(imaginary, y.layout)])
}

/// y + ȳ: twice the real part. One conjugation; level and scale stay.
///
/// # Errors
/// [`crate::Error::EvaluationKey`] without a conjugation key.
pub fn twice_real_part<E: Evaluator>(
    evaluator: &E,
    y: &Packed<E::Ciphertext>,
) -> Result<Packed<E::Ciphertext>> {
    y.map(|y| complex_parts::twice_real_part(evaluator, y))
}

/// a + i·b of two vectors of one layout, level and scale. Free.
///
/// # Errors
/// [`crate::Error::Shape`] when the layouts differ; errors of [`Evaluator::add`].
pub fn join<E: Evaluator>(
    evaluator: &E,
    a: &Packed<E::Ciphertext>,
    b: &Packed<E::Ciphertext>,
) -> Result<Packed<E::Ciphertext>> {
    b.require(&a.layout, "join as real and imaginary part")?;
    a.map(|a| join_complex(evaluator, a, &b.ciphertext))
}
