//! Rotations and conjugation of ciphertexts: automorphisms followed by a key switch back to s.
//!
//! Keys lead from s to φ^{-1}(s) ([`super::rlwe`]), so that a rotation is: decompose c_1, inner product, divide by P,
//! add c_0, permute both halves. All data in evaluations.

use std::collections::BTreeMap;

use super::rlwe::{Decomposition, EvaluationKeys, Extended, GaloisKey};
use super::{Ciphertext, Parameters};
use crate::contract::checks::{check_sum, no_terms};
use crate::contract::{Level, Result, normalize_step};
use crate::ring::{Automorphism, Evaluations, RingContext, RnsPolynomial};

/// φ(a). One key switch.
///
/// # Errors
/// [`crate::Error::Internal`] when the key does not cover the level of `a`.
pub(super) fn apply_automorphism(
    parameters: &Parameters,
    a: &Ciphertext,
    key: &GaloisKey,
) -> Result<Ciphertext> {
    let ring = parameters.ring();
    let decomposition = Decomposition::new(ring, &a.c1, key.key.special_limbs())?;
    switch_decomposed(ring, a, &decomposition, key)
}

/// `a` rotated by every step; all nonzero ones share one decomposition.
///
/// # Errors
/// [`crate::Error::RotationKey`].
pub(super) fn rotate_hoisted(
    parameters: &Parameters,
    keys: &EvaluationKeys,
    a: &Ciphertext,
    steps: &[i64],
) -> Result<Vec<Ciphertext>> {
    let slots = parameters.slots();
    let keys = steps
        .iter()
        .map(|step| match normalize_step(*step, slots) {
            0 => Ok(None),
            step => keys.rotation(step, a.level).map(Some),
        })
        .collect::<Result<Vec<_>>>()?;
    if keys.iter().all(Option::is_none) {
        return Ok(vec![a.clone(); steps.len()]);
    }
    let ring = parameters.ring();
    let decomposition = Decomposition::new(ring, &a.c1, ring.special_limbs())?;
    keys.into_iter()
        .map(|key| match key {
            None => Ok(a.clone()),
            Some(key) => switch_decomposed(ring, a, &decomposition, key),
        })
        .collect()
}

/// φ(a), given the decomposition of a's second half.
fn switch_decomposed(
    ring: &RingContext,
    a: &Ciphertext,
    decomposition: &Decomposition<'_>,
    key: &GaloisKey,
) -> Result<Ciphertext> {
    let switched = decomposition.inner_product(ring, &key.key)?;
    let c0 = switched.c0.divide_and_permute(ring, Some(&a.c0), &key.automorphism)?;
    let c1 = switched.c1.divide_and_permute(ring, None, &key.automorphism)?;
    Ok(Ciphertext { c0, c1, level: a.level, scale: a.scale })
}

/// `a` rotated by the step of each key, hoisted.
///
/// # Errors
/// [`crate::Error::Internal`] when a key does not cover the level of `a`.
pub(super) fn rotate_by_keys(
    ring: &RingContext,
    a: &Ciphertext,
    keys: &BTreeMap<usize, &GaloisKey>,
) -> Result<BTreeMap<usize, Ciphertext>> {
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let decomposition = Decomposition::new(ring, &a.c1, ring.special_limbs())?;
    keys.iter().map(|(step, key)| Ok((*step, switch_decomposed(ring, a, &decomposition, key)?))).collect()
}

/// The halves of a term of a sum, and how far it is rotated.
pub(super) struct RotatedTerm<'a> {
    pub(super) c0: &'a RnsPolynomial<Evaluations>,
    pub(super) c1: &'a RnsPolynomial<Evaluations>,
    pub(super) step: i64,
}

/// Σ rot(term, step) of terms at one level and scale: a key switch a nonzero step, one division by P.
///
/// # Errors
/// [`crate::Error::Shape`] without terms, errors of [`check_sum`], [`crate::Error::RotationKey`].
pub(super) fn rotate_and_sum(
    parameters: &Parameters,
    keys: &EvaluationKeys,
    terms: &[(&Ciphertext, i64)],
) -> Result<Ciphertext> {
    let (first, _) = terms.first().ok_or_else(|| no_terms("rotate_sum"))?;
    // Missing keys are found before any work.
    for (term, step) in terms {
        check_sum("rotate_sum", *first, *term)?;
        let step = normalize_step(*step, parameters.slots());
        if step != 0 {
            keys.rotation(step, term.level)?;
        }
    }
    let parts: Vec<RotatedTerm<'_>> =
        terms.iter().map(|(term, step)| RotatedTerm { c0: &term.c0, c1: &term.c1, step: *step }).collect();
    let (c0, c1) = sum_rotated(parameters, keys, first.level, &parts)?;
    Ok(Ciphertext { c0, c1, level: first.level, scale: first.scale })
}

/// The two halves of Σ rot(term, step), all terms over the limbs of `level`.
///
/// # Errors
/// [`crate::Error::RotationKey`].
pub(super) fn sum_rotated(
    parameters: &Parameters,
    keys: &EvaluationKeys,
    level: Level,
    terms: &[RotatedTerm<'_>],
) -> Result<(RnsPolynomial<Evaluations>, RnsPolynomial<Evaluations>)> {
    let ring = parameters.ring();
    let limbs = parameters.limbs(level)?;
    let mut c0 = RnsPolynomial::zero(ring, limbs, 0);
    let mut c1 = RnsPolynomial::zero(ring, limbs, 0);
    let mut extended: Option<Extended> = None;
    for term in terms {
        let step = normalize_step(term.step, parameters.slots());
        if step == 0 {
            c0.add_assign(ring, term.c0)?;
            c1.add_assign(ring, term.c1)?;
            continue;
        }
        let key = keys.rotation(step, level)?;
        let decomposition = Decomposition::new(ring, term.c1, key.key.special_limbs())?;
        let switched = decomposition.inner_product(ring, &key.key)?;
        accumulate_image(ring, &mut extended, &switched, &key.automorphism)?;
        // c_0 needs no key switch: it joins the unrotated part after its permutation.
        c0.add_automorphism(ring, term.c0, &key.automorphism)?;
    }
    if let Some(extended) = extended {
        let (u0, u1) = extended.divide(ring)?;
        c0.add_assign(ring, &u0)?;
        c1.add_assign(ring, &u1)?;
    }
    Ok((c0, c1))
}

/// total += φ(term), in QP.
///
/// # Errors
/// [`crate::Error::Internal`] when `total` has limbs that `term` lacks.
pub(super) fn accumulate_image(
    ring: &RingContext,
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
