//! The side that computes.
//!
//! Level and scale are ours: OpenFHE's context uses FLEXIBLEAUTO, whose primes keep the canonical scales close to one
//! power of two, but its automatic rescaling is never triggered (every object is presented with noise degree 1), so
//! each call does exactly what the contract says.

use std::sync::Arc;

use cxx::SharedPtr;

use super::bridge::ffi;
use super::ciphertext::{OpenFheCiphertext, OpenFhePlaintext, OpenFheTensor};
use super::engine::{Engine, KeyHolder, NAME};
use super::library::call;
use crate::contract::checks::{
    check_constant_product, check_drop, check_evaluation_key, check_levels, check_rotation_key, check_scales,
    check_sum, check_values, no_terms, product_scale,
};
use crate::contract::{
    BootstrapRequest, BootstrapSummary, Complex64, Error, Evaluator, KeyRequest, Level, LevelChain,
    LinearTransform, Result, Scale, normalize_step,
};

/// Evaluator over OpenFHE: a context and evaluation keys, no secret key.
pub struct OpenFheEvaluator {
    pub(super) engine: Arc<Engine>,
    pub(super) keys: KeyRequest,
    pub(super) tag: Arc<str>,
    /// Keeps the keys in OpenFHE's maps for as long as this evaluator lives.
    _holder: KeyHolder,
}

impl OpenFheEvaluator {
    pub(super) fn new(engine: Arc<Engine>, keys: KeyRequest, tag: Arc<str>, holder: KeyHolder) -> Self {
        Self { engine, keys, tag, _holder: holder }
    }

    /// Bytes of all evaluation keys OpenFHE holds for this secret key.
    ///
    /// # Errors
    /// [`Error::Foreign`].
    pub fn key_bytes(&self) -> Result<u64> {
        call("key bytes", || ffi::key_bytes(&self.tag))
    }

    pub(super) fn context(&self) -> &ffi::Context {
        self.engine.context()
    }

    /// A ciphertext of this engine around an OpenFHE object.
    pub(super) fn ciphertext(
        &self,
        inner: SharedPtr<ffi::Ciphertext>,
        level: Level,
        scale: Scale,
    ) -> OpenFheCiphertext {
        OpenFheCiphertext { inner, level, scale, tag: Arc::clone(&self.tag) }
    }

    /// That an object was made under this engine's key.
    pub(super) fn check_tag(&self, operation: &'static str, tag: &Arc<str>) -> Result<()> {
        if *tag == self.tag {
            return Ok(());
        }
        Err(Error::ParameterMismatch {
            operation,
            given: format!("key {tag}"),
            wanted: format!("key {}", self.tag),
        })
    }

    /// That a plaintext was made under this engine's ring and primes, for the level of a ciphertext.
    pub(super) fn check_plaintext(
        &self,
        operation: &'static str,
        level: Level,
        plaintext: &OpenFhePlaintext,
    ) -> Result<()> {
        if plaintext.fingerprint != self.engine.fingerprint {
            return Err(Error::ParameterMismatch {
                operation,
                given: plaintext.fingerprint.to_string(),
                wanted: self.engine.fingerprint.to_string(),
            });
        }
        check_levels(operation, level, plaintext.level)
    }

    pub(super) fn check_rotation(&self, step: usize, level: Level) -> Result<()> {
        check_rotation_key(step, level, self.keys.rotations.get(&step).copied())
    }

    fn check_operands(
        &self,
        operation: &'static str,
        a: &OpenFheCiphertext,
        b: &OpenFheCiphertext,
    ) -> Result<()> {
        self.check_tag(operation, &a.tag)?;
        self.check_tag(operation, &b.tag)?;
        check_levels(operation, a.level, b.level)
    }

    /// A normalized step as OpenFHE takes it.
    pub(super) fn index(step: usize) -> Result<u32> {
        u32::try_from(step).map_err(|error| Error::Internal(error.to_string()))
    }
}

impl Evaluator for OpenFheEvaluator {
    type Ciphertext = OpenFheCiphertext;
    type Tensor = OpenFheTensor;
    type Plaintext = OpenFhePlaintext;

    fn name(&self) -> &'static str {
        NAME
    }

    fn slots(&self) -> usize {
        self.engine.slots()
    }

    fn chain(&self) -> &LevelChain {
        &self.engine.chain
    }

    fn bootstrapping(&self) -> Option<BootstrapSummary> {
        self.engine.bootstrapping
    }

    fn encode(&self, values: &[Complex64], level: Level, scale: Scale) -> Result<OpenFhePlaintext> {
        check_values("encode", self.chain(), self.slots(), values, level, scale)?;
        let limbs = self.engine.limbs(level, "encode")?;
        let numbers: Vec<f64> = values.iter().flat_map(|value| [value.re, value.im]).collect();
        let inner = call("encode", || ffi::encode(self.context(), &numbers, scale.0, limbs))?;
        Ok(OpenFhePlaintext { inner, level, scale, fingerprint: self.engine.fingerprint })
    }

    fn add(&self, a: &OpenFheCiphertext, b: &OpenFheCiphertext) -> Result<OpenFheCiphertext> {
        self.check_operands("add", a, b)?;
        check_scales("add", a.scale, b.scale)?;
        let inner = call("add", || ffi::add(self.context(), &a.inner, &b.inner))?;
        Ok(self.ciphertext(inner, a.level, a.scale))
    }

    fn sub(&self, a: &OpenFheCiphertext, b: &OpenFheCiphertext) -> Result<OpenFheCiphertext> {
        self.check_operands("sub", a, b)?;
        check_scales("sub", a.scale, b.scale)?;
        let inner = call("sub", || ffi::subtract(self.context(), &a.inner, &b.inner))?;
        Ok(self.ciphertext(inner, a.level, a.scale))
    }

    fn negate(&self, a: &OpenFheCiphertext) -> Result<OpenFheCiphertext> {
        self.check_tag("negate", &a.tag)?;
        let inner = call("negate", || ffi::negate(self.context(), &a.inner))?;
        Ok(self.ciphertext(inner, a.level, a.scale))
    }

    fn add_plain(&self, a: &OpenFheCiphertext, p: &OpenFhePlaintext) -> Result<OpenFheCiphertext> {
        self.check_tag("add_plain", &a.tag)?;
        self.check_plaintext("add_plain", a.level, p)?;
        check_scales("add_plain", a.scale, p.scale)?;
        let inner = call("add_plain", || ffi::add_polynomial(self.context(), &a.inner, &p.inner))?;
        Ok(self.ciphertext(inner, a.level, a.scale))
    }

    fn add_constant(&self, a: &OpenFheCiphertext, c: Complex64) -> Result<OpenFheCiphertext> {
        self.check_tag("add_constant", &a.tag)?;
        check_values("add_constant", self.chain(), 1, &[c], a.level, a.scale)?;
        let real = self.engine.residues(c.re, a.scale, a.level);
        let imaginary = self.engine.residues(c.im, a.scale, a.level);
        let inner = call("add_constant", || ffi::add_constant(self.context(), &a.inner, &real, &imaginary))?;
        Ok(self.ciphertext(inner, a.level, a.scale))
    }

    fn mul_plain(&self, a: &OpenFheCiphertext, p: &OpenFhePlaintext) -> Result<OpenFheCiphertext> {
        self.check_tag("mul_plain", &a.tag)?;
        self.check_plaintext("mul_plain", a.level, p)?;
        let scale = product_scale("mul_plain", self.chain(), a, p)?;
        let inner = call("mul_plain", || ffi::multiply_polynomial(self.context(), &a.inner, &p.inner))?;
        Ok(self.ciphertext(inner, a.level, scale))
    }

    fn mul_constant(&self, a: &OpenFheCiphertext, c: Complex64, scale: Scale) -> Result<OpenFheCiphertext> {
        self.check_tag("mul_constant", &a.tag)?;
        check_constant_product(self.chain(), a.scale, c, scale, a.level)?;
        let real = self.engine.residues(c.re, scale, a.level);
        let imaginary = self.engine.residues(c.im, scale, a.level);
        let inner =
            call("mul_constant", || ffi::multiply_constant(self.context(), &a.inner, &real, &imaginary))?;
        Ok(self.ciphertext(inner, a.level, a.scale * scale))
    }

    fn mul_integer(&self, a: &OpenFheCiphertext, k: i64) -> Result<OpenFheCiphertext> {
        self.check_tag("mul_integer", &a.tag)?;
        let residues = self.engine.integer_residues(i128::from(k), a.level);
        let inner = call("mul_integer", || ffi::multiply_constant(self.context(), &a.inner, &residues, &[]))?;
        Ok(self.ciphertext(inner, a.level, a.scale))
    }

    fn mul_by_i(&self, a: &OpenFheCiphertext) -> Result<OpenFheCiphertext> {
        self.check_tag("mul_by_i", &a.tag)?;
        let inner = call("mul_by_i", || ffi::multiply_by_i(self.context(), &a.inner))?;
        Ok(self.ciphertext(inner, a.level, a.scale))
    }

    fn tensor(&self, a: &OpenFheCiphertext, b: &OpenFheCiphertext) -> Result<OpenFheTensor> {
        self.check_operands("tensor", a, b)?;
        let scale = product_scale("tensor", self.chain(), a, b)?;
        let inner = call("tensor", || ffi::tensor(self.context(), &a.inner, &b.inner))?;
        Ok(OpenFheTensor { inner, level: a.level, scale, tag: Arc::clone(&self.tag) })
    }

    fn add_tensor(&self, a: &OpenFheTensor, b: &OpenFheTensor) -> Result<OpenFheTensor> {
        self.check_tag("add_tensor", &a.tag)?;
        self.check_tag("add_tensor", &b.tag)?;
        check_sum("add_tensor", a, b)?;
        let inner = call("add_tensor", || ffi::add(self.context(), &a.inner, &b.inner))?;
        Ok(OpenFheTensor { inner, ..a.clone() })
    }

    fn relinearize(&self, a: &OpenFheTensor) -> Result<OpenFheCiphertext> {
        self.check_tag("relinearize", &a.tag)?;
        check_evaluation_key("relinearization", a.level, self.keys.relinearization)?;
        let inner = call("relinearize", || ffi::relinearize(self.context(), &a.inner))?;
        Ok(self.ciphertext(inner, a.level, a.scale))
    }

    fn rescale(&self, a: &OpenFheCiphertext) -> Result<OpenFheCiphertext> {
        self.check_tag("rescale", &a.tag)?;
        let modulus = self.engine.chain.rescale_modulus(a.level)?;
        let inner = call("rescale", || ffi::rescale(self.context(), &a.inner))?;
        Ok(self.ciphertext(inner, a.level.below("rescale")?, Scale(a.scale.0 / modulus)))
    }

    fn drop_level(&self, a: &OpenFheCiphertext, level: Level) -> Result<OpenFheCiphertext> {
        self.check_tag("drop_level", &a.tag)?;
        check_drop(self.chain(), a, level)?;
        let limbs = self.engine.limbs(level, "drop_level")?;
        let inner = call("drop_level", || ffi::keep_limbs(self.context(), &a.inner, limbs))?;
        Ok(self.ciphertext(inner, level, a.scale))
    }

    fn rotate(&self, a: &OpenFheCiphertext, step: i64) -> Result<OpenFheCiphertext> {
        self.check_tag("rotate", &a.tag)?;
        let step = normalize_step(step, self.slots());
        if step == 0 {
            return Ok(a.clone());
        }
        self.check_rotation(step, a.level)?;
        let index = Self::index(step)?;
        let inner = call("rotate", || ffi::rotate(self.context(), &a.inner, index))?;
        Ok(self.ciphertext(inner, a.level, a.scale))
    }

    fn rotate_many(&self, a: &OpenFheCiphertext, steps: &[i64]) -> Result<Vec<OpenFheCiphertext>> {
        self.check_tag("rotate_many", &a.tag)?;
        let steps: Vec<usize> = steps.iter().map(|step| normalize_step(*step, self.slots())).collect();
        self.rotate_hoisted(a, &steps)
    }

    fn rotate_sum(&self, terms: &[(&OpenFheCiphertext, i64)]) -> Result<OpenFheCiphertext> {
        let [(first, step), rest @ ..] = terms else {
            return Err(no_terms("rotate_sum"));
        };
        let mut sum = self.rotate(first, *step)?;
        for (term, step) in rest {
            sum = self.add(&sum, &self.rotate(term, *step)?)?;
        }
        Ok(sum)
    }

    fn conjugate(&self, a: &OpenFheCiphertext) -> Result<OpenFheCiphertext> {
        self.check_tag("conjugate", &a.tag)?;
        check_evaluation_key("conjugation", a.level, self.keys.conjugation)?;
        let inner = call("conjugate", || ffi::conjugate(self.context(), &a.inner))?;
        Ok(self.ciphertext(inner, a.level, a.scale))
    }

    fn linear_transform(
        &self,
        a: &OpenFheCiphertext,
        transform: &LinearTransform<'_, OpenFhePlaintext>,
        scale: Scale,
    ) -> Result<OpenFheCiphertext> {
        let mut results = self.transforms(a, std::slice::from_ref(transform), scale)?;
        results.pop().ok_or_else(|| Error::Internal("a linear transform without a result".to_owned()))
    }

    fn linear_transforms(
        &self,
        a: &OpenFheCiphertext,
        transforms: &[LinearTransform<'_, OpenFhePlaintext>],
        scale: Scale,
    ) -> Result<Vec<OpenFheCiphertext>> {
        self.transforms(a, transforms, scale)
    }

    fn bootstrap(&self, a: &OpenFheCiphertext, request: &BootstrapRequest) -> Result<OpenFheCiphertext> {
        self.refresh(a, request)
    }

    fn ciphertext_to_bytes(&self, a: &OpenFheCiphertext) -> Result<Vec<u8>> {
        self.write(a)
    }

    fn ciphertext_from_bytes(&self, bytes: &[u8]) -> Result<OpenFheCiphertext> {
        self.read(bytes)
    }
}
