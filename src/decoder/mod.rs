//! The encrypted decoder: one token through all layers, or a few of a prompt together, on any evaluator.
//!
//! This page is the whole of it ([`Decoder::step_wave`]): for each layer the list of steps ([`step::Step`]), each of
//! which bootstraps the value at its seam if the schedule says so, takes its inputs down to its level and does its
//! work (`decoder::steps`); then the norm's steps again, and the head. The same list is counted and timed ([`count`]),
//! planned for keys ([`keys`]) and given its bootstraps ([`placement`]).
//!
//! Domain: the residual stream is one ciphertext, each feature divided by its bound. The tokens of a prompt stand in
//! it side by side ([`crate::packing::Wave`]) and share all bootstraps and functions, while products work on one
//! token at a time. Whatever enters a bootstrap is masked and within [−1, 1]. After Cachemir (arXiv 2602.11470) with
//! the deferred softmax of [`crate::circuits::softmax`].

pub mod accuracy;
pub mod attention_functions;
mod by_hand;
mod construction;
pub mod count;
mod counted;
pub mod functions;
pub mod head;
pub mod head_side;
pub mod hidden_codec;
pub mod keys;
mod layer;
pub mod layout;
pub mod placement;
pub mod plan;
pub mod prepared_step;
pub mod products;
mod run;
pub mod schedule;
pub mod seam;
mod sequence;
mod state;
pub mod step;
mod steps;
pub mod typical;
pub mod values;

use std::cmp::Ordering;

use crate::contract::{Error, Evaluator, Level, Result};
use crate::packing::Wave;

use crate::decoder::head::Answer;
use crate::decoder::layer::{Layer, LayerRun, Members, Shared};
use crate::decoder::plan::DecoderPlan;
use crate::decoder::step::Step;
use crate::decoder::values::{LayerValue, Values};
use crate::model::config::LlamaConfig;

pub use crate::decoder::state::DecoderState;

/// Where a decode step stands; handed to the observer before and after each bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// Layer at work, counted from 0.
    pub layer: usize,
    /// Layers in all.
    #[serde(skip)]
    pub layers: usize,
    /// What is bootstrapped.
    pub stage: &'static str,
    /// Iterations of the bootstrap: 1, or 2 for the precise mode.
    pub iterations: usize,
    /// False just before the bootstrap, true just after it.
    #[serde(skip)]
    pub refreshed: bool,
}

/// Watches a decode step; gets the ciphertext that stands at each stage too, so that a client can check it.
pub type Observer<'a, C> = dyn FnMut(Progress, &C) + 'a;

/// A model on ciphertexts: weights, layouts and plan; no key of any kind.
pub struct Decoder {
    config: LlamaConfig,
    shared: Shared,
    plan: DecoderPlan,
    layers: Vec<Layer>,
    /// Final norm, and the head where the server has it.
    end: Layer,
}

impl Decoder {
    /// Runs one token: a wave of one.
    ///
    /// # Errors
    /// Errors of [`Decoder::step_wave`].
    pub fn step<E: Evaluator>(
        &self,
        evaluator: &E,
        state: &mut DecoderState<E::Ciphertext>,
        x: &E::Ciphertext,
        wants_output: bool,
        observer: &mut Observer<'_, E::Ciphertext>,
    ) -> Result<Option<Answer<E::Ciphertext>>> {
        self.step_wave(evaluator, state, x, 1, wants_output, observer)
    }

    /// Runs `tokens` consecutive tokens, at most [`Decoder::wave_capacity`]; `x` is their embeddings as packed by
    /// [`crate::decoder::hidden_codec::HiddenCodec`]. Appends all to the caches of `state`. With `wants_output` it
    /// returns the hidden state of the last token after the final norm, or its logits where the plan puts the head on
    /// the server, at level 0; otherwise it stops as soon as the last cache has its tokens. On an error `state` must
    /// be discarded.
    ///
    /// Cost: as many bootstraps and functions as for one token; products, cache and scores once for each token.
    ///
    /// # Errors
    /// [`Error::Shape`] when the context is full or the tokens are too many; [`Error::OutOfInterval`] when a value
    /// left the range it was calibrated for; those of the evaluator.
    pub fn step_wave<E: Evaluator>(
        &self,
        evaluator: &E,
        state: &mut DecoderState<E::Ciphertext>,
        x: &E::Ciphertext,
        tokens: usize,
        wants_output: bool,
        observer: &mut Observer<'_, E::Ciphertext>,
    ) -> Result<Option<Answer<E::Ciphertext>>> {
        let wave = self.wave_of(tokens)?;
        let (position, layers) = (state.position, self.layers.len());
        if state.caches.len() != layers {
            return Err(Error::Shape {
                operation: "decoder",
                what: format!("a state of {} layers, the model has {layers}", state.caches.len()),
                remedy: "use a state that this decoder began".to_owned(),
            });
        }
        let mut residual = x.clone();
        for (index, (layer, cache)) in self.layers.iter().zip(&mut state.caches).enumerate() {
            let members = self.members(index, wave, wants_output);
            let is_over = members.attending.is_empty();
            let run = LayerRun { evaluator, shared: &self.shared, layer, members, position, index };
            let mut tell = |stage, iterations, refreshed, value: &E::Ciphertext| {
                observer(Progress { layer: index, layers, stage, iterations, refreshed }, value);
            };
            let mut values = Values::of(LayerValue::Residual, residual);
            let steps = if is_over { Step::CACHING.as_slice() } else { Step::LAYER.as_slice() };
            run.run(steps, &mut values, Some(cache), &mut tell)?;
            if is_over {
                state.position += tokens;
                return Ok(None);
            }
            residual = run.leave(values.take_one(LayerValue::NextResidual)?, &mut tell)?;
        }
        state.position += tokens;
        self.answer(evaluator, wave, residual).map(Some)
    }

    /// The tokens of `wave` in layer `index`, or at the end of the model: all of them, but behind the last cache only
    /// the last token goes on, if anyone asks.
    pub(crate) fn members(&self, index: usize, wave: Wave, wants_output: bool) -> Members {
        let tokens = wave.members();
        let (all, last) = (0..tokens, tokens - 1..tokens);
        let layers = self.layers.len();
        let (entering, attending) = match (index + 1).cmp(&layers) {
            Ordering::Less => (all.clone(), all),
            Ordering::Equal => (all, if wants_output { last } else { 0..0 }),
            Ordering::Greater => (last.clone(), last),
        };
        Members { wave, entering, attending }
    }

    /// Final norm of the last token of `wave`, and the head where the server has it.
    fn answer<E: Evaluator>(
        &self,
        evaluator: &E,
        wave: Wave,
        residual: E::Ciphertext,
    ) -> Result<Answer<E::Ciphertext>> {
        let (shared, layer, index) = (&self.shared, &self.end, self.layers.len());
        let members = self.members(index, wave, true);
        let run = LayerRun { evaluator, shared, layer, members, position: 0, index };
        let mut values = Values::of(LayerValue::Residual, residual);
        run.run(self.end_steps(), &mut values, None, &mut |_, _, _, _| {})?;
        Ok(match self.head() {
            Some(_) => Answer::Logits(values.take(LayerValue::Logits)),
            None => Answer::Hidden(run.lower(&values.take_one(LayerValue::InputNormed)?, Level(0))?),
        })
    }

    /// The steps behind the last layer.
    pub(crate) fn end_steps(&self) -> &'static [Step] {
        if self.head().is_some() { &Step::END_WITH_HEAD } else { &Step::FINAL_NORM }
    }

    /// Places of `tokens` tokens side by side.
    pub(crate) fn wave_of(&self, tokens: usize) -> Result<Wave> {
        let capacity = self.wave_capacity();
        if tokens == 0 || tokens > capacity {
            return Err(Error::Shape {
                operation: "decoder",
                what: format!("{tokens} tokens together, {capacity} fit"),
                remedy: "send fewer tokens at a time".to_owned(),
            });
        }
        Wave::new(self.shared.layout.hidden, tokens)
    }
}
