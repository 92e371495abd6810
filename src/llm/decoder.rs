//! The encrypted decoder: one token through all layers, on any evaluator.
//!
//! The residual stream is one ciphertext, clean, divided by the bound of the plan. A layer follows
//! [`super::decoder_plan`], whose schedule says at which level every module runs and what is bootstrapped: norm, projections, cache, scores, bootstrap, softmax half way, bootstrap, rest of the
//! softmax, output projection, bootstrap, norm, gate, bootstrap, down projection, bootstrap. Whatever enters a bootstrap is
//! masked and within [−1, 1]. After Cachemir (arXiv 2602.11470) with the deferred softmax of [`crate::circuits::softmax`].

use crate::circuits::evaluate_series;
use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::circuits::softmax::{Denominators, join_complex, split_complex};
use crate::contract::{BootstrapRequest, CiphertextInfo, Complex64, Error, Evaluator, Level, Result};
use crate::packing::{AttentionPlan, CacheLayout, KeyValueCache, Packed, Rope, VectorLayout, sum_strided};

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

    /// Runs one token: `x` is its embedding, packed by [`super::hidden_codec::HiddenCodec`]. Appends to the caches of `state`; with
    /// `wants_output` returns the hidden state after the final norm at level 0, otherwise stops as soon as the last
    /// cache has its token. On an error `state` must be discarded.
    ///
    /// # Errors
    /// [`Error::Shape`] when the context is full; those of the evaluator.
    pub fn step<E: Evaluator>(
        &self,
        evaluator: &E,
        state: &mut DecoderState<E::Ciphertext>,
        x: &E::Ciphertext,
        wants_output: bool,
        observer: &mut Observer<'_, E::Ciphertext>,
    ) -> Result<Option<E::Ciphertext>> {
        let layers = self.layers.len();
        let position = state.position;
        let mut hidden = x.clone();
        for (index, (layer, cache)) in self.layers.iter().zip(&mut state.caches).enumerate() {
            let run = Run { decoder: self, index, layer, evaluator };
            let mut tell = |stage, iterations, refreshed, value: &E::Ciphertext| {
                observer(Progress { layer: index, layers, stage, iterations, refreshed }, value);
            };
            let query = run.cache_token(cache, &hidden, position, &mut tell)?;
            if index + 1 == layers && !wants_output {
                break;
            }
            let middle = run.attend(cache, &query, &hidden, &mut tell)?;
            hidden = run.feed_forward(&middle, &mut tell)?;
        }
        state.position += 1;
        if !wants_output {
            return Ok(None);
        }
        let residual = self.plan.layers.last().map_or(self.plan.embedding, |layer| layer.residual);
        let (norm, schedule) = (&self.plan.final_norm, &self.plan.final_schedule);
        let normed = self.norm(evaluator, &hidden, norm, residual, (schedule, &INPUT_NORM))?;
        Ok(Some(evaluator.lower(&normed, Level(0))?))
    }

    /// x/√(mean square + ε) up to a constant; `x` may have noise or junk between its values, the result is clean.
    /// Three levels and those of the polynomial.
    fn norm<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &E::Ciphertext,
        norm: &InverseSquareRoot,
        residual: f64,
        (schedule, [square, root, scale]): (&LayerSchedule, &[Module; 3]),
    ) -> Result<E::Ciphertext> {
        let x = schedule.lower(evaluator, *square, 0, x)?;
        let (x, unit) = squared_for_norm(evaluator, &self.layout.hidden, &self.config, &x, norm, residual)?;
        let unit = schedule.lower(evaluator, *root, 0, &unit)?;
        let root = evaluate_series(evaluator, &unit, &norm.start.complex_coefficients(), None)?;
        let root = norm.refine(evaluator, &unit, &root)?;
        let root = schedule.lower(evaluator, *scale, 0, &root)?;
        evaluator.mul(&evaluator.lower(&x, root.level())?, &root)
    }
}

/// Modules of the norm before attention.
const INPUT_NORM: [Module; 3] = [Module::InputNormSquare, Module::InputNormRoot, Module::InputNormScale];
/// Modules of the norm before the MLP.
const POST_NORM: [Module; 3] = [Module::PostNormSquare, Module::PostNormRoot, Module::PostNormScale];

/// `x`, masked and scaled for a norm, and its mean square as the unit variable of the norm's polynomial at every slot. Two
/// levels; a sum over all slots.
///
/// # Errors
/// Those of the evaluator.
pub(super) fn squared_for_norm<E: Evaluator>(
    evaluator: &E,
    layout: &VectorLayout,
    config: &LlamaConfig,
    x: &E::Ciphertext,
    norm: &InverseSquareRoot,
    residual: f64,
) -> Result<(E::Ciphertext, E::Ciphertext)> {
    let interval = norm.interval();
    let slope = norm_slope(interval, config.hidden_size, residual);
    let x = evaluator.mul_values(x, &layout.mask(slope))?;
    let square = evaluator.square(&x)?;
    // All values of a block, seen from each of them; then all blocks.
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
}

impl<E: Evaluator> Run<'_, E> {
    /// What enters `module`: `x`, bootstrapped when the schedule says so and `x` is what the module may bootstrap.
    fn at_seam(
        &self,
        module: Module,
        x: &E::Ciphertext,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<E::Ciphertext> {
        match self.layer.functions.schedule.refresh(module) {
            Some(refresh) => self.refresh(x, refresh, module.stage(), tell),
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

    /// Norm and projections of the token; appends its key and value, returns its query.
    fn cache_token(
        &self,
        cache: &mut KeyValueCache<E::Ciphertext>,
        hidden: &E::Ciphertext,
        position: usize,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<Query<E::Ciphertext>> {
        let (evaluator, Layer { products, attention, functions, residual }) = (self.evaluator, self.layer);
        let schedule = (&functions.schedule, &INPUT_NORM);
        let normed = self.decoder.norm(evaluator, hidden, &functions.input_norm, *residual, schedule)?;
        let normed = self.at_seam(Module::QueryKeyValue, &normed, tell)?;
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

    /// Scores, softmax, output projection and residual sum, refreshed.
    fn attend(
        &self,
        cache: &KeyValueCache<E::Ciphertext>,
        query: &Query<E::Ciphertext>,
        hidden: &E::Ciphertext,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<E::Ciphertext> {
        let (evaluator, Layer { products, attention, functions, residual }) = (self.evaluator, self.layer);
        let plan = &functions.attention;
        let interval = plan.softmax.exponential.root.interval;
        let slope = interval.unit_slope();
        let queries = std::slice::from_ref(&query.vector);
        let shift = query.square_shift.as_ref();
        let scores = attention.shifted_scores(evaluator, queries, shift, cache, slope)?;
        let mut weights = Vec::with_capacity(scores.len());
        for (segment, scores) in scores.iter().enumerate() {
            // Slots without a token go to −1, where exp vanishes.
            let mut constants = attention.score_layout().values(segment, cache.tokens(), |_, head| {
                let offset = plan.offsets.get(head).copied().unwrap_or(0.0);
                1.0 + interval.to_unit(-offset)
            });
            constants.iter_mut().for_each(|constant| *constant -= 1.0);
            let unit = evaluator.add_values(scores, &constants)?;
            let unit = self.at_seam(Module::Exponential, &unit, tell)?;
            let unit = self.lower(Module::Exponential, 0, &unit)?;
            weights.push(plan.softmax.weights(evaluator, &unit)?);
        }
        let lowered = |module| weights.iter().map(|x| self.lower(module, 0, x)).collect::<Result<Vec<_>>>();
        let factors = plan.softmax.denominator_factors(plan.largest_denominator);
        let sums = attention.denominators(evaluator, &lowered(Module::Denominator)?, &factors)?;
        let [quarter, magnified] = sums.as_slice() else {
            return Err(Error::Internal(format!("{} denominators of 2 factors", sums.len())));
        };
        let layout = quarter.layout;
        let places = layout.mask(1.0);
        let offset = layout.mask(plan.softmax.quarter_offset());
        let first = |x: &E::Ciphertext| self.lower(Module::DivideFirst, functions.division_gap, x);
        let denominators = Denominators {
            quarter: evaluator.add_values(&first(&quarter.ciphertext)?, &offset)?,
            magnified: first(&magnified.ciphertext)?,
        };
        let o = attention.weighted_values(evaluator, &lowered(Module::Values)?, cache)?.ciphertext;
        let o = self.lower(Module::DivideFirst, 0, &o)?;
        let (f, o) = plan.softmax.before_refresh(evaluator, denominators, o, &places)?;
        let both = join_complex(evaluator, &f, &o)?;
        let both = self.at_seam(Module::DivideLast, &both, tell)?;
        let both = self.lower(Module::DivideLast, 0, &both)?;
        let (f, o) = split_complex(evaluator, &both)?;
        let o = plan.softmax.after_refresh(evaluator, f, o, &places)?;
        let o = self.lower(Module::Output, 0, &o)?;
        let projected = products.output.apply(evaluator, &Packed::new(o, layout))?.mask(evaluator, 1.0)?;
        let hidden = self.at_seam(Module::AttentionResidual, hidden, tell)?;
        let update = self.lower(Module::AttentionResidual, 0, &projected.ciphertext)?;
        let middle = self.add_residual(&hidden, residual / functions.middle_residual, &update)?;
        self.at_seam(Module::PostNormSquare, &middle, tell)
    }

    /// Norm, SwiGLU, down projection and residual sum, refreshed.
    fn feed_forward(
        &self,
        middle: &E::Ciphertext,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<E::Ciphertext> {
        let (evaluator, Layer { products, functions, .. }) = (self.evaluator, self.layer);
        let schedule = (&functions.schedule, &POST_NORM);
        let residual = functions.middle_residual;
        let normed = self.decoder.norm(evaluator, middle, &functions.post_norm, residual, schedule)?;
        let normed = self.lower(Module::UpGate, 0, &normed)?;
        let normed = Packed::new(normed, self.decoder.layout.hidden);
        let both = products.up_gate.apply(evaluator, &normed)?.mask(evaluator, 1.0)?;
        let layout = both.layout;
        let offset = Complex64::new(0.0, functions.gate.interval.unit_offset() / 2.0);
        let offsets: Vec<Complex64> = layout.mask(1.0).iter().map(|place| place * offset).collect();
        let both = evaluator.add_values(&both.ciphertext, &offsets)?;
        let both = self.at_seam(Module::Activation, &both, tell)?;
        let both = self.lower(Module::Activation, 0, &both)?;
        let (up, gate) = split_complex(evaluator, &both)?;
        let gate = evaluate_series(evaluator, &gate, &functions.gate.complex_coefficients(), None)?;
        let gate = self.lower(Module::GateProduct, 0, &gate)?;
        let product = evaluator.mul(&evaluator.lower(&up, gate.level())?, &gate)?;
        let product = self.lower(Module::Down, 0, &product)?;
        let down = products.down.apply(evaluator, &Packed::new(product, layout))?.mask(evaluator, 1.0)?;
        let ratio = functions.middle_residual / functions.residual;
        let middle = self.at_seam(Module::MlpResidual, middle, tell)?;
        let update = self.lower(Module::MlpResidual, 0, &down.ciphertext)?;
        let residual = self.add_residual(&middle, ratio, &update)?;
        match functions.schedule.residual {
            Some(refresh) => self.refresh(&residual, refresh, "residual", tell),
            None => Ok(residual),
        }
    }

    /// x·`ratio` + `update`; x stands above the update.
    fn add_residual(&self, x: &E::Ciphertext, ratio: f64, update: &E::Ciphertext) -> Result<E::Ciphertext> {
        let scaled = self.evaluator.mul_scalar(x, Complex64::new(ratio, 0.0))?;
        self.evaluator.add(&self.evaluator.lower(&scaled, update.level())?, update)
    }
}
