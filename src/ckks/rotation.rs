//! Rotations and conjugation: automorphisms followed by a key switch back to s.
//!
//! Keys lead from s to φ^{-1}(s) ([`super::evaluation_keys`]), so that a rotation is: decompose c_1, inner product, divide
//! by P, add c_0, permute both halves.

use std::sync::Arc;

use super::Ciphertext;
use super::arithmetic::{check_levels, check_scales};
use super::evaluation_keys::GaloisKey;
use super::evaluator::CkksEvaluator;
use super::key_switching::{Decomposition, Extended};
use crate::contract::{Error, Result, normalize_step};
use crate::ring::{Automorphism, RingContext};

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
        let (u0, u1) = decomposition.inner_product(ring, &key.key)?.divide(ring)?;
        Ok(Ciphertext {
            c0: u0.add(ring, &a.c0)?.automorphism(ring, &key.automorphism)?,
            c1: u1.automorphism(ring, &key.automorphism)?,
            level: a.level,
            scale: a.scale,
        })
    }

    pub(super) fn rotate_and_sum(&self, terms: &[(&Ciphertext, i64)]) -> Result<Ciphertext> {
        let Some((first, _)) = terms.first() else {
            return Err(Error::Shape {
                operation: "rotate_sum",
                what: "0 terms".to_owned(),
                remedy: "give at least one".to_owned(),
            });
        };
        let ring = self.parameters.ring();
        let slots = self.parameters.slots();
        let mut unrotated: Option<Ciphertext> = None;
        let mut extended: Option<Extended> = None;
        for (term, step) in terms {
            check_levels("rotate_sum", first.level, term.level)?;
            check_scales("rotate_sum", first.scale, term.scale)?;
            let step = normalize_step(*step, slots);
            let plain = if step == 0 {
                (*term).clone()
            } else {
                let key = self.keys.rotation(step, term.level)?;
                let decomposition = Decomposition::new(ring, &term.c1, key.key.special_limbs())?;
                let switched = decomposition.inner_product(ring, &key.key)?;
                accumulate_image(ring, &mut extended, &switched, &key.automorphism)?;
                // c_0 needs no key switch: it joins the unrotated part after its permutation.
                Ciphertext {
                    c0: term.c0.automorphism(ring, &key.automorphism)?,
                    c1: crate::ring::RnsPolynomial::zero(ring, term.c1.chain_limbs(), 0),
                    level: term.level,
                    scale: term.scale,
                }
            };
            unrotated = Some(match unrotated {
                None => plain,
                Some(sum) => self.add_ciphertexts(&sum, &plain)?,
            });
        }
        let sum = unrotated.ok_or_else(|| Error::Internal("empty sum".to_owned()))?;
        match extended {
            None => Ok(sum),
            Some(extended) => {
                let (u0, u1) = extended.divide(ring)?;
                Ok(Ciphertext { c0: sum.c0.add(ring, &u0)?, c1: sum.c1.add(ring, &u1)?, ..sum })
            }
        }
    }
}

/// total += φ(term), in QP.
pub(super) fn accumulate_image(
    ring: &Arc<RingContext>,
    total: &mut Option<Extended>,
    term: &Extended,
    automorphism: &Automorphism,
) -> Result<()> {
    let image = Extended {
        c0: term.c0.automorphism(ring, automorphism)?,
        c1: term.c1.automorphism(ring, automorphism)?,
    };
    match total {
        None => *total = Some(image),
        Some(total) => total.add_assign(ring, &image)?,
    }
    Ok(())
}
