//! Linear transforms with hoisted baby steps, in two ways.
//!
//! *Double hoisting* (Bossuat et al. 2021, §4): baby steps stay in QP, undivided; every giant step divides its inner sum
//! once and the whole transform once more. *Single hoisting*: each baby step is divided by P. The first saves two divisions a
//! baby step and pays in plaintexts that need the special limbs as well. Which is cheaper is decided by counting NTTs.
//! Work goes limb by limb, so that the rotated inputs of one limb stay in cache while all diagonals pass over them.
//!
//! Cost with b nonzero babies, g nonzero giants, D diagonals at l limbs, K special primes: one decomposition for all babies,
//! g decompositions, and D·(l + K) NTTs for lazy diagonals (D·l with single hoisting).

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::arithmetic::{check_levels, check_scales};
use super::client::{coefficients_are_exact, encode_coefficients, fill_evaluations};
use super::evaluation_keys::GaloisKey;
use super::evaluator::CkksEvaluator;
use super::key_switching::{Decomposition, Extended, special_product};
use super::rotation::{RotatedTerm, accumulate_image};
use super::{Ciphertext, Plaintext};
use crate::contract::{Diagonal, Error, GiantStep, LinearTransform, Result, Scale, normalize_step};
use crate::ring::{Evaluations, Limb, RnsPolynomial, Temporary};

/// Lazy diagonals whose coefficients are held at once: at N = 2^16, 512 KB each.
const DIAGONALS_IN_FLIGHT: usize = 256;

/// A diagonal ready to give its residues limb by limb.
enum Prepared<'a> {
    Encoded(&'a RnsPolynomial<Evaluations>),
    Coefficients { values: Vec<f64>, exact: bool },
}

/// The rotated inputs: rows of every baby step for each limb.
enum Babies<'a> {
    /// Halves rotated by each nonzero step, divided by P.
    Divided(BTreeMap<usize, (Temporary, Temporary)>),
    /// To be made limb by limb, times P.
    Extended { decomposition: Decomposition, keys: BTreeMap<usize, &'a GaloisKey> },
}

/// What has been summed of one transform: with babies times P, or terms still to be rotated by their giant steps.
#[derive(Default)]
struct Total {
    extended: Option<Extended>,
    divided: Vec<(Extended, i64)>,
}

/// A giant step with the number of its transform.
type Numbered<'t, 'd> = (usize, &'t GiantStep<'d, Plaintext>);

impl CkksEvaluator {
    /// Transforms of one input: their baby steps are made once.
    pub(super) fn transforms(
        &self,
        a: &Ciphertext,
        transforms: &[LinearTransform<'_, Plaintext>],
        scale: Scale,
    ) -> Result<Vec<Ciphertext>> {
        for transform in transforms {
            transform.require_diagonals()?;
        }
        let product_scale = a.scale * scale;
        self.check_room("linear_transform", product_scale, a.level)?;
        let ring = self.parameters.ring();
        let slots = self.parameters.slots();
        let giants: Vec<Numbered<'_, '_>> = transforms
            .iter()
            .enumerate()
            .flat_map(|(number, transform)| transform.giants.iter().map(move |giant| (number, giant)))
            .collect();
        // Missing keys are found before any work.
        for (_, giant) in giants.iter().filter(|(_, giant)| !giant.babies.is_empty()) {
            let step = normalize_step(giant.step, slots);
            if step != 0 {
                self.keys.rotation(step, a.level)?;
            }
        }
        let babies = self.prepare_babies(a, transforms)?;
        let mut totals: Vec<Total> = transforms.iter().map(|_| Total::default()).collect();
        let mut giants = giants.as_slice();
        while !giants.is_empty() {
            let (now, later) = giants.split_at(giants_in_flight(giants));
            for ((number, giant), sum) in now.iter().zip(self.inner_sums(a, &babies, now, scale)?) {
                let total = totals
                    .get_mut(*number)
                    .ok_or_else(|| Error::Internal(format!("no transform number {number}")))?;
                let step = normalize_step(giant.step, slots);
                match &babies {
                    Babies::Divided(_) => total.divided.push((sum, giant.step)),
                    Babies::Extended { .. } if step == 0 => match &mut total.extended {
                        None => total.extended = Some(sum),
                        Some(total) => total.add_assign(ring, &sum)?,
                    },
                    Babies::Extended { .. } => {
                        let key = self.keys.rotation(step, a.level)?;
                        let mut divided = Temporary::new(ring, a.c1.chain_limbs(), 0);
                        sum.c1.divide_into(ring, &mut divided)?;
                        let mut switched = Decomposition::new(ring, &divided, key.key.special_limbs())?
                            .inner_product(ring, &key.key)?;
                        switched.c0.add_assign(ring, &sum.c0)?;
                        accumulate_image(ring, &mut total.extended, &switched, &key.automorphism)?;
                    }
                }
            }
            giants = later;
        }
        totals
            .into_iter()
            .map(|total| {
                if let Some(extended) = total.extended {
                    let (c0, c1) = extended.divide(ring)?;
                    return Ok(Ciphertext { c0, c1, level: a.level, scale: product_scale });
                }
                let terms: Vec<RotatedTerm<'_>> = total
                    .divided
                    .iter()
                    .map(|(term, step)| RotatedTerm { c0: &term.c0, c1: &term.c1, step: *step })
                    .collect();
                let (c0, c1) = self.sum_rotated(a.level, &terms)?;
                Ok(Ciphertext { c0, c1, level: a.level, scale: product_scale })
            })
            .collect()
    }

    /// Decomposes the input once and decides how baby steps are held.
    fn prepare_babies(
        &self,
        a: &Ciphertext,
        transforms: &[LinearTransform<'_, Plaintext>],
    ) -> Result<Babies<'_>> {
        let ring = self.parameters.ring();
        let steps = LinearTransform::shared_baby_steps(transforms, self.parameters.slots());
        let rotated = steps.iter().filter(|step| **step != 0).count();
        let keys = steps
            .iter()
            .filter(|step| **step != 0)
            .map(|step| Ok((*step, self.keys.rotation(*step, a.level)?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let (limbs, special) = (a.c1.chain_limbs(), ring.special_limbs());
        let giants = || transforms.iter().flat_map(|transform| &transform.giants);
        let diagonals = || giants().flat_map(|giant| &giant.babies).map(|(_, diagonal)| diagonal);
        let without_special_limbs = |diagonal: &Diagonal<'_, Plaintext>| matches!(diagonal, Diagonal::Encoded(p) if p.polynomial.special_limbs() == 0);
        let lazy = diagonals().filter(|diagonal| matches!(diagonal, Diagonal::Lazy(_))).count();
        // In NTTs: more limbs a diagonal against two divisions a baby step.
        let extended_cost = lazy * special + giants().count() * 2 * (limbs + special);
        let divided_cost = rotated * 2 * (limbs + special);
        if rotated > 0 && extended_cost < divided_cost && !diagonals().any(without_special_limbs) {
            let decomposition = Decomposition::new(ring, &a.c1, special)?;
            for key in keys.values() {
                decomposition.check_key(&key.key)?;
            }
            return Ok(Babies::Extended { decomposition, keys });
        }
        Ok(Babies::Divided(self.rotate_in_workspace(a, &keys)?))
    }

    /// Encoded or lazily computed diagonals of some giant steps.
    fn prepare_diagonals<'t>(
        &self,
        a: &Ciphertext,
        giants: &[Numbered<'t, '_>],
        scale: Scale,
    ) -> Result<Vec<Vec<Prepared<'t>>>> {
        let prepare = |diagonal: &'t Diagonal<'_, Plaintext>| -> Result<Prepared<'t>> {
            match diagonal {
                Diagonal::Encoded(plaintext) => {
                    check_levels("linear_transform", a.level, plaintext.level)?;
                    check_scales("linear_transform", plaintext.scale, scale)?;
                    Ok(Prepared::Encoded(&plaintext.polynomial))
                }
                Diagonal::Lazy(values) => {
                    let values = values();
                    let values = encode_coefficients(
                        &self.parameters,
                        &self.encoder,
                        "linear_transform",
                        &values,
                        a.level,
                        scale,
                    )?;
                    let exact = coefficients_are_exact(&values);
                    Ok(Prepared::Coefficients { values, exact })
                }
            }
        };
        giants
            .iter()
            .map(|(_, giant)| giant.babies.par_iter().map(|(_, diagonal)| prepare(diagonal)).collect())
            .collect()
    }

    /// Σ_i diagonal_i ⊙ rot(a, baby_i) for each giant step; times P and with special limbs when babies are extended.
    fn inner_sums(
        &self,
        a: &Ciphertext,
        babies: &Babies<'_>,
        giants: &[Numbered<'_, '_>],
        scale: Scale,
    ) -> Result<Vec<Extended>> {
        let ring = self.parameters.ring();
        let slots = self.parameters.slots();
        let n = ring.degree();
        let prepared = self.prepare_diagonals(a, giants, scale)?;
        let limbs: Vec<Limb> = match babies {
            Babies::Extended { decomposition, .. } => decomposition.limbs().to_vec(),
            Babies::Divided(_) => a.c0.limbs(),
        };
        let special = limbs.iter().filter(|limb| matches!(limb, Limb::Special(_))).count();
        let mut sums: Vec<Extended> =
            giants.iter().map(|_| Extended::new(ring, a.c0.chain_limbs(), special)).collect();
        // Steps used by these giants only: others were needed by earlier or later ones.
        let mut steps: Vec<usize> = giants
            .iter()
            .flat_map(|(_, giant)| &giant.babies)
            .map(|(step, _)| normalize_step(*step, slots))
            .collect();
        steps.sort_unstable();
        steps.dedup();
        let mut rows_by_limb: Vec<Vec<(&mut [u64], &mut [u64])>> = Vec::new();
        rows_by_limb.resize_with(limbs.len(), Vec::new);
        for sum in &mut sums {
            let rows = sum.c0.rows_mut(ring).zip(sum.c1.rows_mut(ring));
            for (place, row) in rows_by_limb.iter_mut().zip(rows) {
                place.push(row);
            }
        }
        rows_by_limb.into_par_iter().zip(&limbs).enumerate().try_for_each(
            |(index, (outs, limb))| -> Result<()> {
                let prime = ring.prime(*limb)?;
                let mut baby_workspace = ring.workspace(match babies {
                    Babies::Extended { .. } => 2 * steps.len() * n,
                    Babies::Divided(_) => 0,
                });
                if let Babies::Extended { decomposition, keys } = babies {
                    let mut spare = ring.workspace(2 * n);
                    let (spare_0, spare_1) = spare.split_at_mut(n);
                    for (step, rows) in steps.iter().zip(baby_workspace.chunks_exact_mut(2 * n)) {
                        let (row_0, row_1) = rows.split_at_mut(n);
                        let factor = match limb {
                            Limb::Chain(_) => special_product(ring, prime, special)?,
                            Limb::Special(_) => 0,
                        };
                        match keys.get(step) {
                            Some(key) => {
                                decomposition.inner_product_limb(
                                    ring,
                                    &key.key,
                                    index,
                                    (&mut *spare_0, &mut *spare_1),
                                )?;
                                if factor != 0 {
                                    let c0 = a.c0.row(ring, *limb)?;
                                    ring.kernels().multiply_scalar_accumulate(prime, spare_0, c0, factor);
                                }
                                key.automorphism.apply(row_0, spare_0);
                                key.automorphism.apply(row_1, spare_1);
                            }
                            None if factor != 0 => {
                                ring.kernels().multiply_scalar(prime, row_0, a.c0.row(ring, *limb)?, factor);
                                ring.kernels().multiply_scalar(prime, row_1, a.c1.row(ring, *limb)?, factor);
                            }
                            None => {
                                row_0.fill(0);
                                row_1.fill(0);
                            }
                        }
                    }
                }
                let baby_rows: BTreeMap<usize, (&[u64], &[u64])> = match babies {
                    Babies::Extended { .. } => steps
                        .iter()
                        .zip(baby_workspace.chunks_exact(2 * n))
                        .map(|(step, rows)| (*step, rows.split_at(n)))
                        .collect(),
                    Babies::Divided(rotated) => steps
                        .iter()
                        .map(|step| match rotated.get(step) {
                            Some((c0, c1)) => Ok((*step, (c0.row(ring, *limb)?, c1.row(ring, *limb)?))),
                            // Step 0: every other one has a key.
                            None => Ok((*step, (a.c0.row(ring, *limb)?, a.c1.row(ring, *limb)?))),
                        })
                        .collect::<Result<_>>()?,
                };
                for (((_, giant), prepared), out) in giants.iter().zip(&prepared).zip(outs) {
                    let lazy = prepared.iter().filter(|p| matches!(p, Prepared::Coefficients { .. })).count();
                    let mut encoded = ring.workspace(lazy * n);
                    let mut free = encoded.chunks_exact_mut(n);
                    let mut plaintexts: Vec<&[u64]> = Vec::with_capacity(prepared.len());
                    for diagonal in prepared {
                        plaintexts.push(match diagonal {
                            Prepared::Encoded(polynomial) => polynomial.row(ring, *limb)?,
                            Prepared::Coefficients { values, exact } => {
                                let row =
                                    free.next().ok_or_else(|| Error::Internal("no row left".to_owned()))?;
                                fill_evaluations(&self.parameters, *limb, values, *exact, row)?;
                                row
                            }
                        });
                    }
                    let inputs = giant
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
            },
        )?;
        Ok(sums)
    }
}

/// How many giant steps to take at once so that few enough lazy diagonals are held; at least one.
fn giants_in_flight(giants: &[Numbered<'_, '_>]) -> usize {
    let mut diagonals = 0;
    let fitting = giants.iter().take_while(|(_, giant)| {
        diagonals += giant.babies.len();
        diagonals <= DIAGONALS_IN_FLIGHT
    });
    fitting.count().max(1)
}
