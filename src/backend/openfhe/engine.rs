//! What both sides share: the context, its chain, and the tag of the secret key.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::bridge::ffi;
use super::library::call;
use super::parameters::OpenFheParameters;
use crate::ckks::container::Fingerprint;
use crate::ckks::fields::extend_u64;
use crate::contract::checks::no_bootstrapping;
use crate::contract::{BootstrapSummary, Error, FewSummary, Level, LevelChain, Result, Scale};
use cxx::UniquePtr;

/// The name of this backend.
pub(super) const NAME: &str = "openfhe";

/// Largest |value| OpenFHE's sine approximation is meant for: it assumes messages of magnitude 1.
const MESSAGE_BOUND: f64 = 1.0;

/// Context and everything derived from it. No key in it.
pub(super) struct Engine {
    context: UniquePtr<ffi::Context>,
    pub(super) parameters: OpenFheParameters,
    pub(super) chain: LevelChain,
    /// q_0, q_1, …
    pub(super) moduli: Vec<u64>,
    /// The special primes.
    pub(super) special_moduli: Vec<u64>,
    pub(super) bootstrapping: Option<BootstrapSummary>,
    /// Of ring and primes: equal for engines whose plaintexts can be exchanged.
    pub(super) fingerprint: Fingerprint,
    /// Slot counts whose bootstrapping tables exist in the context.
    prepared: Mutex<BTreeSet<usize>>,
}

impl Engine {
    /// Generates the context.
    pub(super) fn new(parameters: OpenFheParameters) -> Result<Self> {
        parameters.check()?;
        let encapsulated = parameters.bootstrapping.is_some();
        let consumed = match parameters.bootstrapping {
            None => 0,
            Some(boot) => call("bootstrap depth", || {
                ffi::bootstrap_depth(boot.budget_encode, boot.budget_decode, true)
            })?,
        };
        let depth = u32::try_from(parameters.levels)
            .map_err(|error| Error::Internal(error.to_string()))?
            .saturating_add(consumed);
        let context = call("new context", || {
            ffi::new_context(
                parameters.log2_n,
                depth,
                parameters.log2_scale,
                parameters.log2_base,
                parameters.digits,
                encapsulated,
            )
        })?;
        let moduli = call("chain moduli", || ffi::chain_moduli(&context))?;
        let special_moduli = call("special moduli", || ffi::special_moduli(&context))?;
        let chain = chain_of(&moduli, depth as usize)?;
        let bootstrapping = parameters.bootstrapping.map(|boot| {
            let output_level = level_after(&parameters, boot.iterations as usize);
            // One level is spent on the correction factor before the modulus is raised.
            let minimum_input_level = Level(1);
            // Few values are bootstrapped as all slots: what is zero stays zero.
            let few = Some(FewSummary { output_level, minimum_input_level, junk: 0.0 });
            BootstrapSummary { output_level, minimum_input_level, bound: MESSAGE_BOUND, few }
        });
        let mut defining = b"openfhe".to_vec();
        extend_u64(&mut defining, &[u64::from(parameters.log2_n)]);
        extend_u64(&mut defining, &moduli);
        extend_u64(&mut defining, &special_moduli);
        let fingerprint = Fingerprint::of(&defining);
        Ok(Self {
            context,
            parameters,
            chain,
            moduli,
            special_moduli,
            bootstrapping,
            fingerprint,
            prepared: Mutex::new(BTreeSet::new()),
        })
    }

    pub(super) fn context(&self) -> &ffi::Context {
        &self.context
    }

    /// N/2.
    pub(super) fn slots(&self) -> usize {
        1 << (self.parameters.log2_n - 1)
    }

    /// Number of primes at `level`.
    pub(super) fn limbs(&self, level: Level, operation: &'static str) -> Result<u32> {
        self.chain.check(level, operation)?;
        u32::try_from(level.0 + 1).map_err(|error| Error::Internal(error.to_string()))
    }

    /// log2 of the product of chain and special primes: the modulus of every evaluation key.
    pub(super) fn log2_qp(&self) -> f64 {
        self.moduli.iter().chain(&self.special_moduli).map(|q| (*q as f64).log2()).sum()
    }

    /// Computes the bootstrapping tables for `slots`, once.
    pub(super) fn prepare_bootstrap(&self, slots: usize) -> Result<u32> {
        let boot = self.parameters.bootstrapping.ok_or_else(|| no_bootstrapping(NAME))?;
        if !slots.is_power_of_two() || slots < 2 || slots > self.slots() {
            return Err(Error::Shape {
                operation: "bootstrap keys",
                what: format!("{slots} slots"),
                remedy: format!("use a power of two from 2 to {}", self.slots()),
            });
        }
        let count = u32::try_from(slots).map_err(|error| Error::Internal(error.to_string()))?;
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if !prepared.contains(&slots) {
            let most = slots.ilog2();
            call("bootstrap tables", || {
                ffi::prepare_bootstrap(
                    &self.context,
                    count,
                    boot.budget_encode.min(most),
                    boot.budget_decode.min(most),
                    boot.correction_factor,
                )
            })?;
            prepared.insert(slots);
        }
        Ok(count)
    }

    /// Residues of `value` · `scale`, rounded, modulo the primes of `level`; none when it rounds to zero.
    pub(super) fn residues(&self, value: f64, scale: Scale, level: Level) -> Vec<u64> {
        // The caller checked |value · scale| < 2^125.
        self.integer_residues((value * scale.0).round() as i128, level)
    }

    /// Residues of an integer modulo the primes of `level`; none for zero.
    pub(super) fn integer_residues(&self, integer: i128, level: Level) -> Vec<u64> {
        if integer == 0 {
            return Vec::new();
        }
        let residue = |q: &u64| u64::try_from(integer.rem_euclid(i128::from(*q))).unwrap_or(0);
        self.moduli.iter().take(level.0 + 1).map(residue).collect()
    }
}

/// Highest level after a bootstrap of `iterations` iterations: the second one costs a level.
pub(super) fn level_after(parameters: &OpenFheParameters, iterations: usize) -> Level {
    Level(parameters.levels.saturating_sub(iterations.saturating_sub(1)))
}

/// OpenFHE's canonical scales: the last prime at the top, then the square of each divided by the prime dropped.
fn chain_of(moduli: &[u64], depth: usize) -> Result<LevelChain> {
    match moduli {
        [base, .., top] if moduli.len() == depth + 1 => Ok(LevelChain::new(
            *base as f64,
            moduli.iter().skip(1).map(|q| *q as f64).collect(),
            Scale(*top as f64),
        )),
        _ => Err(Error::Internal(format!("OpenFHE made {} primes for depth {depth}", moduli.len()))),
    }
}

/// The evaluation keys of one secret key in OpenFHE's maps: how many evaluators need them.
pub(super) struct StoredKeys {
    tag: Arc<str>,
    holders: Mutex<usize>,
}

impl StoredKeys {
    pub(super) fn new(tag: Arc<str>) -> Arc<Self> {
        Arc::new(Self { tag, holders: Mutex::new(0) })
    }

    /// Runs `generate` while nobody can clear the keys, and counts one holder more.
    pub(super) fn hold(self: &Arc<Self>, generate: impl FnOnce() -> Result<()>) -> Result<KeyHolder> {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = generate();
        *holders += 1;
        drop(holders);
        // After a failure the holder is dropped at once and takes what was generated with it.
        let holder = KeyHolder { keys: Arc::clone(self) };
        outcome.map(|()| holder)
    }
}

/// One evaluator's hold on the keys. The last one to go clears them.
pub(super) struct KeyHolder {
    keys: Arc<StoredKeys>,
}

impl Drop for KeyHolder {
    fn drop(&mut self) {
        let mut holders = self.keys.holders.lock().unwrap_or_else(PoisonError::into_inner);
        *holders = holders.saturating_sub(1);
        if *holders == 0
            && let Err(error) = call("clear keys", || ffi::clear_keys(&self.keys.tag))
        {
            tracing::warn!("{error}");
        }
    }
}
