//! What a generation measured: its report, and the lines that close it.

use std::collections::BTreeMap;
use std::io::Write;

use crate::fidelity::shadow::StagePrecision;
use crate::fidelity::verification::Verification;
use crate::setup::security::KeyMargin;
use serde::Serialize;

/// The command's part of the report.
#[derive(Default, Serialize)]
pub struct GenerateReport {
    pub prompt_token_ids: Vec<u32>,
    pub token_ids: Vec<u32>,
    pub text: String,
    /// Tokens before the prompt that the server knows.
    pub public_prefix_tokens: usize,
    /// Which side applied the output head.
    pub head: &'static str,
    /// Mean over the tokens behind the first.
    pub seconds_per_token: f64,
    pub time_to_first_token_s: f64,
    /// Token by token, the first with its prompt.
    pub token_seconds: Vec<f64>,
    pub key_generation_s: f64,
    pub bootstraps_per_token: usize,
    pub rotation_keys: usize,
    pub key_bytes: Option<u64>,
    pub peak_bytes: Option<u64>,
    /// Every kind of key against the limit of 128 bits; empty where no figure is known or nothing is claimed.
    pub security: Vec<KeyMargin>,
    pub precision_min_bits: Option<f64>,
    pub stages: Vec<StagePrecision>,
    /// Over all bootstraps of the run.
    pub log2_failure_run: Option<f64>,
    #[serde(flatten)]
    pub verification: Option<Verification>,
}

impl GenerateReport {
    /// A report of tokens that took `seconds`, to be filled.
    pub fn of_seconds(seconds: Vec<f64>) -> Self {
        let first = seconds.first().copied().unwrap_or(0.0);
        let later = seconds.get(1..).unwrap_or_default();
        let mean = later.iter().sum::<f64>() / later.len() as f64;
        let seconds_per_token = if later.is_empty() { first } else { mean };
        Self { seconds_per_token, time_to_first_token_s: first, token_seconds: seconds, ..Self::default() }
    }
}

/// Bits of the worst slot over all bootstraps.
pub fn precision_min_bits(stages: &[StagePrecision]) -> Option<f64> {
    let bits = stages.iter().map(|stage| -stage.bootstrap_error.log2());
    bits.reduce(f64::min).filter(|bits| bits.is_finite())
}

/// A line a stage and layer: the worst over all tokens.
pub fn print_precision(stages: &[StagePrecision]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut worst: BTreeMap<(usize, &str), StagePrecision> = BTreeMap::new();
    for stage in stages {
        let entry = worst.entry((stage.progress.layer, stage.progress.stage)).or_insert(*stage);
        entry.largest = entry.largest.max(stage.largest);
        entry.bootstrap_error = entry.bootstrap_error.max(stage.bootstrap_error);
        entry.bootstrap_deviation = entry.bootstrap_deviation.max(stage.bootstrap_deviation);
        entry.drift = entry.drift.max(stage.drift);
    }
    if !worst.is_empty() {
        writeln!(
            out,
            "layer bootstrap        largest value   bits (rms / worst slot)   drift from the simulator"
        )?;
    }
    for ((layer, name), stage) in worst {
        writeln!(
            out,
            "{layer:>5} {name:<16} {:>12.4} {:>12.1} / {:<12.1} 2^{:.1}",
            stage.largest,
            -stage.bootstrap_deviation.log2(),
            -stage.bootstrap_error.log2(),
            stage.drift.log2()
        )?;
    }
    Ok(())
}

/// What the exact model says to the run, and the margins of its keys.
pub fn print_closing(report: &GenerateReport) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\nfirst token {:.1} s, then {:.1} s/token; keys made in {:.1} s{}",
        report.time_to_first_token_s,
        report.seconds_per_token,
        report.key_generation_s,
        report
            .peak_bytes
            .map_or_else(String::new, |bytes| format!("; peak memory {:.1} GB", bytes as f64 / 1e9))
    )?;
    for key in &report.security {
        writeln!(out, "{key}")?;
    }
    if let Some(log2) = report.log2_failure_run {
        writeln!(out, "a bootstrap of this run fails with probability 2^{log2:.1}")?;
    }
    if let Some(check) = &report.verification {
        writeln!(
            out,
            "against the exact model, {}: top-1 {:.1} %, logit error {:.4} (rms {:.4}), KL {:.2e}",
            check.mode.replace('_', "-"),
            100.0 * check.top1,
            check.logit_max_error,
            check.logit_rms_error,
            check.kl_mean
        )?;
    }
    Ok(())
}
