//! `cachemir generate`: text from an encrypted prompt.

use std::path::Path;

use crate::generation::chat::GenerationRequest;
use crate::generation::client::Client;
use crate::generation::sampling::Sampling;
use crate::placement::Plan;
use crate::setup::{Backend, Model, Scheme, SetupOptions, SimulatedNoise, StoredSecret};
use anyhow::Context;

use super::flags::open_model;
use super::generate_flags::Generate;
use super::generate_progress::GenerateProgress;
use super::generate_run::{Parties, Run};

impl Generate {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<()> {
        // Everything that can be refused is refused before keys are made.
        for path in self.json.iter().chain(&self.html) {
            check_writable(path)?;
        }
        let mut progress = GenerateProgress::new()?;
        let model = open_model(self.model.as_deref(), &mut |what, done, all| progress.step(what, done, all))?;
        let request = self.request(&model)?;
        match self.backend {
            Backend::Clear => {
                let noise =
                    self.noise_bits.map(|bootstrap_bits| SimulatedNoise { bootstrap_bits, seed: self.seed });
                let scheme = Scheme::clear(self.preset, self.preset.slots(), noise)?;
                let run = self.prepare(&model, request, scheme, progress)?;
                let secret = run.setup.scheme().simulator();
                let client = Client::with_secret(&run.setup, secret);
                run.with(Parties { client, key: String::new(), key_bytes: 0 })
            }
            Backend::Native => {
                let run = self.prepare(&model, request, Scheme::native(self.preset)?, progress)?;
                let (client, key) = match &self.checkpoint {
                    Some(directory) => {
                        let secret = StoredSecret::open_or_create(&run.setup, directory)?;
                        let client = Client::with_stored_secret(&run.setup, &secret).with_context(|| {
                            format!("cannot use the secret key {}", secret.path().display())
                        })?;
                        (client, secret.fingerprint())
                    }
                    None => (Client::new(&run.setup)?, String::new()),
                };
                let key_bytes = client.predicted_key_bytes()?;
                run.with(Parties { client, key, key_bytes })
            }
            Backend::Openfhe => self.with_openfhe(&model, request, progress),
        }
    }

    /// The set-up, and what a run of these flags does.
    fn prepare(
        &self,
        model: &Model,
        request: GenerationRequest,
        scheme: Scheme,
        mut progress: GenerateProgress,
    ) -> anyhow::Result<Run<'_>> {
        let context = self.context.unwrap_or(request.longest());
        let mut options = SetupOptions::new(self.preset)
            .context(context)
            .wave(self.wave.min(request.prompt.len()))
            .head(self.head);
        if let Some(path) = &self.plan {
            options = options.plan(Plan::read(path)?);
        }
        let setup = options.build_on(scheme, model, &mut |what, done, all| progress.step(what, done, all))?;
        Ok(Run { flags: self, setup, request, progress })
    }

    /// What is asked for, which the model must have room for.
    fn request(&self, model: &Model) -> anyhow::Result<GenerationRequest> {
        let sampling =
            Sampling { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, seed: self.seed };
        let request = GenerationRequest::new(model.prepared(), &self.prompt, self.max_new_tokens, sampling)?;
        let longest = model.config().max_position_embeddings;
        request.check(self.context.unwrap_or(request.longest()).min(longest))?;
        model.calibration().check_context(request.longest())?;
        Ok(request)
    }

    #[cfg(feature = "openfhe")]
    fn with_openfhe(
        &self,
        model: &Model,
        request: GenerationRequest,
        progress: GenerateProgress,
    ) -> anyhow::Result<()> {
        use crate::backend::openfhe::{OpenFheClient, OpenFheParameters};
        anyhow::ensure!(
            self.preset == crate::setup::Preset::Test,
            "backend openfhe generates in its small ring only: use --preset test, or --backend native"
        );
        anyhow::ensure!(
            self.checkpoint.is_none(),
            "backend openfhe cannot resume: its secret key is not stored; leave --checkpoint out"
        );
        let secret = OpenFheClient::new(OpenFheParameters::test_generation())?;
        let run = self.prepare(model, request, Scheme::openfhe(self.preset, &secret)?, progress)?;
        let key_bytes = secret.predicted_key_bytes(&run.setup.keys_needed().request);
        let client = Client::with_secret(&run.setup, secret);
        run.with(Parties { client, key: String::new(), key_bytes })
    }

    #[cfg(not(feature = "openfhe"))]
    fn with_openfhe(&self, _: &Model, _: GenerationRequest, _: GenerateProgress) -> anyhow::Result<()> {
        anyhow::bail!(
            "this program was built without OpenFHE: build it with `cargo build --release --features openfhe`"
        )
    }
}

/// That a report can be written to `path` at the end: its folder takes files.
fn check_writable(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::NamedTempFile::new_in(folder)
        .map(drop)
        .with_context(|| format!("cannot write {} at the end", path.display()))
}
