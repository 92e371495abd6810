//! One layer of the encrypted decoder at work: what [`crate::decoder::Decoder::step_wave`] does in each.
//!
//! Tokens of a wave are together in the residual stream, in the scores, in numerator and denominator, and in up + i·gate;
//! they are alone, at place 0, in every product, in queries, keys and values.

use std::ops::Range;

use crate::circuits::evaluate_series;
use crate::circuits::softmax::{Denominators, join_complex, split_complex};
use crate::contract::{BootstrapRequest, CiphertextInfo, Complex64, Error, Evaluator, Level, Result};
use crate::packing::{KeyValueCache, Packed, Wave};

use crate::decoder::module::Module;
use crate::decoder::schedule::Refresh;
use crate::decoder::{Decoder, INPUT_NORM, Layer, POST_NORM};

/// The observer within one layer: stage, iterations of its bootstrap, whether it is done, and the ciphertext.
pub(crate) type Tell<'a, C> = dyn FnMut(&'static str, usize, bool, &C) + 'a;

/// A query after RoPE, times 1/√head_dim, and what it takes off every key it meets.
struct Query<C> {
    vector: Packed<C>,
    square_shift: Option<Packed<C>>,
}

/// One layer at work.
pub(crate) struct LayerRun<'a, E> {
    pub(crate) decoder: &'a Decoder,
    pub(crate) index: usize,
    pub(crate) layer: &'a Layer,
    pub(crate) evaluator: &'a E,
    /// The tokens under way, as they stand in the residual stream.
    pub(crate) wave: Wave,
    /// Those of them that go beyond the cache.
    pub(crate) attending: Range<usize>,
}

impl<E: Evaluator> LayerRun<'_, E> {
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
                let refresh = Refresh { level, ..refresh };
                self.refresh(x, refresh, module.seam_is_real(), module.stage(), tell)
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
        real: bool,
        stage: &'static str,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<E::Ciphertext> {
        tell(stage, refresh.iterations, false, x);
        let request = BootstrapRequest::all(refresh.level, self.evaluator.slots())
            .iterations(refresh.iterations)
            .real(real);
        let refreshed = self.evaluator.bootstrap(x, &request).map_err(|error| match error {
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
    pub(crate) fn cache_tokens(
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
        let (norm, members) = ((&functions.input_norm, residual.as_slice()), 0..self.wave.members());
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
    pub(crate) fn attend(
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
        let middle = self.add_residual(&hidden, (residual, &functions.middle_residual), &update)?;
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
    pub(crate) fn feed_forward(
        &self,
        middle: &E::Ciphertext,
        tell: &mut Tell<'_, E::Ciphertext>,
    ) -> Result<E::Ciphertext> {
        let (evaluator, Layer { products, functions, .. }) = (self.evaluator, self.layer);
        let (residual, attending) = (functions.middle_residual.as_slice(), self.attending.clone());
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
        let residual = self.add_residual(&middle, (residual, &functions.residual), &update)?;
        match functions.schedule.residual {
            Some(refresh) => self.refresh(&residual, refresh, true, "residual", tell),
            None => Ok(residual),
        }
    }

    /// x, from features divided by one set of bounds to another, + `update` of the tokens that attend; x stands above the
    /// update.
    fn add_residual(
        &self,
        x: &E::Ciphertext,
        (from, to): (&[f64], &[f64]),
        update: &E::Ciphertext,
    ) -> Result<E::Ciphertext> {
        let layout = &self.decoder.layout;
        let ratios: Vec<f64> = from.iter().zip(to).map(|(from, to)| from / to).collect();
        let ratios = layout.hidden_order.pack(&layout.hidden, &ratios)?;
        let ratios = self.wave.repeat_slots(self.attending.clone(), &ratios);
        let scaled = self.evaluator.mul_values(x, &ratios)?;

        self.evaluator.add(&self.evaluator.lower(&scaled, update.level())?, update)
    }
}
