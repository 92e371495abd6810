//! `cachemir calibrate`: the ranges of every non-linear site, and the decoder's functions over them checked on held-out
//! texts.

use std::path::PathBuf;

use crate::calibration::calibrate::{Calibrated, calibrate};
use crate::calibration::measure::Margins;
use crate::calibration::table::{CALIBRATION_FILE, CalibrationTable};
use crate::decoder::accuracy::Accuracy;
use crate::decoder::functions::FunctionLevels;
use crate::decoder::plan::DecoderPlan;
use crate::fidelity::agreement::FidelitySummary;
use crate::fidelity::twin::{TwinOutcome, compare_twin};
use crate::measure::{Report, write_atomically};
use crate::model::prepared::{PreparedModel, TextPart, built_in, read_texts};
use crate::setup::{Preset, Scheme};
use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::functions_table::print_functions;
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
    /// Head-room above the largest softmax denominator, in nats [default: 2.5].
    #[arg(long, value_name = "NATS")]
    denominator_top: Option<f64>,
    /// Parameters that the functions are fitted for; the ranges do not depend on them.
    #[arg(long, value_enum, default_value = "n16")]
    preset: Preset,
    /// Also write the findings as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Findings<'a> {
    model: &'a str,
    calibration_positions: usize,
    longest_context: usize,
    margins: &'a Margins,
    widened: &'a [String],
    /// Levels of every function, by layer.
    function_levels: Vec<FunctionLevels>,
    held_out: &'a FidelitySummary,
    out_of_interval: usize,
}

/// Token sequences to measure on, and those to check and widen on.
struct Texts {
    calibration: Vec<Vec<u32>>,
    held_out: Vec<Vec<u32>>,
}

impl Calibrate {
    /// Calibrates, prints and checks the functions, stores the ranges.
    pub fn run(self) -> anyhow::Result<()> {
        let prepared = PreparedModel::read(&self.model)?;
        let texts = self.texts(&prepared)?;
        let defaults = Margins::default();
        let margins =
            Margins { denominator_top: self.denominator_top.unwrap_or(defaults.denominator_top), ..defaults };
        let mut progress = Progress::default();
        let outcome =
            calibrate(&prepared, &texts.calibration, &texts.held_out, &margins, &mut |what, done, all| {
                progress.show(what, done, all);
            })?;
        progress.clear();
        print_ranges(&outcome);
        let config = prepared.model.config();
        // The levels of the simulator are those of the preset's real parameters.
        let scheme = Scheme::clear(self.preset, self.preset.slots(), None)?;
        let plan = DecoderPlan::new(config, &outcome.table.ranges, Accuracy::default(), scheme.bootstrap())?;
        print_functions(&plan);
        let twin = compare_twin(&prepared, &plan, &texts.held_out, None, &mut |done, all| {
            progress.show("checking", done, all);
        })?;
        progress.clear();
        print_check(&twin);
        let output = self.output.clone().unwrap_or_else(|| self.model.join(CALIBRATION_FILE));
        write_atomically(&output, outcome.table.to_json()?.as_bytes())
            .with_context(|| format!("cannot store {}", output.display()))?;
        println!("stored in {}", output.display());
        if let Some(path) = &self.json {
            let Calibrated { table, widened } = &outcome;
            let body = Findings {
                model: &table.model,
                calibration_positions: table.positions,
                longest_context: table.longest_context,
                margins: &table.margins,
                widened,
                function_levels: plan.layers.iter().map(|layer| layer.levels()).collect(),
                held_out: &twin.fidelity,
                out_of_interval: twin.outside().len(),
            };
            Report::new("calibrate", "twin", self.preset.name(), body).write(path)?;
        }
        Ok(())
    }

    fn texts(&self, prepared: &PreparedModel) -> anyhow::Result<Texts> {
        let (calibration, held_out) = match &self.texts {
            Some(path) => {
                let texts = read_texts(path)?.into_iter().enumerate();
                let (held_out, calibration): (Vec<_>, Vec<_>) = texts.partition(|(index, _)| index % 4 == 3);
                let texts = |part: Vec<(usize, String)>| part.into_iter().map(|(_, text)| text).collect();
                (texts(calibration), texts(held_out))
            }
            None => (
                built_in(TextPart::Calibration, prepared.frame.is_chat),
                built_in(TextPart::HeldOut, prepared.frame.is_chat),
            ),
        };
        anyhow::ensure!(!held_out.is_empty(), "at least four texts are needed: every fourth one is held out");
        let tokens = |texts: &Vec<String>| prepared.private_tokens(texts, self.context, self.answer_tokens);
        Ok(Texts { calibration: tokens(&calibration)?, held_out: tokens(&held_out)? })
    }
}

fn print_ranges(outcome: &Calibrated) {
    let CalibrationTable { positions, longest_context, public_prefix, .. } = &outcome.table;
    println!(
        "{positions} private positions, contexts up to {longest_context}, public prefix of {} tokens",
        public_prefix.len()
    );
    for site in &outcome.widened {
        println!("widened for held-out texts: {site}");
    }
}

fn print_check(twin: &TwinOutcome) {
    for site in twin.outside() {
        println!(
            "OUTSIDE on held-out texts: {}: {} arguments, {:.4} .. {:.4} in {:.4} .. {:.4}",
            site.site, site.outside, site.seen_low, site.seen_high, site.low, site.high
        );
    }
    let fidelity = &twin.fidelity;
    println!(
        "held-out, these functions in f64: {} positions, top-1 {:.2} %, KL mean {:.1e} max {:.1e}",
        fidelity.positions,
        100.0 * fidelity.top1,
        fidelity.kl_mean,
        fidelity.kl_max
    );
}
