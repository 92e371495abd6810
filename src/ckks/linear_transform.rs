//! Linear transforms with hoisted baby steps, in two ways.
//!
//! *Double hoisting* (Bossuat et al. 2021, §4): baby steps stay in QP, undivided; every giant step divides its inner
//! sum once and the whole transform once more. *Single hoisting*: each baby step is divided by P. The first saves two
//! divisions a baby step and pays in plaintexts that need the special limbs as well. Which is cheaper is decided by
//! counting NTTs. All data in evaluations.
//!
//! Cost with b nonzero babies, g nonzero giants, D diagonals at l limbs, K special primes: one decomposition for all
//! babies, g decompositions, and D·(l + K) NTTs for lazy diagonals (D·l with single hoisting).

use std::collections::BTreeMap;

use super::inner_sums::{Babies, NumberedGiant, TransformInput, inner_sums};
use super::rlwe::{Decomposition, Extended};
use super::rotation::{RotatedTerm, accumulate_image, rotate_by_keys, sum_rotated};
use super::{Ciphertext, Plaintext};
use crate::contract::checks::check_room;
use crate::contract::{Diagonal, Error, LinearTransform, Result, Scale, normalize_step};

/// Lazy diagonals whose coefficients are held at once: at N = 2^16, 512 KB each.
const DIAGONALS_IN_FLIGHT: usize = 256;

/// What has been summed of one transform: with babies times P, or terms still to be rotated by their giant steps.
#[derive(Default)]
struct Total {
    extended: Option<Extended>,
    divided: Vec<(Extended, i64)>,
}

impl TransformInput<'_> {
    /// The transforms of the input, not rescaled: their baby steps are made once.
    ///
    /// # Errors
    /// [`Error::Shape`] for a transform without diagonals, [`Error::ScaleOutOfRange`], [`Error::RotationKey`]; those
    /// of encoding lazy diagonals.
    pub(super) fn transforms(
        &self,
        transforms: &[LinearTransform<'_, Plaintext>],
    ) -> Result<Vec<Ciphertext>> {
        for transform in transforms {
            transform.require_diagonals()?;
        }
        let scale = self.a.scale * self.scale;
        check_room("linear_transform", self.parameters.chain(), scale, self.a.level)?;
        let giants: Vec<NumberedGiant<'_, '_>> = transforms
            .iter()
            .enumerate()
            .flat_map(|(number, transform)| {
                transform.giants.iter().map(move |giant| NumberedGiant { number, giant })
            })
            .collect();
        self.require_giant_keys(&giants)?;
        // Baby steps: every rotation of the input that some transform asks for, from one decomposition.
        let babies = self.prepare_babies(transforms)?;
        // Giant steps, as many at a time as lazy diagonals may be held. Each gives an inner sum, still to be rotated.
        let mut totals: Vec<Total> = transforms.iter().map(|_| Total::default()).collect();
        let mut giants = giants.as_slice();
        while !giants.is_empty() {
            let (now, later) = giants.split_at(giants_in_flight(giants));
            for (NumberedGiant { number, giant }, sum) in now.iter().zip(inner_sums(self, &babies, now)?) {
                let total = totals
                    .get_mut(*number)
                    .ok_or_else(|| Error::Internal(format!("no transform number {number}")))?;
                match &babies {
                    // Divided by P already: all giant rotations of a transform share one more division at the end.
                    Babies::Divided(_) => total.divided.push((sum, giant.step)),
                    Babies::Extended { .. } => self.add_extended(total, sum, giant.step)?,
                }
            }
            giants = later;
        }
        totals.into_iter().map(|total| self.finish(total, scale)).collect()
    }

    /// That the rotation keys of all giant steps exist: found before any work.
    fn require_giant_keys(&self, giants: &[NumberedGiant<'_, '_>]) -> Result<()> {
        for NumberedGiant { giant, .. } in giants.iter().filter(|numbered| !numbered.giant.babies.is_empty())
        {
            let step = normalize_step(giant.step, self.parameters.slots());
            if step != 0 {
                self.keys.rotation(step, self.a.level)?;
            }
        }
        Ok(())
    }

    /// Decomposes the input once and decides how baby steps are held.
    fn prepare_babies(&self, transforms: &[LinearTransform<'_, Plaintext>]) -> Result<Babies<'_>> {
        let ring = self.parameters.ring();
        let steps = LinearTransform::shared_baby_steps(transforms, self.parameters.slots());
        let keys = steps
            .iter()
            .filter(|step| **step != 0)
            .map(|step| Ok((*step, self.keys.rotation(*step, self.a.level)?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let (limbs, special) = (self.a.c1.chain_limbs(), ring.special_limbs());
        let giants = || transforms.iter().flat_map(|transform| &transform.giants);
        let diagonals = || giants().flat_map(|giant| &giant.babies).map(|(_, diagonal)| diagonal);
        let without_special_limbs = |diagonal: &Diagonal<'_, Plaintext>| match diagonal {
            Diagonal::Encoded(plaintext) => plaintext.polynomial.special_limbs() == 0,
            Diagonal::Lazy(_) => false,
        };
        let lazy = diagonals().filter(|diagonal| matches!(diagonal, Diagonal::Lazy(_))).count();
        // In NTTs: more limbs a diagonal against two divisions a baby step.
        let extended_cost = lazy * special + giants().count() * 2 * (limbs + special);
        let divided_cost = keys.len() * 2 * (limbs + special);
        if !keys.is_empty() && extended_cost < divided_cost && !diagonals().any(without_special_limbs) {
            let decomposition = Decomposition::new(ring, &self.a.c1, special)?;
            for key in keys.values() {
                decomposition.check_key(&key.key)?;
            }
            return Ok(Babies::Extended { decomposition, keys });
        }
        Ok(Babies::Divided(rotate_by_keys(ring, self.a, &keys)?))
    }

    /// total += rot(sum, step) for a sum times P: its second half is divided and switched, its first stays in QP.
    fn add_extended(&self, total: &mut Total, sum: Extended, step: i64) -> Result<()> {
        let ring = self.parameters.ring();
        let step = normalize_step(step, self.parameters.slots());
        if step == 0 {
            // No rotation, no key switch: the sum joins the total, times P as it is.
            match &mut total.extended {
                None => total.extended = Some(sum),
                Some(total) => total.add_assign(ring, &sum)?,
            }
            return Ok(());
        }
        let key = self.keys.rotation(step, self.a.level)?;
        // Only what stands modulo Q can be decomposed: this is the one division of a giant step. P times the switched
        // half comes back, so that the first half, times P already, is added to it undivided.
        let divided = sum.c1.divide_by_dropped_limbs(ring, self.a.c1.chain_limbs())?;
        let mut switched =
            Decomposition::new(ring, &divided, key.key.special_limbs())?.inner_product(ring, &key.key)?;
        switched.c0.add_assign(ring, &sum.c0)?;
        accumulate_image(ring, &mut total.extended, &switched, &key.automorphism)
    }

    /// The ciphertext of a finished total.
    fn finish(&self, total: Total, scale: Scale) -> Result<Ciphertext> {
        let level = self.a.level;
        if let Some(extended) = total.extended {
            // Double hoisting: the giant rotations were added up in QP, and are divided by P together.
            let (c0, c1) = extended.divide(self.parameters.ring())?;
            return Ok(Ciphertext { c0, c1, level, scale });
        }
        // Single hoisting: the sums stand modulo Q and are rotated now, with one division by P at the end.
        let terms: Vec<RotatedTerm<'_>> = total
            .divided
            .iter()
            .map(|(term, step)| RotatedTerm { c0: &term.c0, c1: &term.c1, step: *step })
            .collect();
        let (c0, c1) = sum_rotated(self.parameters, self.keys, level, &terms)?;
        Ok(Ciphertext { c0, c1, level, scale })
    }
}

/// How many giant steps to take at once so that few enough lazy diagonals are held; at least one.
fn giants_in_flight(giants: &[NumberedGiant<'_, '_>]) -> usize {
    let mut diagonals = 0;
    let fitting = giants.iter().take_while(|numbered| {
        diagonals += numbered.giant.babies.len();
        diagonals <= DIAGONALS_IN_FLIGHT
    });
    fitting.count().max(1)
}
