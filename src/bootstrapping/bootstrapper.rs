//! The whole bootstrap of the native backend.
//!
//! SlotsToCoeffs → ModRaise → CoeffsToSlots → EvalMod, see [`super::BootstrapParameters`] for why in this order. A
//! bootstrap to a lower level costs the same as one to the highest: the primes of EvalMod stand above those of the
//! application, so ModRaise always raises to all of them; the result is lowered at the end.
//!
//! Two kinds ([`Refreshed`]). *All slots*: complex slots carry two real values for the price of one bootstrap;
//! CoeffsToSlots gives their parts as two ciphertexts, and EvalMod reduces both. Where all slots are real the second
//! reduction is left out: in the coefficients after SlotsToCoeffs the imaginary parts stand apart, so that they are
//! dropped for nothing. Fewer slots (any power of two that the values repeat with) shorten both transforms, not
//! EvalMod. *Few values* ([`super::few`]): one level for each transform and one EvalMod; the other slots hold junk
//! afterwards.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::circuit::EncodedTransforms;
use super::few::{EncodedFew, FewCircuit};
use super::{BootstrapCircuit, BootstrapParameters, ModRaise};
use crate::ckks::{Ciphertext, CkksClient, CkksEvaluator, Parameters, Plaintext};
use crate::contract::checks::BootstrapLevels;
use crate::contract::{
    BootstrapKeys, BootstrapRequest, BootstrapSummary, CiphertextInfo, Complex64, Error, Evaluator,
    FewValues, KeyRequest, Level, Refreshed, Result, Scale,
};

/// log2 of the factor by which the two-iteration mode magnifies the error of the first iteration: 2^12 of an error
/// below 2^-16 stays far inside the interval, and the second iteration's own error shrinks by it.
const SECOND_ITERATION_BITS: u32 = 12;

/// Bootstraps what its keys were made for. Evaluation keys only; the rotation, relinearization and conjugation keys it
/// uses are the evaluator's. [`crate::backend::native`] puts both together:
///
/// ```
/// use cachemir::backend::native::NativeClient;
/// use cachemir::bootstrapping::BootstrapParameters;
/// use cachemir::contract::{BootstrapRequest, CiphertextInfo, Client, Complex64, Evaluator, KeyRequest};
///
/// // N = 2^9 and one level between bootstraps: fast, and without any security.
/// let client = NativeClient::with_bootstrapping(BootstrapParameters::test(9, 1), None)?;
/// let mut keys = KeyRequest::new();
/// keys.bootstrapping(client.slots());
/// let server = client.evaluator(&keys)?;
/// let offers = server.bootstrapping().expect("its keys were asked for");
/// let low = client.encrypt(&[Complex64::new(0.5, -0.25)], offers.minimum_input_level)?;
/// let high = server.bootstrap(&low, &BootstrapRequest::all(offers.output_level, client.slots()))?;
/// assert!(high.level() > low.level());
/// assert!((client.decrypt(&high)?[0] - Complex64::new(0.5, -0.25)).norm() < 1e-4);
/// # Ok::<(), cachemir::Error>(())
/// ```
pub struct Bootstrapper {
    parameters: BootstrapParameters,
    mod_raise: ModRaise,
    all: BTreeMap<usize, PreparedAll>,
    few: BTreeMap<FewValues, PreparedFew>,
}

/// The circuit of one period; its diagonals are encoded at the first bootstrap and kept.
struct PreparedAll {
    circuit: BootstrapCircuit,
    encoded: OnceLock<EncodedTransforms<Plaintext>>,
}

/// The circuit of one layout of few values; its diagonals are encoded at the first bootstrap and kept.
struct PreparedFew {
    circuit: FewCircuit,
    encoded: OnceLock<EncodedFew<Plaintext>>,
}

/// What `place` holds, made by `encode` the first time.
fn encoded<T>(place: &OnceLock<T>, encode: impl FnOnce() -> Result<T>) -> Result<&T> {
    if place.get().is_none() {
        // Two threads that meet here encode twice; one result is kept.
        let _lost = place.set(encode()?);
    }
    place.get().ok_or_else(|| Error::Internal("no encoded transforms".to_owned()))
}

impl Bootstrapper {
    /// Makes the keys of ModRaise and the circuits for what `keys` names.
    ///
    /// # Errors
    /// [`Error::Parameters`] for a bootstrap that does not fit the chain ([`BootstrapParameters::check`]),
    /// [`Error::Insecure`] when a key exceeds the limit of its secret ([`ModRaise::generate`]), [`Error::Shape`] and
    /// [`Error::Unsupported`] for slot counts and few values that cannot be bootstrapped ([`BootstrapCircuit::new`],
    /// [`FewCircuit::new`]).
    pub fn generate(
        client: &CkksClient,
        parameters: &BootstrapParameters,
        keys: &BootstrapKeys,
    ) -> Result<Self> {
        parameters.check()?;
        Self::with_keys(parameters, keys, ModRaise::generate(client, parameters, !keys.few.is_empty())?)
    }

    /// The bootstrapper of what `keys` names with the keys of ModRaise, however they came here: no client is needed.
    ///
    /// # Errors
    /// [`Error::Parameters`] for a bootstrap that does not fit the chain ([`BootstrapParameters::check`]),
    /// [`Error::Shape`] and [`Error::Unsupported`] for slot counts and few values that cannot be bootstrapped
    /// ([`BootstrapCircuit::new`], [`FewCircuit::new`]).
    pub fn with_keys(
        parameters: &BootstrapParameters,
        keys: &BootstrapKeys,
        mod_raise: ModRaise,
    ) -> Result<Self> {
        parameters.check()?;
        let all = keys.slots.iter().map(|slots| {
            let circuit = BootstrapCircuit::new(parameters, *slots)?;
            Ok((*slots, PreparedAll { circuit, encoded: OnceLock::new() }))
        });
        let few = keys.few.iter().map(|values| {
            let circuit = FewCircuit::new(parameters, values)?;
            Ok((values.clone(), PreparedFew { circuit, encoded: OnceLock::new() }))
        });
        Ok(Self {
            parameters: parameters.clone(),
            all: all.collect::<Result<_>>()?,
            few: few.collect::<Result<_>>()?,
            mod_raise,
        })
    }

    /// What it bootstraps: slot counts, and layouts of few values.
    #[must_use]
    pub fn contents(&self) -> BootstrapKeys {
        BootstrapKeys { slots: self.all.keys().copied().collect(), few: self.few.keys().cloned().collect() }
    }

    /// Rotation, relinearization and conjugation keys that the bootstraps in `keys` need, to be merged into the request
    /// before keys are generated.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Unsupported`] for slot counts and few values that cannot be bootstrapped
    /// ([`BootstrapCircuit::new`], [`FewCircuit::new`]).
    pub fn key_request(
        ring: &Parameters,
        parameters: &BootstrapParameters,
        keys: &BootstrapKeys,
    ) -> Result<KeyRequest> {
        let mut request = KeyRequest::new();
        let top = ring.chain().max_level();
        for slots in &keys.slots {
            request.merge(&BootstrapCircuit::new(parameters, *slots)?.key_request(ring.slots(), top));
        }
        for values in &keys.few {
            request.merge(&FewCircuit::new(parameters, values)?.key_request(top));
        }
        Ok(request)
    }

    /// What bootstrapping offers.
    #[must_use]
    pub fn summary(&self) -> BootstrapSummary {
        self.parameters.summary()
    }

    /// The keys of ModRaise.
    #[must_use]
    pub fn mod_raise(&self) -> &ModRaise {
        &self.mod_raise
    }

    /// Bytes of the diagonals encoded so far.
    #[must_use]
    pub fn encoded_bytes(&self) -> u64 {
        let all = self.all.values().filter_map(|all| all.encoded.get());
        let few = self.few.values().filter_map(|few| few.encoded.get());
        let plaintexts =
            all.flat_map(EncodedTransforms::plaintexts).chain(few.flat_map(EncodedFew::plaintexts));
        plaintexts.map(Plaintext::bytes).sum()
    }

    /// Bootstraps `a` to `request.level` and its canonical scale; `a` stands at the minimum input level of its kind or
    /// above.
    ///
    /// Two iterations bootstrap the error of the first one again, magnified: twice the time, one level less, and what
    /// is left is the rounding at the canonical scale.
    ///
    /// # Errors
    /// [`Error::LevelTooLow`] below the minimum input level, [`Error::LevelOutOfRange`] above the output level,
    /// [`Error::ScaleMismatch`] at a scale that is not the canonical one, [`Error::Unsupported`] for other iterations
    /// or what no keys were made for, [`Error::RotationKey`], [`Error::EvaluationKey`].
    pub fn bootstrap(
        &self,
        evaluator: &CkksEvaluator,
        a: &Ciphertext,
        request: &BootstrapRequest,
    ) -> Result<Ciphertext> {
        let summary = self.summary();
        let (lowest, highest) = summary.levels(request, "native")?;
        let levels = BootstrapLevels { lowest_input: lowest, highest_output: highest };
        levels.check(evaluator.chain(), a, request.level)?;
        let once = self.once(evaluator, a, &request.refreshed)?;
        if request.iterations == 1 {
            return evaluator.lower(&once, request.level);
        }
        let corrected = self.corrected(evaluator, a, &once, &request.refreshed, lowest)?;
        // 2^k·value at the output level; the factor goes with a rescale to the canonical scale.
        let chain = evaluator.chain();
        let wanted = chain.canonical_scale(highest)?;
        let factor = Scale(wanted.0 * chain.rescale_modulus(corrected.level())? / corrected.scale().0);
        let shrink = Complex64::new(f64::from(SECOND_ITERATION_BITS).exp2().recip(), 0.0);
        let result = evaluator.rescale(&evaluator.mul_constant(&corrected, shrink, factor)?)?;
        evaluator.lower(&result, request.level)
    }

    /// The raised ciphertext of `a`: what EvalMod will see, before CoeffsToSlots. To look at the integer parts.
    ///
    /// # Errors
    /// [`Error::LevelTooLow`], [`Error::ScaleMismatch`] and [`Error::Unsupported`] for an input that cannot be
    /// bootstrapped ([`Self::bootstrap`]); [`Error::RotationKey`] and [`Error::EvaluationKey`] for missing keys.
    pub fn raised(
        &self,
        evaluator: &CkksEvaluator,
        a: &Ciphertext,
        refreshed: &Refreshed,
    ) -> Result<Ciphertext> {
        match refreshed {
            Refreshed::All { period, .. } => {
                let all = self.all(*period)?;
                let transforms = encoded(&all.encoded, || all.circuit.encode(evaluator))?;
                let bottom = all.circuit.to_coefficients(evaluator, transforms, a)?;
                self.mod_raise.raise(&bottom, all.circuit.raised_scale(evaluator)?)
            }
            Refreshed::Few(values) => {
                let few = self.few(values)?;
                self.raised_few(evaluator, a, few, 1)
            }
        }
    }

    /// What EvalMod sees of few `values` of `a` and of the junk beside them: (I + v/M)/K in every slot that holds a
    /// value. To look at the distribution of both.
    ///
    /// # Errors
    /// [`Error::LevelTooLow`], [`Error::ScaleMismatch`] and [`Error::Unsupported`] for an input that cannot be
    /// bootstrapped ([`Self::bootstrap`]); [`Error::RotationKey`] and [`Error::EvaluationKey`] for missing keys.
    pub fn before_reduction(
        &self,
        evaluator: &CkksEvaluator,
        a: &Ciphertext,
        values: &FewValues,
    ) -> Result<Ciphertext> {
        let few = self.few(values)?;
        let raised = self.raised_few(evaluator, a, few, few.circuit.copies_raised())?;
        let transforms = encoded(&few.encoded, || few.circuit.encode(evaluator))?;
        Ok(few.circuit.parts(evaluator, transforms, raised)?.0)
    }

    /// The sum of `copies` rotations of the raised ciphertext of few values.
    fn raised_few(
        &self,
        evaluator: &CkksEvaluator,
        a: &Ciphertext,
        few: &PreparedFew,
        copies: usize,
    ) -> Result<Ciphertext> {
        let transforms = encoded(&few.encoded, || few.circuit.encode(evaluator))?;
        let bottom = few.circuit.to_coefficients(evaluator, transforms, a)?;
        self.mod_raise.raise_traced(&bottom, few.circuit.raised_scale(evaluator)?, copies)
    }

    fn all(&self, period: usize) -> Result<&PreparedAll> {
        self.all.get(&period).ok_or(Error::EvaluationKey { key: "bootstrapping", level: Level(0) })
    }

    fn few(&self, values: &FewValues) -> Result<&PreparedFew> {
        self.few.get(values).ok_or(Error::EvaluationKey { key: "bootstrapping", level: Level(0) })
    }

    /// One iteration, to the highest level of its kind.
    fn once(&self, evaluator: &CkksEvaluator, a: &Ciphertext, refreshed: &Refreshed) -> Result<Ciphertext> {
        let chain = evaluator.chain();
        match refreshed {
            Refreshed::All { period, real } => {
                let raised = self.raised(evaluator, a, refreshed)?;
                let scale = chain.canonical_scale(Level(self.parameters.output_level()))?;
                let all = self.all(*period)?;
                let transforms = encoded(&all.encoded, || all.circuit.encode(evaluator))?;
                all.circuit.from_coefficients(evaluator, transforms, &raised, scale, *real)
            }
            Refreshed::Few(values) => {
                let few = self.few(values)?;
                let raised = self.raised_few(evaluator, a, few, few.circuit.copies_raised())?;
                let transforms = encoded(&few.encoded, || few.circuit.encode(evaluator))?;
                let scale = chain.canonical_scale(few.circuit.output_level(chain.max_level()))?;
                few.circuit.from_coefficients(evaluator, transforms, raised, scale)
            }
        }
    }

    /// 2^k·once + bootstrap(2^k·(a − once)) at the output level of its kind, whose lowest input level is `bottom`.
    fn corrected(
        &self,
        evaluator: &CkksEvaluator,
        a: &Ciphertext,
        once: &Ciphertext,
        refreshed: &Refreshed,
        bottom: Level,
    ) -> Result<Ciphertext> {
        let magnified = evaluator.mul_integer(once, 1 << SECOND_ITERATION_BITS)?;
        // Lowered after the factor: the rounding of the rescale is not magnified.
        let found = match refreshed {
            Refreshed::All { .. } => evaluator.lower(&magnified, bottom)?,
            // Junk must not enter the second iteration: one level above the bottom is there to clear it.
            Refreshed::Few(values) => {
                let above = evaluator.lower(&magnified, Level(bottom.0 + 1))?;
                evaluator.mul_values(&above, &values.slots.mask(evaluator.slots()))?
            }
        };
        let wanted = evaluator.lower(&evaluator.mul_integer(a, 1 << SECOND_ITERATION_BITS)?, bottom)?;
        let error = evaluator.sub(&wanted, &found)?;
        evaluator.add(&magnified, &self.once(evaluator, &error, refreshed)?)
    }
}
