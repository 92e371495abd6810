//! The encrypted decoder: one token through all layers, or a few of a prompt together, on any evaluator.
//!
//! The residual stream is one ciphertext, clean, each feature divided by its bound; the tokens of a prompt stand in it side
//! by side ([`Wave`]) and share all bootstraps and functions, while products work on one token at a time. A layer follows
//! [`crate::decoder::plan`], whose schedule says at which level every module runs and what is bootstrapped: norm, projections, cache, scores, bootstrap, softmax half way, bootstrap, rest of the
//! softmax, output projection, bootstrap, norm, gate, bootstrap, down projection, bootstrap. Whatever enters a bootstrap is
//! masked and within [−1, 1]. After Cachemir (arXiv 2602.11470) with the deferred softmax of [`crate::circuits::softmax`].

pub mod attention_functions;
mod by_hand;
pub mod functions;
pub mod head;
pub mod hidden_codec;
pub mod keys;
mod layer;
pub mod module;
pub mod modules;
pub mod placement;
pub mod plan;
pub mod products;
pub mod schedule;

use std::ops::Range;

use crate::circuits::evaluate_series;
use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::contract::{CiphertextInfo, Complex64, Error, Evaluator, Result};
use crate::packing::{AttentionPlan, CacheLayout, KeyValueCache, Rope, Wave, sum_strided};

use crate::decoder::head::{Answer, EncryptedHead, HeadSide};
use crate::decoder::layer::LayerRun;
use crate::decoder::module::Module;
use crate::decoder::plan::{DecoderPlan, LayerFunctions};
use crate::decoder::products::{DecoderLayout, LayerProducts, norm_slopes};
use crate::decoder::schedule::LayerSchedule;
use crate::model::config::LlamaConfig;
use crate::model::reference::KeyValueCache as ReferenceCache;
use crate::model::weights::Weights;

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

/// One layer, ready to run.
pub(crate) struct Layer {
    pub(crate) products: LayerProducts,
    pub(crate) attention: AttentionPlan,
    pub(crate) functions: LayerFunctions,
    /// What each feature of the residual stream that enters is divided by.
    pub(crate) residual: Vec<f64>,
}

/// A model on ciphertexts: weights, layouts and plan; no key of any kind.
pub struct Decoder {
    config: LlamaConfig,
    pub(crate) layout: DecoderLayout,
    plan: DecoderPlan,
    layers: Vec<Layer>,
    pub(crate) rope: Rope,
    head: Option<EncryptedHead>,
}

/// The encrypted caches of one sequence.
#[derive(Clone)]
pub struct DecoderState<C> {
    caches: Vec<KeyValueCache<C>>,
    position: usize,
}

impl<C: Clone> DecoderState<C> {
    /// Tokens the sequence holds.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// The caches, one a layer.
    pub(crate) fn caches(&self) -> &[KeyValueCache<C>] {
        &self.caches
    }

    /// State of given caches, when all hold the same number of tokens.
    pub(crate) fn from_caches(caches: Vec<KeyValueCache<C>>) -> Option<Self> {
        let position = caches.first().map_or(0, KeyValueCache::tokens);
        caches.iter().all(|cache| cache.tokens() == position).then_some(Self { caches, position })
    }

    /// Fills up to `position` with public tokens of zeros: a state to plan with, not to generate from.
    ///
    /// # Errors
    /// [`Error::Shape`] when the context is shorter.
    pub(crate) fn pad_with_zeros<E: Evaluator<Ciphertext = C>>(
        &mut self,
        evaluator: &E,
        position: usize,
    ) -> Result<()> {
        for cache in &mut self.caches {
            while cache.tokens() < position {
                cache.append_public(evaluator, |_, _| 0.0, |_, _| 0.0)?;
            }
        }
        self.position = self.position.max(position);
        Ok(())
    }
}

impl Decoder {
    /// Decoder of `weights` under `plan` in `slots` slots, for sequences of at most `context` tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] when the model does not fit the slots; [`Error::Model`] for unusable weights; [`Error::Plan`]
    /// for a plan of another number of layers.
    pub fn new(weights: &Weights, plan: DecoderPlan, slots: usize, context: usize) -> Result<Self> {
        let config = weights.config().clone();
        if plan.layers.len() != config.num_hidden_layers {
            return Err(Error::Plan {
                why: format!("{} layers, the model has {}", plan.layers.len(), config.num_hidden_layers),
                remedy: "plan for this model".to_owned(),
            });
        }
        let layout = DecoderLayout::new(&config, slots, context)?;

        let mut layers = Vec::with_capacity(plan.layers.len());
        for (index, functions) in plan.layers.iter().enumerate() {
            let attention = layout.attention(functions.key_level, functions.value_level)?;
            let (residual, weights) = (plan.entering(index, config.hidden_size), weights.layer(index)?);
            let products = LayerProducts::new(&config, &layout, &attention, functions, &weights, &residual)?;

            layers.push(Layer { products, attention, functions: functions.clone(), residual });
        }
        let rope = Rope::with_frequencies(config.rope_frequencies(), config.max_position_embeddings);
        let head = match plan.head {
            HeadSide::Client => None,
            HeadSide::Server => Some(EncryptedHead::new(weights, &layout, &plan)?),
        };
        Ok(Self { config, layout, plan, layers, rope, head })
    }

    /// The output head, where the plan puts it on the server.
    #[must_use]
    pub fn head(&self) -> Option<&EncryptedHead> {
        self.head.as_ref()
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &DecoderPlan {
        &self.plan
    }

    /// The shape of the model.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Layouts of the vectors.
    #[must_use]
    pub fn layout(&self) -> &DecoderLayout {
        &self.layout
    }

    /// Positions at which, together, a token uses every rotation that any position uses.
    ///
    /// # Errors
    /// [`Error::Internal`] for a decoder without layers.
    pub(crate) fn positions_with_all_rotations(&self) -> Result<Vec<usize>> {
        let layer =
            self.layers.first().ok_or_else(|| Error::Internal("a decoder without layers".to_owned()))?;
        let last = layer.attention.stored().tokens().min(self.layout.context) - 1;
        let highest = last.checked_ilog2().map_or(0, |bit| 1usize << bit);
        let mut positions = vec![0, highest.saturating_sub(1), highest];
        positions.dedup();
        Ok(positions)
    }

    /// An empty sequence.
    #[must_use]
    pub fn new_state<C: Clone>(&self) -> DecoderState<C> {
        let caches = self.layers.iter().map(|layer| KeyValueCache::new(layer.attention.cache_layout()));
        DecoderState { caches: caches.collect(), position: 0 }
    }

    /// Layouts of the caches, one a layer.
    pub(crate) fn cache_layouts(&self) -> Vec<CacheLayout> {
        self.layers.iter().map(|layer| layer.attention.cache_layout()).collect()
    }

    /// Appends a public prefix, computed in the clear by the reference model: its keys and values enter as plaintexts.
    ///
    /// # Errors
    /// [`Error::Shape`] when the context is shorter than the prefix.
    pub fn append_public_prefix<E: Evaluator>(
        &self,
        evaluator: &E,
        state: &mut DecoderState<E::Ciphertext>,
        prefix: &ReferenceCache,
    ) -> Result<()> {
        for (index, (layer, cache)) in self.layers.iter().zip(&mut state.caches).enumerate() {
            let (Some(keys), Some(values)) = (prefix.keys(index), prefix.values(index)) else {
                return Err(Error::Internal(format!("a prefix without layer {index}")));
            };
            let functions = &layer.functions.attention;
            for (keys, values) in keys.rows().into_iter().zip(values.rows()) {
                let entry = |row: &ndarray::ArrayView1<'_, f32>, head: usize, dimension: usize| {
                    let feature = layer.attention.kv_feature(head, dimension);
                    row.get(feature).copied().map_or(0.0, f64::from)
                };
                let shift = |head: usize, dimension: usize| {
                    functions.shifts.get(head).and_then(|shift| shift.get(dimension)).copied().unwrap_or(0.0)
                };
                let factor = |head: usize| functions.value_factors.get(head).copied().unwrap_or(0.0);
                cache.append_public(
                    evaluator,
                    |head, dimension| entry(&keys, head, dimension) - shift(head, dimension),
                    |head, dimension| entry(&values, head, dimension) * factor(head),
                )?;
            }
        }
        state.position += prefix.positions();
        Ok(())
    }

    /// Tokens of a prompt that can go through [`Decoder::step_wave`] together: as many as fit one ciphertext of every kind; 1
    /// where the plan leaves no level to take them apart.
    #[must_use]
    pub fn wave_capacity(&self) -> usize {
        let scores = self.layers.iter().map(|layer| layer.attention.wave_capacity()).min().unwrap_or(1);
        let intermediate = self.layers.iter().map(|layer| Wave::capacity(&layer.products.intermediate()));
        let fits = scores.min(Wave::capacity(&self.layout.hidden)).min(intermediate.min().unwrap_or(1));
        let levels = self.layers.iter().all(|layer| layer.functions.has_level_for_waves(self.plan.highest));
        if levels { fits.max(1) } else { 1 }
    }

    /// Runs one token: a wave of one.
    ///
    /// # Errors
    /// Those of [`Decoder::step_wave`].
    pub fn step<E: Evaluator>(
        &self,
        evaluator: &E,
        state: &mut DecoderState<E::Ciphertext>,
        x: &E::Ciphertext,
        wants_output: bool,
        observer: &mut Observer<'_, E::Ciphertext>,
    ) -> Result<Option<Answer<E::Ciphertext>>> {
        self.step_wave(evaluator, state, (x, 1), wants_output, observer)
    }

    /// Runs consecutive tokens, `wave` their embeddings as packed by [`crate::decoder::hidden_codec::HiddenCodec`] and their number,
    /// at most [`Decoder::wave_capacity`]. Appends all to the caches of `state`; with `wants_output` returns the hidden state
    /// of the last token after the final norm, or its logits where the plan puts the head on the server, at level 0, otherwise
    /// stops as soon as the last cache has its tokens. On an
    /// error `state` must be discarded. The bootstraps of one token; products, cache and scores once per token.
    ///
    /// # Errors
    /// [`Error::Shape`] when the context is full or the tokens are too many; those of the evaluator.
    pub fn step_wave<E: Evaluator>(
        &self,
        evaluator: &E,
        state: &mut DecoderState<E::Ciphertext>,
        wave: (&E::Ciphertext, usize),
        wants_output: bool,
        observer: &mut Observer<'_, E::Ciphertext>,
    ) -> Result<Option<Answer<E::Ciphertext>>> {
        let (x, tokens) = wave;
        let capacity = self.wave_capacity();
        if tokens == 0 || tokens > capacity {
            return Err(Error::Shape {
                operation: "decoder",
                what: format!("{tokens} tokens together, {capacity} fit"),
                remedy: "send fewer tokens at a time".to_owned(),
            });
        }
        let layers = self.layers.len();
        let position = state.position;
        let wave = Wave::new(self.layout.hidden, tokens)?;
        let mut hidden = x.clone();
        for (index, (layer, cache)) in self.layers.iter().zip(&mut state.caches).enumerate() {
            // Behind the last cache only the last token goes on.
            let attending = match (index + 1 == layers, wants_output) {
                (false, _) => 0..tokens,
                (true, true) => tokens - 1..tokens,
                (true, false) => 0..0,
            };
            let run = LayerRun { decoder: self, index, layer, evaluator, wave, attending };
            let mut tell = |stage, iterations, refreshed, value: &E::Ciphertext| {
                observer(Progress { layer: index, layers, stage, iterations, refreshed }, value);
            };
            let scores = run.cache_tokens(cache, &hidden, position, &mut tell)?;
            if run.attending.is_empty() {
                break;
            }
            let middle = run.attend(cache, &scores, &hidden, &mut tell)?;
            hidden = run.feed_forward(&middle, &mut tell)?;
        }
        state.position += tokens;
        if !wants_output {
            return Ok(None);
        }
        let residual = self.plan.entering(self.layers.len(), self.config.hidden_size);

        let last = tokens - 1..tokens;
        let schedule = (&self.plan.final_schedule, &INPUT_NORM);
        let norm = &self.plan.final_norm;
        let normed = self.norm(evaluator, &hidden, (norm, &residual), schedule, (&wave, last))?;
        let normed = normed
            .first()
            .ok_or_else(|| Error::Internal("a final norm without a token".to_owned()))
            .and_then(|normed| evaluator.lower(normed, self.plan.head.level()))?;
        Ok(Some(match &self.head {
            None => Answer::Hidden(normed),
            Some(head) => Answer::Logits(head.apply(evaluator, &self.layout, normed)?),
        }))
    }

    /// x/√(mean square + ε) up to a constant, of the given members of a wave, each alone and clean; `x` may have noise or
    /// junk between its values. Three levels and those of the polynomial.
    pub(crate) fn norm<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &E::Ciphertext,
        norm: (&InverseSquareRoot, &[f64]),
        schedule: (&LayerSchedule, &[Module; 3]),
        members: (&Wave, Range<usize>),
    ) -> Result<Vec<E::Ciphertext>> {
        let (wave, members) = members;
        let (masked, root) = self.norm_root(evaluator, x, norm, schedule, wave)?;
        if wave.members() == 1 {
            return Ok(vec![evaluator.mul(&evaluator.lower(&masked, root.level())?, &root)?]);
        }
        let alone = |member: usize| {
            // The mask that cleans x picks the member, so that taking them apart costs no level.
            let x = evaluator.mul_values(x, &wave.mask(member..member + 1, 1.0))?;
            let normed = evaluator.mul(&evaluator.lower(&x, root.level())?, &root)?;
            wave.bring(evaluator, &normed, member)
        };
        members.map(alone).collect()
    }

    /// `x`, clean, and the root of its norm at every slot, at the level of the product.
    pub(crate) fn norm_root<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &E::Ciphertext,
        (norm, bounds): (&InverseSquareRoot, &[f64]),
        (schedule, [square, root, scale]): (&LayerSchedule, &[Module; 3]),
        wave: &Wave,
    ) -> Result<(E::Ciphertext, E::Ciphertext)> {
        let x = schedule.lower(evaluator, *square, 0, x)?;

        let (x, unit) =
            squared_for_norm(evaluator, wave, &self.layout, &x, norm, bounds, self.config.rms_norm_eps)?;
        let unit = schedule.lower(evaluator, *root, 0, &unit)?;
        let start = evaluate_series(evaluator, &unit, &norm.start.complex_coefficients(), None)?;
        let root = norm.refine(evaluator, &unit, &start)?;
        Ok((x, schedule.lower(evaluator, *scale, 0, &root)?))
    }
}

/// Modules of the norm before attention.
pub(crate) const INPUT_NORM: [Module; 3] =
    [Module::InputNormSquare, Module::InputNormRoot, Module::InputNormScale];
/// Modules of the norm before the MLP.
pub(crate) const POST_NORM: [Module; 3] =
    [Module::PostNormSquare, Module::PostNormRoot, Module::PostNormScale];

/// `x`, masked, and its mean square as the unit variable of the norm's polynomial over `interval` at every slot of every
/// member. Two levels; a sum over all slots.
///
/// # Errors
/// Those of the evaluator.
pub(crate) fn squared_for_norm<E: Evaluator>(
    evaluator: &E,
    wave: &Wave,
    hidden: &DecoderLayout,
    x: &E::Ciphertext,
    norm: &InverseSquareRoot,
    bounds: &[f64],
    epsilon: f64,
) -> Result<(E::Ciphertext, E::Ciphertext)> {
    let interval = norm.interval();
    let slopes = hidden.hidden_order.pack(&hidden.hidden, &norm_slopes(interval, bounds))?;
    let slopes = wave.repeat_slots(0..wave.members(), &slopes);

    let square = evaluator.square(&evaluator.mul_values(x, &slopes)?)?;
    // What is normalised keeps its scale by feature: so does the noise of a bootstrap behind the norm.
    let x = evaluator.mul_values(x, &wave.mask(0..wave.members(), 1.0))?;
    // All values of a block, seen from each of them; then all blocks.
    let layout = wave.vector();
    let reach = i64::try_from(layout.values() - 1).unwrap_or(i64::MAX);
    let block = i64::try_from(layout.block()).unwrap_or(i64::MAX);
    let centred = evaluator.rotate(&square, -reach)?;
    let within = sum_strided(evaluator, &centred, 2 * layout.values() - 1, 1)?;
    let sum = sum_strided(evaluator, &within, layout.ring(), block)?;
    let constant = interval.to_unit(epsilon);
    let unit = evaluator.add_constant(&sum, Complex64::new(constant, 0.0))?;
    Ok((x, unit))
}
