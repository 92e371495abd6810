//! Where attention scores lie: slot of (token, query head).
//!
//! A score ciphertext is a segment of C·G tokens (G tokens per K ciphertext, C a power of two of at most the head
//! blocks). Block b = group·C + c of the head blocks, c = token div G, holds the scores of K ciphertext c; the pattern
//! repeats with period groups·C, because the sum over head dimensions is cyclic and the mask may keep every copy. The
//! repetition is what the product with V reads, and lets a bootstrap treat the ciphertext as one of so many head
//! blocks. (The paper has C = head_dim; shorter segments and their repetition go beyond it.)

use crate::contract::Complex64;

use super::HeadLayout;

/// Layout of score ciphertexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ScoreLayout {
    stored: HeadLayout,
    query_heads: usize,
    lanes: usize,
    group_blocks: usize,
}

impl ScoreLayout {
    /// Scores of `query_heads` heads against the heads of `stored`, `lanes` K ciphertexts per segment.
    pub(super) fn new(stored: HeadLayout, query_heads: usize, lanes: usize) -> Self {
        let group_blocks = query_heads.div_ceil(stored.heads()).next_power_of_two();
        Self { stored, query_heads, lanes, group_blocks }
    }

    /// Layout of the stored heads.
    #[must_use]
    pub fn stored(&self) -> HeadLayout {
        self.stored
    }

    /// Number of query heads.
    #[must_use]
    pub fn query_heads(&self) -> usize {
        self.query_heads
    }

    /// Query heads per stored head.
    #[must_use]
    pub fn group_size(&self) -> usize {
        self.query_heads.div_ceil(self.stored.heads())
    }

    /// K ciphertexts per segment, C.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Tokens per score ciphertext.
    #[must_use]
    pub fn segment_tokens(&self) -> usize {
        self.lanes * self.stored.tokens()
    }

    /// Score ciphertexts for `tokens` tokens.
    #[must_use]
    pub fn segments(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.segment_tokens())
    }

    /// Slots after which a score ciphertext repeats: the slot count to bootstrap it with.
    #[must_use]
    pub fn period(&self) -> usize {
        self.group_blocks * self.lanes * self.stored.head_block()
    }

    /// Times a score ciphertext repeats.
    #[must_use]
    pub fn copies(&self) -> usize {
        (self.stored.slots() / self.period()).max(1)
    }

    /// Clears what `values` has outside copy number `copy`.
    pub fn keep_copy(&self, values: &mut [Complex64], copy: usize) {
        let own = copy * self.period()..(copy + 1) * self.period();
        for (slot, value) in values.iter_mut().enumerate() {
            if !own.contains(&slot) {
                *value = Complex64::ZERO;
            }
        }
    }

    /// Blocks of the groups, a power of two.
    pub(super) fn group_blocks(&self) -> usize {
        self.group_blocks
    }

    /// Slots of the copies of (token of the segment, query head).
    pub fn slots(&self, token: usize, head: usize) -> impl Iterator<Item = usize> + '_ {
        let (stored_head, group) = (head / self.group_size(), head % self.group_size());
        let tokens = self.stored.tokens();
        let block = group * self.lanes + token / tokens;
        let first = block * self.stored.head_block() + self.stored.head_slot(stored_head) + token % tokens;
        (first..self.stored.slots()).step_by(self.period())
    }

    /// Slot vector of segment `segment` with `value(token, head)` at all copies, for the tokens below `tokens`; zero
    /// elsewhere. Tokens count from the start of the cache.
    #[must_use]
    pub fn values(
        &self,
        segment: usize,
        tokens: usize,
        value: impl Fn(usize, usize) -> f64,
    ) -> Vec<Complex64> {
        let mut slots = vec![Complex64::ZERO; self.stored.slots()];
        let first = segment * self.segment_tokens();
        for token in first..tokens.min(first + self.segment_tokens()) {
            for head in 0..self.query_heads {
                let value = Complex64::new(value(token, head), 0.0);
                for slot in self.slots(token - first, head) {
                    if let Some(entry) = slots.get_mut(slot) {
                        *entry = value;
                    }
                }
            }
        }
        slots
    }

    /// Scores by [head][token of the segment] out of the slots of a score ciphertext.
    #[must_use]
    pub fn read(&self, slots: &[Complex64], tokens: usize) -> Vec<Vec<Complex64>> {
        let at = |token, head| self.slots(token, head).next().and_then(|slot| slots.get(slot).copied());
        (0..self.query_heads)
            .map(|head| {
                (0..tokens.min(self.segment_tokens()))
                    .map(|token| at(token, head).unwrap_or_default())
                    .collect()
            })
            .collect()
    }
}
