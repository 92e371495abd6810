//! Rotations and conjugation: automorphisms followed by a key switch back to s.
//!
//! Keys lead from s to φ^{-1}(s) ([`super::evaluation_keys`]), so that a rotation is: decompose c_1, inner product, divide
//! by P, add c_0, permute both halves.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Ciphertext;
use super::arithmetic::{check_levels, check_scales};
use super::evaluation_keys::GaloisKey;
use super::evaluator::CkksEvaluator;
use super::key_switching::{Decomposition, Extended};
use crate::contract::{Error, Level, Result, normalize_step};
use crate::ring::{Automorphism, Evaluations, RingContext, RnsPolynomial, Temporary};

impl CkksEvaluator {
    pub(super) fn rotate_ciphertext(&self, a: &Ciphertext, step: i64) -> Result<Ciphertext> {
        let step = normalize_step(step, self.parameters.slots());
        if step == 0 {
            return Ok(a.clone());
        }
        let key = self.keys.rotation(step, a.level)?;
        let decomposition = Decomposition::new(self.parameters.ring(), &a.c1, key.key.special_limbs())?;
        self.switch_decomposed(a, &decomposition, key)
    }

    pub(super) fn rotate_hoisted(&self, a: &Ciphertext, steps: &[i64]) -> Result<Vec<Ciphertext>> {
        let slots = self.parameters.slots();
        let keys = steps
            .iter()
            .map(|step| match normalize_step(*step, slots) {
                0 => Ok(None),
                step => self.keys.rotation(step, a.level).map(Some),
            })
            .collect::<Result<Vec<_>>>()?;
        if keys.iter().all(Option::is_none) {
            return Ok(vec![a.clone(); steps.len()]);
        }
        let ring = self.parameters.ring();
        let decomposition = Decomposition::new(ring, &a.c1, ring.special_limbs())?;
        keys.into_iter()
            .map(|key| match key {
                None => Ok(a.clone()),
                Some(key) => self.switch_decomposed(a, &decomposition, key),
            })
            .collect()
    }

    pub(super) fn conjugate_ciphertext(&self, a: &Ciphertext) -> Result<Ciphertext> {
        let key = self.keys.conjugation(a.level)?;
        let decomposition = Decomposition::new(self.parameters.ring(), &a.c1, key.key.special_limbs())?;
        self.switch_decomposed(a, &decomposition, key)
    }

    /// φ(a), given the decomposition of a's second half.
    fn switch_decomposed(
        &self,
        a: &Ciphertext,
        decomposition: &Decomposition,
        key: &GaloisKey,
    ) -> Result<Ciphertext> {
        let ring = self.parameters.ring();
        let limbs = a.c0.chain_limbs();
        let (mut c0, mut c1) = (RnsPolynomial::zero(ring, limbs, 0), RnsPolynomial::zero(ring, limbs, 0));
        self.switch_into(a, decomposition, key, (&mut c0, &mut c1))?;
        Ok(Ciphertext { c0, c1, level: a.level, scale: a.scale })
    }

    /// The same into two polynomials over the limbs of `a`.
    fn switch_into(
        &self,
        a: &Ciphertext,
        decomposition: &Decomposition,
        key: &GaloisKey,
        (c0, c1): (&mut RnsPolynomial<Evaluations>, &mut RnsPolynomial<Evaluations>),
    ) -> Result<()> {
        let ring = self.parameters.ring();
        let (mut u0, u1) = decomposition.inner_product(ring, &key.key)?.divide_in_workspace(ring)?;
        u0.add_assign(ring, &a.c0)?;
        c0.assign_automorphism(ring, &u0, &key.automorphism)?;
        c1.assign_automorphism(ring, &u1, &key.automorphism)
    }

    /// The halves of `a` rotated by the step of each key, hoisted, in workspaces.
    pub(super) fn rotate_in_workspace(
        &self,
        a: &Ciphertext,
        keys: &BTreeMap<usize, &GaloisKey>,
    ) -> Result<BTreeMap<usize, (Temporary, Temporary)>> {
        let ring = self.parameters.ring();
        let limbs = a.c0.chain_limbs();
        if keys.is_empty() {
            return Ok(BTreeMap::new());
        }
        let decomposition = Decomposition::new(ring, &a.c1, ring.special_limbs())?;
        keys.iter()
            .map(|(step, key)| {
                let mut halves = (Temporary::new(ring, limbs, 0), Temporary::new(ring, limbs, 0));
                self.switch_into(a, &decomposition, key, (&mut halves.0, &mut halves.1))?;
                Ok((*step, halves))
            })
            .collect()
    }

    pub(super) fn rotate_and_sum(&self, terms: &[(&Ciphertext, i64)]) -> Result<Ciphertext> {
        let Some((first, _)) = terms.first() else {
            return Err(Error::Shape {
                operation: "rotate_sum",
                what: "0 terms".to_owned(),
                remedy: "give at least one".to_owned(),
            });
        };
        for (term, step) in terms {
            check_levels("rotate_sum", first.level, term.level)?;
            check_scales("rotate_sum", first.scale, term.scale)?;
            let step = normalize_step(*step, self.parameters.slots());
            if step != 0 {
                self.keys.rotation(step, term.level)?;
            }
        }
        let parts: Vec<RotatedTerm<'_>> = terms
            .iter()
            .map(|(term, step)| RotatedTerm { c0: &term.c0, c1: &term.c1, step: *step })
            .collect();
        let (c0, c1) = self.sum_rotated(first.level, &parts)?;
        Ok(Ciphertext { c0, c1, level: first.level, scale: first.scale })
    }

    /// The two halves of Σ rot(term, step), all terms over the limbs of `level`.
    pub(super) fn sum_rotated(
        &self,
        level: Level,
        terms: &[RotatedTerm<'_>],
    ) -> Result<(RnsPolynomial<Evaluations>, RnsPolynomial<Evaluations>)> {
        let ring = self.parameters.ring();
        let slots = self.parameters.slots();
        let limbs = self.parameters.limbs(level)?;
        let mut c0 = RnsPolynomial::zero(ring, limbs, 0);
        let mut c1 = RnsPolynomial::zero(ring, limbs, 0);
        let mut extended: Option<Extended> = None;
        for term in terms {
            let step = normalize_step(term.step, slots);
            if step == 0 {
                c0.add_assign(ring, term.c0)?;
                c1.add_assign(ring, term.c1)?;
                continue;
            }
            let key = self.keys.rotation(step, level)?;
            let decomposition = Decomposition::new(ring, term.c1, key.key.special_limbs())?;
            let switched = decomposition.inner_product(ring, &key.key)?;
            accumulate_image(ring, &mut extended, &switched, &key.automorphism)?;
            // c_0 needs no key switch: it joins the unrotated part after its permutation.
            c0.add_automorphism(ring, term.c0, &key.automorphism)?;
        }
        if let Some(extended) = extended {
            let (u0, u1) = extended.divide_in_workspace(ring)?;
            c0.add_assign(ring, &u0)?;
            c1.add_assign(ring, &u1)?;
        }
        Ok((c0, c1))
    }
}

/// The halves of a term of a sum, and how far it is rotated.
pub(super) struct RotatedTerm<'a> {
    pub(super) c0: &'a RnsPolynomial<Evaluations>,
    pub(super) c1: &'a RnsPolynomial<Evaluations>,
    pub(super) step: i64,
}

/// total += φ(term), in QP.
pub(super) fn accumulate_image(
    ring: &Arc<RingContext>,
    total: &mut Option<Extended>,
    term: &Extended,
    automorphism: &Automorphism,
) -> Result<()> {
    if let Some(total) = total {
        total.c0.add_automorphism(ring, &term.c0, automorphism)?;
        return total.c1.add_automorphism(ring, &term.c1, automorphism);
    }
    let mut image = Extended::new(ring, term.c0.chain_limbs(), term.c0.special_limbs());
    image.c0.assign_automorphism(ring, &term.c0, automorphism)?;
    image.c1.assign_automorphism(ring, &term.c1, automorphism)?;
    *total = Some(image);
    Ok(())
}
