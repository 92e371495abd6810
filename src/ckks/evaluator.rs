//! The evaluator's state, and its face towards the contract. The operations themselves are in `arithmetic`, `composed`,
//! `rotation` and `linear_transform`.

use std::sync::Arc;

use super::composed::ProductParts;
use super::{Ciphertext, Encoder, EvaluationKeys, Parameters, Plaintext, Tensor};
use crate::contract::{
    BootstrapRequest, BootstrapSummary, Complex64, Error, Evaluator, Level, LevelChain, LinearTerm,
    LinearTransform, Result, Scale,
};

/// Evaluator of levelled CKKS: parameters and evaluation keys.
pub struct CkksEvaluator {
    pub(crate) parameters: Arc<Parameters>,
    pub(crate) encoder: Arc<Encoder>,
    pub(crate) keys: EvaluationKeys,
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
        self.encode_plaintext(values, level, scale)
    }

    fn add(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        self.add_ciphertexts(a, b)
    }

    fn sub(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        self.sub_ciphertexts(a, b)
    }

    fn negate(&self, a: &Ciphertext) -> Result<Ciphertext> {
        self.mul_by_integer(a, -1)
    }

    fn add_plain(&self, a: &Ciphertext, p: &Plaintext) -> Result<Ciphertext> {
        self.add_plaintext(a, p)
    }

    fn add_constant(&self, a: &Ciphertext, c: Complex64) -> Result<Ciphertext> {
        self.add_complex(a, c)
    }

    fn mul_plain(&self, a: &Ciphertext, p: &Plaintext) -> Result<Ciphertext> {
        self.mul_plaintext(a, p)
    }

    fn mul_constant(&self, a: &Ciphertext, c: Complex64, scale: Scale) -> Result<Ciphertext> {
        self.mul_complex(a, c, scale)
    }

    fn mul_integer(&self, a: &Ciphertext, k: i64) -> Result<Ciphertext> {
        self.mul_by_integer(a, k)
    }

    fn mul_by_i(&self, a: &Ciphertext) -> Result<Ciphertext> {
        self.mul_by_imaginary_unit(a)
    }

    fn tensor(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Tensor> {
        self.tensor_product(a, b)
    }

    fn add_tensor(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.add_tensors(a, b)
    }

    fn relinearize(&self, a: &Tensor) -> Result<Ciphertext> {
        self.relinearize_tensor(a)
    }

    fn rescale(&self, a: &Ciphertext) -> Result<Ciphertext> {
        self.rescale_ciphertext(a)
    }

    fn drop_level(&self, a: &Ciphertext, level: Level) -> Result<Ciphertext> {
        self.drop_limbs(a, level)
    }

    fn rotate(&self, a: &Ciphertext, step: i64) -> Result<Ciphertext> {
        self.rotate_ciphertext(a, step)
    }

    fn rotate_many(&self, a: &Ciphertext, steps: &[i64]) -> Result<Vec<Ciphertext>> {
        self.rotate_hoisted(a, steps)
    }

    fn rotate_sum(&self, terms: &[(&Ciphertext, i64)]) -> Result<Ciphertext> {
        self.rotate_and_sum(terms)
    }

    fn conjugate(&self, a: &Ciphertext) -> Result<Ciphertext> {
        self.conjugate_ciphertext(a)
    }

    fn linear_transform(
        &self,
        a: &Ciphertext,
        transform: &LinearTransform<'_, Plaintext>,
        scale: Scale,
    ) -> Result<Ciphertext> {
        let mut results = self.transforms(a, std::slice::from_ref(transform), scale)?;
        results.pop().ok_or_else(|| Error::Internal("a linear transform without a result".to_owned()))
    }

    fn linear_transforms(
        &self,
        a: &Ciphertext,
        transforms: &[LinearTransform<'_, Plaintext>],
        scale: Scale,
    ) -> Result<Vec<Ciphertext>> {
        self.transforms(a, transforms, scale)
    }

    fn bootstrap(&self, _: &Ciphertext, _: &BootstrapRequest) -> Result<Ciphertext> {
        Err(Error::Unsupported {
            backend: "native",
            operation: "bootstrap under levelled parameters".to_owned(),
            remedy: "use a preset with bootstrapping".to_owned(),
        })
    }

    fn mul(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        self.multiply_and_rescale(a, b)
    }

    fn mul_scalar(&self, a: &Ciphertext, c: Complex64) -> Result<Ciphertext> {
        self.multiply_scalar_and_rescale(a, c)
    }

    fn linear_combination(
        &self,
        terms: &[LinearTerm<'_, Ciphertext>],
        addend: Complex64,
        level: Level,
    ) -> Result<Ciphertext> {
        self.combine_linearly(terms, addend, level)
    }

    fn relinearize_and_rescale(
        &self,
        product: &Tensor,
        terms: &[LinearTerm<'_, Ciphertext>],
        addend: Complex64,
    ) -> Result<Ciphertext> {
        self.relinearize_combine_rescale(
            ProductParts { d0: &product.d0, d1: &product.d1, d2: &product.d2 },
            (product.level, product.scale),
            terms,
            addend,
        )
    }

    fn lower(&self, a: &Ciphertext, level: Level) -> Result<Ciphertext> {
        self.lower_to(a, level)
    }

    fn ciphertext_to_bytes(&self, a: &Ciphertext) -> Result<Vec<u8>> {
        super::serialization::ciphertext_to_bytes(&self.parameters, a)
    }

    fn ciphertext_from_bytes(&self, bytes: &[u8]) -> Result<Ciphertext> {
        super::serialization::ciphertext_from_bytes(&self.parameters, bytes)
    }
}
