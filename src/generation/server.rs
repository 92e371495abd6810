//! The server of a generation: weights, evaluation keys, encrypted caches. No type here can hold a secret key.

use std::sync::Arc;

use crate::backend::native::NativeEvaluator;
use crate::ckks::container::Fingerprint;
use crate::contract::{Error, Evaluator, Result};
use crate::decoder::{Decoder, DecoderState, Observer};
use crate::generation::protocol::{EncryptedAnswer, EncryptedTokens, without_setup};

/// Runs the encrypted decoder for one text: holds a client's evaluation keys and the encrypted caches of what it has
/// read.
///
/// `E` is what computes on the scheme's ciphertexts: [`NativeEvaluator`], or the simulator's evaluator in tests.
///
/// ```no_run
/// # let model = cachemir::Model::bundled()?;
/// let setup = cachemir::Setup::new(&model, cachemir::Preset::N16)?;
/// let keys = std::io::BufReader::new(std::fs::File::open("evaluation.keys")?);
/// let mut server = cachemir::Server::from_keys(&setup, keys)?;
/// let question = std::fs::read("tokens.encrypted")?;
/// std::fs::write("answer.encrypted", server.answer_bytes(&question)?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server<E: Evaluator = NativeEvaluator> {
    decoder: Arc<Decoder>,
    evaluator: E,
    state: DecoderState<E::Ciphertext>,
    setup: Fingerprint,
}

impl<E: Evaluator> Server<E> {
    /// Server that goes on from the caches of `state`: empty, with a public prefix, or restored.
    pub fn from_parts(decoder: &Arc<Decoder>, evaluator: E, state: DecoderState<E::Ciphertext>) -> Self {
        Self { decoder: Arc::clone(decoder), evaluator, state, setup: without_setup() }
    }

    /// This server, refusing messages of any set-up but `setup`.
    #[must_use]
    pub fn with_fingerprint(mut self, setup: Fingerprint) -> Self {
        self.setup = setup;
        self
    }

    /// Tokens the caches hold, the public prefix included.
    pub fn position(&self) -> usize {
        self.state.position()
    }

    /// The decoder it runs.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The evaluator at work.
    pub fn evaluator(&self) -> &E {
        &self.evaluator
    }

    /// The evaluator with its keys, for the next text of the same client.
    pub fn into_evaluator(self) -> E {
        self.evaluator
    }

    /// The encrypted caches.
    pub fn state(&self) -> &DecoderState<E::Ciphertext> {
        &self.state
    }

    /// Appends `tokens` to the caches and, where the client wants it, computes what comes next: the encrypted hidden
    /// state or logits behind the last of them. On an error the text stays as it was.
    ///
    /// # Errors
    /// [`Error::Shape`] when `tokens` do not follow what the caches hold; those of [`Decoder::step_wave`].
    pub fn answer(
        &mut self,
        tokens: &EncryptedTokens<E::Ciphertext>,
    ) -> Result<EncryptedAnswer<E::Ciphertext>> {
        self.answer_observed(tokens, &mut |_, _| {})
    }

    /// [`Server::answer`], which tells `observer` before and after each bootstrap where it stands.
    ///
    /// # Errors
    /// [`Error::Shape`] when `tokens` do not follow what the caches hold; errors of [`Decoder::step_wave`].
    pub fn answer_observed(
        &mut self,
        tokens: &EncryptedTokens<E::Ciphertext>,
        observer: &mut Observer<'_, E::Ciphertext>,
    ) -> Result<EncryptedAnswer<E::Ciphertext>> {
        if tokens.position != self.position() {
            return Err(Error::Shape {
                operation: "server",
                what: format!(
                    "tokens behind position {}, the caches hold {}",
                    tokens.position,
                    self.position()
                ),
                remedy: "send the tokens of one text in order, each once".to_owned(),
            });
        }
        let mut state = self.state.clone();
        let answer = self.decoder.step_wave(
            &self.evaluator,
            &mut state,
            &tokens.ciphertext,
            tokens.tokens,
            tokens.wants_answer,
            observer,
        )?;
        self.state = state;
        Ok(EncryptedAnswer { position: self.state.position(), answer })
    }

    /// [`Server::answer`] from bytes to bytes: all a server on another machine needs.
    ///
    /// # Errors
    /// [`Error::Format`] and [`Error::ParameterMismatch`] for bytes that are no tokens of this set-up
    /// ([`EncryptedTokens::from_bytes`]); errors of [`Server::answer`].
    pub fn answer_bytes(&mut self, tokens: &[u8]) -> Result<Vec<u8>> {
        let tokens = EncryptedTokens::from_bytes(&self.evaluator, self.setup, tokens)?;
        self.answer(&tokens)?.to_bytes(&self.evaluator, self.setup)
    }
}
