//! `cachemir eval`: the approximated model against the exact one, teacher-forced.

use std::path::PathBuf;

use cachemir::llm::calibrate::{SimulationOutcome, simulate};
use cachemir::llm::calibration::{CALIBRATION_FILE, CalibrationTable};
use cachemir::llm::fidelity::FidelitySummary;
use cachemir::llm::simulation::{BootstrapNoise, SiteHeadroom};
use cachemir::llm::texts::{PreparedModel, TextPart, built_in, read_texts};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::progress::Progress;
use super::report::Report;

/// What computes the approximated model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EvalBackend {
    /// The approximations in f64, without slots or levels.
    Simulated,
}

/// Flags of `eval`.
#[derive(Args)]
pub struct Eval {
    /// Model directory, calibrated before (`cachemir calibrate`).
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// What computes the approximated model.
    #[arg(long, value_enum, default_value_t = EvalBackend::Simulated)]
    backend: EvalBackend,
    /// Texts separated by lines of three dashes. Default: a built-in set that calibration never sees.
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Calibration table [default: DIR/calibration.json].
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Longest context, public prefix included.
    #[arg(long, default_value_t = 128, value_name = "POSITIONS")]
    context: usize,
    /// Tokens of the exact model's own answer behind each message (models with a chat template).
    #[arg(long, default_value_t = 24, value_name = "TOKENS")]
    answer_tokens: usize,
    /// Add noise of 2^-BITS of each refreshed tensor's bound where bootstraps stand.
    #[arg(long, value_name = "BITS")]
    noise_bits: Option<f64>,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Sites with the least headroom to print.
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    sites: usize,
    /// Also write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Figures<'a> {
    #[serde(flatten)]
    fidelity: &'a FidelitySummary,
    noise_bits: Option<f64>,
    out_of_interval: Vec<&'a SiteHeadroom>,
    headroom: &'a [SiteHeadroom],
}

impl Eval {
    /// Compares and prints the figures.
    pub fn run(self) -> anyhow::Result<()> {
        let prepared = PreparedModel::read(&self.model)?;
        let path = self.calibration.clone().unwrap_or_else(|| self.model.join(CALIBRATION_FILE));
        let table = CalibrationTable::read(&path, prepared.model.config(), &prepared.model.fingerprint())?;
        let texts = match &self.texts {
            Some(path) => read_texts(path)?,
            None => built_in(TextPart::Evaluation, prepared.frame.is_chat),
        };
        let sequences = prepared.private_tokens(&texts, self.context, self.answer_tokens)?;
        let noise = self.noise_bits.map(|bits| BootstrapNoise { bits, seed: self.seed });
        let mut progress = Progress::default();
        let outcome = simulate(&prepared, &table, &sequences, noise, &mut |what, done, all| {
            progress.show(what, done, all);
        })?;
        progress.clear();
        self.print(&outcome);
        if let Some(path) = &self.json {
            let body = Figures {
                fidelity: &outcome.fidelity,
                noise_bits: self.noise_bits,
                out_of_interval: outcome.outside(),
                headroom: &outcome.headroom,
            };
            Report::new("eval", "simulated", "none", false, body).write(path)?;
        }
        Ok(())
    }

    fn print(&self, outcome: &SimulationOutcome) {
        let fidelity = &outcome.fidelity;
        println!("approximations simulated in f64, teacher-forced, {} positions", fidelity.positions);
        if let Some(bits) = self.noise_bits {
            println!("noise at every bootstrap: 2^-{bits} of each tensor's bound, seed {}", self.seed);
        }
        println!("top-1 agreement  {:.2} %", 100.0 * fidelity.top1);
        println!("KL (nats)        mean {:.2e}, max {:.2e}", fidelity.kl_mean, fidelity.kl_max);
        println!(
            "perplexity       exact {:.4}, approximated {:.4}",
            fidelity.perplexity_exact, fidelity.perplexity_approx
        );
        println!("logit error      max {:.2e}", fidelity.logit_max_error);
        let mut sites: Vec<&SiteHeadroom> = outcome.headroom.iter().collect();
        sites.sort_by(|a, b| b.headroom.total_cmp(&a.headroom));
        println!("sites nearest to their bound (largest |unit variable|):");
        for site in sites.iter().take(self.sites) {
            println!(
                "  {:<28} {:.3}   {:.4} .. {:.4} in {:.4} .. {:.4}",
                site.site, site.headroom, site.seen_low, site.seen_high, site.low, site.high
            );
        }
        let outside = outcome.outside();
        println!("sites outside their interval: {}", outside.len());
        for site in outside {
            println!("  {}: {} arguments", site.site, site.outside);
        }
    }
}
