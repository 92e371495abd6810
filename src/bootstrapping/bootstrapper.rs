//! The whole bootstrap of the native backend.
//!
//! SlotsToCoeffs → ModRaise → CoeffsToSlots → EvalMod, see [`super::BootstrapParameters`] for why in this order. A bootstrap
//! to a lower level costs the same as one to the highest: the primes of EvalMod stand above those of the application, so
//! ModRaise always raises to all of them; the result is lowered at the end.
//!
//! Slots are complex: a slot carries two real values for the price of one bootstrap. CoeffsToSlots gives their parts as two
//! ciphertexts, and EvalMod reduces both. Where all slots are real ([`BootstrapRequest::real`]) the second reduction is left
//! out: in the coefficients after SlotsToCoeffs the imaginary parts stand apart, so that they are dropped for nothing. The
//! decoder pairs what it can (up + i·gate, numerator + i·denominator), which saves a whole bootstrap, and leaves out the rest
//! (residual stream, scores). Fewer slots (any power of two that the values repeat with) shorten
//! both transforms, not EvalMod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::circuit::EncodedTransforms;
use super::{BootstrapCircuit, BootstrapParameters, ModRaise};
use crate::ckks::{Ciphertext, CkksClient, CkksEvaluator, Parameters, Plaintext};
use crate::contract::{
    BootstrapRequest, BootstrapSummary, CiphertextInfo, Complex64, Error, Evaluator, KeyRequest, Level,
    Result,
};

/// log2 of the factor by which the two-iteration mode magnifies the error of the first iteration: 2^12 of an error below
/// 2^-16 stays far inside the interval, and the second iteration's own error shrinks by it.
const SECOND_ITERATION_BITS: u32 = 12;

/// Bootstraps ciphertexts of some slot counts. Evaluation keys only; the rotation, relinearization and conjugation keys it
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
/// let (level, slots) = (offers.output_level, client.slots());
/// let high = server.bootstrap(&low, BootstrapRequest { level, slots, iterations: 1, real: false })?;
/// assert!(high.level() > low.level());
/// assert!((client.decrypt(&high)?[0] - Complex64::new(0.5, -0.25)).norm() < 1e-4);
/// # Ok::<(), cachemir::Error>(())
/// ```
pub struct Bootstrapper {
    parameters: BootstrapParameters,
    mod_raise: ModRaise,
    circuits: BTreeMap<usize, Prepared>,
}

/// The circuit of one slot count; its diagonals are encoded at the first bootstrap and kept.
struct Prepared {
    circuit: BootstrapCircuit,
    encoded: OnceLock<EncodedTransforms<Plaintext>>,
}

impl Prepared {
    fn encoded(&self, evaluator: &CkksEvaluator) -> Result<&EncodedTransforms<Plaintext>> {
        if self.encoded.get().is_none() {
            // Two threads that meet here encode twice; one result is kept.
            let _lost = self.encoded.set(self.circuit.encode(evaluator)?);
        }
        self.encoded.get().ok_or_else(|| Error::Internal("no encoded transforms".to_owned()))
    }
}

impl Bootstrapper {
    /// Makes the keys of ModRaise and the circuits for `slots`.
    ///
    /// # Errors
    /// Those of [`BootstrapParameters::check`], [`ModRaise::generate`] and [`BootstrapCircuit::new`].
    pub fn generate(
        client: &CkksClient,
        parameters: &BootstrapParameters,
        slots: &BTreeSet<usize>,
    ) -> Result<Self> {
        parameters.check()?;
        Self::with_keys(parameters, slots, ModRaise::generate(client, parameters)?)
    }

    /// The bootstrapper of `slots` with the keys of ModRaise, however they came here: no client is needed.
    ///
    /// # Errors
    /// Those of [`BootstrapParameters::check`] and [`BootstrapCircuit::new`].
    pub fn with_keys(
        parameters: &BootstrapParameters,
        slots: &BTreeSet<usize>,
        mod_raise: ModRaise,
    ) -> Result<Self> {
        parameters.check()?;
        let circuits = slots
            .iter()
            .map(|slots| {
                let circuit = BootstrapCircuit::new(parameters, *slots)?;
                Ok((*slots, Prepared { circuit, encoded: OnceLock::new() }))
            })
            .collect::<Result<BTreeMap<_, _>>>()?;
        Ok(Self { parameters: parameters.clone(), mod_raise, circuits })
    }

    /// Slot counts that it bootstraps.
    pub fn slots(&self) -> impl Iterator<Item = usize> + '_ {
        self.circuits.keys().copied()
    }

    /// Rotation, relinearization and conjugation keys that bootstrapping `slots` needs, to be merged into the request before
    /// keys are generated.
    ///
    /// # Errors
    /// Those of [`BootstrapCircuit::new`].
    pub fn key_request(
        ring: &Parameters,
        parameters: &BootstrapParameters,
        slots: &BTreeSet<usize>,
    ) -> Result<KeyRequest> {
        let mut request = KeyRequest::new();
        for slots in slots {
            let circuit = BootstrapCircuit::new(parameters, *slots)?;
            request.merge(&circuit.key_request(ring.slots(), ring.chain().max_level()));
        }
        Ok(request)
    }

    /// What bootstrapping offers.
    #[must_use]
    pub fn summary(&self) -> BootstrapSummary {
        BootstrapSummary {
            output_level: Level(self.parameters.output_level()),
            minimum_input_level: Level(self.parameters.minimum_input_level()),
            bound: self.parameters.bound,
        }
    }

    /// The keys of ModRaise.
    #[must_use]
    pub fn mod_raise(&self) -> &ModRaise {
        &self.mod_raise
    }

    fn prepared(&self, slots: usize) -> Result<&Prepared> {
        self.circuits.get(&slots).ok_or_else(|| Error::Unsupported {
            backend: "native",
            operation: format!("bootstrap {slots} slots without their keys"),
            remedy: "request them with KeyRequest::bootstrapping before generating keys".to_owned(),
        })
    }

    /// Bootstraps `a` to `request.level` and its canonical scale; `a` stands at the minimum input level or above.
    ///
    /// Two iterations bootstrap the error of the first one again, magnified: twice the time, one level less, and what is
    /// left is the rounding at the canonical scale.
    ///
    /// # Errors
    /// [`Error::LevelTooLow`] below the minimum input level, [`Error::LevelOutOfRange`] above the output level,
    /// [`Error::Unsupported`] for other iteration or slot counts, [`Error::RotationKey`], [`Error::EvaluationKey`].
    pub fn bootstrap(
        &self,
        evaluator: &CkksEvaluator,
        a: &Ciphertext,
        request: BootstrapRequest,
    ) -> Result<Ciphertext> {
        let summary = self.summary();
        let prepared = self.prepared(request.slots)?;
        if a.level() < summary.minimum_input_level {
            return Err(Error::LevelTooLow {
                operation: "bootstrap",
                level: a.level(),
                wanted: summary.minimum_input_level,
            });
        }
        let extra = match request.iterations {
            1 => 0,
            2 => 1,
            iterations => {
                return Err(Error::Unsupported {
                    backend: "native",
                    operation: format!("bootstrap in {iterations} iterations"),
                    remedy: "use 1 or 2".to_owned(),
                });
            }
        };
        let highest = Level(summary.output_level.0.saturating_sub(extra));
        if request.level > highest {
            return Err(Error::LevelOutOfRange {
                operation: "bootstrap",
                level: request.level,
                max: highest,
            });
        }
        let once = self.once(evaluator, prepared, a, request.real)?;
        if request.iterations == 1 {
            return evaluator.lower(&once, request.level);
        }
        let corrected = self.corrected(evaluator, prepared, (a, &once), request.real)?;
        // 2^k·value at the output level; the factor goes with a rescale to the canonical scale.
        let below = highest;
        let chain = evaluator.chain();
        let wanted = chain.canonical_scale(below)?;
        let factor = crate::contract::Scale(
            wanted.0 * chain.rescale_modulus(corrected.level())? / corrected.scale().0,
        );
        let shrink = Complex64::new(f64::from(SECOND_ITERATION_BITS).exp2().recip(), 0.0);
        let result = evaluator.rescale(&evaluator.mul_constant(&corrected, shrink, factor)?)?;
        evaluator.lower(&result, request.level)
    }

    /// The raised ciphertext of `a`: what EvalMod will see, before CoeffsToSlots. To look at the integer parts.
    ///
    /// # Errors
    /// Those of [`Self::bootstrap`].
    pub fn raised(&self, evaluator: &CkksEvaluator, a: &Ciphertext, slots: usize) -> Result<Ciphertext> {
        let prepared = self.prepared(slots)?;
        let encoded = prepared.encoded(evaluator)?;
        let bottom = prepared.circuit.to_coefficients(evaluator, encoded, a)?;
        self.mod_raise.raise(&bottom, prepared.circuit.raised_scale(evaluator)?)
    }

    fn once(
        &self,
        evaluator: &CkksEvaluator,
        prepared: &Prepared,
        a: &Ciphertext,
        real: bool,
    ) -> Result<Ciphertext> {
        let raised = self.raised(evaluator, a, prepared.circuit.slots())?;
        let scale = evaluator.chain().canonical_scale(self.summary().output_level)?;
        prepared.circuit.from_coefficients(evaluator, prepared.encoded(evaluator)?, &raised, scale, real)
    }

    /// 2^k·once + bootstrap(2^k·(a − once)) at the output level.
    fn corrected(
        &self,
        evaluator: &CkksEvaluator,
        prepared: &Prepared,
        (a, once): (&Ciphertext, &Ciphertext),
        real: bool,
    ) -> Result<Ciphertext> {
        let magnified = evaluator.mul_integer(once, 1 << SECOND_ITERATION_BITS)?;
        // Lowered after the factor: the rounding of the rescale is not magnified.
        let bottom = self.summary().minimum_input_level;
        let wanted = evaluator.lower(&evaluator.mul_integer(a, 1 << SECOND_ITERATION_BITS)?, bottom)?;
        let error = evaluator.sub(&wanted, &evaluator.lower(&magnified, bottom)?)?;
        evaluator.add(&magnified, &self.once(evaluator, prepared, &error, real)?)
    }
}
