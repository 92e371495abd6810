//! `cachemir doctor`: what this machine offers.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::measure::{Machine, Report, available_memory_bytes};
use crate::ring::kernels::Kernels;

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
        let (machine, available) = (Machine::detect(), available_memory_bytes());
        let gibibytes = |bytes: Option<u64>| {
            let bytes = bytes.map(|bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1u32 << 30)));
            bytes.unwrap_or_else(|| "not known on this system".to_owned())
        };
        let openfhe =
            if cfg!(feature = "openfhe") { "built in" } else { "not built in (cargo feature `openfhe`)" };
        println!("cores      {}", machine.cores);
        println!("simd       {}", machine.simd_text());
        println!("kernels    {}", Kernels::detect().name());
        println!("memory     {}", gibibytes(machine.memory_bytes));
        println!("available  {}", gibibytes(available));
        println!("openfhe    {openfhe}");
        if let Some(path) = self.json {
            let kernels = Kernels::detect().name();
            let body = Findings { kernels, available_memory_bytes: available, openfhe };
            Report::new("doctor", "none", "none", body).write(&path)?;
        }
        Ok(())
    }
}
