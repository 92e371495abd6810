//! A backend under a preset, as far as both parties must agree on it before there is any key.

use std::sync::Arc;

use super::security::{KeyMargin, keys_of};
use super::{Backend, Preset};
use crate::backend::clear::{ClearClient, ClearParameters};
use crate::backend::native::noise_model_n16;
use crate::bootstrapping::BootstrapParameters;
use crate::ckks::Parameters;
use crate::contract::{BootstrapSummary, Error, Level, LevelChain, Result};
use crate::decoder::placement::PlacementScheme;

/// Largest magnitude that the decoder lets into a bootstrap: it scales all values into ±1.
const DECODER_BOUND: f64 = 1.0;
/// The simulator's bound when it draws noise: slots at the very end of an interval then leave it by the noise.
const DECODER_BOUND_WITH_NOISE: f64 = 1.001;
/// Levels between two bootstraps of the simulator: what the real parameters leave.
const SIMULATED_LEVELS: usize = 13;
/// log2 of the simulator's scale.
const SIMULATED_LOG2_SCALE: u32 = 42;

/// Noise that the simulator draws: rounding and key switches as N = 2^16 has them, and bootstraps wrong by
/// 2^−`bootstrap_bits` (standard deviation, of values within ±1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedNoise {
    /// −log2 of the standard deviation of a bootstrap's error.
    pub bootstrap_bits: f64,
    /// Seed of the generator: equal seeds draw equal noise.
    pub seed: u64,
}

/// What a plan needs to know of a backend and its parameters: levels, scales, slots, bootstraps. No key.
#[derive(Clone)]
pub struct Scheme {
    backend: Backend,
    preset: Preset,
    slots: usize,
    chain: LevelChain,
    bootstrap: BootstrapSummary,
    log2_failure: Option<f64>,
    margins: Vec<KeyMargin>,
    native: Option<(BootstrapParameters, Arc<Parameters>)>,
    clear: ClearParameters,
}

impl Scheme {
    /// Our own CKKS under `preset`. Cost: the ring's primes and NTT tables, a fraction of a second at N = 2^16.
    ///
    /// # Errors
    /// [`Error::Parameters`] and [`Error::Insecure`] for literals that make no parameters ([`Parameters::new`],
    /// [`BootstrapParameters::check`]): none for the presets of this crate.
    pub fn native(preset: Preset) -> Result<Self> {
        let parameters = preset.bootstrapping();
        parameters.check()?;
        let ring = Arc::new(Parameters::new(parameters.chain.clone())?);
        let bootstrap =
            BootstrapSummary { bound: parameters.bound.min(DECODER_BOUND), ..parameters.summary() };
        let margins = match preset.is_secure() {
            true => keys_of(&parameters, &ring)?.into_iter().map(|key| key.margin).collect(),
            false => Vec::new(),
        };
        let this = Self::new(Backend::Native, preset, ring.slots(), ring.chain().clone(), bootstrap);
        Ok(Self {
            log2_failure: Some(parameters.log2_failure()),
            margins,
            native: Some((parameters, ring)),
            ..this
        })
    }

    /// The simulator with `slots` slots (a preset's, or any power of two) and as many levels between bootstraps as the
    /// real parameters leave. **Nothing is encrypted.**
    ///
    /// # Errors
    /// [`Error::Parameters`] when `slots` is not a power of two ≥ 2 or the scale is outside 2^10 .. 2^60.
    pub fn clear(preset: Preset, slots: usize, noise: Option<SimulatedNoise>) -> Result<Self> {
        let bound = if noise.is_some() { DECODER_BOUND_WITH_NOISE } else { DECODER_BOUND };
        let output_level = Level(SIMULATED_LEVELS);
        let bootstrap = BootstrapSummary { output_level, minimum_input_level: Level(0), bound, few: None };
        let mut clear = ClearParameters::new(slots, SIMULATED_LEVELS, SIMULATED_LOG2_SCALE)?;
        clear = clear.with_bootstrapping(bootstrap);
        if let Some(noise) = noise {
            clear = clear.with_noise(noise_model_n16(noise.bootstrap_bits, noise.seed)?);
        }
        let this = Self::new(Backend::Clear, preset, slots, clear.chain.clone(), bootstrap);
        Ok(Self { clear, ..this })
    }

    /// The scheme of OpenFHE's `client`, whose parameters only the library itself knows.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for parameters without bootstrapping.
    #[cfg(feature = "openfhe")]
    pub fn openfhe(preset: Preset, client: &crate::backend::openfhe::OpenFheClient) -> Result<Self> {
        use crate::contract::Client as _;
        let bootstrap = client.bootstrapping().ok_or_else(|| Error::Unsupported {
            backend: "openfhe",
            operation: "bootstrap under these parameters".to_owned(),
            remedy: "use OpenFheParameters::test_generation".to_owned(),
        })?;
        Ok(Self::new(Backend::Openfhe, preset, client.slots(), client.chain().clone(), bootstrap))
    }

    fn new(
        backend: Backend,
        preset: Preset,
        slots: usize,
        chain: LevelChain,
        bootstrap: BootstrapSummary,
    ) -> Self {
        let clear =
            ClearParameters { slots, chain: chain.clone(), bootstrapping: Some(bootstrap), noise: None };
        let (log2_failure, margins, native) = (None, Vec::new(), None);
        Self { backend, preset, slots, chain, bootstrap, log2_failure, margins, native, clear }
    }

    /// Which implementation computes.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Under which preset.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.preset
    }

    /// Complex slots of a ciphertext.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Levels and their scales.
    #[must_use]
    pub fn chain(&self) -> &LevelChain {
        &self.chain
    }

    /// From which level to which a bootstrap takes values of which size.
    #[must_use]
    pub fn bootstrap(&self) -> BootstrapSummary {
        self.bootstrap
    }

    /// log2 of the probability that one bootstrap fails; `None` where nobody states a figure.
    #[must_use]
    pub fn log2_failure(&self) -> Option<f64> {
        self.log2_failure
    }

    /// Margins of all kinds of keys; empty where no security is claimed or no figure is known.
    #[must_use]
    pub fn margins(&self) -> &[KeyMargin] {
        &self.margins
    }

    /// Whether nothing, or nothing secure, is encrypted.
    #[must_use]
    pub fn is_insecure(&self) -> bool {
        !self.backend.encrypts() || !self.preset.is_secure()
    }

    /// The native backend's parameters.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a scheme of another backend.
    pub fn native_parameters(&self) -> Result<&BootstrapParameters> {
        self.native.as_ref().map(|(parameters, _)| parameters).ok_or_else(|| Error::Unsupported {
            backend: self.backend.name(),
            operation: "serve a native client or server".to_owned(),
            remedy: "make the setup for the native backend, or give the parties keys of its own backend"
                .to_owned(),
        })
    }

    /// Exact levels of this scheme on the simulator, without noise: to run beside the real one, and to plan on.
    #[must_use]
    pub fn exact_simulator(&self) -> ClearClient {
        ClearClient::new(ClearParameters { noise: None, ..self.clear.clone() })
    }

    /// The simulator of [`Scheme::clear`] with its noise, for a generation on it.
    #[must_use]
    pub fn simulator(&self) -> ClearClient {
        ClearClient::new(self.clear.clone())
    }

    /// What placing bootstraps needs to know.
    #[must_use]
    pub fn for_placement(&self) -> PlacementScheme<'_> {
        PlacementScheme {
            backend: self.backend.name(),
            preset: self.preset.name(),
            slots: self.slots,
            chain: &self.chain,
            bootstrap: self.bootstrap,
        }
    }
}
