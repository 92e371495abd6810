//! `cachemir eval`: the approximated model against the exact one, teacher-forced.

use std::path::{Path, PathBuf};

use crate::calibration::table::CalibrationTable;
use crate::contract::Client;
use crate::decoder::Decoder;
use crate::decoder::head::HeadSide;
use crate::decoder::hidden_codec::HiddenCodec;
use crate::decoder::keys::plan_keys;
use crate::fidelity::agreement::FidelitySummary;
use crate::fidelity::approximated_model::{BootstrapNoise, SiteHeadroom};
use crate::fidelity::teacher_forcing::{BUCKET, teacher_forced};
use crate::generation::client::GenerationClient;
use crate::model::prepared::{PreparedModel, TextPart, built_in, read_texts};
use crate::model::weights::Weights;
use crate::setup::calibrate::{SimulationOutcome, simulate};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::decoder_setup::DecoderSetup;
use super::model_directory::{calibration, model_directory};
use super::progress::Progress;
use super::report::Report;
use super::scheme::{Preset, Scheme};

/// What computes the approximated model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EvalBackend {
    /// The approximations in f64, without slots or levels: fast.
    Simulated,
    /// The encrypted decoder itself, on the simulator.
    Clear,
    /// The encrypted decoder on our own CKKS.
    Native,
}

/// Flags of `eval`.
#[derive(Args)]
pub struct Eval {
    /// Model directory; the bundled tiny model without it.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// What computes the approximated model.
    #[arg(long, value_enum, default_value_t = EvalBackend::Simulated)]
    backend: EvalBackend,
    /// Texts separated by lines of three dashes. Default: a built-in set that calibration never sees.
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Parameters of the encrypted decoder.
    #[arg(long, value_enum, default_value = "test")]
    preset: Preset,
    /// Slots of the simulator [default: those of the preset].
    #[arg(long, value_name = "COUNT")]
    slots: Option<usize>,
    /// Run so many tokens at most.
    #[arg(long, value_name = "COUNT")]
    positions: Option<usize>,
    /// Tokens that go through the encrypted decoder together, as far as they fit; logits are compared behind the last of them.
    #[arg(long, default_value_t = 1, value_name = "TOKENS")]
    wave: usize,
    /// Calibration table [default: DIR/calibration.json; made on built-in texts when there is none].
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

#[derive(Serialize)]
struct DecoderFigures<'a> {
    #[serde(flatten)]
    fidelity: &'a FidelitySummary,
    noise_bits: Option<f64>,
    context: usize,
    /// Tokens at a time; compared behind the last of them.
    wave: usize,
    /// Why it ended early, if it did.
    stopped: Option<String>,
    /// Mean KL and positions of each sixteen positions behind the public prefix.
    kl_by_position: &'a [(f64, usize)],
}

impl Eval {
    /// Compares and prints the figures.
    pub fn run(self) -> anyhow::Result<()> {
        let (directory, _bundled) = model_directory(self.model.as_deref())?;
        let prepared = PreparedModel::read(&directory)?;
        let table = match &self.calibration {
            Some(path) => {
                CalibrationTable::read(path, prepared.model.config(), &prepared.model.fingerprint())?
            }
            None => calibration(&prepared, &directory)?,
        };
        let texts = match &self.texts {
            Some(path) => read_texts(path)?,
            None => built_in(TextPart::Evaluation, prepared.frame.is_chat),
        };
        let sequences = prepared.private_tokens(&texts, self.context, self.answer_tokens)?;
        match self.backend {
            EvalBackend::Simulated => self.simulate(&prepared, &table, &sequences),
            EvalBackend::Clear => {
                let slots = self.slots.unwrap_or(self.preset.slots());
                let (scheme, client) = Scheme::clear(slots, self.noise_bits, self.seed)?;
                self.decode(&directory, &prepared, &table, &sequences, &scheme, client)
            }
            EvalBackend::Native => {
                let (scheme, client) = Scheme::native(self.preset, None)?;
                self.decode(&directory, &prepared, &table, &sequences, &scheme, client)
            }
        }
    }

    fn simulate(
        &self,
        prepared: &PreparedModel,
        table: &CalibrationTable,
        sequences: &[Vec<u32>],
    ) -> anyhow::Result<()> {
        let noise = self.noise_bits.map(|bits| BootstrapNoise { bits, seed: self.seed });
        let mut progress = Progress::default();
        let outcome = simulate(prepared, table, sequences, noise, &mut |what, done, all| {
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

    /// The decoder itself, one token at a time.
    fn decode<K: Client>(
        &self,
        directory: &Path,
        prepared: &PreparedModel,
        table: &CalibrationTable,
        sequences: &[Vec<u32>],
        scheme: &Scheme,
        client: K,
    ) -> anyhow::Result<()> {
        let config = prepared.model.config();
        let context = prepared.frame.prefix.len() + sequences.iter().map(Vec::len).max().unwrap_or(0);
        let weights = Weights::open(directory, config)?;
        let preset = self.preset.name();
        let head = HeadSide::Client;
        let setup = DecoderSetup { prepared, calibration: table, scheme, preset, context, head };
        let plan = setup.plan(None)?;
        let codec = HiddenCodec::new(config, &plan, scheme.slots, context)?;
        let decoder = Decoder::new(&weights, plan, scheme.slots, context)?;
        let wave = self.wave.clamp(1, decoder.wave_capacity());
        let keys = plan_keys(&decoder, &scheme.chain, scheme.bootstrap, wave)?;
        let client = GenerationClient::new(client, codec, &prepared.model);
        let evaluator = client.evaluation_keys(&keys.request)?;
        let positions = self.positions.unwrap_or(usize::MAX);
        let mut progress = Progress::default();
        let outcome = teacher_forced(
            &client,
            &evaluator,
            &decoder,
            prepared,
            sequences,
            (positions, wave),
            &mut |done, all| progress.show("decoding", done, all),
        )?;
        progress.clear();
        println!(
            "the encrypted decoder on {}, teacher-forced, context {context}, {wave} tokens at a time",
            scheme.name
        );
        self.print_fidelity(&outcome.fidelity);
        println!("mean KL by position behind the public prefix:");
        for (index, (kl, count)) in outcome.kl_by_position.iter().enumerate() {
            println!("  {:>4} ..  {kl:.2e}   {count} positions", index * BUCKET);
        }
        let stopped =
            outcome.stopped.as_ref().map(|(position, error)| format!("at position {position}: {error}"));
        if let Some(path) = &self.json {
            let body = DecoderFigures {
                fidelity: &outcome.fidelity,
                noise_bits: self.noise_bits,
                context,
                wave,
                stopped: stopped.clone(),
                kl_by_position: &outcome.kl_by_position,
            };
            let insecure = self.backend == EvalBackend::Clear || self.preset == Preset::Test;
            Report::new("eval", scheme.name, self.preset.name(), insecure, body).write(path)?;
        }
        if let Some(stopped) = stopped {
            anyhow::bail!("the comparison ended early, {stopped}");
        }
        Ok(())
    }

    fn print_fidelity(&self, fidelity: &FidelitySummary) {
        println!("positions        {}", fidelity.positions);
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
    }

    fn print(&self, outcome: &SimulationOutcome) {
        println!("approximations simulated in f64, teacher-forced");
        self.print_fidelity(&outcome.fidelity);
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
