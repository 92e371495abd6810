//! The native evaluator: levelled operations of [`crate::ckks`], and bootstrapping when its keys were requested.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::bootstrapping::{BootstrapParameters, Bootstrapper};
use crate::ckks::{Ciphertext, CkksEvaluator, Encoder, EvaluationKeys, Parameters, Plaintext, Tensor};
use crate::contract::{
    BootstrapRequest, BootstrapSummary, Complex64, Error, Evaluator, Level, LevelChain, LinearTerm,
    LinearTransform, Result, Scale,
};

/// Evaluation keys and what computes with them; no secret.
pub struct NativeEvaluator {
    levelled: CkksEvaluator,
    bootstrapper: Option<Arc<Bootstrapper>>,
}

impl NativeEvaluator {
    /// An evaluator that bootstraps when `bootstrapper` is given.
    #[must_use]
    pub fn new(levelled: CkksEvaluator, bootstrapper: Option<Bootstrapper>) -> Self {
        Self { levelled, bootstrapper: bootstrapper.map(Arc::new) }
    }

    /// The levelled operations.
    #[must_use]
    pub fn levelled(&self) -> &CkksEvaluator {
        &self.levelled
    }

    /// The parameters.
    #[must_use]
    pub fn parameters(&self) -> &Arc<Parameters> {
        self.levelled.parameters()
    }

    /// The bootstrapper, when there is one.
    #[must_use]
    pub fn bootstrapper(&self) -> Option<&Bootstrapper> {
        self.bootstrapper.as_deref()
    }

    /// Writes all evaluation keys, those of bootstrapping included: two containers, one behind the other, of about half
    /// the bytes that the keys take in memory, as uniform halves are stored as their seeds. No secret.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn write_to(&self, mut writer: impl Write) -> Result<()> {
        let parameters = self.parameters();
        Bootstrapper::write_to(self.bootstrapper(), parameters, &mut writer)?;
        self.levelled.keys().write_to(parameters, writer)
    }

    /// Bytes that [`NativeEvaluator::write_to`] writes.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for keys asked for at levels outside the chain.
    pub fn stored_bytes(&self) -> Result<u64> {
        let parameters = self.parameters();
        let bootstrapping = Bootstrapper::stored_bytes(self.bootstrapper());
        Ok(bootstrapping + EvaluationKeys::stored_bytes(parameters, &self.levelled.keys().contents())?)
    }

    /// The evaluator of the keys that [`NativeEvaluator::write_to`] wrote under `parameters`: all that a server gets
    /// from a client. Cost: one pass over the data with its checksum, and expanding the seeds. Wrap files in a
    /// [`std::io::BufReader`].
    ///
    /// # Errors
    /// [`crate::Error::Format`] for truncated, damaged or oversized data, and for a container of anything else, by
    /// name; [`crate::Error::ParameterMismatch`] for keys of other parameters; [`crate::Error::Io`].
    pub fn read_from(parameters: &BootstrapParameters, mut reader: impl Read) -> Result<Self> {
        parameters.check()?;
        let ring = Arc::new(Parameters::new(parameters.chain.clone())?);
        let bootstrapper = Bootstrapper::read_from(&ring, parameters, &mut reader)?;
        let keys = EvaluationKeys::read_from(&ring, reader)?;
        let encoder = Arc::new(Encoder::new(ring.ring().log2_n()));
        Ok(Self::new(CkksEvaluator::new(ring, encoder, keys), bootstrapper))
    }

    /// Bytes of all evaluation keys in memory.
    #[must_use]
    pub fn key_bytes(&self) -> u64 {
        self.levelled.keys().bytes() + self.bootstrapper.as_ref().map_or(0, |b| b.mod_raise().bytes())
    }
}

/// Passes operations on to the levelled evaluator.
macro_rules! levelled {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $output:ty;)*) => {
        $(fn $name(&self, $($argument: $kind),*) -> $output {
            self.levelled.$name($($argument),*)
        })*
    };
}

impl Evaluator for NativeEvaluator {
    type Ciphertext = Ciphertext;
    type Tensor = Tensor;
    type Plaintext = Plaintext;

    levelled! {
        name() -> &'static str;
        slots() -> usize;
        chain() -> &LevelChain;
        encode(values: &[Complex64], level: Level, scale: Scale) -> Result<Plaintext>;
        add(a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext>;
        sub(a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext>;
        negate(a: &Ciphertext) -> Result<Ciphertext>;
        add_plain(a: &Ciphertext, p: &Plaintext) -> Result<Ciphertext>;
        add_constant(a: &Ciphertext, c: Complex64) -> Result<Ciphertext>;
        mul_plain(a: &Ciphertext, p: &Plaintext) -> Result<Ciphertext>;
        mul_constant(a: &Ciphertext, c: Complex64, scale: Scale) -> Result<Ciphertext>;
        mul_integer(a: &Ciphertext, k: i64) -> Result<Ciphertext>;
        mul_by_i(a: &Ciphertext) -> Result<Ciphertext>;
        tensor(a: &Ciphertext, b: &Ciphertext) -> Result<Tensor>;
        add_tensor(a: &Tensor, b: &Tensor) -> Result<Tensor>;
        relinearize(a: &Tensor) -> Result<Ciphertext>;
        rescale(a: &Ciphertext) -> Result<Ciphertext>;
        drop_level(a: &Ciphertext, level: Level) -> Result<Ciphertext>;
        rotate(a: &Ciphertext, step: i64) -> Result<Ciphertext>;
        rotate_many(a: &Ciphertext, steps: &[i64]) -> Result<Vec<Ciphertext>>;
        rotate_sum(terms: &[(&Ciphertext, i64)]) -> Result<Ciphertext>;
        conjugate(a: &Ciphertext) -> Result<Ciphertext>;
        linear_transform(a: &Ciphertext, transform: &LinearTransform<'_, Plaintext>, scale: Scale)
            -> Result<Ciphertext>;
        linear_transforms(a: &Ciphertext, transforms: &[LinearTransform<'_, Plaintext>], scale: Scale)
            -> Result<Vec<Ciphertext>>;
        mul(a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext>;
        mul_scalar(a: &Ciphertext, c: Complex64) -> Result<Ciphertext>;
        lower(a: &Ciphertext, level: Level) -> Result<Ciphertext>;
        linear_combination(terms: &[LinearTerm<'_, Ciphertext>], addend: Complex64, level: Level)
            -> Result<Ciphertext>;
        relinearize_and_rescale(product: &Tensor, terms: &[LinearTerm<'_, Ciphertext>], addend: Complex64)
            -> Result<Ciphertext>;
        ciphertext_to_bytes(a: &Ciphertext) -> Result<Vec<u8>>;
        ciphertext_from_bytes(bytes: &[u8]) -> Result<Ciphertext>;
    }

    fn bootstrapping(&self) -> Option<BootstrapSummary> {
        self.bootstrapper.as_ref().map(|bootstrapper| bootstrapper.summary())
    }

    fn bootstrap(&self, a: &Ciphertext, request: &BootstrapRequest) -> Result<Ciphertext> {
        match &self.bootstrapper {
            Some(bootstrapper) => bootstrapper.bootstrap(&self.levelled, a, request),
            None => Err(Error::EvaluationKey { key: "bootstrapping", level: a.level }),
        }
    }
}
