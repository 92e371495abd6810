//! A generation: prompt in, tokens out, between a client and a server that exchange ciphertexts only.
//!
//! The private prompt is read a wave of tokens at a time; all but its last token stop as soon as the last layer has
//! cached them.

use std::time::{Duration, Instant};

use crate::contract::{Client, Error, Result};

use crate::decoder::Progress;
use crate::generation::client::{CiphertextOf, GenerationClient};
use crate::generation::sampling::Sampling;
use crate::generation::server::GenerationServer;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GenerationRequest {
    /// Public tokens before the prompt; the server's caches hold them in the clear.
    pub prefix: Vec<u32>,
    /// Private prompt.
    pub prompt: Vec<u32>,
    /// New tokens at most.
    pub max_new_tokens: usize,
    /// How tokens are picked.
    pub sampling: Sampling,
    /// Tokens that end the text.
    pub eos: Vec<u32>,
}

impl GenerationRequest {
    /// That there is a prompt and something to generate within `context` tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] naming what does not fit.
    pub fn check(&self, context: usize) -> Result<()> {
        self.sampling.check()?;
        let needed = self.prefix.len() + self.prompt.len() + self.max_new_tokens;
        if self.prompt.is_empty() || self.max_new_tokens == 0 || needed > context {
            return Err(Error::Shape {
                operation: "generation",
                what: format!(
                    "a public prefix of {}, a prompt of {} and {} new tokens in a context of {context}",
                    self.prefix.len(),
                    self.prompt.len(),
                    self.max_new_tokens
                ),
                remedy: "shorten the prompt or ask for fewer tokens".to_owned(),
            });
        }
        Ok(())
    }
}

/// One new token.
#[derive(Clone, Debug)]
pub struct GeneratedToken {
    /// The token.
    pub token: u32,
    /// Logits it was picked from.
    pub logits: Vec<f32>,
    /// Wall time from the previous token (for the first: from the start of the prompt).
    pub elapsed: Duration,
}

/// Watches a generation from the client's side: it can decrypt what the server holds, which no server can.
pub type SessionObserver<'a, 'm, K> = dyn FnMut(&GenerationClient<'m, K>, Progress, &CiphertextOf<K>) + 'a;

/// A generation under way.
pub struct Session<'m, K: Client> {
    client: GenerationClient<'m, K>,
    server: GenerationServer<'m, K::Evaluator>,
    request: GenerationRequest,
    generated: Vec<u32>,
    finished: bool,
    wave: usize,
}

impl<'m, K: Client> Session<'m, K> {
    /// Session at its start, or after `generated` tokens when the server resumes.
    ///
    /// # Errors
    /// [`Error::Plan`] when the server's caches do not hold the public prefix, or hold more than the text before its last token.
    pub fn new(
        client: GenerationClient<'m, K>,
        server: GenerationServer<'m, K::Evaluator>,
        request: GenerationRequest,
        generated: Vec<u32>,
    ) -> Result<Self> {
        let known = request.prefix.len() + request.prompt.len() + generated.len();
        if server.position() >= known || server.position() < request.prefix.len() {
            return Err(Error::Plan {
                why: format!("the caches hold {} tokens, the text has {known}", server.position()),
                remedy: "resume with the checkpoint of this text".to_owned(),
            });
        }
        let finished = generated.len() >= request.max_new_tokens
            || generated.last().is_some_and(|token| request.eos.contains(token));
        Ok(Self { client, server, request, generated, finished, wave: 1 })
    }

    /// The same, reading the prompt `tokens` tokens at a time, for which the evaluation keys were planned.
    #[must_use]
    pub fn with_wave(mut self, tokens: usize) -> Self {
        self.wave = tokens.max(1);
        self
    }

    /// New tokens so far.
    pub fn generated(&self) -> &[u32] {
        &self.generated
    }

    /// Whether no token is left to generate.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Tokens the next call feeds to the server.
    pub fn pending(&self) -> Vec<u32> {
        let GenerationRequest { prefix, prompt, .. } = &self.request;
        let known = prefix.iter().chain(prompt).chain(&self.generated);
        known.skip(self.server.position()).copied().collect()
    }

    /// The server side.
    pub fn server(&self) -> &GenerationServer<'m, K::Evaluator> {
        &self.server
    }

    /// The client side.
    pub fn client(&self) -> &GenerationClient<'m, K> {
        &self.client
    }

    /// Feeds every token the caches do not hold yet and picks the next one; `None` when the text is finished.
    ///
    /// # Errors
    /// Those of [`GenerationServer::accept_wave`] and of encryption and decryption; the session stays usable.
    pub fn next_token(
        &mut self,
        observer: &mut SessionObserver<'_, 'm, K>,
    ) -> Result<Option<GeneratedToken>> {
        if self.finished {
            return Ok(None);
        }
        let start = Instant::now();
        let request = &self.request;
        let known = request.prefix.len() + request.prompt.len() + self.generated.len();
        let mut answer = None;
        let pending = self.pending();
        for wave in pending.chunks(self.wave) {
            let encrypted = self.client.encrypt_tokens(wave)?;
            let client = &self.client;
            let mut tell = |progress: Progress, value: &CiphertextOf<K>| observer(client, progress, value);
            let last = self.server.position() + wave.len() == known;
            answer = self.server.accept_wave(&encrypted, wave.len(), last, &mut tell)?;
        }
        let answer = answer.ok_or_else(|| Error::Internal("a decode step without output".to_owned()))?;
        let logits = self.client.logits(&answer)?;
        let token = self.request.sampling.pick(&logits, known)?;
        self.generated.push(token);
        self.finished =
            self.generated.len() >= self.request.max_new_tokens || self.request.eos.contains(&token);
        Ok(Some(GeneratedToken { token, logits, elapsed: start.elapsed() }))
    }
}
