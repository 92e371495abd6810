//! One step of a layer on fresh encryptions, to be counted or timed alone.

use std::collections::BTreeMap;

use crate::contract::{Evaluator, Level, Result};
use crate::decoder::Decoder;
use crate::decoder::layer::{Body, Layer, LayerRun, Members, Shared};
use crate::decoder::layout::DecoderLayout;
use crate::decoder::step::Step;
use crate::decoder::values::{LayerValue, Values};
use crate::packing::KeyValueCache;

/// Which step, and where in a sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepPoint {
    /// Number of the layer; that of the end of the model is the number of layers.
    pub(crate) index: usize,
    pub(crate) step: Step,
    /// Level at which it runs.
    pub(crate) level: Level,
    /// Tokens in the cache before.
    pub(crate) cached: usize,
    /// Tokens under way.
    pub(crate) tokens: usize,
}

impl Layer {
    /// This layer with its caches at `level`, if `step` has to do with them.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for a cache below level 2.
    pub(crate) fn with_caches_for(&self, step: Step, level: Level, layout: &DecoderLayout) -> Result<Self> {
        let mut layer = self.clone();
        let (reads, writes) = step.edges();
        let touches_cache = reads.iter().chain(writes).any(|value| value.is_cache());
        if let (Body::Block(block), true) = (&mut layer.body, touches_cache) {
            block.attention = layout.attention(level, level)?;
        }
        Ok(layer)
    }
}

/// A step on inputs of one level, ready to run as often as it is timed.
pub struct PreparedStep<'d, C> {
    step: Step,
    shared: &'d Shared,
    layer: Layer,
    members: Members,
    position: usize,
    index: usize,
    reads: Values<C>,
    cache: Option<KeyValueCache<C>>,
}

impl<'d, C: Clone> PreparedStep<'d, C> {
    /// The step at `point` of `layer`, as many ciphertexts of every value it reads as `ciphertexts` says, all made by
    /// `encrypt(level)`.
    ///
    /// # Errors
    /// Errors of `encrypt`; [`crate::Error::Shape`] for more tokens than a cache holds.
    pub(crate) fn new(
        decoder: &'d Decoder,
        layer: Layer,
        point: &StepPoint,
        ciphertexts: &BTreeMap<LayerValue, usize>,
        encrypt: &dyn Fn(Level) -> Result<C>,
    ) -> Result<Self> {
        let StepPoint { index, step, level, cached, tokens } = *point;
        let members = decoder.members(index, decoder.wave_of(tokens)?, true);
        let mut reads = Values::new();
        for (value, above) in step.edges().0.iter().zip(layer.above(step, members.are_several())) {
            let levels = vec![Level(level.0 + above); ciphertexts.get(value).copied().unwrap_or(0)];
            reads.set(*value, levels.into_iter().map(encrypt).collect::<Result<_>>()?);
        }
        let cache = match &layer.body {
            Body::Block(block) => {
                let appended = if step == Step::Append { 0 } else { tokens };
                Some(KeyValueCache::filled(block.attention.cache_layout(), cached + appended, encrypt)?)
            }
            Body::End(_) => None,
        };
        Ok(Self { step, shared: &decoder.shared, layer, members, position: cached, index, reads, cache })
    }

    /// Runs it once.
    ///
    /// # Errors
    /// Errors of the evaluator.
    pub fn run<E: Evaluator<Ciphertext = C>>(&mut self, evaluator: &E) -> Result<()> {
        self.apply(evaluator).map(|_| ())
    }

    /// Runs it once and returns what it writes.
    ///
    /// # Errors
    /// Errors of the evaluator.
    pub(crate) fn apply<E: Evaluator<Ciphertext = C>>(&mut self, evaluator: &E) -> Result<Values<C>> {
        let Self { step, shared, layer, members, position, index, reads, cache } = self;
        let members = members.clone();
        let run = LayerRun { evaluator, shared, layer, members, position: *position, index: *index };
        // What is appended here must not be there the next time.
        let mut appended = if *step == Step::Append { cache.clone() } else { None };
        step.apply(&run, reads, appended.as_mut().or(cache.as_mut()))
    }
}
