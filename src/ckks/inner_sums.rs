//! The inner sums of a linear transform: Σ_i diagonal_i ⊙ rot(a, baby_i) for every giant step.
//!
//! Work goes limb by limb, so that the rotated inputs of one limb stay in cache while all diagonals pass over them.
//! With extended babies everything is times P and has the special limbs too. All data in evaluations.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::encoding::EncodedCoefficients;
use super::rlwe::{Decomposition, EvaluationKeys, Extended, GaloisKey, special_product};
use super::{Ciphertext, Encoder, Parameters, Plaintext};
use crate::contract::checks::{check_levels, check_scales};
use crate::contract::{Diagonal, Error, GiantStep, Result, Scale, normalize_step};
use crate::ring::{Evaluations, Limb, RnsPolynomial};

/// The input of some transforms, the scale of their diagonals, and what they are computed with.
pub(super) struct TransformInput<'e> {
    pub(super) parameters: &'e Parameters,
    pub(super) encoder: &'e Encoder,
    pub(super) keys: &'e EvaluationKeys,
    pub(super) a: &'e Ciphertext,
    pub(super) scale: Scale,
}

/// A giant step with the number of its transform.
pub(super) struct NumberedGiant<'t, 'd> {
    pub(super) number: usize,
    pub(super) giant: &'t GiantStep<'d, Plaintext>,
}

/// The rotated inputs: rows of every baby step for each limb.
pub(super) enum Babies<'a> {
    /// The input rotated by each nonzero step, divided by P.
    Divided(BTreeMap<usize, Ciphertext>),
    /// To be made limb by limb, times P.
    Extended { decomposition: Decomposition<'a>, keys: BTreeMap<usize, &'a GaloisKey> },
}

/// A diagonal ready to give its residues limb by limb.
enum PreparedDiagonal<'a> {
    Encoded(&'a RnsPolynomial<Evaluations>),
    Coefficients(EncodedCoefficients),
}

/// The rows of the two halves of a sum on one limb.
type RowPair<'r> = (&'r mut [u64], &'r mut [u64]);

/// The rows of the two halves of every baby step on one limb, by step.
type BabyRows<'r> = BTreeMap<usize, (&'r [u64], &'r [u64])>;

/// One limb of the inner sums.
struct LimbTask<'t> {
    input: &'t TransformInput<'t>,
    babies: &'t Babies<'t>,
    /// The baby steps that are used, normalized.
    steps: &'t [usize],
    /// The limb and its index among all limbs of the sums.
    limb: Limb,
    index: usize,
}

/// Σ_i diagonal_i ⊙ rot(a, baby_i) for each of the `giants`.
///
/// # Errors
/// [`Error::LevelMismatch`] and [`Error::ScaleMismatch`] for encoded diagonals, errors of encoding lazy ones.
pub(super) fn inner_sums(
    input: &TransformInput<'_>,
    babies: &Babies<'_>,
    giants: &[NumberedGiant<'_, '_>],
) -> Result<Vec<Extended>> {
    let ring = input.parameters.ring();
    let prepared = prepare_diagonals(input, giants)?;
    let limbs: Vec<Limb> = match babies {
        Babies::Extended { decomposition, .. } => decomposition.limbs().to_vec(),
        Babies::Divided(_) => input.a.c0.limbs(),
    };
    let special = limbs.iter().filter(|limb| matches!(limb, Limb::Special(_))).count();
    let mut sums: Vec<Extended> =
        giants.iter().map(|_| Extended::new(ring, input.a.c0.chain_limbs(), special)).collect();
    // Steps used by these giants only: others were needed by earlier or later ones.
    let slots = input.parameters.slots();
    let babies_of_giants = giants.iter().flat_map(|numbered| &numbered.giant.babies);
    let mut steps: Vec<usize> = babies_of_giants.map(|(step, _)| normalize_step(*step, slots)).collect();
    steps.sort_unstable();
    steps.dedup();
    // Sums are stored sum by sum and made limb by limb.
    let mut rows_by_limb: Vec<Vec<RowPair<'_>>> = Vec::new();
    rows_by_limb.resize_with(limbs.len(), Vec::new);
    for sum in &mut sums {
        let rows = sum.c0.rows_mut(ring).zip(sum.c1.rows_mut(ring));
        for (place, row) in rows_by_limb.iter_mut().zip(rows) {
            place.push(row);
        }
    }
    rows_by_limb.into_par_iter().zip(&limbs).enumerate().try_for_each(|(index, (outs, limb))| {
        LimbTask { input, babies, steps: &steps, limb: *limb, index }.run(giants, &prepared, outs)
    })?;
    Ok(sums)
}

/// Encoded or lazily computed diagonals of some giant steps.
fn prepare_diagonals<'t>(
    input: &TransformInput<'_>,
    giants: &[NumberedGiant<'t, '_>],
) -> Result<Vec<Vec<PreparedDiagonal<'t>>>> {
    const OPERATION: &str = "linear_transform";
    let (level, scale) = (input.a.level, input.scale);
    let prepare = |diagonal: &'t Diagonal<'_, Plaintext>| -> Result<PreparedDiagonal<'t>> {
        match diagonal {
            Diagonal::Encoded(plaintext) => {
                check_levels(OPERATION, level, plaintext.level)?;
                check_scales(OPERATION, plaintext.scale, scale)?;
                Ok(PreparedDiagonal::Encoded(&plaintext.polynomial))
            }
            Diagonal::Lazy(values) => {
                let (parameters, encoder) = (input.parameters, input.encoder);
                EncodedCoefficients::new(parameters, encoder, OPERATION, &values(), level, scale)
                    .map(PreparedDiagonal::Coefficients)
            }
        }
    };
    giants
        .iter()
        .map(|numbered| numbered.giant.babies.par_iter().map(|(_, diagonal)| prepare(diagonal)).collect())
        .collect()
}

impl LimbTask<'_> {
    /// Writes the rows `outs` of all giants on this limb.
    fn run(
        &self,
        giants: &[NumberedGiant<'_, '_>],
        prepared: &[Vec<PreparedDiagonal<'_>>],
        outs: Vec<RowPair<'_>>,
    ) -> Result<()> {
        let ring = self.input.parameters.ring();
        let n = ring.degree();
        let mut workspace = ring.workspace(match self.babies {
            Babies::Extended { .. } => 2 * self.steps.len() * n,
            Babies::Divided(_) => 0,
        });
        if let Babies::Extended { decomposition, keys } = self.babies {
            self.make_extended_babies(decomposition, keys, &mut workspace)?;
        }
        let baby_rows = self.baby_rows(&workspace)?;
        let prime = ring.prime(self.limb)?;
        let slots = self.input.parameters.slots();
        for ((numbered, prepared), out) in giants.iter().zip(prepared).zip(outs) {
            // Lazy diagonals are reduced and transformed for this limb only, into rows that are used again.
            let lazy = prepared.iter().filter(|p| matches!(p, PreparedDiagonal::Coefficients(_))).count();
            let mut encoded = ring.workspace(lazy * n);
            let mut free = encoded.chunks_exact_mut(n);
            let mut plaintexts: Vec<&[u64]> = Vec::with_capacity(prepared.len());
            for diagonal in prepared {
                plaintexts.push(match diagonal {
                    PreparedDiagonal::Encoded(polynomial) => polynomial.row(ring, self.limb)?,
                    PreparedDiagonal::Coefficients(coefficients) => {
                        let row = free.next().ok_or_else(|| Error::Internal("no row left".to_owned()))?;
                        coefficients.fill_row(ring, self.limb, row)?;
                        row
                    }
                });
            }
            let inputs = numbered
                .giant
                .babies
                .iter()
                .map(|(step, _)| {
                    let rows = baby_rows.get(&normalize_step(*step, slots)).copied();
                    rows.ok_or_else(|| Error::Internal(format!("baby step {step} was not prepared")))
                })
                .collect::<Result<Vec<_>>>()?;
            ring.kernels().inner_product(prime, out, &plaintexts, &inputs);
        }
        Ok(())
    }

    /// Makes P·rot(a, step) for every step, two rows each: the inner product of the digits with the key, plus P·c_0,
    /// permuted.
    fn make_extended_babies(
        &self,
        decomposition: &Decomposition<'_>,
        keys: &BTreeMap<usize, &GaloisKey>,
        workspace: &mut [u64],
    ) -> Result<()> {
        let ring = self.input.parameters.ring();
        let (n, kernels, prime) = (ring.degree(), ring.kernels(), ring.prime(self.limb)?);
        let (c0, c1) = (&self.input.a.c0, &self.input.a.c1);
        // Modulo a special prime P·c is zero.
        let factor = match self.limb {
            Limb::Chain(_) => Some(special_product(ring, prime, ring.special_limbs())?),
            Limb::Special(_) => None,
        };
        let mut spare = ring.workspace(2 * n);
        let (spare_0, spare_1) = spare.split_at_mut(n);
        for (step, rows) in self.steps.iter().zip(workspace.chunks_exact_mut(2 * n)) {
            let (row_0, row_1) = rows.split_at_mut(n);
            match (keys.get(step), factor) {
                (Some(key), factor) => {
                    let out = (&mut *spare_0, &mut *spare_1);
                    decomposition.inner_product_limb(ring, &key.key, self.index, out)?;
                    if let Some(factor) = factor {
                        let c0 = c0.row(ring, self.limb)?;
                        kernels.multiply_scalar_accumulate(prime, spare_0, c0, factor);
                    }
                    key.automorphism.apply(row_0, spare_0);
                    key.automorphism.apply(row_1, spare_1);
                }
                // Step 0: every other one has a key.
                (None, Some(factor)) => {
                    kernels.multiply_scalar(prime, row_0, c0.row(ring, self.limb)?, factor);
                    kernels.multiply_scalar(prime, row_1, c1.row(ring, self.limb)?, factor);
                }
                (None, None) => rows.fill(0),
            }
        }
        Ok(())
    }

    /// The rows of the two halves of every baby step on this limb.
    fn baby_rows<'r>(&'r self, workspace: &'r [u64]) -> Result<BabyRows<'r>> {
        let ring = self.input.parameters.ring();
        let n = ring.degree();
        match self.babies {
            Babies::Extended { .. } => {
                let rows = workspace.chunks_exact(2 * n).map(|rows| rows.split_at(n));
                Ok(self.steps.iter().copied().zip(rows).collect())
            }
            Babies::Divided(rotated) => {
                // Step 0 is the input itself: every other one was rotated.
                let rows = |step: &usize| {
                    let Ciphertext { c0, c1, .. } = rotated.get(step).unwrap_or(self.input.a);
                    Ok((*step, (c0.row(ring, self.limb)?, c1.row(ring, self.limb)?)))
                };
                self.steps.iter().map(rows).collect()
            }
        }
    }
}
