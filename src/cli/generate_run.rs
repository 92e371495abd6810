//! A run of `cachemir generate` from its set-up to its report, on any backend.

use std::time::Instant;

use anyhow::Context;

use super::flags::head_name;
use super::generate_flags::Generate;
use super::generate_page::html_page;
use super::generate_progress::GenerateProgress;
use super::generate_report::{GenerateReport, precision_min_bits, print_closing, print_precision};
use crate::contract::{self, Evaluator};
use crate::fidelity::shadow::{Shadow, StagePrecision};
use crate::fidelity::verification::{Verification, VerificationLimits};
use crate::generation::chat::{Chat, GenerationRequest, Token};
use crate::generation::checkpoint::{CheckpointHeader, read_checkpoint, write_checkpoint};
use crate::generation::client::Client;
use crate::generation::server::Server;
use crate::measure::{Report, available_memory_bytes, peak_memory_bytes, write_atomically};
use crate::setup::{Backend, Setup};

/// What is run.
pub struct Run<'f> {
    /// The flags.
    pub flags: &'f Generate,
    /// What both parties know.
    pub setup: Setup,
    /// What is asked for.
    pub request: GenerationRequest,
    /// Where it is shown.
    pub progress: GenerateProgress,
}

/// Who runs it.
pub struct Parties<K: contract::Client> {
    /// The client.
    pub client: Client<K>,
    /// Fingerprint of its secret key, when that is stored.
    pub key: String,
    /// Bytes of the evaluation keys; 0 where there are none.
    pub key_bytes: u64,
}

/// The text as it is made, with everything measured on the way.
struct Stream<'r> {
    run: &'r mut GenerateProgress,
    shadow: Option<Shadow>,
    header: CheckpointHeader,
    steps: Vec<Token>,
    /// Bootstraps done, each iteration counted.
    bootstraps: usize,
}

impl Run<'_> {
    /// Generates and reports.
    pub fn with<K: contract::Client>(mut self, parties: Parties<K>) -> anyhow::Result<()> {
        let Parties { client, key, key_bytes } = parties;
        let mut header = self.setup.checkpoint_header(&self.request, key)?;
        let saved = match &self.flags.checkpoint {
            Some(directory) => read_checkpoint(directory)?,
            None => None,
        };
        if let Some((saved, _)) = &saved {
            saved.require(&header).context("with --checkpoint")?;
        }
        let memory = self.setup.memory_with_keys(key_bytes);
        memory.check("generate", available_memory_bytes())?;
        self.announce(memory.total());

        self.progress.step("making evaluation keys", 0, 1);
        let start = Instant::now();
        let keys = client.keys()?;
        let key_generation_s = start.elapsed().as_secs_f64();
        let resumed = saved.is_some();
        let mut server = match saved {
            Some((saved, caches)) => {
                header.generated = saved.generated;
                let state = self.setup.decoder().state_from_bytes(&keys, &caches)?;
                Server::resumed(&self.setup, keys, state)
            }
            None => Server::new(&self.setup, keys)?,
        };
        let earlier = header.generated.clone();
        let mut chat = Chat::resumed(&client, self.request.clone(), earlier.clone(), server.position())?;
        let shadow = match self.flags.verify && !resumed {
            true => Some(Shadow::beside(&self.setup, server.evaluator().bootstrapping())?),
            false => None,
        };

        let Self { flags, setup, request, mut progress } = self;
        progress.text(&format!("{}{}", flags.prompt, chat.text()))?;
        let mut stream = Stream { run: &mut progress, shadow, header, steps: Vec::new(), bootstraps: 0 };
        stream.run(&mut chat, &mut server, flags, &setup)?;
        let Stream { shadow, steps, bootstraps, .. } = stream;
        progress.finish()?;

        let stages = shadow.map_or_else(Vec::new, |shadow| shadow.stages().to_vec());
        print_precision(&stages)?;
        let verification = flags
            .verify
            .then(|| Verification::of_run(setup.model().prepared(), &request, &earlier, &steps))
            .transpose()
            .context("verification")?;
        let report = GenerateReport {
            text: setup.model().text(chat.generated())?,
            token_ids: chat.generated().to_vec(),
            public_prefix_tokens: request.prefix.len(),
            prompt_token_ids: request.prompt,
            head: head_name(flags.head),
            key_generation_s,
            bootstraps_per_token: setup.bootstraps_per_token(),
            rotation_keys: setup.keys_needed().request.rotations.len(),
            key_bytes: (key_bytes > 0).then_some(key_bytes),
            peak_bytes: peak_memory_bytes(),
            security: setup.scheme().margins().to_vec(),
            precision_min_bits: precision_min_bits(&stages),
            log2_failure_run: setup
                .scheme()
                .log2_failure()
                .map(|log2| log2 + (bootstraps.max(1) as f64).log2()),
            verification,
            ..GenerateReport::of_seconds(steps.iter().map(|step| step.elapsed.as_secs_f64()).collect())
        };
        finish(flags, &setup, report, stages)
    }

    /// What will be computed, and the memory it takes.
    fn announce(&self, memory_bytes: u64) {
        let (scheme, keys) = (self.setup.scheme(), &self.setup.keys_needed().request);
        let warning = match (scheme.backend(), scheme.is_insecure()) {
            (Backend::Clear, _) => "; the simulator encrypts NOTHING",
            (_, true) => "; the test preset has NO security",
            (_, false) => "",
        };
        self.progress.note(&format!(
            "{}: {} slots, {} layers, {} bootstraps a token, {} rotation keys, about {:.1} GB of memory{warning}",
            scheme.backend(),
            scheme.slots(),
            self.setup.model().layers(),
            self.setup.bootstraps_per_token(),
            keys.rotations.len(),
            memory_bytes as f64 / 1e9,
        ));
    }
}

impl Stream<'_> {
    /// Makes every token: shown only when it is safe in the checkpoint.
    fn run<K: contract::Client>(
        &mut self,
        chat: &mut Chat<'_, K>,
        server: &mut Server<K::Evaluator>,
        flags: &Generate,
        setup: &Setup,
    ) -> anyhow::Result<()> {
        let client = chat.client();
        // All but the last token of the prompt stop at the last layer's cache.
        let per_token = server.decoder().plan().refreshes_per_token();
        let last_layer = per_token / setup.model().layers().max(1);
        let waves = chat.pending().len().div_ceil(setup.wave());
        let mut expected = waves.saturating_sub(1) * (per_token - last_layer) + per_token;
        let wanted = chat.request().max_new_tokens;
        loop {
            let what = format!("token {} of {wanted}", chat.generated().len() + 1);
            self.run.restart();
            if !chat.is_finished() {
                self.run.step(&what, 0, expected);
            }
            let (mut done, mut iterations, mut failure) = (0, 0, None);
            if let Some(shadow) = &mut self.shadow {
                shadow.expect(&chat.pending(), setup.wave());
            }
            let token = chat.next_observed(server, &mut |progress, value| {
                if let Some(shadow) = &mut self.shadow
                    && failure.is_none()
                {
                    failure = shadow.compare(client, progress, value).err();
                }
                if progress.refreshed {
                    done += 1;
                    iterations += progress.iterations;
                    self.run.step(&what, done, expected);
                }
            })?;
            if let Some(failure) = failure {
                return Err(failure).context("comparison with the simulator");
            }
            let Some(token) = token else { return Ok(()) };
            self.bootstraps += iterations;
            expected = per_token;
            if let Some(directory) = &flags.checkpoint {
                self.header.generated = chat.generated().to_vec();
                write_checkpoint(directory, server.evaluator(), &self.header, server.state())?;
            }
            self.run.text(&token.text)?;
            self.steps.push(token);
        }
    }
}

/// Prints what closes a run, writes its reports, and fails where it did not keep what `--verify` asks for.
fn finish(
    flags: &Generate,
    setup: &Setup,
    report: GenerateReport,
    stages: Vec<StagePrecision>,
) -> anyhow::Result<()> {
    let scheme = setup.scheme();
    let limits = VerificationLimits::of_run(setup.model().is_bundled(), scheme.backend() == Backend::Native);
    let failures = match &report.verification {
        Some(check) => check.failures(&stages, &limits),
        None => Vec::new(),
    };
    let report = GenerateReport { stages, ..report };
    print_closing(&report)?;
    let (backend, preset) = (scheme.backend().name(), scheme.preset().name());
    let report = Report::new("generate", backend, preset, report);
    if let Some(path) = &flags.json {
        report.write(path)?;
    }
    if let Some(path) = &flags.html {
        write_atomically(path, html_page(&report, &flags.prompt)?.as_bytes())?;
    }
    anyhow::ensure!(failures.is_empty(), "verification failed: {}", failures.join("; "));
    Ok(())
}
