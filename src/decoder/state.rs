//! The encrypted caches of one sequence.

use crate::contract::{Evaluator, Result};
use crate::packing::KeyValueCache;

/// The encrypted caches of one sequence.
#[derive(Clone)]
pub struct DecoderState<C> {
    pub(super) caches: Vec<KeyValueCache<C>>,
    pub(super) position: usize,
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
    /// [`crate::Error::Shape`] when the context is shorter.
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
