//! The server of a generation: weights, evaluation keys, encrypted caches. No type here can hold a secret key.

use crate::contract::{Evaluator, Result};

use crate::decoder::head::Answer;
use crate::decoder::{Decoder, DecoderState, Observer};

/// Runs the encrypted decoder for one sequence.
pub struct GenerationServer<'d, E: Evaluator> {
    decoder: &'d Decoder,
    evaluator: E,
    state: DecoderState<E::Ciphertext>,
}

impl<'d, E: Evaluator> GenerationServer<'d, E> {
    /// Server that goes on from the caches of `state`: empty, with a public prefix, or restored.
    pub fn new(decoder: &'d Decoder, evaluator: E, state: DecoderState<E::Ciphertext>) -> Self {
        Self { decoder, evaluator, state }
    }

    /// Tokens the caches hold.
    pub fn position(&self) -> usize {
        self.state.position()
    }

    /// The decoder it runs.
    pub fn decoder(&self) -> &'d Decoder {
        self.decoder
    }

    /// The evaluator at work.
    pub fn evaluator(&self) -> &E {
        &self.evaluator
    }

    /// The encrypted caches.
    pub fn state(&self) -> &DecoderState<E::Ciphertext> {
        &self.state
    }

    /// Takes one encrypted token; with `wants_output` answers with what the plan says: the encrypted hidden state or logits.
    /// On an error the sequence stays as it was.
    ///
    /// # Errors
    /// Those of [`Decoder::step`].
    pub fn accept(
        &mut self,
        token: &E::Ciphertext,
        wants_output: bool,
        observer: &mut Observer<'_, E::Ciphertext>,
    ) -> Result<Option<Answer<E::Ciphertext>>> {
        self.accept_wave(token, 1, wants_output, observer)
    }

    /// Takes `tokens` consecutive tokens in one ciphertext; with `wants_output` answers the encrypted hidden state or
    /// logits of the last one. On an error the sequence stays as it was.
    ///
    /// # Errors
    /// Those of [`Decoder::step_wave`].
    pub fn accept_wave(
        &mut self,
        wave: &E::Ciphertext,
        tokens: usize,
        wants_output: bool,
        observer: &mut Observer<'_, E::Ciphertext>,
    ) -> Result<Option<Answer<E::Ciphertext>>> {
        let mut state = self.state.clone();
        let answer =
            self.decoder.step_wave(&self.evaluator, &mut state, wave, tokens, wants_output, observer)?;
        self.state = state;
        Ok(answer)
    }
}
