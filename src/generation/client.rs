//! The client of a generation: secret key, embedding, output head.

use std::sync::{Arc, OnceLock};

use ndarray::Array2;

use crate::backend::native::NativeClient;
use crate::ckks::container::Fingerprint;
use crate::contract::{self, Complex64, Error, Evaluator, KeyRequest, Result};
use crate::decoder::head::{Answer, EncryptedHead, LARGEST_RMS};
use crate::decoder::hidden_codec::HiddenCodec;
use crate::generation::protocol::{EncryptedAnswer, EncryptedTokens, without_setup};
use crate::model::prepared::PreparedModel;

/// Ciphertext of a client's scheme.
pub type CiphertextOf<K> = <<K as contract::Client>::Evaluator as Evaluator>::Ciphertext;

/// Holds the secret key: turns tokens into ciphertexts, and what the server returns into logits.
///
/// Embedding and output head are public parts of the model; they run here in the clear, so nothing decrypted ever
/// leaves. `K` is the scheme's own client: [`NativeClient`], or the simulator's in tests.
///
/// ```no_run
/// # let model = cachemir::Model::bundled()?;
/// let setup = cachemir::Setup::new(&model, cachemir::Preset::N16)?;
/// let client = cachemir::Client::new(&setup)?;
/// // What the server needs, and all it needs: no secret can be had from it.
/// client.keys()?.write_to(std::fs::File::create("evaluation.keys")?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client<K: contract::Client = NativeClient> {
    secret: K,
    codec: HiddenCodec,
    model: Arc<PreparedModel>,
    /// How to read logits, where the server applies the head.
    head: Option<EncryptedHead>,
    request: KeyRequest,
    context: usize,
    longest_text: usize,
    wave: usize,
    setup: Fingerprint,
    without_keys: OnceLock<K::Evaluator>,
}

impl<K: contract::Client> Client<K> {
    /// Client that owns `secret`, for sequences packed by `codec`; of `model` it uses tokenizer, embedding, final
    /// norm and output head. It sends one token at a time to a server that leaves the head to it, within `context`
    /// tokens.
    pub fn from_parts(secret: K, codec: HiddenCodec, model: &Arc<PreparedModel>, context: usize) -> Self {
        Self {
            secret,
            codec,
            model: Arc::clone(model),
            head: None,
            request: KeyRequest::new(),
            context,
            longest_text: usize::MAX,
            wave: 1,
            setup: without_setup(),
            without_keys: OnceLock::new(),
        }
    }

    /// This client, for a server that applies `head` (or leaves it to the client: `None`).
    #[must_use]
    pub fn with_server_head(mut self, head: Option<&EncryptedHead>) -> Self {
        self.head = head.cloned();
        self
    }

    /// This client, with `request` the keys its server needs, sending a prompt `wave` tokens at a time.
    #[must_use]
    pub fn with_keys_for(mut self, request: KeyRequest, wave: usize) -> Self {
        self.request = request;
        self.wave = wave.max(1);
        self
    }

    /// This client, refusing texts longer than `tokens`: what the model was calibrated for.
    #[must_use]
    pub fn with_longest_text(mut self, tokens: usize) -> Self {
        self.longest_text = tokens;
        self
    }

    /// This client, whose messages carry `setup`, so that a server of another set-up refuses them.
    #[must_use]
    pub fn with_fingerprint(mut self, setup: Fingerprint) -> Self {
        self.setup = setup;
        self
    }

    /// Makes the evaluation keys for a server, and what computes with them. No secret: this is what goes to the server.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for levels outside the chain, [`Error::Unsupported`] for bootstrapping under
    /// parameters without it ([`contract::Client::evaluator`]).
    pub fn keys(&self) -> Result<K::Evaluator> {
        self.secret.evaluator(&self.request)
    }

    /// The evaluation keys of `request`.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for levels outside the chain, [`Error::Unsupported`] for bootstrapping under
    /// parameters without it ([`contract::Client::evaluator`]).
    pub fn evaluation_keys(&self, request: &KeyRequest) -> Result<K::Evaluator> {
        self.secret.evaluator(request)
    }

    /// The evaluation keys that the server needs.
    #[must_use]
    pub fn keys_needed(&self) -> &KeyRequest {
        &self.request
    }

    /// The scheme's own client underneath, which holds the secret key.
    #[must_use]
    pub fn secret(&self) -> &K {
        &self.secret
    }

    /// The model, in the clear.
    #[must_use]
    pub fn model(&self) -> &PreparedModel {
        &self.model
    }

    /// Tokens that a sequence may have.
    #[must_use]
    pub fn context(&self) -> usize {
        self.context
    }

    /// Longest text, prompt and answer together, that the functions of the set-up were calibrated for.
    #[must_use]
    pub fn longest_text(&self) -> usize {
        self.longest_text
    }

    /// Tokens of a prompt sent together.
    #[must_use]
    pub fn wave(&self) -> usize {
        self.wave
    }

    /// Encrypts consecutive tokens of a prompt, side by side in one ciphertext: their embeddings, scaled and packed.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for a token outside the vocabulary, no token, or more than fit; those of
    /// [`contract::Client::encrypt`].
    pub fn encrypt_tokens(&self, tokens: &[u32]) -> Result<CiphertextOf<K>> {
        let embedding = |token: &u32| -> Result<Vec<f64>> {
            Ok(self.model.model.embedding(*token)?.iter().copied().map(f64::from).collect())
        };
        let embeddings: Vec<Vec<f64>> = tokens.iter().map(embedding).collect::<Result<_>>()?;
        self.secret.encrypt(&self.codec.pack_wave(&embeddings)?, self.codec.input_level())
    }

    /// Logits of the whole vocabulary out of what the server returned. They carry CKKS noise: do not hand them back.
    ///
    /// # Errors
    /// Errors of [`contract::Client::decrypt`] and [`EncryptedHead::logits`]; [`crate::Error::Internal`] for logits
    /// when this client expects hidden states; [`crate::Error::OutOfInterval`] when the root mean square of a state
    /// that was normalized is not near 1: the final norm's argument, or something before it, left the interval of its
    /// approximation. Values that left an interval and still gave a state of the right length are not seen here (a run
    /// beside the exact model does).
    pub fn logits(&self, answer: &Answer<CiphertextOf<K>>) -> Result<Vec<f32>> {
        let hidden = match (answer, &self.head) {
            (Answer::Hidden(hidden), _) => hidden,
            (Answer::Logits(logits), Some(head)) => {
                let slots: Vec<_> =
                    logits.iter().map(|logits| self.secret.decrypt(logits)).collect::<Result<_>>()?;
                return head.logits(&slots);
            }
            (Answer::Logits(_), None) => {
                return Err(Error::Internal("logits for a client that expects a hidden state".to_owned()));
            }
        };
        let hidden = self.codec.unpack(&self.secret.decrypt(hidden)?)?;
        check_normalized(&hidden)?;
        let gamma = self.model.model.final_norm();
        let row: Vec<f32> = hidden.iter().zip(gamma).map(|(x, gamma)| *x as f32 * gamma).collect();
        let row = Array2::from_shape_vec((1, row.len()), row)
            .map_err(|source| Error::Internal(format!("hidden state: {source}")))?;
        Ok(self.model.model.logits(&row).row(0).to_vec())
    }

    /// Slots of a ciphertext of any stage, for checks of ranges and precision.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`] for a ciphertext of another context ([`contract::Client::decrypt`]).
    pub fn slots(&self, ciphertext: &CiphertextOf<K>) -> Result<Vec<Complex64>> {
        self.secret.decrypt(ciphertext)
    }

    /// `tokens` as the bytes that go to the server.
    ///
    /// # Errors
    /// [`Error::Foreign`] when a library behind the backend fails ([`EncryptedTokens::to_bytes`]).
    pub fn tokens_to_bytes(&self, tokens: &EncryptedTokens<CiphertextOf<K>>) -> Result<Vec<u8>> {
        tokens.to_bytes(self.without_keys()?, self.setup)
    }

    /// The server's answer out of its bytes.
    ///
    /// # Errors
    /// [`Error::Format`] for bytes that are no answer, [`Error::ParameterMismatch`] for a message of another set-up or
    /// scheme ([`EncryptedAnswer::from_bytes`]).
    pub fn answer_from_bytes(&self, bytes: &[u8]) -> Result<EncryptedAnswer<CiphertextOf<K>>> {
        EncryptedAnswer::from_bytes(self.without_keys()?, self.setup, bytes)
    }

    /// An evaluator without a key, which reads and writes ciphertexts.
    fn without_keys(&self) -> Result<&K::Evaluator> {
        if self.without_keys.get().is_none() {
            // Two threads that meet here make two; one is kept.
            let _lost = self.without_keys.set(self.secret.evaluator(&KeyRequest::new())?);
        }
        self.without_keys.get().ok_or_else(|| Error::Internal("no evaluator without keys".to_owned()))
    }
}

/// That a hidden state left its norm with a root mean square of about 1. Its lower side is not checked: ε makes small
/// states smaller.
fn check_normalized(hidden: &[f64]) -> Result<()> {
    let squares: f64 = hidden.iter().map(|x| x * x).sum();
    let magnitude = (squares / hidden.len().max(1) as f64).sqrt();
    if magnitude <= LARGEST_RMS {
        return Ok(());
    }
    let magnitude = if magnitude.is_nan() { f64::INFINITY } else { magnitude };
    let site = "decrypted hidden state: root mean square after the final norm".to_owned();
    Err(Error::OutOfInterval { site, magnitude, bound: LARGEST_RMS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_that_did_not_come_out_of_a_norm_are_reported_as_out_of_range() {
        check_normalized(&[1.0, -1.0, 1.01, 0.99]).unwrap();
        check_normalized(&[0.0; 4]).unwrap();
        for (state, wanted) in [([3.0, 0.0, 0.0, 0.0], 1.5), ([f64::NAN, 0.0, 0.0, 0.0], f64::INFINITY)] {
            match check_normalized(&state) {
                Err(Error::OutOfInterval { magnitude, .. }) => assert_eq!(magnitude, wanted),
                other => panic!("{state:?}: {other:?}"),
            }
        }
    }
}
