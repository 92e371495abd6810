//! Linear combinations with constants, piece by piece of a row: every term is read once and the sum written once, where
//! products and additions one by one would each pass over memory. All data in evaluations; constants as in `constant`.

use rayon::prelude::*;

use super::constant::{Halves, RoundedConstant};
use super::{Ciphertext, Parameters};
use crate::contract::checks::{check_scales, no_terms};
use crate::contract::{Complex64, Error, Level, LinearTerm, Result, Scale};
use crate::ring::kernels::Kernels;
use crate::ring::{Evaluations, Limb, Prime, RingContext, RnsPolynomial};

/// Words of a row worked on at a time: they stay in the nearest cache while the terms pass.
const PIECE: usize = 2048;

/// A ciphertext with the rounded constant that it is multiplied by.
pub(super) struct RoundedTerm<'a> {
    x: &'a Ciphertext,
    constant: RoundedConstant,
}

/// One limb of a term: a row and what its two halves are multiplied by.
pub(super) struct Summand<'a> {
    pub(super) row: &'a [u64],
    pub(super) factors: Halves,
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
            let factor = if start < middle { summand.factors.first } else { summand.factors.second };
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

/// The terms with their constants rounded; every product must stand at `scale`.
///
/// # Errors
/// [`Error::LevelTooLow`], [`Error::ScaleMismatch`], and those of the constants.
pub(super) fn rounded_terms<'a>(
    parameters: &Parameters,
    terms: &[LinearTerm<'a, Ciphertext>],
    level: Level,
    scale: Scale,
) -> Result<Vec<RoundedTerm<'a>>> {
    const OPERATION: &str = "linear_combination";
    terms
        .iter()
        .map(|term| {
            let x = term.ciphertext;
            if x.level < level {
                return Err(Error::LevelTooLow { operation: OPERATION, level: x.level, wanted: level });
            }
            check_scales(OPERATION, scale, x.scale * term.scale)?;
            let constant = RoundedConstant::factor(parameters, x.scale, term.constant, term.scale, level)?;
            Ok(RoundedTerm { x, constant })
        })
        .collect()
}

/// One limb of Σ terms · `factor`, of the halves of ciphertexts that `half` picks.
///
/// # Errors
/// [`Error::Internal`] for a limb that a term lacks.
pub(super) fn summands<'a>(
    ring: &RingContext,
    limb: Limb,
    factor: u64,
    terms: &[RoundedTerm<'a>],
    half: impl Fn(&'a Ciphertext) -> &'a RnsPolynomial<Evaluations>,
) -> Result<Vec<Summand<'a>>> {
    let prime = ring.prime(limb)?;
    terms
        .iter()
        .map(|term| {
            let Halves { first, second } = term.constant.halves(ring, limb)?;
            let factors = Halves { first: prime.mul(first, factor), second: prime.mul(second, factor) };
            Ok(Summand { row: half(term.x).row(ring, limb)?, factors })
        })
        .collect()
}

/// What [`crate::contract::Evaluator::linear_combination`] computes.
///
/// # Errors
/// [`Error::Shape`] without terms; errors of [`rounded_terms`] and of the addend.
pub(super) fn combine_linearly(
    parameters: &Parameters,
    terms: &[LinearTerm<'_, Ciphertext>],
    addend: Complex64,
    level: Level,
) -> Result<Ciphertext> {
    let first = terms.first().ok_or_else(|| no_terms("linear_combination"))?;
    let scale = first.ciphertext.scale * first.scale;
    let terms = rounded_terms(parameters, terms, level, scale)?;
    let addend = RoundedConstant::addend(parameters, addend, scale, level)?;
    let ring = parameters.ring();
    let limbs = parameters.limbs(level)?;
    let mut c0 = RnsPolynomial::unspecified(ring, limbs, 0);
    let mut c1 = RnsPolynomial::unspecified(ring, limbs, 0);
    let rows: Vec<_> = c0.rows_mut(ring).zip(c1.rows_mut(ring)).collect();
    rows.into_par_iter().enumerate().try_for_each(|(index, (row_0, row_1))| {
        let limb = Limb::Chain(index);
        let prime = ring.prime(limb)?;
        sum_into(ring.kernels(), prime, row_0, &summands(ring, limb, 1, &terms, |x| &x.c0)?, true);
        sum_into(ring.kernels(), prime, row_1, &summands(ring, limb, 1, &terms, |x| &x.c1)?, true);
        addend.add_to_row(ring, limb, 1, row_0)
    })?;
    Ok(Ciphertext { c0, c1, level, scale })
}
