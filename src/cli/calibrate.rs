//! `cachemir calibrate`: intervals, methods and degrees of every non-linear site, checked on held-out texts.

use std::path::PathBuf;

use crate::calibration::table::{
    CALIBRATION_FILE, CalibrationTable, CalibrationTargets, LayerCalibration, SoftmaxMethod,
};
use crate::fidelity::agreement::FidelitySummary;
use crate::measure::{Report, write_atomically};
use crate::model::prepared::{PreparedModel, TextPart, built_in, read_texts};
use crate::setup::calibrate::{CalibrationOutcome, calibrate};
use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::progress::Progress;

/// Flags of `calibrate`.
#[derive(Args)]
pub struct Calibrate {
    /// Model directory (config.json, model.safetensors, tokenizer.json).
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Texts separated by lines of three dashes; every fourth one is held out. Default: a built-in set.
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Where to write the table [default: DIR/calibration.json].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Longest context, public prefix included.
    #[arg(long, default_value_t = 128, value_name = "POSITIONS")]
    context: usize,
    /// Tokens of the exact model's own answer behind each message (models with a chat template).
    #[arg(long, default_value_t = 24, value_name = "TOKENS")]
    answer_tokens: usize,
    /// Precision of bootstraps, in bits, that the approximations must survive.
    #[arg(long, value_name = "BITS")]
    bootstrap_bits: Option<f64>,
    /// Head-room above the largest softmax denominator, in nats.
    #[arg(long, value_name = "NATS")]
    denominator_top: Option<f64>,
    /// Also write the findings as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Findings {
    model: String,
    calibration_positions: usize,
    longest_context: usize,
    widened: Vec<String>,
    levels_per_layer: Vec<usize>,
    held_out: FidelitySummary,
    out_of_interval: usize,
}

impl Calibrate {
    /// Calibrates, prints the table, stores it.
    pub fn run(self) -> anyhow::Result<()> {
        let prepared = PreparedModel::read(&self.model)?;
        let (calibration, held_out) = match &self.texts {
            Some(path) => {
                let texts = read_texts(path)?;
                let (held_out, calibration): (Vec<_>, Vec<_>) =
                    texts.into_iter().enumerate().partition(|(index, _)| index % 4 == 3);
                let texts =
                    |part: Vec<(usize, String)>| part.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
                (texts(calibration), texts(held_out))
            }
            None => (
                built_in(TextPart::Calibration, prepared.frame.is_chat),
                built_in(TextPart::HeldOut, prepared.frame.is_chat),
            ),
        };
        anyhow::ensure!(!held_out.is_empty(), "at least four texts are needed: every fourth one is held out");
        let calibration = prepared.private_tokens(&calibration, self.context, self.answer_tokens)?;
        let held_out = prepared.private_tokens(&held_out, self.context, self.answer_tokens)?;
        let defaults = CalibrationTargets::default();
        let targets = CalibrationTargets {
            bootstrap_bits: self.bootstrap_bits.unwrap_or(defaults.bootstrap_bits),
            denominator_top: self.denominator_top.unwrap_or(defaults.denominator_top),
            ..defaults
        };
        let mut progress = Progress::default();
        let outcome = calibrate(&prepared, &calibration, &held_out, &targets, &mut |what, done, all| {
            progress.show(what, done, all);
        })?;
        progress.clear();
        print_table(&outcome.table);
        print_check(&outcome);
        let output = self.output.unwrap_or_else(|| self.model.join(CALIBRATION_FILE));
        write_atomically(&output, outcome.table.to_json()?.as_bytes())
            .with_context(|| format!("cannot store {}", output.display()))?;
        println!("stored in {}", output.display());
        if let Some(path) = self.json {
            let body = Findings {
                model: outcome.table.model.clone(),
                calibration_positions: outcome.table.positions,
                longest_context: outcome.table.longest_context,
                out_of_interval: outcome.held_out.outside().len(),
                widened: outcome.widened,
                levels_per_layer: outcome
                    .table
                    .layers
                    .iter()
                    .map(LayerCalibration::main_path_levels)
                    .collect(),
                held_out: outcome.held_out.fidelity,
            };
            Report::new("calibrate", "simulated", "none", body).write(&path)?;
        }
        Ok(())
    }
}

fn print_table(table: &CalibrationTable) {
    println!(
        "{} private positions, contexts up to {}, public prefix of {} tokens",
        table.positions,
        table.longest_context,
        table.public_prefix.len()
    );
    println!(
        "degree+Newton for 1/√x, degree^2^squarings for exp, iterations for 1/D (ns: normalise and square)"
    );
    println!("layer  norm 1   exp     1/D       norm 2   SiLU  main-path levels");
    for (index, layer) in table.layers.iter().enumerate() {
        let norm = |site: &crate::calibration::table::NormSite| {
            format!("{}+{}", site.function.start.degree(), site.function.newton_steps)
        };
        let (exponential, division) = match &layer.softmax.method {
            SoftmaxMethod::Deferred => {
                (&layer.softmax.exponential, layer.softmax.inverse.iterations.to_string())
            }
            SoftmaxMethod::NormalizeAndSquare(site) => (
                &site.exponential,
                format!("ns {},{}x{}", site.first.iterations, site.later.iterations, site.squarings),
            ),
        };
        println!(
            "{index:>5}  {:<7}  {:<6}  {division:<8}  {:<7}  {:<4}  {}",
            norm(&layer.input_norm),
            format!("{}^{}", exponential.root.degree(), 1 << exponential.squarings),
            norm(&layer.post_attention_norm),
            layer.silu.function.degree(),
            layer.main_path_levels()
        );
    }
}

fn print_check(outcome: &CalibrationOutcome) {
    for site in &outcome.widened {
        println!("widened for held-out texts: {site}");
    }
    for site in outcome.held_out.outside() {
        println!(
            "OUTSIDE on held-out texts: {}: {} arguments, {:.4} .. {:.4} in {:.4} .. {:.4}",
            site.site, site.outside, site.seen_low, site.seen_high, site.low, site.high
        );
    }
    let fidelity = &outcome.held_out.fidelity;
    println!(
        "held-out, simulated: {} positions, top-1 {:.2} %, KL mean {:.1e} max {:.1e}",
        fidelity.positions,
        100.0 * fidelity.top1,
        fidelity.kl_mean,
        fidelity.kl_max
    );
}
