//! The levelled evaluator: what the contract asks for, on our ciphertexts. All data in evaluations.
//!
//! Additions and products stand here; what takes more than a few lines is in `composed` (products with their
//! rescaling), `linear_combination`, `rotation`, `linear_transform` and `inner_sums`, which know parameters and keys
//! but not this type.

use std::sync::Arc;

use super::composed::{
    ProductParts, lower_to, multiply_and_rescale, relinearize_and_rescale, rescale_halves, scale_and_rescale,
};
use super::constant::RoundedConstant;
use super::encoding::EncodedCoefficients;
use super::inner_sums::TransformInput;
use super::linear_combination::combine_linearly;
use super::rlwe::Decomposition;
use super::rotation::{apply_automorphism, rotate_and_sum, rotate_hoisted};
use super::serialization::{ciphertext_from_bytes, ciphertext_to_bytes};
use super::{Ciphertext, Encoder, EvaluationKeys, Parameters, Plaintext, Tensor};
use crate::contract::checks::{check_drop, check_levels, check_sum, no_bootstrapping, product_scale};
use crate::contract::{
    BootstrapRequest, BootstrapSummary, Complex64, Error, Evaluator, Level, LevelChain, LinearTerm,
    LinearTransform, Result, Scale, normalize_step,
};
use crate::ring::{Evaluations, RnsPolynomial};

/// Evaluator of levelled CKKS: parameters and evaluation keys.
pub struct CkksEvaluator {
    parameters: Arc<Parameters>,
    encoder: Arc<Encoder>,
    keys: EvaluationKeys,
}

impl CkksEvaluator {
    /// Evaluator with the given keys.
    #[must_use]
    pub fn new(parameters: Arc<Parameters>, encoder: Arc<Encoder>, keys: EvaluationKeys) -> Self {
        Self { parameters, encoder, keys }
    }

    /// The parameters.
    #[must_use]
    pub fn parameters(&self) -> &Arc<Parameters> {
        &self.parameters
    }

    /// The evaluation keys.
    #[must_use]
    pub fn keys(&self) -> &EvaluationKeys {
        &self.keys
    }

    /// The ciphertext of both halves of `a`, each mapped; level and scale stay.
    fn map(
        a: &Ciphertext,
        half: impl Fn(&RnsPolynomial<Evaluations>) -> Result<RnsPolynomial<Evaluations>>,
    ) -> Result<Ciphertext> {
        Ok(Ciphertext { c0: half(&a.c0)?, c1: half(&a.c1)?, level: a.level, scale: a.scale })
    }

    /// What transforms of `a` are computed with.
    fn transform_input<'e>(&'e self, a: &'e Ciphertext, scale: Scale) -> TransformInput<'e> {
        TransformInput { parameters: &self.parameters, encoder: &self.encoder, keys: &self.keys, a, scale }
    }
}

impl Evaluator for CkksEvaluator {
    type Ciphertext = Ciphertext;
    type Tensor = Tensor;
    type Plaintext = Plaintext;

    fn name(&self) -> &'static str {
        "native"
    }

    fn slots(&self) -> usize {
        self.parameters.slots()
    }

    fn chain(&self) -> &LevelChain {
        self.parameters.chain()
    }

    fn bootstrapping(&self) -> Option<BootstrapSummary> {
        None
    }

    fn encode(&self, values: &[Complex64], level: Level, scale: Scale) -> Result<Plaintext> {
        let (parameters, encoder) = (&self.parameters, &self.encoder);
        let coefficients = EncodedCoefficients::new(parameters, encoder, "encode", values, level, scale)?;
        let polynomial = coefficients.polynomial(parameters.ring(), parameters.limbs(level)?)?;
        Ok(Plaintext { polynomial, level, scale })
    }

    fn add(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        check_sum("add", a, b)?;
        let ring = self.parameters.ring();
        let (c0, c1) = (a.c0.add(ring, &b.c0)?, a.c1.add(ring, &b.c1)?);
        Ok(Ciphertext { c0, c1, level: a.level, scale: a.scale })
    }

    fn sub(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        check_sum("sub", a, b)?;
        let ring = self.parameters.ring();
        let (c0, c1) = (a.c0.sub(ring, &b.c0)?, a.c1.sub(ring, &b.c1)?);
        Ok(Ciphertext { c0, c1, level: a.level, scale: a.scale })
    }

    fn negate(&self, a: &Ciphertext) -> Result<Ciphertext> {
        let ring = self.parameters.ring();
        Self::map(a, |half| {
            let mut negated = half.clone();
            negated.negate(ring)?;
            Ok(negated)
        })
    }

    fn add_plain(&self, a: &Ciphertext, p: &Plaintext) -> Result<Ciphertext> {
        check_sum("add_plain", a, p)?;
        let c0 = a.c0.add(self.parameters.ring(), &p.polynomial)?;
        Ok(Ciphertext { c0, c1: a.c1.clone(), level: a.level, scale: a.scale })
    }

    fn add_constant(&self, a: &Ciphertext, c: Complex64) -> Result<Ciphertext> {
        let constant = RoundedConstant::addend(&self.parameters, c, a.scale, a.level)?;
        let ring = self.parameters.ring();
        let mut sum = a.clone();
        sum.c0.fill(ring, |limb, _, row| constant.add_to_row(ring, limb, 1, row))?;
        Ok(sum)
    }

    fn mul_plain(&self, a: &Ciphertext, p: &Plaintext) -> Result<Ciphertext> {
        let scale = product_scale("mul_plain", self.chain(), a, p)?;
        let product = Self::map(a, |half| half.mul(self.parameters.ring(), &p.polynomial))?;
        Ok(Ciphertext { scale, ..product })
    }

    fn mul_constant(&self, a: &Ciphertext, c: Complex64, scale: Scale) -> Result<Ciphertext> {
        let constant = RoundedConstant::factor(&self.parameters, a.scale, c, scale, a.level)?;
        let product = Self::map(a, |half| constant.product(self.parameters.ring(), half))?;
        Ok(Ciphertext { scale: a.scale * scale, ..product })
    }

    fn mul_integer(&self, a: &Ciphertext, k: i64) -> Result<Ciphertext> {
        Self::map(a, |half| half.mul_scalar(self.parameters.ring(), |prime| prime.reduce_signed(k)))
    }

    fn mul_by_i(&self, a: &Ciphertext) -> Result<Ciphertext> {
        Self::map(a, |half| RoundedConstant::I.product(self.parameters.ring(), half))
    }

    fn tensor(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Tensor> {
        let scale = product_scale("tensor", self.chain(), a, b)?;
        let ring = self.parameters.ring();
        let mut d1 = a.c0.mul(ring, &b.c1)?;
        d1.multiply_accumulate(ring, &a.c1, &b.c0)?;
        Ok(Tensor { d0: a.c0.mul(ring, &b.c0)?, d1, d2: a.c1.mul(ring, &b.c1)?, level: a.level, scale })
    }

    fn add_tensor(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        check_sum("add_tensor", a, b)?;
        let ring = self.parameters.ring();
        let (d0, d1, d2) = (a.d0.add(ring, &b.d0)?, a.d1.add(ring, &b.d1)?, a.d2.add(ring, &b.d2)?);
        Ok(Tensor { d0, d1, d2, level: a.level, scale: a.scale })
    }

    fn relinearize(&self, a: &Tensor) -> Result<Ciphertext> {
        let ring = self.parameters.ring();
        let key = self.keys.relinearization(a.level)?;
        let (u0, u1) =
            Decomposition::new(ring, &a.d2, key.special_limbs())?.inner_product(ring, key)?.divide(ring)?;
        let (c0, c1) = (a.d0.add(ring, &u0)?, a.d1.add(ring, &u1)?);
        Ok(Ciphertext { c0, c1, level: a.level, scale: a.scale })
    }

    fn rescale(&self, a: &Ciphertext) -> Result<Ciphertext> {
        rescale_halves(&self.parameters, &a.c0, &a.c1, a.level, a.scale)
    }

    fn drop_level(&self, a: &Ciphertext, level: Level) -> Result<Ciphertext> {
        check_drop(self.chain(), a, level)?;
        let limbs = self.parameters.limbs(level)?;
        let dropped = Self::map(a, |half| half.truncate(self.parameters.ring(), limbs))?;
        Ok(Ciphertext { level, ..dropped })
    }

    fn rotate(&self, a: &Ciphertext, step: i64) -> Result<Ciphertext> {
        match normalize_step(step, self.slots()) {
            0 => Ok(a.clone()),
            step => apply_automorphism(&self.parameters, a, self.keys.rotation(step, a.level)?),
        }
    }

    fn rotate_many(&self, a: &Ciphertext, steps: &[i64]) -> Result<Vec<Ciphertext>> {
        rotate_hoisted(&self.parameters, &self.keys, a, steps)
    }

    fn rotate_sum(&self, terms: &[(&Ciphertext, i64)]) -> Result<Ciphertext> {
        rotate_and_sum(&self.parameters, &self.keys, terms)
    }

    fn conjugate(&self, a: &Ciphertext) -> Result<Ciphertext> {
        apply_automorphism(&self.parameters, a, self.keys.conjugation(a.level)?)
    }

    fn linear_transform(
        &self,
        a: &Ciphertext,
        transform: &LinearTransform<'_, Plaintext>,
        scale: Scale,
    ) -> Result<Ciphertext> {
        let mut results = self.linear_transforms(a, std::slice::from_ref(transform), scale)?;
        results.pop().ok_or_else(|| Error::Internal("a linear transform without a result".to_owned()))
    }

    fn linear_transforms(
        &self,
        a: &Ciphertext,
        transforms: &[LinearTransform<'_, Plaintext>],
        scale: Scale,
    ) -> Result<Vec<Ciphertext>> {
        self.transform_input(a, scale).transforms(transforms)
    }

    fn bootstrap(&self, _: &Ciphertext, _: &BootstrapRequest) -> Result<Ciphertext> {
        Err(no_bootstrapping(self.name()))
    }

    fn mul(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        check_levels("tensor", a.level, b.level)?;
        a.level.below("rescale")?;
        multiply_and_rescale(&self.parameters, self.keys.relinearization(a.level)?, a, b)
    }

    fn mul_scalar(&self, a: &Ciphertext, c: Complex64) -> Result<Ciphertext> {
        let scale = self.chain().canonical_scale(a.level)?;
        scale_and_rescale(&self.parameters, a, c, scale, a.level)
    }

    fn linear_combination(
        &self,
        terms: &[LinearTerm<'_, Ciphertext>],
        addend: Complex64,
        level: Level,
    ) -> Result<Ciphertext> {
        combine_linearly(&self.parameters, terms, addend, level)
    }

    fn relinearize_and_rescale(
        &self,
        product: &Tensor,
        terms: &[LinearTerm<'_, Ciphertext>],
        addend: Complex64,
    ) -> Result<Ciphertext> {
        let Tensor { d0, d1, d2, level, scale } = product;
        let parts = ProductParts { d0, d1, d2, level: *level, scale: *scale };
        let key = self.keys.relinearization(*level)?;
        relinearize_and_rescale(&self.parameters, key, parts, terms, addend)
    }

    fn lower(&self, a: &Ciphertext, level: Level) -> Result<Ciphertext> {
        lower_to(&self.parameters, a, level)
    }

    fn ciphertext_to_bytes(&self, a: &Ciphertext) -> Result<Vec<u8>> {
        ciphertext_to_bytes(&self.parameters, a)
    }

    fn ciphertext_from_bytes(&self, bytes: &[u8]) -> Result<Ciphertext> {
        ciphertext_from_bytes(&self.parameters, bytes)
    }
}
