//! `cachemir params`: the parameter sets, with modulus, limit and margin of every key under its own secret.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::measure::Report;
use crate::setup::parameter_sets::{ParameterSet, parameter_sets};

/// Flags of `params`.
#[derive(Args)]
pub struct Params {
    /// Also write the table as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Body {
    presets: Vec<ParameterSet>,
}

impl Params {
    /// Prints the table.
    pub fn run(self) -> anyhow::Result<()> {
        let presets = parameter_sets()?;
        presets.iter().for_each(print_preset);
        if let Some(path) = self.json {
            Report::new("params", "none", "all", Body { presets }).write(&path)?;
        }
        Ok(())
    }
}

fn print_preset(preset: &ParameterSet) {
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
