//! Hoisted rotations and linear transforms.
//!
//! Baby steps share one decomposition (Halevi and Shoup, eprint 2018/244, which OpenFHE implements); giant steps rotate
//! their inner sums one by one. OpenFHE's own fused transform is private to its bootstrapping.

use std::collections::BTreeMap;

use super::bridge::ffi;
use super::ciphertext::{OpenFheCiphertext, OpenFhePlaintext};
use super::evaluator::OpenFheEvaluator;
use super::library::call;
use crate::contract::checks::{check_room, check_scales};
use crate::contract::{Diagonal, Error, Evaluator, LinearTransform, Result, Scale, normalize_step};

impl OpenFheEvaluator {
    /// `a` rotated by each of the normalized `steps`: one decomposition for all nonzero ones.
    pub(super) fn rotate_hoisted(
        &self,
        a: &OpenFheCiphertext,
        steps: &[usize],
    ) -> Result<Vec<OpenFheCiphertext>> {
        for step in steps {
            self.check_rotation(*step, a.level)?;
        }
        if steps.iter().all(|step| *step == 0) {
            return Ok(vec![a.clone(); steps.len()]);
        }
        let digits = call("decompose", || ffi::decompose(self.context(), &a.inner))?;
        steps
            .iter()
            .map(|step| {
                if *step == 0 {
                    return Ok(a.clone());
                }
                let index = Self::index(*step)?;
                let inner =
                    call("rotate_many", || ffi::rotate_hoisted(self.context(), &a.inner, &digits, index))?;
                Ok(self.ciphertext(inner, a.level, a.scale))
            })
            .collect()
    }

    /// Transforms of one input, not rescaled: their baby steps are rotated once.
    pub(super) fn transforms(
        &self,
        a: &OpenFheCiphertext,
        transforms: &[LinearTransform<'_, OpenFhePlaintext>],
        scale: Scale,
    ) -> Result<Vec<OpenFheCiphertext>> {
        self.check_tag("linear_transform", &a.tag)?;
        for transform in transforms {
            transform.require_diagonals()?;
        }
        check_room("linear_transform", self.chain(), a.scale * scale, a.level)?;
        let slots = self.slots();
        for giant in transforms.iter().flat_map(|transform| &transform.giants) {
            self.check_rotation(normalize_step(giant.step, slots), a.level)?;
        }
        let steps = LinearTransform::shared_baby_steps(transforms, slots);
        let babies: BTreeMap<usize, OpenFheCiphertext> =
            steps.iter().copied().zip(self.rotate_hoisted(a, &steps)?).collect();
        transforms.iter().map(|transform| self.sum_giants(a, transform, &babies, scale)).collect()
    }

    /// Σ rot(Σ diagonal ⊙ rot(a, baby), giant) of the rotated inputs, not rescaled.
    fn sum_giants(
        &self,
        a: &OpenFheCiphertext,
        transform: &LinearTransform<'_, OpenFhePlaintext>,
        babies: &BTreeMap<usize, OpenFheCiphertext>,
        scale: Scale,
    ) -> Result<OpenFheCiphertext> {
        let slots = self.slots();
        let mut sum: Option<OpenFheCiphertext> = None;
        for giant in &transform.giants {
            let mut inner: Option<OpenFheCiphertext> = None;
            for (step, diagonal) in &giant.babies {
                let rotated = babies
                    .get(&normalize_step(*step, slots))
                    .ok_or_else(|| Error::Internal(format!("baby step {step} was not rotated")))?;
                let product = match diagonal {
                    Diagonal::Encoded(plaintext) => {
                        check_scales("linear_transform", plaintext.scale, scale)?;
                        self.mul_plain(rotated, plaintext)?
                    }
                    Diagonal::Lazy(values) => {
                        self.mul_plain(rotated, &self.encode(&values(), a.level, scale)?)?
                    }
                };
                inner = Some(match inner {
                    None => product,
                    Some(partial) => self.add(&partial, &product)?,
                });
            }
            let Some(inner) = inner else { continue };
            let rotated = self.rotate(&inner, giant.step)?;
            sum = Some(match sum {
                None => rotated,
                Some(partial) => self.add(&partial, &rotated)?,
            });
        }
        sum.ok_or_else(|| Error::Internal("a linear transform without diagonals".to_owned()))
    }
}
