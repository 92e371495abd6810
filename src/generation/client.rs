//! The client of a generation: secret key, embedding, output head, sampling.

use crate::contract::{Client, Complex64, Error, Evaluator, KeyRequest, Result};
use ndarray::Array2;

use crate::decoder::head::{Answer, EncryptedHead, LARGEST_RMS};
use crate::decoder::hidden_codec::HiddenCodec;
use crate::model::reference::ReferenceModel;

/// Ciphertext of a client's scheme.
pub type CiphertextOf<K> = <<K as Client>::Evaluator as Evaluator>::Ciphertext;

/// That a hidden state left its norm with a root mean square of about 1. Its lower side is not checked: ε makes small states
/// smaller.
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

/// Holds the secret key; turns tokens into ciphertexts and returned ciphertexts into logits. Embedding and output head are
/// public parts of the model; they run here in the clear, so nothing decrypted ever leaves.
pub struct GenerationClient<'m, K: Client> {
    keys: K,
    codec: HiddenCodec,
    model: &'m ReferenceModel,
    /// How to read logits, where the server applies the head.
    head: Option<EncryptedHead>,
}

impl<'m, K: Client> GenerationClient<'m, K> {
    /// Client that owns `keys`; of `model` it uses the embedding, the weight of the final norm and the output head.
    pub fn new(keys: K, codec: HiddenCodec, model: &'m ReferenceModel) -> Self {
        Self { keys, codec, model, head: None }
    }

    /// The same, of a server that applies `head`, or none.
    #[must_use]
    pub fn with_server_head(mut self, head: Option<&EncryptedHead>) -> Self {
        self.head = head.cloned();
        self
    }

    /// Evaluation keys for a server.
    ///
    /// # Errors
    /// Those of [`Client::evaluator`].
    pub fn evaluation_keys(&self, request: &KeyRequest) -> Result<K::Evaluator> {
        self.keys.evaluator(request)
    }

    /// Encrypts a token: its embedding, scaled and packed.
    ///
    /// # Errors
    /// Those of [`GenerationClient::encrypt_tokens`].
    pub fn encrypt_token(&self, token: u32) -> Result<CiphertextOf<K>> {
        self.encrypt_tokens(&[token])
    }

    /// Encrypts consecutive tokens of a prompt, side by side in one ciphertext.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for a token outside the vocabulary, no token, or more than fit; those of
    /// [`Client::encrypt`].
    pub fn encrypt_tokens(&self, tokens: &[u32]) -> Result<CiphertextOf<K>> {
        let embedding = |token: &u32| -> Result<Vec<f64>> {
            Ok(self.model.embedding(*token)?.iter().copied().map(f64::from).collect())
        };
        let embeddings: Vec<Vec<f64>> = tokens.iter().map(embedding).collect::<Result<_>>()?;
        self.keys.encrypt(&self.codec.pack_wave(&embeddings)?, self.codec.input_level())
    }

    /// Logits out of what the server returned.
    ///
    /// # Errors
    /// Those of [`Client::decrypt`]; [`crate::Error::Internal`] for logits when this client expects hidden states; those of
    /// [`EncryptedHead::logits`]; of a hidden state [`crate::Error::OutOfInterval`] when the root mean square of a state that was normalized
    /// is not near 1: the final norm's argument, or something before it, left the interval of its approximation. Values that
    /// left an interval and still gave a state of the right length are not seen here (`--verify` sees them).
    pub fn logits(&self, answer: &Answer<CiphertextOf<K>>) -> Result<Vec<f32>> {
        let hidden = match (answer, &self.head) {
            (Answer::Hidden(hidden), _) => hidden,
            (Answer::Logits(logits), Some(head)) => {
                let slots: Vec<_> =
                    logits.iter().map(|logits| self.keys.decrypt(logits)).collect::<Result<_>>()?;
                return head.logits(&slots);
            }
            (Answer::Logits(_), None) => {
                return Err(Error::Internal("logits for a client that expects a hidden state".to_owned()));
            }
        };
        let hidden = self.codec.unpack(&self.keys.decrypt(hidden)?)?;
        check_normalized(&hidden)?;
        let gamma = self.model.final_norm();
        let row: Vec<f32> = hidden.iter().zip(gamma).map(|(x, gamma)| *x as f32 * gamma).collect();
        let row = Array2::from_shape_vec((1, row.len()), row)
            .map_err(|source| Error::Internal(format!("hidden state: {source}")))?;
        Ok(self.model.logits(&row).row(0).to_vec())
    }

    /// Slots of a ciphertext of any stage, for checks of ranges and precision.
    ///
    /// # Errors
    /// Those of [`Client::decrypt`].
    pub fn slots(&self, ciphertext: &CiphertextOf<K>) -> Result<Vec<Complex64>> {
        self.keys.decrypt(ciphertext)
    }
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
