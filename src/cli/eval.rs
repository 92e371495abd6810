//! `cachemir eval`: the encrypted decoder, or its f64 twin, against the exact model, teacher-forced.

use std::path::{Path, PathBuf};

use crate::calibration::table::CalibrationTable;
use crate::contract::Client;
use crate::decoder::Decoder;
use crate::decoder::head::HeadSide;
use crate::decoder::hidden_codec::HiddenCodec;
use crate::decoder::keys::plan_keys;
use crate::fidelity::BootstrapNoise;
use crate::fidelity::teacher_forcing::{Extent, teacher_forced};
use crate::fidelity::twin::compare_twin;
use crate::generation::client::GenerationClient;
use crate::model::prepared::{PreparedModel, TextPart, built_in, read_texts};
use crate::model::weights::Weights;
use clap::{Args, ValueEnum};

use super::decoder_setup::DecoderSetup;
use super::eval_report::{DecoderFigures, TwinFigures, print_by_position, print_fidelity, print_headroom};
use super::model_directory::{calibration, model_directory, read_calibration};
use super::progress::Progress;
use super::report::Report;
use super::scheme::{Preset, Scheme};

/// What is compared with the exact model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EvalBackend {
    /// The encrypted decoder's functions in f64, without slots or levels: fast.
    Twin,
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
    /// What is compared with the exact model.
    #[arg(long, value_enum, default_value_t = EvalBackend::Clear)]
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
    /// Tokens that go through the encrypted decoder together, as far as they fit; logits are compared behind the last
    /// of them.
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

impl Eval {
    /// Compares and prints the figures.
    pub fn run(self) -> anyhow::Result<()> {
        let (directory, _bundled) = model_directory(self.model.as_deref())?;
        let prepared = PreparedModel::read(&directory)?;
        let table = match &self.calibration {
            Some(path) => read_calibration(&prepared, path)?,
            None => calibration(&prepared, &directory)?,
        };
        let texts = match &self.texts {
            Some(path) => read_texts(path)?,
            None => built_in(TextPart::Evaluation, prepared.frame.is_chat),
        };
        let sequences = prepared.private_tokens(&texts, self.context, self.answer_tokens)?;
        match self.backend {
            EvalBackend::Twin => {
                let slots = self.slots.unwrap_or(self.preset.slots());
                let (scheme, _) = Scheme::clear(slots, None, self.seed)?;
                self.twin(&directory, &prepared, &table, sequences, &scheme)
            }
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

    /// The twin, over all positions of as many tokens as are asked for.
    fn twin(
        &self,
        directory: &Path,
        prepared: &PreparedModel,
        table: &CalibrationTable,
        mut sequences: Vec<Vec<u32>>,
        scheme: &Scheme,
    ) -> anyhow::Result<()> {
        let weights = Weights::open(directory, prepared.model.config())?;
        let setup = self.setup(prepared, &weights, table, &sequences, scheme);
        // Only noise asks where the bootstraps stand.
        let plan = if self.noise_bits.is_some() { setup.plan(None)? } else { setup.functions()? };
        let mut left = self.positions.unwrap_or(usize::MAX);
        for tokens in &mut sequences {
            tokens.truncate(left);
            left -= tokens.len();
        }
        sequences.retain(|tokens| !tokens.is_empty());
        let noise = self.noise_bits.map(|bits| BootstrapNoise { bits, seed: self.seed });
        let mut progress = Progress::default();
        let outcome = compare_twin(prepared, &plan, &sequences, noise, &mut |done, all| {
            progress.show("comparing", done, all);
        })?;
        progress.clear();
        println!("the f64 twin of the encrypted decoder, teacher-forced");
        print_fidelity(&outcome.fidelity, self.noise_bits, self.seed);
        print_headroom(&outcome, self.sites);
        if let Some(path) = &self.json {
            let body = TwinFigures {
                fidelity: &outcome.fidelity,
                noise_bits: self.noise_bits,
                out_of_interval: outcome.outside(),
                headroom: &outcome.headroom,
            };
            // Nothing is encrypted.
            Report::new("eval", "twin", self.preset.name(), true, body).write(path)?;
        }
        Ok(())
    }

    /// What the decoder's plan for these texts is made from.
    fn setup<'a>(
        &self,
        prepared: &'a PreparedModel,
        weights: &'a Weights,
        calibration: &'a CalibrationTable,
        sequences: &[Vec<u32>],
        scheme: &'a Scheme,
    ) -> DecoderSetup<'a> {
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
        DecoderSetup {
            prepared,
            weights,
            calibration,
            scheme,
            preset: self.preset.name(),
            context: prepared.frame.prefix.len() + longest,
            head: HeadSide::Client,
        }
    }

    /// The decoder itself.
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
        let weights = Weights::open(directory, config)?;
        let setup = self.setup(prepared, &weights, table, sequences, scheme);
        let (plan, context) = (setup.plan(None)?, setup.context);
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
            Extent { positions, wave },
            &mut |done, all| progress.show("decoding", done, all),
        )?;
        progress.clear();
        println!(
            "the encrypted decoder on {}, teacher-forced, context {context}, {wave} tokens at a time",
            scheme.name
        );
        print_fidelity(&outcome.fidelity, self.noise_bits, self.seed);
        print_by_position(&outcome);
        let stopped =
            outcome.stopped.as_ref().map(|stop| format!("at position {}: {}", stop.position, stop.error));
        if let Some(path) = &self.json {
            let body = DecoderFigures {
                fidelity: &outcome.fidelity,
                noise_bits: self.noise_bits,
                context,
                wave,
                out_of_interval: stopped.as_deref().into_iter().collect(),
                stopped: stopped.as_deref(),
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
}
