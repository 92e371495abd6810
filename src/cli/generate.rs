//! `cachemir generate`: text from an encrypted prompt.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::contract::{BootstrapSummary, Client, Evaluator, KeyRequest};
use crate::decoder::Decoder;
use crate::decoder::hidden_codec::HiddenCodec;
use crate::decoder::keys::plan_keys;
use crate::fidelity::shadow::Shadow;
use crate::fidelity::verification::Verification;
use crate::generation::checkpoint::{CheckpointHeader, plan_digest, read_checkpoint, write_checkpoint};
use crate::generation::client::GenerationClient;
use crate::generation::sampling::Sampling;
use crate::generation::server::GenerationServer;
use crate::generation::session::{GeneratedToken, GenerationRequest, Session};
use crate::model::prepared::PreparedModel;
use crate::model::weights::Weights;
use anyhow::Context;
use clap::{Args, ValueEnum};

use super::decoder_setup::DecoderSetup;
use super::generate_page::html_page;
use super::generate_report::{GenerateReport, failures, precision_min_bits, print_closing, print_precision};
use super::head::Head;
use super::machine::{available_memory_bytes, peak_memory_bytes};
use super::model_directory::{calibration, model_directory};
use super::report::{Report, write_atomically};
use super::scheme::{Preset, Scheme};

/// Rough memory of a decode step beside the keys: ciphertexts, diagonals and plaintexts in flight.
const WORKING_BYTES_PER_SLOT: u64 = 60_000;

/// Bits that each slot keeps in a native bootstrap at least, or `--verify` fails.
const MIN_BOOTSTRAP_BITS: f64 = 13.5;

/// Which implementation computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// The simulator: slots in the clear, nothing is encrypted.
    Clear,
    /// Our own CKKS.
    Native,
    /// OpenFHE's CKKS.
    Openfhe,
}

/// Generate text while prompt, activations and KV cache stay encrypted.
#[derive(Args)]
pub struct Generate {
    /// Model directory in Hugging Face layout; the bundled tiny model without it.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Text to continue.
    #[arg(long, default_value = "ROMEO:")]
    prompt: String,
    /// New tokens at most.
    #[arg(long, default_value_t = 8)]
    max_new_tokens: usize,
    /// 0 for greedy; larger is more random.
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Pick among the likeliest so many only; 0 for all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Pick among the likeliest that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Implementation.
    #[arg(long, value_enum, default_value = "native")]
    backend: Backend,
    /// Parameters.
    #[arg(long, visible_alias = "params", value_enum, default_value = "n16")]
    preset: Preset,
    /// For the simulator: noise as N = 2^16 has it, and bootstraps that are wrong by 2^-BITS (standard deviation).
    #[arg(long, value_name = "BITS")]
    noise_bits: Option<f64>,
    /// Tokens the caches are laid out for; prompt and new tokens without it.
    #[arg(long)]
    context: Option<usize>,
    /// Where to bootstrap and to which level, as `cachemir plan --model` writes it; solved at the start without it.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Prompt tokens that go through the model together, sharing bootstraps, as far as they fit; 1 for one by one. More of
    /// them need more rotation keys.
    #[arg(long, default_value_t = 8, value_name = "TOKENS")]
    wave: usize,
    /// Also run the exact f32 model on the same tokens and compare; fails when a token is not the exact model's where that one
    /// is sure, a logit is wrong by more than 0.05 (of another model: than 0.05 of the range of its logits), or a bootstrap lost
    /// too many bits.
    #[arg(long)]
    verify: bool,
    /// Keep the state of the run, and the client's secret key, in this directory, and go on from there: a run that was killed
    /// makes new evaluation keys and continues after its last token.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// Which side applies the output head.
    #[arg(long, value_enum, default_value = "client")]
    head: Head,
    /// Write a report.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the report as one HTML page with plots; it shows the prompt.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Generate {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<()> {
        let (directory, _bundled) = model_directory(self.model.as_deref())?;
        match self.backend {
            Backend::Clear => {
                let (scheme, client) = Scheme::clear(self.preset.slots(), self.noise_bits, self.seed)?;
                self.generate(&directory, scheme, client, |_, _| Ok(0))
            }
            Backend::Native => {
                let (scheme, client) = Scheme::native(self.preset, self.checkpoint.as_deref())?;
                self.generate(&directory, scheme, client, |client, request| {
                    Ok(client.predicted_key_bytes(request)?)
                })
            }
            Backend::Openfhe => self.with_openfhe(&directory),
        }
    }

    #[cfg(feature = "openfhe")]
    fn with_openfhe(&self, directory: &Path) -> anyhow::Result<()> {
        use crate::backend::openfhe::{OpenFheClient, OpenFheParameters};
        anyhow::ensure!(
            self.preset == Preset::Test,
            "backend openfhe generates in its small ring only: use --preset test, or --backend native"
        );
        anyhow::ensure!(
            self.checkpoint.is_none(),
            "backend openfhe cannot resume: its secret key is not stored; leave --checkpoint out"
        );
        let client = OpenFheClient::new(OpenFheParameters::test_generation())?;
        let scheme = Scheme {
            name: "openfhe",
            chain: client.chain().clone(),
            bootstrap: client.bootstrapping().context("OpenFHE's parameters do not bootstrap")?,
            slots: client.slots(),
            // OpenFHE documents no figure.
            log2_failure: None,
            security: Vec::new(),
            key: String::new(),
        };
        self.generate(directory, scheme, client, |client, request| Ok(client.predicted_key_bytes(request)))
    }

    #[cfg(not(feature = "openfhe"))]
    fn with_openfhe(&self, _directory: &Path) -> anyhow::Result<()> {
        anyhow::bail!(
            "this program was built without OpenFHE: build it with `cargo build --release --features openfhe`"
        )
    }

    fn generate<K: Client>(
        &self,
        directory: &Path,
        scheme: Scheme,
        client: K,
        key_bytes: impl FnOnce(&K, &KeyRequest) -> anyhow::Result<u64>,
    ) -> anyhow::Result<()> {
        // Everything that can be refused is refused before keys are made.
        let saved = match &self.checkpoint {
            Some(directory) => read_checkpoint(directory)?,
            None => None,
        };
        let prepared = PreparedModel::read(directory)?;
        let config = prepared.model.config();
        let request = self.request(&prepared)?;
        let needed = request.prefix.len() + request.prompt.len() + request.max_new_tokens;
        let context = self.context.unwrap_or(needed);
        request.check(context.min(config.max_position_embeddings))?;
        let table = calibration(&prepared, directory)?;
        table.check_context(needed)?;
        let weights = Weights::open(directory, config)?;
        let setup = DecoderSetup {
            prepared: &prepared,
            calibration: &table,
            scheme: &scheme,
            preset: self.preset.name(),
            context,
            head: self.head.side(),
        };
        let plan = setup.plan(self.plan.as_deref())?;
        let bootstraps_per_token = plan.bootstraps_per_token();
        let codec = HiddenCodec::new(config, &plan, scheme.slots, context)?;
        let decoder = Decoder::new(&weights, plan, scheme.slots, context)?;
        let mut header = CheckpointHeader {
            scheme: format!("{} {:?} {} slots", scheme.name, self.preset, scheme.slots),
            key: scheme.key.clone(),
            plan: plan_digest(&decoder)?,
            context,
            request: request.clone(),
            generated: Vec::new(),
        };
        if let Some((saved, _)) = &saved {
            saved.require(&header)?;
        }
        let wave = self.wave.min(decoder.wave_capacity()).min(request.prompt.len()).max(1);
        let keys = plan_keys(&decoder, &scheme.chain, scheme.bootstrap, wave)?;
        let key_bytes = key_bytes(&client, &keys.request)?;
        let needed_bytes = key_bytes + key_bytes / 8 + WORKING_BYTES_PER_SLOT * scheme.slots as u64;
        if let Some(available_bytes) = available_memory_bytes()
            && available_bytes < needed_bytes
        {
            let operation = "generate";
            return Err(crate::Error::Memory { operation, needed_bytes, available_bytes }.into());
        }
        eprintln!(
            "{}: {} slots, {} layers, {bootstraps_per_token} bootstraps a token, {} rotation keys, about {:.1} GB of memory{}",
            scheme.name,
            scheme.slots,
            config.num_hidden_layers,
            keys.request.rotations.len(),
            needed_bytes as f64 / 1e9,
            match (self.backend, self.preset) {
                (Backend::Clear, _) => "; the simulator encrypts NOTHING",
                (_, Preset::Test) => "; the test preset has NO security",
                _ => "",
            }
        );

        let start = Instant::now();
        let shadow_codec = codec.clone();
        let client = GenerationClient::new(client, codec, &prepared.model).with_server_head(decoder.head());
        let evaluator = client.evaluation_keys(&keys.request)?;
        let key_generation_s = start.elapsed().as_secs_f64();
        let state = match &saved {
            Some((saved, caches)) => {
                header.generated.clone_from(&saved.generated);
                decoder.state_from_bytes(&evaluator, caches)?
            }
            None => {
                let mut state = decoder.new_state();
                decoder.append_public_prefix(&evaluator, &mut state, &prepared.prefix_cache)?;
                state
            }
        };
        let server = GenerationServer::new(&decoder, evaluator, state);
        let mut session =
            Session::new(client, server, request.clone(), header.generated.clone())?.with_wave(wave);
        let mut shadow = match self.verify && saved.is_none() {
            true => {
                let bootstrap = session.server().evaluator().bootstrapping();
                Some(shadow(&decoder, &scheme, &prepared, shadow_codec, &keys.request, bootstrap)?)
            }
            false => None,
        };
        let (steps, bootstraps) =
            self.stream(&mut session, &prepared, &mut header, (shadow.as_mut(), wave))?;

        let token_ids: Vec<u32> = session.generated().to_vec();
        let seconds: Vec<f64> = steps.iter().map(|step| step.elapsed.as_secs_f64()).collect();
        let first = seconds.first().copied().unwrap_or(0.0);
        let later = seconds.get(1..).unwrap_or_default();
        let seconds_per_token =
            if later.is_empty() { first } else { later.iter().sum::<f64>() / later.len() as f64 };
        let stages = shadow.map_or_else(Vec::new, |shadow| shadow.stages().to_vec());
        print_precision(&stages);
        let earlier = saved.as_ref().map_or(&[][..], |(saved, _)| saved.generated.as_slice());
        let verification = self
            .verify
            .then(|| Verification::of_run(&prepared, &request, earlier, &steps))
            .transpose()
            .context("verification")?;
        // The simulator's bootstraps are as wrong as it was asked for, and OpenFHE promises no figure.
        let promised = if self.backend == Backend::Native { MIN_BOOTSTRAP_BITS } else { f64::NEG_INFINITY };
        let failures = match &verification {
            Some(check) => failures(check, &stages, self.model.is_none(), promised),
            None => Vec::new(),
        };
        let report = GenerateReport {
            text: prepared.tokenizer.decode(&token_ids)?,
            token_ids,
            public_prefix_tokens: request.prefix.len(),
            prompt_token_ids: request.prompt,
            head: self.head.name(),
            seconds_per_token,
            time_to_first_token_s: first,
            token_seconds: seconds,
            key_generation_s,
            bootstraps_per_token,
            rotation_keys: keys.request.rotations.len(),
            key_bytes: (key_bytes > 0).then_some(key_bytes),
            peak_bytes: peak_memory_bytes(),
            security: scheme.security.clone(),
            precision_min_bits: precision_min_bits(&stages),
            stages,
            log2_failure_run: scheme.log2_failure.map(|bits| bits + (bootstraps.max(1) as f64).log2()),
            verification,
        };
        print_closing(&report);
        let insecure = self.backend == Backend::Clear || self.preset == Preset::Test;
        let report = Report::new("generate", scheme.name, self.preset.name(), insecure, report);
        if let Some(path) = &self.json {
            report.write(path)?;
        }
        if let Some(path) = &self.html {
            write_atomically(path, html_page(&report, &self.prompt)?.as_bytes())?;
        }
        anyhow::ensure!(failures.is_empty(), "verification failed: {}", failures.join("; "));
        Ok(())
    }

    fn request(&self, prepared: &PreparedModel) -> anyhow::Result<GenerationRequest> {
        Ok(GenerationRequest {
            prefix: prepared.frame.prefix.clone(),
            prompt: prepared.frame.message(&prepared.tokenizer, &self.prompt)?,
            max_new_tokens: self.max_new_tokens,
            sampling: Sampling {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                seed: self.seed,
            },
            eos: prepared.model.config().eos_token_ids.clone(),
        })
    }

    /// Prints tokens as they come, and progress by bootstrap on a terminal; keeps the checkpoint.
    fn stream<K: Client>(
        &self,
        session: &mut Session<'_, K>,
        prepared: &PreparedModel,
        header: &mut CheckpointHeader,
        shadow: (Option<&mut Shadow<'_>>, usize),
    ) -> anyhow::Result<(Vec<GeneratedToken>, usize)> {
        let (mut shadow, wave) = shadow;
        let mut shown = prepared.tokenizer.decode(session.generated())?;
        print!("{}{shown}", self.prompt);
        std::io::stdout().flush()?;
        let (mut steps, mut bootstraps) = (Vec::new(), 0usize);
        // All but the last token of the prompt stop at the last layer's cache.
        let per_token = session.server().decoder().plan().refreshes_per_token();
        let last_layer = per_token / prepared.model.config().num_hidden_layers;
        let waves = session.pending().len().div_ceil(wave);
        let mut expected = waves.saturating_sub(1) * (per_token - last_layer) + per_token;
        loop {
            let (start, mut done, mut iterations) = (Instant::now(), 0usize, 0usize);
            let terminal = std::io::stderr().is_terminal();
            let mut failure = None;
            if let Some(shadow) = &mut shadow {
                shadow.expect(&session.pending(), wave);
            }
            let step = session.next_token(&mut |client, progress, value| {
                if let Some(shadow) = &mut shadow
                    && failure.is_none()
                {
                    failure = shadow.compare(client, progress, value).err();
                }
                done += usize::from(progress.refreshed);
                iterations += if progress.refreshed { progress.iterations } else { 0 };
                if terminal && progress.refreshed {
                    let left =
                        start.elapsed().as_secs_f64() / done as f64 * expected.saturating_sub(done) as f64;
                    eprint!(
                        "\rlayer {}/{} {:<16} about {left:.0} s left \r",
                        progress.layer + 1,
                        progress.layers,
                        progress.stage
                    );
                }
            })?;
            if let Some(failure) = failure {
                return Err(failure).context("comparison with the simulator");
            }
            let Some(step) = step else { break };
            expected = per_token;
            bootstraps += iterations;
            let text = prepared.tokenizer.decode(session.generated())?;
            print!("{}", text.strip_prefix(&shown).unwrap_or(&text));
            std::io::stdout().flush()?;
            shown = text;
            steps.push(step);
            if let Some(directory) = &self.checkpoint {
                header.generated = session.generated().to_vec();
                write_checkpoint(directory, session.server().evaluator(), header, session.server().state())?;
            }
        }
        println!();
        Ok((steps, bootstraps))
    }
}

/// The simulator beside the run: same decoder, same levels, no noise.
fn shadow<'m>(
    decoder: &'m Decoder,
    scheme: &Scheme,
    prepared: &'m PreparedModel,
    codec: HiddenCodec,
    keys: &KeyRequest,
    bootstrap: Option<BootstrapSummary>,
) -> anyhow::Result<Shadow<'m>> {
    let client = GenerationClient::new(scheme.simulator(), codec, &prepared.model);
    let evaluator = client.evaluation_keys(keys)?;
    let mut state = decoder.new_state();
    decoder.append_public_prefix(&evaluator, &mut state, &prepared.prefix_cache)?;
    Ok(Shadow::new(client, GenerationServer::new(decoder, evaluator, state), bootstrap))
}
