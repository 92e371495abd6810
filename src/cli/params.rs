//! `cachemir params`: the parameter sets, with modulus, limit and margin of every key under its own secret.

use std::path::PathBuf;

use crate::backend::native::{n16_levelled, test_levelled};
use crate::bootstrapping::{BootstrapParameters, ModRaise};
use crate::ckks::security::{SecretKind, limit_log2_qp};
use crate::ckks::{KeySwitchingKey, Parameters, ParametersLiteral, Security};
use crate::contract::Level;
use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::report::Report;

/// Flags of `params`.
#[derive(Args)]
pub struct Params {
    /// Also write the table as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One parameter set.
#[derive(Serialize)]
struct Preset {
    name: String,
    log2_n: usize,
    secure: bool,
    levels: usize,
    limbs: usize,
    special_primes: usize,
    keys: Vec<Key>,
    levels_after_bootstrap: Option<usize>,
    log2_failure: Option<f64>,
    levels_after_bootstrap_of_few_values: Option<usize>,
    log2_failure_of_few_values: Option<f64>,
}

/// One kind of key, at its largest.
#[derive(Serialize)]
struct Key {
    #[serde(flatten)]
    margin: KeyMargin,
    /// Of one key at the highest level.
    bytes: u64,
}

/// The modulus of one kind of key against what 128-bit security allows under its secret.
#[derive(Clone, Serialize)]
pub struct KeyMargin {
    pub name: &'static str,
    pub log2_qp: f64,
    pub secret: String,
    pub limit_log2_qp: Option<f64>,
    pub margin_bits: Option<f64>,
}

impl std::fmt::Display for KeyMargin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:<20} log2(QP) = {:.1}, {} secret, ", self.name, self.log2_qp, self.secret)?;
        match (self.limit_log2_qp, self.margin_bits) {
            (Some(limit), Some(margin)) => write!(f, "limit {limit:.0}, margin {margin:+.1}"),
            _ => write!(f, "no limit known"),
        }
    }
}

/// Margins of all keys of bootstrapping `parameters`.
pub fn margins(parameters: &BootstrapParameters) -> anyhow::Result<Vec<KeyMargin>> {
    Ok(bootstrapping("", parameters, true)?.keys.into_iter().map(|key| key.margin).collect())
}

#[derive(Serialize)]
struct Body {
    presets: Vec<Preset>,
}

impl Params {
    /// Prints the table.
    pub fn run(self) -> anyhow::Result<()> {
        let presets = vec![
            levelled(test_levelled(12, 6))?,
            levelled(n16_levelled())?,
            bootstrapping("test-bootstrap", &BootstrapParameters::test(12, 6), false)?,
            bootstrapping("n16", &BootstrapParameters::n16(), true)?,
            bootstrapping("n16-few", &BootstrapParameters::n16_few(), true)?,
            bootstrapping("n16-few-deep", &BootstrapParameters::n16_few_deep(), true)?,
        ];
        for preset in &presets {
            print_preset(preset);
        }
        if let Some(path) = self.json {
            let body = Body { presets };
            Report::new("params", "native", "all", false, body).write(&path)?;
        }
        Ok(())
    }
}

/// The levelled set of a name, to measure operations with.
pub fn levelled_preset(name: &str) -> anyhow::Result<ParametersLiteral> {
    match name {
        "n16" => Ok(n16_levelled()),
        "test" => Ok(test_levelled(12, 6)),
        other => bail!("no preset `{other}`: use n16 or test, or --log2-n with --limbs and --digits"),
    }
}

fn key(name: &'static str, log2_n: usize, log2_qp: f64, secret: SecretKind, bytes: u64) -> Key {
    let limit = limit_log2_qp(log2_n, secret);
    let margin = KeyMargin {
        name,
        log2_qp,
        secret: secret.to_string(),
        limit_log2_qp: limit,
        margin_bits: limit.map(|limit| limit - log2_qp),
    };
    Key { margin, bytes }
}

fn levelled(literal: ParametersLiteral) -> anyhow::Result<Preset> {
    let (name, secure) = (literal.name.to_owned(), literal.security == Security::Classical128);
    let parameters = Parameters::new(literal)?;
    let ring = parameters.ring();
    let (log2_n, limbs, special) = (ring.log2_n() as usize, ring.chain_limbs(), ring.special_limbs());
    let Level(levels) = parameters.chain().max_level();
    let bytes = KeySwitchingKey::predicted_bytes(ring.degree(), limbs, special);
    let keys = vec![key("evaluation", log2_n, parameters.log2_qp_full()?, SecretKind::UniformTernary, bytes)];
    Ok(Preset {
        name,
        log2_n,
        secure,
        levels,
        limbs,
        special_primes: special,
        keys,
        levels_after_bootstrap: None,
        log2_failure: None,
        levels_after_bootstrap_of_few_values: None,
        log2_failure_of_few_values: None,
    })
}

fn bootstrapping(name: &str, parameters: &BootstrapParameters, secure: bool) -> anyhow::Result<Preset> {
    let built = Parameters::new(parameters.chain.clone())?;
    let ring = built.ring();
    let (log2_n, limbs, special) = (ring.log2_n() as usize, ring.chain_limbs(), ring.special_limbs());
    let bytes = KeySwitchingKey::predicted_bytes(ring.degree(), limbs, special);
    let (sparse_bits, sparse) = ModRaise::ephemeral_key(&built, parameters)?;
    let ephemeral_bytes =
        KeySwitchingKey::predicted_bytes(ring.degree(), 1, parameters.ephemeral_special_primes);
    let back_bytes = ModRaise::predicted_bytes(&built, parameters)?.saturating_sub(ephemeral_bytes);
    let dense = SecretKind::UniformTernary;
    let few =
        parameters.summary().few.map(|few| few.output_level.0.saturating_sub(few.minimum_input_level.0));
    Ok(Preset {
        name: name.to_owned(),
        log2_n,
        secure,
        levels: parameters.levels(),
        limbs,
        special_primes: special,
        keys: vec![
            key("evaluation", log2_n, built.log2_qp_full()?, dense, bytes),
            key("to ephemeral secret", log2_n, sparse_bits, sparse, ephemeral_bytes),
            key("from ephemeral secret", log2_n, ModRaise::dense_key_log2_qp(&built)?, dense, back_bytes),
        ],
        levels_after_bootstrap: Some(
            parameters.output_level().saturating_sub(parameters.minimum_input_level()),
        ),
        log2_failure: Some(parameters.log2_failure()),
        levels_after_bootstrap_of_few_values: few,
        log2_failure_of_few_values: parameters.log2_failure_few(),
    })
}

fn print_preset(preset: &Preset) {
    println!(
        "{}: N = 2^{}, {} slots, {} levels, {} + {} primes{}",
        preset.name,
        preset.log2_n,
        1usize << preset.log2_n.saturating_sub(1),
        preset.levels,
        preset.limbs,
        preset.special_primes,
        if preset.secure { "; 128-bit classical" } else { "; INSECURE, for tests" }
    );
    if let Some(levels) = preset.levels_after_bootstrap {
        println!("  levels between bootstraps  {levels}");
    }
    if let (Some(levels), Some(log2)) =
        (preset.levels_after_bootstrap_of_few_values, preset.log2_failure_of_few_values)
    {
        println!("  of few values              {levels}, failure 2^{log2:.1}");
    }
    for key in &preset.keys {
        println!("  {}, {:.1} MB a key", key.margin, key.bytes as f64 / 1e6);
    }
}
