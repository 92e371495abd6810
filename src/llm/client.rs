//! The client of a generation: secret key, embedding, output head, sampling.

use crate::contract::{Client, Complex64, Evaluator, KeyRequest, Result};
use ndarray::Array2;

use super::hidden_codec::HiddenCodec;
use super::reference::ReferenceModel;

/// Ciphertext of a client's scheme.
pub type CiphertextOf<K> = <<K as Client>::Evaluator as Evaluator>::Ciphertext;

/// Holds the secret key; turns tokens into ciphertexts and returned ciphertexts into logits. Embedding and output head are
/// public parts of the model; they run here in the clear, so nothing decrypted ever leaves.
pub struct GenerationClient<'m, K: Client> {
    keys: K,
    codec: HiddenCodec,
    model: &'m ReferenceModel,
}

impl<'m, K: Client> GenerationClient<'m, K> {
    /// Client that owns `keys`; of `model` it uses the embedding, the weight of the final norm and the output head.
    pub fn new(keys: K, codec: HiddenCodec, model: &'m ReferenceModel) -> Self {
        Self { keys, codec, model }
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
    /// [`crate::Error::Shape`] for a token outside the vocabulary; those of [`Client::encrypt`].
    pub fn encrypt_token(&self, token: u32) -> Result<CiphertextOf<K>> {
        let embedding: Vec<f64> = self.model.embedding(token)?.iter().copied().map(f64::from).collect();
        self.keys.encrypt(&self.codec.pack(&embedding)?, self.codec.input_level())
    }

    /// Logits out of the hidden state the server returned.
    ///
    /// # Errors
    /// Those of [`Client::decrypt`].
    pub fn logits(&self, hidden: &CiphertextOf<K>) -> Result<Vec<f32>> {
        let hidden = self.codec.unpack(&self.keys.decrypt(hidden)?)?;
        let gamma = self.model.final_norm();
        let row: Vec<f32> = hidden.iter().zip(gamma).map(|(x, gamma)| *x as f32 * gamma).collect();
        let row = Array2::from_shape_vec((1, row.len()), row)
            .map_err(|source| crate::Error::Internal(format!("hidden state: {source}")))?;
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
