//! The encrypted decoder: one token through all layers, or a few of a prompt together, on any evaluator.
//!
//! The residual stream is one ciphertext, clean, divided by the bound of the plan; the tokens of a prompt stand in it side
//! by side ([`Wave`]) and share all bootstraps and functions, while products work on one token at a time. A layer follows
//! [`super::decoder_plan`], whose schedule says at which level every module runs and what is bootstrapped: norm, projections, cache, scores, bootstrap, softmax half way, bootstrap, rest of the
//! softmax, output projection, bootstrap, norm, gate, bootstrap, down projection, bootstrap. Whatever enters a bootstrap is
//! masked and within [−1, 1]. After Cachemir (arXiv 2602.11470) with the deferred softmax of [`crate::circuits::softmax`].

use std::ops::Range;

use crate::circuits::evaluate_series;
use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::circuits::softmax::{Denominators, join_complex, split_complex};
use crate::contract::{BootstrapRequest, CiphertextInfo, Complex64, Error, Evaluator, Level, Result};
use crate::packing::{AttentionPlan, CacheLayout, KeyValueCache, Packed, Rope, Wave, sum_strided};

use super::config::LlamaConfig;
use super::decoder_plan::{DecoderPlan, LayerFunctions};
use super::decoder_weights::{DecoderLayout, LayerProducts, norm_slope};
use super::layer_schedule::{LayerSchedule, Refresh};
use super::module::Module;
use super::reference::KeyValueCache as ReferenceCache;
use super::weights::Weights;

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
struct Layer {
    products: LayerProducts,
    attention: AttentionPlan,
    functions: LayerFunctions,
    /// What the residual stream that enters is divided by.
    residual: f64,
}

/// A model on ciphertexts: weights, layouts and plan; no key of any kind.
pub struct Decoder {
    config: LlamaConfig,
    layout: DecoderLayout,
    plan: DecoderPlan,
    layers: Vec<Layer>,
    rope: Rope,
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
    pub(super) fn caches(&self) -> &[KeyValueCache<C>] {
        &self.caches
    }

    /// State of given caches, when all hold the same number of tokens.
    pub(super) fn from_caches(caches: Vec<KeyValueCache<C>>) -> Option<Self> {
        let position = caches.first().map_or(0, KeyValueCache::tokens);
        caches.iter().all(|cache| cache.tokens() == position).then_some(Self { caches, position })
    }

    /// Fills up to `position` with public tokens of zeros: a state to plan with, not to generate from.
    ///
    /// # Errors
    /// [`Error::Shape`] when the context is shorter.
    pub(super) fn pad_with_zeros<E: Evaluator<Ciphertext = C>>(
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
        let mut residual = plan.embedding;
        let mut layers = Vec::with_capacity(plan.layers.len());
        for (index, functions) in plan.layers.iter().enumerate() {
            let attention = layout.attention(functions.key_level, functions.value_level)?;
            let products =
                LayerProducts::new(&config, &layout, &attention, functions, &weights.layer(index)?)?;
            layers.push(Layer { products, attention, functions: functions.clone(), residual });
            residual = functions.residual;
        }
        let rope = Rope::with_frequencies(config.rope_frequencies(), config.max_position_embeddings);
        Ok(Self { config, layout, plan, layers, rope })
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
    pub(super) fn positions_with_all_rotations(&self) -> Result<Vec<usize>> {
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
    pub(super) fn cache_layouts(&self) -> Vec<CacheLayout> {
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
    ) -> Result<Option<E::Ciphertext>> {
        self.step_wave(evaluator, state, (x, 1), wants_output, observer)
    }

    /// Runs consecutive tokens, `wave` their embeddings as packed by [`super::hidden_codec::HiddenCodec`] and their number,
    /// at most [`Decoder::wave_capacity`]. Appends all to the caches of `state`; with `wants_output` returns the hidden state
    /// of the last token after the final norm at level 0, otherwise stops as soon as the last cache has its tokens. On an
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
    ) -> Result<Option<E::Ciphertext>> {
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
            let run = Run { decoder: self, index, layer, evaluator, wave, attending };
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
        let residual = self.plan.layers.last().map_or(self.plan.embedding, |layer| layer.residual);
        let last = tokens - 1..tokens;
        let schedule = (&self.plan.final_schedule, &INPUT_NORM);
        let norm = &self.plan.final_norm;
        let normed = self.norm(evaluator, &hidden, (norm, residual), schedule, (&wave, last))?;
        normed.first().map(|normed| evaluator.lower(normed, Level(0))).transpose()
    }

    /// x/√(mean square + ε) up to a constant, of the given members of a wave, each alone and clean; `x` may have noise or
    /// junk between its values. Three levels and those of the polynomial.
    fn norm<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &E::Ciphertext,
        norm: (&InverseSquareRoot, f64),
        schedule: (&LayerSchedule, &[Module; 3]),
        members: (&Wave, Range<usize>),
    ) -> Result<Vec<E::Ciphertext>> {
        let (wave, members) = members;
        let (masked, root) = self.norm_root(evaluator, x, norm, schedule, wave)?;
        if wave.members() == 1 {
            return Ok(vec![evaluator.mul(&evaluator.lower(&masked, root.level())?, &root)?]);
        }
        let (norm, residual) = norm;
        let slope = norm_slope(norm.interval(), self.config.hidden_size, residual);
        let alone = |member: usize| {
            // The mask that scales x picks the member as well, so that taking them apart costs no level.
            let x = evaluator.mul_values(x, &wave.mask(member..member + 1, slope))?;
            let normed = evaluator.mul(&evaluator.lower(&x, root.level())?, &root)?;
            wave.bring(evaluator, &normed, member)
        };
        members.map(alone).collect()
    }

    /// `x`, masked and scaled, and the root of its norm at every slot, at the level of the product.
    fn norm_root<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &E::Ciphertext,
        (norm, residual): (&InverseSquareRoot, f64),
        (schedule, [square, root, scale]): (&LayerSchedule, &[Module; 3]),
        wave: &Wave,
    ) -> Result<(E::Ciphertext, E::Ciphertext)> {
        let x = schedule.lower(evaluator, *square, 0, x)?;
        let (x, unit) = squared_for_norm(evaluator, wave, &self.config, &x, norm, residual)?;
        let unit = schedule.lower(evaluator, *root, 0, &unit)?;
        let start = evaluate_series(evaluator, &unit, &norm.start.complex_coefficients(), None)?;
        let root = norm.refine(evaluator, &unit, &start)?;
        Ok((x, schedule.lower(evaluator, *scale, 0, &root)?))
    }
}

/// Modules of the norm before attention.
const INPUT_NORM: [Module; 3] = [Module::InputNormSquare, Module::InputNormRoot, Module::InputNormScale];
/// Modules of the norm before the MLP.
const POST_NORM: [Module; 3] = [Module::PostNormSquare, Module::PostNormRoot, Module::PostNormScale];

/// `x`, masked and scaled for a norm, and its mean square as the unit variable of the norm's polynomial at every slot of
/// every member. Two levels; a sum over all slots.
///
/// # Errors
/// Those of the evaluator.
pub(super) fn squared_for_norm<E: Evaluator>(
    evaluator: &E,
    wave: &Wave,
    config: &LlamaConfig,
    x: &E::Ciphertext,
    norm: &InverseSquareRoot,
    residual: f64,
) -> Result<(E::Ciphertext, E::Ciphertext)> {
    let interval = norm.interval();
    let slope = norm_slope(interval, config.hidden_size, residual);
    let x = evaluator.mul_values(x, &wave.mask(0..wave.members(), slope))?;
    let square = evaluator.square(&x)?;
    // All values of a block, seen from each of them; then all blocks.
    let layout = wave.vector();
    let reach = i64::try_from(layout.values() - 1).unwrap_or(i64::MAX);
    let block = i64::try_from(layout.block()).unwrap_or(i64::MAX);
    let centred = evaluator.rotate(&square, -reach)?;
    let within = sum_strided(evaluator, &centred, 2 * layout.values() - 1, 1)?;
    let sum = sum_strided(evaluator, &within, layout.ring(), block)?;
    let constant = interval.to_unit(config.rms_norm_eps);
    let unit = evaluator.add_constant(&sum, Complex64::new(constant, 0.0))?;
    Ok((x, unit))
}

/// The observer within one layer: stage, iterations of its bootstrap, whether it is done, and the ciphertext.
type Tell<'a, C> = dyn FnMut(&'static str, usize, bool, &C) + 'a;

/// A query after RoPE, times 1/√head_dim, and what it takes off every key it meets.
struct Query<C> {
    vector: Packed<C>,
    square_shift: Option<Packed<C>>,
}

/// One layer at work.
struct Run<'a, E> {
    decoder: &'a Decoder,
    index: usize,
    layer: &'a Layer,
    evaluator: &'a E,
    /// The tokens under way, as they stand in the residual stream.
    wave: Wave,
    /// Those of them that go beyond the cache.
    attending: Range<usize>,
}

impl<E: Evaluator> Run<'_, E> {
    /// What enters `module`: `x`, bootstrapped when the schedule says so and `x` is what the module may bootstrap; `above`
    /// levels higher than it says.
    fn at_seam(
        &self,
        module: Module,
        above: usize,
        x: &E::Ciphertext,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<E::Ciphertext> {
        match self.layer.functions.schedule.refresh(module) {
            Some(refresh) => {
                let level = Level(refresh.level.0 + above);
                self.refresh(x, Refresh { level, ..refresh }, module.stage(), tell)
            }
            None => Ok(x.clone()),
        }
    }

    /// `x`, lowered to the level at which `module` runs, or `above` levels over it.
    fn lower(&self, module: Module, above: usize, x: &E::Ciphertext) -> Result<E::Ciphertext> {
        self.layer.functions.schedule.lower(self.evaluator, module, above, x)
    }

    fn refresh(
        &self,
        x: &E::Ciphertext,
        refresh: Refresh,
        stage: &'static str,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<E::Ciphertext> {
        tell(stage, refresh.iterations, false, x);
        let request = BootstrapRequest {
            level: refresh.level,
            slots: self.evaluator.slots(),
            iterations: refresh.iterations,
        };
        let refreshed = self.evaluator.bootstrap(x, request).map_err(|error| match error {
            Error::OutOfInterval { magnitude, bound, .. } => {
                let site = format!("layer {} {stage}", self.index);
                Error::OutOfInterval { site, magnitude, bound }
            }
            other => other,
        })?;
        tell(stage, refresh.iterations, true, &refreshed);
        Ok(refreshed)
    }

    /// Norm and projections of the tokens; appends their keys and values and returns the scores of those that attend, one
    /// ciphertext per segment, in the unit variable of the exponential. A token sees itself and those before it, because
    /// the later ones are not in the cache yet.
    fn cache_tokens(
        &self,
        cache: &mut KeyValueCache<E::Ciphertext>,
        hidden: &E::Ciphertext,
        position: usize,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<Vec<E::Ciphertext>> {
        let mut scores: Vec<E::Ciphertext> = Vec::new();
        for (member, normed) in self.normed_inputs(hidden, tell)?.into_iter().enumerate() {
            let query = self.cache_token(cache, normed, position + member)?;
            if !self.attending.contains(&member) {
                continue;
            }
            let own = self.scores(cache, &query, member)?;
            scores = match scores.is_empty() {
                true => own,
                false => scores
                    .iter()
                    .zip(&own)
                    .map(|(sum, own)| self.evaluator.add(sum, own))
                    .collect::<Result<_>>()?,
            };
        }
        Ok(scores)
    }

    /// The tokens after the norm, each alone, clean.
    fn normed_inputs(
        &self,
        hidden: &E::Ciphertext,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<Vec<E::Ciphertext>> {
        let (evaluator, decoder, Layer { functions, residual, .. }) =
            (self.evaluator, self.decoder, self.layer);
        let (norm, members) = ((&functions.input_norm, *residual), 0..self.wave.members());
        let schedule = (&functions.schedule, &INPUT_NORM);
        if functions.schedule.refresh(Module::QueryKeyValue).is_none() {
            return decoder.norm(evaluator, hidden, norm, schedule, (&self.wave, members));
        }
        let (x, root) = decoder.norm_root(evaluator, hidden, norm, schedule, &self.wave)?;
        let normed = evaluator.mul(&evaluator.lower(&x, root.level())?, &root)?;
        // The mask that takes the tokens of a wave apart needs a level of its own here.
        let scheduled = functions.schedule.level(Module::QueryKeyValue).is_some();
        let above = usize::from(scheduled && self.wave.members() > 1);
        let normed = self.at_seam(Module::QueryKeyValue, above, &normed, tell)?;
        members.map(|member| self.wave.extract(evaluator, &normed, member)).collect()
    }

    /// Projections of one token; appends its key and value, returns its query.
    fn cache_token(
        &self,
        cache: &mut KeyValueCache<E::Ciphertext>,
        normed: E::Ciphertext,
        position: usize,
    ) -> Result<Query<E::Ciphertext>> {
        let (evaluator, Layer { products, attention, functions, .. }) = (self.evaluator, self.layer);
        let normed = self.lower(Module::QueryKeyValue, 0, &normed)?;
        let normed = Packed::new(normed, self.decoder.layout.hidden);
        let prepared = products.query.prepare(evaluator, &normed)?;
        let (offset, rope, heads) = (cache.next_offset()?, &self.decoder.rope, attention.stored());
        let [key, value, query] = products.query_key_value(evaluator, &prepared, offset)?;
        let key = key.map(|key| self.lower(Module::Rope, 0, key))?;
        let query = query.map(|query| self.lower(Module::Rope, 0, query))?;
        let key = rope.apply(evaluator, &heads, &key, position, 1.0)?;
        let shifts = heads.values(offset, |head, dimension| {
            let shift = functions.attention.shifts.get(head).and_then(|shift| shift.get(dimension));
            -shift.copied().unwrap_or(0.0)
        });
        let key = key.map(|key| evaluator.add_values(key, &shifts))?;
        let key = key.map(|key| self.lower(Module::Append, 0, key))?;
        // Masks of the value's lanes take one level.
        let value = value.map(|value| self.lower(Module::Append, 1, value))?;
        cache.append(evaluator, &key, &value)?;
        let scale = 1.0 / (heads.head_dim() as f64).sqrt();
        let vector = rope.apply(evaluator, &heads, &query, position, scale)?;
        let squares = &functions.attention.square_shifts;
        let square_shift = if squares.iter().flatten().any(|weight| *weight != 0.0) {
            let weight = |head: usize, dimension: usize| {
                squares.get(head).and_then(|head| head.get(dimension)).copied().unwrap_or(0.0)
            };
            Some(rope.apply_scaled(evaluator, &heads, &query, position, weight)?)
        } else {
            None
        };
        let lower = |query: Packed<E::Ciphertext>| query.map(|query| self.lower(Module::Scores, 0, query));
        Ok(Query { vector: lower(vector)?, square_shift: square_shift.map(lower).transpose()? })
    }

    /// Scores of one token with all tokens of the cache, in the unit variable of the exponential; in its own copy of the
    /// score layout when it is one of several. The first token's are −1 at all other slots, those of the others 0, so that
    /// their sum is −1, where exp vanishes, wherever no score is.
    fn scores(
        &self,
        cache: &KeyValueCache<E::Ciphertext>,
        query: &Query<E::Ciphertext>,
        member: usize,
    ) -> Result<Vec<E::Ciphertext>> {
        let (evaluator, Layer { attention, functions, .. }) = (self.evaluator, self.layer);
        let plan = &functions.attention;
        let interval = plan.softmax.exponential.root.interval;
        let slope = interval.unit_slope();
        let queries = std::slice::from_ref(&query.vector);
        let shift = query.square_shift.as_ref();
        let copy = (self.wave.members() > 1).then_some(member);
        let scores = attention.shifted_scores(evaluator, queries, shift, cache, slope, copy)?;
        let layout = attention.score_layout();
        let with_constants = |(segment, scores): (usize, &E::Ciphertext)| {
            let mut constants = layout.values(segment, cache.tokens(), |_, head| {
                let offset = plan.offsets.get(head).copied().unwrap_or(0.0);
                1.0 + interval.to_unit(-offset)
            });
            if let Some(copy) = copy {
                layout.keep_copy(&mut constants, copy);
            }
            if member == self.attending.start {
                constants.iter_mut().for_each(|constant| *constant -= 1.0);
            }
            evaluator.add_values(scores, &constants)
        };
        scores.iter().enumerate().map(with_constants).collect()
    }

    /// Softmax, weighted values, output projection and residual sum, refreshed.
    fn attend(
        &self,
        cache: &KeyValueCache<E::Ciphertext>,
        scores: &[E::Ciphertext],
        hidden: &E::Ciphertext,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<E::Ciphertext> {
        let (evaluator, Layer { products, attention, functions, residual }) = (self.evaluator, self.layer);
        let plan = &functions.attention;
        let mut weights = Vec::with_capacity(scores.len());
        for scores in scores {
            let unit = self.at_seam(Module::Exponential, 0, scores, tell)?;
            let unit = self.lower(Module::Exponential, 0, &unit)?;
            weights.push(plan.softmax.weights(evaluator, &unit)?);
        }
        let heads = Wave::new(attention.output_layout()?, self.wave.members())?;
        let sums = self.denominators(&weights, &heads)?;
        let [quarter, magnified] = sums.as_slice() else {
            return Err(Error::Internal(format!("{} denominators of 2 factors", sums.len())));
        };
        let places = heads.mask(self.attending.clone(), 1.0);
        let offset = heads.mask(self.attending.clone(), plan.softmax.quarter_offset());
        let first = |x: &E::Ciphertext| self.lower(Module::DivideFirst, functions.division_gap, x);
        let denominators = Denominators {
            quarter: evaluator.add_values(&first(&quarter.ciphertext)?, &offset)?,
            magnified: first(&magnified.ciphertext)?,
        };
        let o = self.numerators(&weights, cache, &heads)?;
        let o = self.lower(Module::DivideFirst, 0, &o)?;
        let (f, o) = plan.softmax.before_refresh(evaluator, denominators, o, &places)?;
        let both = join_complex(evaluator, &f, &o)?;
        let both = self.at_seam(Module::DivideLast, 0, &both, tell)?;
        let both = self.lower(Module::DivideLast, 0, &both)?;
        let (f, o) = split_complex(evaluator, &both)?;
        let o = plan.softmax.after_refresh(evaluator, f, o, &places)?;
        let mut projected = Vec::with_capacity(self.attending.len());
        for member in self.attending.clone() {
            let o = self.lower(Module::Output, 0, &heads.extract(evaluator, &o, member)?)?;
            let o = Packed::new(o, quarter.layout);
            projected.push((member, products.output.apply(evaluator, &o)?.mask(evaluator, 1.0)?.ciphertext));
        }
        let projected = self.wave.pack(evaluator, &projected)?;
        let hidden = self.at_seam(Module::AttentionResidual, 0, hidden, tell)?;
        let update = self.lower(Module::AttentionResidual, 0, &projected)?;
        let middle = self.add_residual(&hidden, residual / functions.middle_residual, &update)?;
        self.at_seam(Module::PostNormSquare, 0, &middle, tell)
    }

    /// Sums of the softmax by its two factors, in the places of `heads`.
    fn denominators(&self, weights: &[E::Ciphertext], heads: &Wave) -> Result<Vec<Packed<E::Ciphertext>>> {
        let (evaluator, attention, plan) =
            (self.evaluator, &self.layer.attention, &self.layer.functions.attention);
        let factors = plan.softmax.denominator_factors(plan.largest_denominator);
        let weights: Vec<E::Ciphertext> =
            weights.iter().map(|x| self.lower(Module::Denominator, 0, x)).collect::<Result<_>>()?;
        match weights.as_slice() {
            [weights] if heads.members() > 1 => {
                attention.wave_denominators(evaluator, weights, heads, self.attending.clone(), &factors)
            }
            weights => attention.denominators(evaluator, weights, &factors),
        }
    }

    /// Products of the softmax's weights with the values, in the places of `heads`.
    fn numerators(
        &self,
        weights: &[E::Ciphertext],
        cache: &KeyValueCache<E::Ciphertext>,
        heads: &Wave,
    ) -> Result<E::Ciphertext> {
        let (evaluator, attention) = (self.evaluator, &self.layer.attention);
        // A mask takes the tokens of a wave apart.
        let above = usize::from(heads.members() > 1);
        let weights: Vec<E::Ciphertext> =
            weights.iter().map(|x| self.lower(Module::Values, above, x)).collect::<Result<_>>()?;
        match weights.as_slice() {
            [weights] if heads.members() > 1 => {
                let mut members = Vec::with_capacity(self.attending.len());
                for member in self.attending.clone() {
                    let weights = attention.member_weights(evaluator, weights, member)?;
                    let o = attention.weighted_values(evaluator, &[weights], cache)?;
                    members.push((member, o.ciphertext));
                }
                heads.pack(evaluator, &members)
            }
            weights => Ok(attention.weighted_values(evaluator, weights, cache)?.ciphertext),
        }
    }

    /// Norm, SwiGLU, down projection and residual sum, refreshed.
    fn feed_forward(
        &self,
        middle: &E::Ciphertext,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<E::Ciphertext> {
        let (evaluator, Layer { products, functions, .. }) = (self.evaluator, self.layer);
        let (residual, attending) = (functions.middle_residual, self.attending.clone());
        let (norm, schedule) = ((&functions.post_norm, residual), (&functions.schedule, &POST_NORM));
        let members = (&self.wave, attending.clone());
        let normed = self.decoder.norm(evaluator, middle, norm, schedule, members)?;
        let mut widened = Vec::with_capacity(normed.len());
        for (member, normed) in attending.clone().zip(normed) {
            let normed = self.lower(Module::UpGate, 0, &normed)?;
            let normed = Packed::new(normed, self.decoder.layout.hidden);
            let both = products.up_gate.apply(evaluator, &normed)?.mask(evaluator, 1.0)?;
            widened.push((member, both.ciphertext));
        }
        let layout = products.intermediate();
        let wave = Wave::new(layout, self.wave.members())?;
        let both = wave.pack(evaluator, &widened)?;
        let offset = Complex64::new(0.0, functions.gate.interval.unit_offset() / 2.0);
        let offsets: Vec<Complex64> =
            wave.mask(attending.clone(), 1.0).iter().map(|place| place * offset).collect();
        let both = evaluator.add_values(&both, &offsets)?;
        let both = self.at_seam(Module::Activation, 0, &both, tell)?;
        let both = self.lower(Module::Activation, 0, &both)?;
        let (up, gate) = split_complex(evaluator, &both)?;
        let gate = evaluate_series(evaluator, &gate, &functions.gate.complex_coefficients(), None)?;
        let gate = self.lower(Module::GateProduct, 0, &gate)?;
        let mut narrowed = Vec::with_capacity(attending.len());
        for member in attending {
            // The mask that takes members apart falls on levels that up has to spare.
            let up = match self.wave.members() {
                1 => up.clone(),
                _ => evaluator.mul_values(&up, &wave.mask(member..member + 1, 1.0))?,
            };
            let product = evaluator.mul(&evaluator.lower(&up, gate.level())?, &gate)?;
            let product = self.lower(Module::Down, 0, &product)?;
            let product = Packed::new(wave.bring(evaluator, &product, member)?, layout);
            narrowed
                .push((member, products.down.apply(evaluator, &product)?.mask(evaluator, 1.0)?.ciphertext));
        }
        let down = self.wave.pack(evaluator, &narrowed)?;
        let middle = self.at_seam(Module::MlpResidual, 0, middle, tell)?;
        let update = self.lower(Module::MlpResidual, 0, &down)?;
        let residual = self.add_residual(&middle, residual / functions.residual, &update)?;
        match functions.schedule.residual {
            Some(refresh) => self.refresh(&residual, refresh, "residual", tell),
            None => Ok(residual),
        }
    }

    /// x·`ratio` + `update` of the tokens that attend; x stands above the update.
    fn add_residual(&self, x: &E::Ciphertext, ratio: f64, update: &E::Ciphertext) -> Result<E::Ciphertext> {
        let scaled = if self.attending.len() == self.wave.members() {
            self.evaluator.mul_scalar(x, Complex64::new(ratio, 0.0))?
        } else {
            self.evaluator.mul_values(x, &self.wave.mask(self.attending.clone(), ratio))?
        };
        self.evaluator.add(&self.evaluator.lower(&scaled, update.level())?, update)
    }
}
