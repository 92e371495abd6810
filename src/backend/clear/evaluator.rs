//! The simulated evaluator.
//!
//! Data: slot values in the clear. Levels, scales and keys are checked exactly as `native` checks them; the key switch
//! count of each operation is the same, only the arithmetic is f64.

use std::sync::{Arc, Mutex, PoisonError};

use super::noise::NoiseSource;
use super::parameters::ClearParameters;
use crate::contract::{
    BootstrapRequest, BootstrapSummary, CiphertextInfo, Complex64, Diagonal, Error, Evaluator, KeyRequest,
    Level, LevelChain, LinearTransform, Result, Scale, normalize_step,
};

macro_rules! slot_vector {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            values: Arc<Vec<Complex64>>,
            level: Level,
            scale: Scale,
        }

        impl $name {
            pub(super) fn new(values: Vec<Complex64>, level: Level, scale: Scale) -> Self {
                Self { values: Arc::new(values), level, scale }
            }

            /// The slot values.
            #[must_use]
            pub fn values(&self) -> &[Complex64] {
                &self.values
            }
        }

        impl CiphertextInfo for $name {
            fn level(&self) -> Level {
                self.level
            }
            fn scale(&self) -> Scale {
                self.scale
            }
        }
    };
}

slot_vector!(
    /// A "ciphertext" of the simulator.
    ClearCiphertext
);
slot_vector!(
    /// An unrelinearized product of the simulator.
    ClearTensor
);
slot_vector!(
    /// A plaintext of the simulator.
    ClearPlaintext
);

/// Refuses too many values, NaN and infinities, values that overflow the modulus at `level`, and unusable scales.
pub(super) fn check_values(
    operation: &'static str,
    values: &[Complex64],
    parameters: &ClearParameters,
    level: Level,
    scale: Scale,
) -> Result<()> {
    let log2_modulus = parameters.chain.log2_modulus(level)?;
    if values.len() > parameters.slots {
        return Err(Error::TooManyValues { operation, given: values.len(), slots: parameters.slots });
    }
    if !(scale.0.is_finite() && scale.0 >= 1.0) || scale.log2() >= log2_modulus {
        return Err(Error::ScaleOutOfRange { operation, scale, log2_modulus, level });
    }
    let bound = (log2_modulus - 1.0 - scale.log2()).exp2();
    for (index, value) in values.iter().enumerate() {
        if !(value.re.abs() <= bound && value.im.abs() <= bound) {
            return Err(Error::BadValue { operation, index, value: value.to_string(), bound });
        }
    }
    Ok(())
}

/// Imaginary parts that pass for noise where slots are said to be real, as a share of the bound of a bootstrap.
const LARGEST_IMAGINARY_NOISE: f64 = 1.0 / 64.0;

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
        for level in
            request.rotations.values().chain(request.relinearization.iter()).chain(request.conjugation.iter())
        {
            parameters.chain.check(*level, "key generation")?;
        }
        if request.bootstrapping.is_some() && parameters.bootstrapping.is_none() {
            return Err(unsupported_bootstrap());
        }
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
            let available = keys.rotations.get(&step).copied();
            if available.is_none_or(|top| top < level) {
                return Err(Error::RotationKey { step, level, available });
            }
        }
        self.record(|used| {
            used.rotation(step, level);
        });
        Ok(())
    }

    fn use_key(&self, key: &'static str, level: Level) -> Result<()> {
        if let Some(keys) = &self.keys {
            let available = if key == "conjugation" { keys.conjugation } else { keys.relinearization };
            if available.is_none_or(|top| top < level) {
                return Err(Error::EvaluationKey { key, level });
            }
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

    fn check_levels(operation: &'static str, left: Level, right: Level) -> Result<()> {
        if left == right { Ok(()) } else { Err(Error::LevelMismatch { operation, left, right }) }
    }

    fn check_scales(operation: &'static str, left: Scale, right: Scale) -> Result<()> {
        if left.agrees_with(right) { Ok(()) } else { Err(Error::ScaleMismatch { operation, left, right }) }
    }

    /// That a product at `scale` leaves room below the modulus at `level`.
    fn check_room(&self, operation: &'static str, scale: Scale, level: Level) -> Result<()> {
        let log2_modulus = self.parameters.chain.log2_modulus(level)?;
        if scale.log2() >= log2_modulus {
            return Err(Error::ScaleOutOfRange { operation, scale, log2_modulus, level });
        }
        Ok(())
    }

    fn zip(
        operation: &'static str,
        a: (&[Complex64], Level, Scale),
        b: (&[Complex64], Level, Scale),
        combine: impl Fn(Complex64, Complex64) -> Complex64,
    ) -> Result<Vec<Complex64>> {
        Self::check_levels(operation, a.1, b.1)?;
        Self::check_scales(operation, a.2, b.2)?;
        Ok(a.0.iter().zip(b.0).map(|(x, y)| combine(*x, *y)).collect())
    }
}

fn unsupported_bootstrap() -> Error {
    Error::Unsupported {
        backend: "clear",
        operation: "bootstrap".to_owned(),
        remedy: "use parameters with bootstrapping".to_owned(),
    }
}

impl Evaluator for ClearEvaluator {
    type Ciphertext = ClearCiphertext;
    type Tensor = ClearTensor;
    type Plaintext = ClearPlaintext;

    fn name(&self) -> &'static str {
        "clear"
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
        check_values("encode", values, &self.parameters, level, scale)?;
        let mut slots = values.to_vec();
        slots.resize(self.parameters.slots, Complex64::ZERO);
        Ok(ClearPlaintext::new(slots, level, scale))
    }

    fn add(&self, a: &ClearCiphertext, b: &ClearCiphertext) -> Result<ClearCiphertext> {
        let values =
            Self::zip("add", (&a.values, a.level, a.scale), (&b.values, b.level, b.scale), |x, y| x + y)?;
        Ok(ClearCiphertext::new(values, a.level, a.scale))
    }

    fn sub(&self, a: &ClearCiphertext, b: &ClearCiphertext) -> Result<ClearCiphertext> {
        let values =
            Self::zip("sub", (&a.values, a.level, a.scale), (&b.values, b.level, b.scale), |x, y| x - y)?;
        Ok(ClearCiphertext::new(values, a.level, a.scale))
    }

    fn negate(&self, a: &ClearCiphertext) -> Result<ClearCiphertext> {
        Ok(ClearCiphertext::new(a.values.iter().map(|x| -x).collect(), a.level, a.scale))
    }

    fn add_plain(&self, a: &ClearCiphertext, p: &ClearPlaintext) -> Result<ClearCiphertext> {
        let values =
            Self::zip("add_plain", (&a.values, a.level, a.scale), (&p.values, p.level, p.scale), |x, y| {
                x + y
            })?;
        Ok(ClearCiphertext::new(values, a.level, a.scale))
    }

    fn add_constant(&self, a: &ClearCiphertext, c: Complex64) -> Result<ClearCiphertext> {
        check_values("add_constant", &[c], &self.parameters, a.level, a.scale)?;
        Ok(ClearCiphertext::new(a.values.iter().map(|x| x + c).collect(), a.level, a.scale))
    }

    fn mul_plain(&self, a: &ClearCiphertext, p: &ClearPlaintext) -> Result<ClearCiphertext> {
        Self::check_levels("mul_plain", a.level, p.level)?;
        let scale = a.scale * p.scale;
        self.check_room("mul_plain", scale, a.level)?;
        Ok(ClearCiphertext::new(
            a.values.iter().zip(p.values.iter()).map(|(x, y)| x * y).collect(),
            a.level,
            scale,
        ))
    }

    fn mul_constant(&self, a: &ClearCiphertext, c: Complex64, scale: Scale) -> Result<ClearCiphertext> {
        check_values("mul_constant", &[c], &self.parameters, a.level, scale)?;
        let product = a.scale * scale;
        self.check_room("mul_constant", product, a.level)?;
        Ok(ClearCiphertext::new(a.values.iter().map(|x| x * c).collect(), a.level, product))
    }

    fn mul_integer(&self, a: &ClearCiphertext, k: i64) -> Result<ClearCiphertext> {
        Ok(ClearCiphertext::new(a.values.iter().map(|x| x * k as f64).collect(), a.level, a.scale))
    }

    fn mul_by_i(&self, a: &ClearCiphertext) -> Result<ClearCiphertext> {
        Ok(ClearCiphertext::new(a.values.iter().map(|x| x * Complex64::I).collect(), a.level, a.scale))
    }

    fn tensor(&self, a: &ClearCiphertext, b: &ClearCiphertext) -> Result<ClearTensor> {
        Self::check_levels("tensor", a.level, b.level)?;
        let scale = a.scale * b.scale;
        self.check_room("tensor", scale, a.level)?;
        Ok(ClearTensor::new(
            a.values.iter().zip(b.values.iter()).map(|(x, y)| x * y).collect(),
            a.level,
            scale,
        ))
    }

    fn add_tensor(&self, a: &ClearTensor, b: &ClearTensor) -> Result<ClearTensor> {
        let values =
            Self::zip("add_tensor", (&a.values, a.level, a.scale), (&b.values, b.level, b.scale), |x, y| {
                x + y
            })?;
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
        if level > a.level {
            return Err(Error::LevelTooLow { operation: "drop_level", level: a.level, wanted: level });
        }
        self.check_room("drop_level", a.scale, level)?;
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
        sum.ok_or_else(|| Error::Shape {
            operation: "rotate_sum",
            what: "0 terms".to_owned(),
            remedy: "give at least one".to_owned(),
        })
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
        self.check_room("linear_transform", product_scale, a.level)?;
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
                        Self::check_levels("linear_transform", a.level, plaintext.level)?;
                        Self::check_scales("linear_transform", plaintext.scale, scale)?;
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

    fn bootstrap(&self, a: &ClearCiphertext, request: BootstrapRequest) -> Result<ClearCiphertext> {
        let summary = self.parameters.bootstrapping.ok_or_else(unsupported_bootstrap)?;
        if let Some(keys) = &self.keys
            && !keys.bootstrapping.as_ref().is_some_and(|boot| boot.slots.contains(&request.slots))
        {
            return Err(Error::EvaluationKey { key: "bootstrapping", level: a.level });
        }
        if !(1..=2).contains(&request.iterations) {
            return Err(Error::Unsupported {
                backend: "clear",
                operation: format!("bootstrap in {} iterations", request.iterations),
                remedy: "use 1 or 2".to_owned(),
            });
        }
        // The correction of a second iteration takes a level, as on the real backends.
        let highest = Level(summary.output_level.0.saturating_sub(request.iterations - 1));
        if request.level > highest {
            return Err(Error::LevelOutOfRange {
                operation: "bootstrap",
                level: request.level,
                max: highest,
            });
        }
        if a.level < summary.minimum_input_level {
            return Err(Error::LevelTooLow {
                operation: "bootstrap",
                level: a.level,
                wanted: summary.minimum_input_level,
            });
        }
        Self::check_scales("bootstrap", a.scale, self.parameters.chain.canonical_scale(a.level)?)?;
        let magnitude = a.values.iter().map(|z| z.re.abs().max(z.im.abs())).fold(0.0, f64::max);
        if magnitude > summary.bound {
            return Err(Error::OutOfInterval {
                site: "bootstrap".to_owned(),
                magnitude,
                bound: summary.bound,
            });
        }
        let imaginary = a.values.iter().map(|z| z.im.abs()).fold(0.0, f64::max);
        if request.real && imaginary > LARGEST_IMAGINARY_NOISE * summary.bound {
            return Err(Error::OutOfInterval {
                site: "imaginary parts of a bootstrap of real slots".to_owned(),
                magnitude: imaginary,
                bound: LARGEST_IMAGINARY_NOISE * summary.bound,
            });
        }
        self.record(|used| {
            used.bootstrapping(request.slots);
        });
        let mut values = a.values.to_vec();
        if let Some(noise) = &self.noise {
            noise.bootstrap(&mut values, request.iterations);
        }
        if request.real {
            values.iter_mut().for_each(|value| value.im = 0.0);
        }
        Ok(ClearCiphertext::new(values, request.level, self.parameters.chain.canonical_scale(request.level)?))
    }

    fn ciphertext_to_bytes(&self, a: &ClearCiphertext) -> Result<Vec<u8>> {
        super::serialization::to_bytes(a, &self.parameters)
    }

    fn ciphertext_from_bytes(&self, bytes: &[u8]) -> Result<ClearCiphertext> {
        super::serialization::from_bytes(bytes, &self.parameters)
    }
}
