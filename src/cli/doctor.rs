//! `cachemir doctor`: what this machine offers.

use std::path::PathBuf;

use crate::ring::kernels::Kernels;
use clap::Args;
use serde::Serialize;

use super::machine::{Machine, available_memory_bytes};
use super::report::Report;

/// Flags of `doctor`.
#[derive(Args)]
pub struct Doctor {
    /// Also write the findings as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Findings {
    kernels: &'static str,
    available_memory_bytes: Option<u64>,
    openfhe: &'static str,
}

impl Doctor {
    /// Prints the findings.
    pub fn run(self) -> anyhow::Result<()> {
        let machine = Machine::detect();
        let openfhe =
            if cfg!(feature = "openfhe") { "built in" } else { "not built in (cargo feature `openfhe`)" };
        println!("cores      {}", machine.cores);
        println!(
            "simd       {}",
            if machine.simd.is_empty() {
                "none: portable kernels".to_owned()
            } else {
                machine.simd.join(", ")
            }
        );
        println!("kernels    {}", Kernels::detect().name());
        println!("memory     {:.1} GiB", machine.memory_bytes as f64 / f64::from(1u32 << 30));
        if let Some(bytes) = available_memory_bytes() {
            println!("available  {:.1} GiB", bytes as f64 / f64::from(1u32 << 30));
        }
        println!("openfhe    {openfhe}");
        if let Some(path) = self.json {
            let body = Findings {
                kernels: Kernels::detect().name(),
                available_memory_bytes: available_memory_bytes(),
                openfhe,
            };
            Report::new("doctor", "none", "none", false, body).write(&path)?;
        }
        Ok(())
    }
}
