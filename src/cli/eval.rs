//! `cachemir eval`: the encrypted decoder, or its f64 twin, against the exact model, teacher-forced.

use std::path::PathBuf;

use crate::backend::native::NativeClient;
use crate::contract;
use crate::fidelity::BootstrapNoise;
use crate::fidelity::teacher_forcing::{Extent, teacher_forced};
use crate::fidelity::twin::compare_twin;
use crate::generation::client::Client;
use crate::measure::Report;
use crate::model::prepared::{TextPart, built_in, read_texts};
use crate::setup::{Model, Preset, Scheme, SetupOptions, SimulatedNoise};
use clap::{Args, ValueEnum};

use super::eval_report::{DecoderFigures, TwinFigures, print_by_position, print_fidelity, print_headroom};
use super::flags::open_model;
use super::progress::Progress;

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
        let model = match (&self.calibration, &self.model) {
            (Some(calibration), Some(directory)) => Model::open_calibrated(directory, calibration)?,
            (Some(calibration), None) => {
                let bundled = crate::setup::unpack_bundled_model()?;
                Model::open_calibrated(bundled.path(), calibration)?
            }
            (None, directory) => open_model(directory.as_deref(), &mut |_, _, _| {})?,
        };
        let prepared = model.prepared();
        let texts = match &self.texts {
            Some(path) => read_texts(path)?,
            None => built_in(TextPart::Evaluation, prepared.frame.is_chat),
        };
        let sequences = prepared.private_tokens(&texts, self.context, self.answer_tokens)?;
        let slots = self.slots.unwrap_or(self.preset.slots());
        match self.backend {
            EvalBackend::Twin => self.twin(&model, sequences, &Scheme::clear(self.preset, slots, None)?),
            EvalBackend::Clear => {
                let noise =
                    self.noise_bits.map(|bootstrap_bits| SimulatedNoise { bootstrap_bits, seed: self.seed });
                let scheme = Scheme::clear(self.preset, slots, noise)?;
                let secret = scheme.simulator();
                self.decode(&model, &sequences, scheme, secret)
            }
            EvalBackend::Native => {
                let scheme = Scheme::native(self.preset)?;
                let secret = NativeClient::with_bootstrapping(scheme.native_parameters()?.clone(), None)?;
                self.decode(&model, &sequences, scheme, secret)
            }
        }
    }

    /// Options for these texts.
    fn options(&self, model: &Model, sequences: &[Vec<u32>]) -> SetupOptions {
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
        SetupOptions::new(self.preset).context(model.prepared().frame.prefix.len() + longest)
    }

    /// The twin, over all positions of as many tokens as are asked for.
    fn twin(&self, model: &Model, mut sequences: Vec<Vec<u32>>, scheme: &Scheme) -> anyhow::Result<()> {
        let options = self.options(model, &sequences);
        // Only noise asks where the bootstraps stand.
        let plan = match self.noise_bits {
            Some(_) => options.planned(scheme, model)?,
            None => options.functions(scheme, model)?,
        };
        let mut left = self.positions.unwrap_or(usize::MAX);
        for tokens in &mut sequences {
            tokens.truncate(left);
            left -= tokens.len();
        }
        sequences.retain(|tokens| !tokens.is_empty());
        let noise = self.noise_bits.map(|bits| BootstrapNoise { bits, seed: self.seed });
        let mut progress = Progress::default();
        let outcome = compare_twin(model.prepared(), &plan, &sequences, noise, &mut |done, all| {
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
            Report::new("eval", "twin", self.preset.name(), body).write(path)?;
        }
        Ok(())
    }

    /// The decoder itself.
    fn decode<K: contract::Client>(
        &self,
        model: &Model,
        sequences: &[Vec<u32>],
        scheme: Scheme,
        secret: K,
    ) -> anyhow::Result<()> {
        let options = self.options(model, sequences).wave(self.wave);
        let setup = options.build_on(scheme, model, &mut |_, _, _| {})?;
        let (scheme, wave, context) = (setup.scheme(), setup.wave(), setup.context());
        let client = Client::with_secret(&setup, secret);
        let evaluator = client.keys()?;
        let positions = self.positions.unwrap_or(usize::MAX);
        let mut progress = Progress::default();
        let outcome = teacher_forced(
            &client,
            &evaluator,
            setup.decoder(),
            model.prepared(),
            sequences,
            Extent { positions, wave },
            &mut |done, all| progress.show("decoding", done, all),
        )?;
        progress.clear();
        println!(
            "the encrypted decoder on {}, teacher-forced, context {context}, {wave} tokens at a time",
            scheme.backend()
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
            Report::new("eval", scheme.backend().name(), self.preset.name(), body).write(path)?;
        }
        if let Some(stopped) = stopped {
            anyhow::bail!("the comparison ended early, {stopped}");
        }
        Ok(())
    }
}
