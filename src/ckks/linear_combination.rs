//! Linear combinations with constants, piece by piece of a row: every term is read once and the sum written once, where
//! products and additions one by one would each pass over memory. All data in evaluations; constants as in `arithmetic`.

use rayon::prelude::*;

use super::Ciphertext;
use super::arithmetic::{check_scales, rounded};
use super::evaluator::CkksEvaluator;
use crate::contract::{Complex64, Error, Level, LinearTerm, Result, Scale};
use crate::ring::kernels::Kernels;
use crate::ring::{Limb, Prime, RnsPolynomial};

/// Words of a row worked on at a time: they stay in the nearest cache while the terms pass.
const PIECE: usize = 2048;

/// (real + imaginary·X^{N/2})·x for a rounded constant.
pub(super) struct RoundedTerm<'a> {
    pub(super) x: &'a Ciphertext,
    real: i128,
    imaginary: i128,
}

/// One limb of a term: a row and what its two halves are multiplied by.
pub(super) struct Summand<'a> {
    pub(super) row: &'a [u64],
    pub(super) factors: (u64, u64),
}

/// row += Σ summands, or row = Σ summands when it is `fresh`; all rows of one length.
pub(super) fn sum_into(
    kernels: Kernels,
    prime: &Prime,
    row: &mut [u64],
    summands: &[Summand<'_>],
    fresh: bool,
) {
    let middle = row.len() / 2;
    let size = PIECE.min(middle.max(1));
    for (index, piece) in row.chunks_mut(size).enumerate() {
        let start = index * size;
        for (turn, summand) in summands.iter().enumerate() {
            let from = summand.row.get(start..start + piece.len()).unwrap_or(&[]);
            let factor = if start < middle { summand.factors.0 } else { summand.factors.1 };
            if fresh && turn == 0 {
                kernels.multiply_scalar(prime, piece, from, factor);
            } else if factor == 1 {
                kernels.add_assign(prime, piece, from);
            } else {
                kernels.multiply_scalar_accumulate(prime, piece, from, factor);
            }
        }
    }
}

impl CkksEvaluator {
    /// The terms with their constants rounded; every product must stand at `scale`.
    ///
    /// # Errors
    /// [`Error::LevelTooLow`], [`Error::ScaleMismatch`], and those of the constants.
    pub(super) fn rounded_terms<'a>(
        &self,
        terms: &[LinearTerm<'a, Ciphertext>],
        level: Level,
        scale: Scale,
    ) -> Result<Vec<RoundedTerm<'a>>> {
        terms
            .iter()
            .map(|term| {
                let x = term.ciphertext;
                if x.level < level {
                    return Err(Error::LevelTooLow {
                        operation: "linear_combination",
                        level: x.level,
                        wanted: level,
                    });
                }
                check_scales("linear_combination", scale, x.scale * term.scale)?;
                let (real, imaginary) = self.constant(x.scale, term.constant, term.scale, level)?;
                Ok(RoundedTerm { x, real, imaginary })
            })
            .collect()
    }

    /// One limb of Σ terms · `factor`, of the halves that `half` picks.
    pub(super) fn summands<'a>(
        &self,
        limb: Limb,
        factor: u64,
        terms: &[RoundedTerm<'a>],
        half: impl Fn(&'a Ciphertext) -> &'a RnsPolynomial<crate::ring::Evaluations>,
    ) -> Result<Vec<Summand<'a>>> {
        let ring = self.parameters.ring();
        let prime = ring.prime(limb)?;
        terms
            .iter()
            .map(|term| {
                let (first, second) = self.halves(limb, prime, term.real, term.imaginary)?;
                let factors = (prime.mul(first, factor), prime.mul(second, factor));
                Ok(Summand { row: half(term.x).row(ring, limb)?, factors })
            })
            .collect()
    }

    /// row += factor·(real + imaginary·X^{N/2}) on one limb.
    pub(super) fn add_halves(
        &self,
        limb: Limb,
        factor: u64,
        (real, imaginary): (i128, i128),
        row: &mut [u64],
    ) -> Result<()> {
        if (real, imaginary) == (0, 0) {
            return Ok(());
        }
        let prime = self.parameters.ring().prime(limb)?;
        let (first, second) = self.halves(limb, prime, real, imaginary)?;
        let middle = row.len() / 2;
        let (row_first, row_second) = row.split_at_mut(middle);
        for (half, constant) in [(row_first, first), (row_second, second)] {
            let constant = prime.mul(constant, factor);
            for x in half {
                *x = prime.add(*x, constant);
            }
        }
        Ok(())
    }

    /// [`crate::contract::Evaluator::linear_combination`].
    pub(super) fn combine_linearly(
        &self,
        terms: &[LinearTerm<'_, Ciphertext>],
        addend: Complex64,
        level: Level,
    ) -> Result<Ciphertext> {
        let Some(scale) = terms.first().map(|term| term.ciphertext.scale * term.scale) else {
            return Err(Error::Shape {
                operation: "linear_combination",
                what: "0 terms".to_owned(),
                remedy: "give at least one".to_owned(),
            });
        };
        let terms = self.rounded_terms(terms, level, scale)?;
        let addend = (rounded("add_constant", addend.re, scale)?, rounded("add_constant", addend.im, scale)?);
        let ring = self.parameters.ring();
        let limbs = self.parameters.limbs(level)?;
        let mut c0 = RnsPolynomial::unspecified(ring, limbs, 0);
        let mut c1 = RnsPolynomial::unspecified(ring, limbs, 0);
        let rows: Vec<_> = c0.rows_mut(ring).zip(c1.rows_mut(ring)).collect();
        rows.into_par_iter().enumerate().try_for_each(|(index, (row_0, row_1))| {
            let limb = Limb::Chain(index);
            let prime = ring.prime(limb)?;
            sum_into(ring.kernels(), prime, row_0, &self.summands(limb, 1, &terms, |x| &x.c0)?, true);
            sum_into(ring.kernels(), prime, row_1, &self.summands(limb, 1, &terms, |x| &x.c1)?, true);
            self.add_halves(limb, 1, addend, row_0)
        })?;
        Ok(Ciphertext { c0, c1, level, scale })
    }
}
