//! `cachemir params`: the parameter sets, with modulus, limit and margin of every key under its own secret.

use std::path::PathBuf;

use crate::backend::native::{n16_levelled, test_levelled};
use crate::bootstrapping::BootstrapParameters;
use crate::ckks::security::SecretKind;
use crate::ckks::{KeySwitchingKey, Parameters, ParametersLiteral, Security};
use crate::contract::Level;
use crate::setup::security::{KeyMargin, KeyOfPreset, keys_of};
use anyhow::Context;
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
    keys: Vec<KeyOfPreset>,
    levels_after_bootstrap: Option<usize>,
    log2_failure: Option<f64>,
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
    Ok(crate::setup::Preset::from_name(name)
        .context("or give --log2-n with --limbs and --digits")?
        .levelled())
}

fn levelled(literal: ParametersLiteral) -> anyhow::Result<Preset> {
    let (name, secure) = (literal.name.to_owned(), literal.security == Security::Classical128);
    let parameters = Parameters::new(literal)?;
    let ring = parameters.ring();
    let (log2_n, limbs, special) = (ring.log2_n() as usize, ring.chain_limbs(), ring.special_limbs());
    let Level(levels) = parameters.chain().max_level();
    let bytes = KeySwitchingKey::predicted_bytes(ring.degree(), limbs, special);
    let margin = KeyMargin::new("evaluation", log2_n, parameters.log2_qp_full()?, SecretKind::UniformTernary);
    let keys = vec![KeyOfPreset { margin, bytes }];
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
    })
}

fn bootstrapping(name: &str, parameters: &BootstrapParameters, secure: bool) -> anyhow::Result<Preset> {
    let built = Parameters::new(parameters.chain.clone())?;
    let ring = built.ring();
    let (log2_n, limbs, special) = (ring.log2_n() as usize, ring.chain_limbs(), ring.special_limbs());
    Ok(Preset {
        name: name.to_owned(),
        log2_n,
        secure,
        levels: parameters.levels(),
        limbs,
        special_primes: special,
        keys: keys_of(parameters, &built)?,
        levels_after_bootstrap: Some(
            parameters.output_level().saturating_sub(parameters.minimum_input_level()),
        ),
        log2_failure: Some(parameters.log2_failure()),
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
    for key in &preset.keys {
        println!("  {}, {:.1} MB a key", key.margin, key.bytes as f64 / 1e6);
    }
}
