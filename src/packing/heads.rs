//! Where heads lie: slot of (dimension j, head h, token τ).
//!
//! The ring of a head layout is head_dim · 2^e: block r = j·2^e + (h mod 2^e), value ⌊h / 2^e⌋ of that block, and the
//! slots up to the next value hold tokens. So the same dimension of all heads fills S/head_dim neighbouring slots (a
//! *head block*), sums over j are cyclic over the whole ciphertext, and the RoPE partner of j is S/2 slots away.

use crate::contract::{Complex64, Error, Result};

use super::{Order, VectorLayout};

/// Layout of `heads` heads of `head_dim` values, with room for `tokens` tokens each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HeadLayout {
    heads: usize,
    head_dim: usize,
    vector: VectorLayout,
}

impl HeadLayout {
    /// Layout in a ring of `ring` = head_dim · 2^e blocks; head counts that are no multiple of 2^e are padded. The gap
    /// between heads of a block (the number of tokens) is a multiple of `gap_multiple`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `head_dim` is not a power of two of at least 2, `ring` not such a multiple of it, or the
    /// heads do not fit the blocks.
    pub fn new(
        slots: usize,
        heads: usize,
        head_dim: usize,
        ring: usize,
        gap_multiple: usize,
    ) -> Result<Self> {
        let low = ring.checked_div(head_dim).unwrap_or(0);
        if heads == 0 || head_dim < 2 || !head_dim.is_power_of_two() || !low.is_power_of_two() {
            return Err(Error::Shape {
                operation: "head layout",
                what: format!("{heads} heads of {head_dim} values in a ring of {ring} blocks"),
                remedy: "use a power-of-two head dimension and a ring of it times a power of two".to_owned(),
            });
        }
        let values = heads.div_ceil(low);
        let multiple = gap_multiple.max(1);
        let gap = (slots / ring / values) / multiple * multiple;
        Ok(Self { heads, head_dim, vector: VectorLayout::new(slots, ring, values, gap)? })
    }

    /// Number of heads.
    #[must_use]
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Values per head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The layout as a vector: clean, offset 0.
    #[must_use]
    pub fn vector(&self) -> VectorLayout {
        self.vector
    }

    /// Number of slots S.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.vector.slots()
    }

    /// Slots of a head block, S/head_dim.
    #[must_use]
    pub fn head_block(&self) -> usize {
        self.slots() / self.head_dim
    }

    /// Tokens that fit one ciphertext.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.vector.gap()
    }

    /// Slot of head `head` inside a head block.
    #[must_use]
    pub fn head_slot(&self, head: usize) -> usize {
        let low = self.vector.ring() / self.head_dim;
        (head % low) * self.vector.block() + head / low * self.vector.gap()
    }

    /// Slot of (dimension, head) at token offset 0.
    #[must_use]
    pub fn slot(&self, dimension: usize, head: usize) -> usize {
        dimension * self.head_block() + self.head_slot(head)
    }

    /// Order that puts `feature(head, dimension)` at its place; padding heads get none.
    #[must_use]
    pub fn order(&self, feature: impl Fn(usize, usize) -> Option<usize>) -> Order {
        let low = self.vector.ring() / self.head_dim;
        Order::from_fn(&self.vector, |r, q| {
            let head = q * low + r % low;
            if head < self.heads { feature(head, r / low) } else { None }
        })
    }

    /// Slot vector with `value(head, dimension)` at token `offset`, zero elsewhere.
    #[must_use]
    pub fn values(&self, offset: usize, value: impl Fn(usize, usize) -> f64) -> Vec<Complex64> {
        let mut slots = vec![Complex64::ZERO; self.slots()];
        for dimension in 0..self.head_dim {
            for head in 0..self.heads {
                if let Some(entry) = slots.get_mut(self.slot(dimension, head) + offset) {
                    *entry = Complex64::new(value(head, dimension), 0.0);
                }
            }
        }
        slots
    }
}
