//! The evaluator of the simulator.
//!
//! Data: slot values in the clear. Levels, scales and keys are checked exactly as `native` checks them; the key switch
//! count of each operation is the same, only the arithmetic is f64.

use std::sync::{Arc, Mutex, PoisonError};

use super::ciphertext::{ClearCiphertext, ClearPlaintext, ClearTensor, SlotVector};
use super::noise::NoiseSource;
use super::parameters::ClearParameters;
use super::serialization::{ciphertext_from_bytes, ciphertext_to_bytes};
use crate::contract::checks::{
    BootstrapLevels, check_constant_product, check_drop, check_evaluation_key, check_key_request,
    check_levels, check_room, check_rotation_key, check_scales, check_sum, check_values, no_bootstrapping,
    no_terms, product_scale,
};
use crate::contract::{
    BootstrapRequest, BootstrapSummary, Complex64, Diagonal, Error, Evaluator, KeyRequest, Level, LevelChain,
    LinearTransform, Result, Scale, normalize_step,
};

const NAME: &str = "clear";

/// Evaluator of the simulator.
pub struct ClearEvaluator {
    parameters: Arc<ClearParameters>,
    noise: Option<NoiseSource>,
    /// Keys that exist; `None` in a dry run, where every key does.
    keys: Option<KeyRequest>,
    used: Mutex<KeyRequest>,
}

impl ClearEvaluator {
    /// Evaluator with the keys of `request` only.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for a level outside the chain; [`Error::Unsupported`] for bootstrapping without it.
    pub fn with_keys(parameters: ClearParameters, request: KeyRequest) -> Result<Self> {
        check_key_request(NAME, &parameters.chain, parameters.bootstrapping.is_some(), &request)?;
        Ok(Self::build(parameters, Some(request)))
    }

    /// Evaluator that has every key and records which ones are used.
    #[must_use]
    pub fn dry_run(parameters: ClearParameters) -> Self {
        Self::build(parameters, None)
    }

    /// The keys used so far, with the highest level of each.
    pub fn recorded(&self) -> KeyRequest {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn build(parameters: ClearParameters, keys: Option<KeyRequest>) -> Self {
        let noise = parameters.noise.map(NoiseSource::new);
        Self { parameters: Arc::new(parameters), noise, keys, used: Mutex::new(KeyRequest::new()) }
    }

    fn record(&self, change: impl FnOnce(&mut KeyRequest)) {
        change(&mut self.used.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn use_rotation(&self, step: usize, level: Level) -> Result<()> {
        if step == 0 {
            return Ok(());
        }
        if let Some(keys) = &self.keys {
            check_rotation_key(step, level, keys.rotations.get(&step).copied())?;
        }
        self.record(|used| {
            used.rotation(step, level);
        });
        Ok(())
    }

    fn use_key(&self, key: &'static str, level: Level) -> Result<()> {
        if let Some(keys) = &self.keys {
            let available = if key == "conjugation" { keys.conjugation } else { keys.relinearization };
            check_evaluation_key(key, level, available)?;
        }
        self.record(|used| {
            if key == "conjugation" {
                used.conjugation(level);
            } else {
                used.relinearization(level);
            }
        });
        Ok(())
    }

    fn rotated(&self, values: &[Complex64], step: usize) -> Vec<Complex64> {
        let mut result = values.to_vec();
        result.rotate_left(step % values.len().max(1));
        result
    }

    fn with_key_switch_noise(&self, mut values: Vec<Complex64>, scale: Scale) -> Vec<Complex64> {
        if let Some(noise) = &self.noise {
            noise.key_switch(&mut values, scale);
        }
        values
    }

    /// Both operands, at one level and scale, combined slot by slot.
    fn zip(
        operation: &'static str,
        a: &impl SlotVector,
        b: &impl SlotVector,
        combine: impl Fn(Complex64, Complex64) -> Complex64,
    ) -> Result<Vec<Complex64>> {
        check_sum(operation, a, b)?;
        Ok(a.slots().iter().zip(b.slots()).map(|(x, y)| combine(*x, *y)).collect())
    }

    /// Both operands, at one level, multiplied slot by slot; with the scale of the product.
    fn product(
        &self,
        operation: &'static str,
        a: &impl SlotVector,
        b: &impl SlotVector,
    ) -> Result<(Vec<Complex64>, Scale)> {
        let scale = product_scale(operation, &self.parameters.chain, a, b)?;
        Ok((a.slots().iter().zip(b.slots()).map(|(x, y)| x * y).collect(), scale))
    }
}

impl Evaluator for ClearEvaluator {
    type Ciphertext = ClearCiphertext;
    type Tensor = ClearTensor;
    type Plaintext = ClearPlaintext;

    fn name(&self) -> &'static str {
        NAME
    }

    fn slots(&self) -> usize {
        self.parameters.slots
    }

    fn chain(&self) -> &LevelChain {
        &self.parameters.chain
    }

    fn bootstrapping(&self) -> Option<BootstrapSummary> {
        self.parameters.bootstrapping
    }

    fn encode(&self, values: &[Complex64], level: Level, scale: Scale) -> Result<ClearPlaintext> {
        check_values("encode", &self.parameters.chain, self.parameters.slots, values, level, scale)?;
        let mut slots = values.to_vec();
        slots.resize(self.parameters.slots, Complex64::ZERO);
        Ok(ClearPlaintext::new(slots, level, scale))
    }

    fn add(&self, a: &ClearCiphertext, b: &ClearCiphertext) -> Result<ClearCiphertext> {
        let values = Self::zip("add", a, b, |x, y| x + y)?;
        Ok(ClearCiphertext::new(values, a.level, a.scale))
    }

    fn sub(&self, a: &ClearCiphertext, b: &ClearCiphertext) -> Result<ClearCiphertext> {
        let values = Self::zip("sub", a, b, |x, y| x - y)?;
        Ok(ClearCiphertext::new(values, a.level, a.scale))
    }

    fn negate(&self, a: &ClearCiphertext) -> Result<ClearCiphertext> {
        Ok(ClearCiphertext::new(a.values.iter().map(|x| -x).collect(), a.level, a.scale))
    }

    fn add_plain(&self, a: &ClearCiphertext, p: &ClearPlaintext) -> Result<ClearCiphertext> {
        let values = Self::zip("add_plain", a, p, |x, y| x + y)?;
        Ok(ClearCiphertext::new(values, a.level, a.scale))
    }

    fn add_constant(&self, a: &ClearCiphertext, c: Complex64) -> Result<ClearCiphertext> {
        check_values("add_constant", &self.parameters.chain, 1, &[c], a.level, a.scale)?;
        Ok(ClearCiphertext::new(a.values.iter().map(|x| x + c).collect(), a.level, a.scale))
    }

    fn mul_plain(&self, a: &ClearCiphertext, p: &ClearPlaintext) -> Result<ClearCiphertext> {
        let (values, scale) = self.product("mul_plain", a, p)?;
        Ok(ClearCiphertext::new(values, a.level, scale))
    }

    fn mul_constant(&self, a: &ClearCiphertext, c: Complex64, scale: Scale) -> Result<ClearCiphertext> {
        check_constant_product(&self.parameters.chain, a.scale, c, scale, a.level)?;
        Ok(ClearCiphertext::new(a.values.iter().map(|x| x * c).collect(), a.level, a.scale * scale))
    }

    fn mul_integer(&self, a: &ClearCiphertext, k: i64) -> Result<ClearCiphertext> {
        Ok(ClearCiphertext::new(a.values.iter().map(|x| x * k as f64).collect(), a.level, a.scale))
    }

    fn mul_by_i(&self, a: &ClearCiphertext) -> Result<ClearCiphertext> {
        Ok(ClearCiphertext::new(a.values.iter().map(|x| x * Complex64::I).collect(), a.level, a.scale))
    }

    fn tensor(&self, a: &ClearCiphertext, b: &ClearCiphertext) -> Result<ClearTensor> {
        let (values, scale) = self.product("tensor", a, b)?;
        Ok(ClearTensor::new(values, a.level, scale))
    }

    fn add_tensor(&self, a: &ClearTensor, b: &ClearTensor) -> Result<ClearTensor> {
        let values = Self::zip("add_tensor", a, b, |x, y| x + y)?;
        Ok(ClearTensor::new(values, a.level, a.scale))
    }

    fn relinearize(&self, a: &ClearTensor) -> Result<ClearCiphertext> {
        self.use_key("relinearization", a.level)?;
        Ok(ClearCiphertext::new(self.with_key_switch_noise(a.values.to_vec(), a.scale), a.level, a.scale))
    }

    fn rescale(&self, a: &ClearCiphertext) -> Result<ClearCiphertext> {
        let modulus = self.parameters.chain.rescale_modulus(a.level)?;
        let scale = Scale(a.scale.0 / modulus);
        let mut values = a.values.to_vec();
        if let Some(noise) = &self.noise {
            noise.rescale(&mut values, scale);
        }
        Ok(ClearCiphertext::new(values, a.level.below("rescale")?, scale))
    }

    fn drop_level(&self, a: &ClearCiphertext, level: Level) -> Result<ClearCiphertext> {
        check_drop(&self.parameters.chain, a, level)?;
        Ok(ClearCiphertext { level, ..a.clone() })
    }

    fn rotate(&self, a: &ClearCiphertext, step: i64) -> Result<ClearCiphertext> {
        let step = normalize_step(step, self.slots());
        if step == 0 {
            return Ok(a.clone());
        }
        self.use_rotation(step, a.level)?;
        let values = self.with_key_switch_noise(self.rotated(&a.values, step), a.scale);
        Ok(ClearCiphertext::new(values, a.level, a.scale))
    }

    fn rotate_many(&self, a: &ClearCiphertext, steps: &[i64]) -> Result<Vec<ClearCiphertext>> {
        steps.iter().map(|step| self.rotate(a, *step)).collect()
    }

    fn rotate_sum(&self, terms: &[(&ClearCiphertext, i64)]) -> Result<ClearCiphertext> {
        let mut sum: Option<ClearCiphertext> = None;
        for (ciphertext, step) in terms {
            let rotated = self.rotate(ciphertext, *step)?;
            sum = Some(match sum {
                Some(sum) => self.add(&sum, &rotated)?,
                None => rotated,
            });
        }
        sum.ok_or_else(|| no_terms("rotate_sum"))
    }

    fn conjugate(&self, a: &ClearCiphertext) -> Result<ClearCiphertext> {
        self.use_key("conjugation", a.level)?;
        let values = self.with_key_switch_noise(a.values.iter().map(Complex64::conj).collect(), a.scale);
        Ok(ClearCiphertext::new(values, a.level, a.scale))
    }

    fn linear_transform(
        &self,
        a: &ClearCiphertext,
        transform: &LinearTransform<'_, ClearPlaintext>,
        scale: Scale,
    ) -> Result<ClearCiphertext> {
        transform.require_diagonals()?;
        let product_scale = a.scale * scale;
        check_room("linear_transform", &self.parameters.chain, product_scale, a.level)?;
        let slots = self.slots();
        // As many slots as the input has: none when it is blank.
        let zeros = vec![Complex64::ZERO; a.values.len()];
        let mut sum = zeros.clone();
        for giant in &transform.giants {
            let mut inner = zeros.clone();
            for (step, diagonal) in &giant.babies {
                let step = normalize_step(*step, slots);
                self.use_rotation(step, a.level)?;
                let lazy;
                let diagonal = match diagonal {
                    Diagonal::Encoded(plaintext) => {
                        check_levels("linear_transform", a.level, plaintext.level)?;
                        check_scales("linear_transform", plaintext.scale, scale)?;
                        *plaintext
                    }
                    // Blank: levels, scales and keys only.
                    Diagonal::Lazy(_) if a.values.is_empty() => continue,
                    Diagonal::Lazy(values) => {
                        lazy = self.encode(&values(), a.level, scale)?;
                        &lazy
                    }
                };
                let (head, tail) = a.values.split_at(step.min(a.values.len()));
                for ((acc, x), p) in inner.iter_mut().zip(tail.iter().chain(head)).zip(diagonal.values.iter())
                {
                    *acc += x * p;
                }
            }
            let step = normalize_step(giant.step, slots);
            self.use_rotation(step, a.level)?;
            let (head, tail) = inner.split_at(step.min(inner.len()));
            for (acc, x) in sum.iter_mut().zip(tail.iter().chain(head)) {
                *acc += x;
            }
        }
        Ok(ClearCiphertext::new(self.with_key_switch_noise(sum, product_scale), a.level, product_scale))
    }

    fn bootstrap(&self, a: &ClearCiphertext, request: &BootstrapRequest) -> Result<ClearCiphertext> {
        let summary = self.parameters.bootstrapping.ok_or_else(|| no_bootstrapping(NAME))?;
        if let Some(keys) = &self.keys
            && !keys.bootstrapping.as_ref().is_some_and(|boot| boot.serve(&request.refreshed))
        {
            return Err(Error::EvaluationKey { key: "bootstrapping", level: a.level });
        }
        let (lowest_input, highest_output) = summary.levels(request, NAME)?;
        BootstrapLevels { lowest_input, highest_output }.check(&self.parameters.chain, a, request.level)?;
        super::bootstrap::check_values(&a.values, request, &summary)?;
        self.record(|used| {
            used.bootstrapping_of(request);
        });
        let mut values = a.values.to_vec();
        if let Some(noise) = &self.noise {
            noise.bootstrap(&mut values, request.iterations);
        }
        super::bootstrap::drop_what_does_not_survive(&mut values, request, &summary);
        Ok(ClearCiphertext::new(values, request.level, self.parameters.chain.canonical_scale(request.level)?))
    }

    fn ciphertext_to_bytes(&self, a: &ClearCiphertext) -> Result<Vec<u8>> {
        ciphertext_to_bytes(a, &self.parameters)
    }

    fn ciphertext_from_bytes(&self, bytes: &[u8]) -> Result<ClearCiphertext> {
        ciphertext_from_bytes(bytes, &self.parameters)
    }
}
