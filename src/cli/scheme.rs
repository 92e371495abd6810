//! What a verb that runs the decoder needs to know of an implementation and its parameters.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use cachemir::backend::clear::{ClearClient, ClearParameters};
use cachemir::backend::native::{NativeClient, noise_model_n16};
use cachemir::bootstrapping::BootstrapParameters;
use cachemir::contract::{BootstrapSummary, Client, Level, LevelChain};
use cachemir::llm::checkpoint::{CHECKPOINT_FILE, key_fingerprint};
use cachemir::llm::files::read_bounded;
use clap::ValueEnum;

use super::params::{KeyMargin, margins};

/// The client's secret key beside a checkpoint.
const SECRET_KEY_FILE: &str = "secret.key";
/// Largest file that is read as a secret key: N = 2^16 takes 64 KiB to 512 KiB.
const MAX_SECRET_KEY_BYTES: u64 = 1 << 24;

/// Which parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// A small ring without any security, for tests.
    Test,
    /// N = 2^16, 128-bit security.
    N16,
}

impl Preset {
    /// Slots of its ring.
    pub fn slots(self) -> usize {
        match self {
            Self::Test => 1 << 11,
            Self::N16 => 1 << 15,
        }
    }

    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::N16 => "n16",
        }
    }
}

/// A scheme as the decoder's plan needs to know it before there are evaluation keys.
pub struct Scheme {
    /// Name of the backend.
    pub name: &'static str,
    /// Its levels.
    pub chain: LevelChain,
    /// What its bootstrap offers.
    pub bootstrap: BootstrapSummary,
    /// Its slots.
    pub slots: usize,
    /// log2 of the probability that one bootstrap fails.
    pub log2_failure: Option<f64>,
    /// Margins of its keys; empty where nothing is claimed or no figure is known.
    pub security: Vec<KeyMargin>,
    /// Fingerprint of the stored secret key; empty when none is stored.
    pub key: String,
}

impl Scheme {
    /// The simulator with the thirteen levels between bootstraps that the real parameters leave; with `noise_bits` the
    /// noise of N = 2^16 and bootstraps wrong by 2^−`noise_bits`.
    pub fn clear(slots: usize, noise_bits: Option<f64>, seed: u64) -> anyhow::Result<(Self, ClearClient)> {
        // Slots that are put at the very end of an interval leave it when there is noise.
        let bound = if noise_bits.is_some() { 1.001 } else { 1.0 };
        let bootstrap = BootstrapSummary { output_level: Level(13), minimum_input_level: Level(0), bound };
        let mut parameters = ClearParameters::new(slots, 13, 42)?.with_bootstrapping(bootstrap);
        if let Some(bits) = noise_bits {
            parameters = parameters.with_noise(noise_model_n16(bits, seed)?);
        }
        let chain = parameters.chain.clone();
        let (log2_failure, security, key) = (None, Vec::new(), String::new());
        let scheme = Self { name: "clear", chain, bootstrap, slots, log2_failure, security, key };
        Ok((scheme, ClearClient::new(parameters)))
    }

    /// Our own CKKS, with the secret key kept in `directory` (made there when there is none), or with a fresh one.
    pub fn native(preset: Preset, directory: Option<&Path>) -> anyhow::Result<(Self, NativeClient)> {
        let parameters = match preset {
            Preset::Test => BootstrapParameters::test(12, 13),
            Preset::N16 => BootstrapParameters::n16(),
        };
        let bootstrap = BootstrapSummary {
            output_level: Level(parameters.output_level()),
            minimum_input_level: Level(parameters.minimum_input_level()),
            bound: parameters.bound.min(1.0),
        };
        let log2_failure = Some(parameters.log2_failure());
        let security = match preset {
            Preset::Test => Vec::new(),
            Preset::N16 => margins(&parameters)?,
        };
        let (client, key) = match directory {
            Some(directory) => stored_client(parameters, directory)?,
            None => (NativeClient::with_bootstrapping(parameters, None)?, String::new()),
        };
        let chain = client.ckks().parameters().chain().clone();
        let slots = client.slots();
        Ok((Self { name: "native", chain, bootstrap, slots, log2_failure, security, key }, client))
    }

    /// The simulator with the levels of this scheme and no noise.
    pub fn simulator(&self) -> ClearClient {
        ClearClient::new(ClearParameters {
            slots: self.slots,
            chain: self.chain.clone(),
            bootstrapping: Some(self.bootstrap),
            noise: None,
        })
    }
}

/// Client with the secret key in `directory`, which is written there, readable by its owner alone, when it is missing. Beside
/// a checkpoint it must not be missing: nothing else opens the caches.
fn stored_client(
    parameters: BootstrapParameters,
    directory: &Path,
) -> anyhow::Result<(NativeClient, String)> {
    let path = &directory.join(SECRET_KEY_FILE);
    if path.exists() {
        let secret = zeroize::Zeroizing::new(read_bounded(path, MAX_SECRET_KEY_BYTES)?);
        let client = NativeClient::with_stored_secret(parameters, &secret)
            .with_context(|| format!("cannot use the secret key {}", path.display()))?;
        return Ok((client, key_fingerprint(&secret)));
    }
    anyhow::ensure!(
        !directory.join(CHECKPOINT_FILE).exists(),
        "{} has a checkpoint and no {SECRET_KEY_FILE}: put the key back, or use another --checkpoint directory",
        directory.display()
    );
    let client = NativeClient::with_bootstrapping(parameters, None)?;
    let secret = client.secret_to_bytes()?;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    // A temporary file is private to its owner from the start; it becomes the key in one step.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&secret)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok((client, key_fingerprint(&secret)))
}
