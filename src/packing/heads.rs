//! Where heads lie: slot of (dimension j, head h, token τ).
//!
//! The ring of a head layout is head_dim · 2^e: block r = j·2^e + (h mod 2^e), value ⌊h / 2^e⌋ of that block, and the
//! slots up to the next value hold tokens. So the same dimension of all heads fills S/head_dim neighbouring slots (a
//! *head block*), sums over j are cyclic over the whole ciphertext, and the RoPE partner of j is S/2 slots away.
//!
//! In the complex form (beyond the paper) the partners j and j + head_dim/2 share a slot as real and imaginary part:
//! half the blocks, of twice the slots.

use crate::contract::{Complex64, Error, Result};

use super::{Order, VectorLayout};

/// How the dimensions of a head are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum HeadForm {
    /// One real value per dimension.
    #[default]
    Real,
    /// Dimensions j and j + head_dim/2, which RoPE rotates together, as real and imaginary part of one value.
    Complex,
}

/// Layout of `heads` heads of `head_dim` dimensions, with room for `tokens` tokens each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HeadLayout {
    heads: usize,
    head_dim: usize,
    vector: VectorLayout,
    #[serde(default)]
    form: HeadForm,
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
        Self::with_form(slots, heads, head_dim, ring, gap_multiple, HeadForm::Real)
    }

    /// Layout in the complex form, in a ring of `ring` = head_dim/2 · 2^e blocks; everything else is that of
    /// [`HeadLayout::new`].
    ///
    /// # Errors
    /// [`Error::Shape`] when `head_dim` is not a power of two of at least 2, `ring` not such a multiple of its half, or
    /// the heads do not fit the blocks.
    pub fn complex(
        slots: usize,
        heads: usize,
        head_dim: usize,
        ring: usize,
        gap_multiple: usize,
    ) -> Result<Self> {
        Self::with_form(slots, heads, head_dim, ring, gap_multiple, HeadForm::Complex)
    }

    fn with_form(
        slots: usize,
        heads: usize,
        head_dim: usize,
        ring: usize,
        gap_multiple: usize,
        form: HeadForm,
    ) -> Result<Self> {
        let blocks = match form {
            HeadForm::Real => head_dim,
            HeadForm::Complex => head_dim / 2,
        };
        let low = ring.checked_div(blocks).unwrap_or(0);
        if heads == 0 || head_dim < 2 || !head_dim.is_power_of_two() || !low.is_power_of_two() {
            return Err(Error::Shape {
                operation: "head layout",
                what: format!("{heads} heads of {head_dim} values ({form:?}) in a ring of {ring} blocks"),
                remedy: format!(
                    "use a power-of-two head dimension and a ring of {blocks} blocks times a power of two"
                ),
            });
        }
        let values = heads.div_ceil(low);
        let multiple = gap_multiple.max(1);
        let gap = (slots / ring / values) / multiple * multiple;
        Ok(Self { heads, head_dim, vector: VectorLayout::new(slots, ring, values, gap)?, form })
    }

    /// Number of heads.
    #[must_use]
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Dimensions of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// How they are kept.
    #[must_use]
    pub fn form(&self) -> HeadForm {
        self.form
    }

    /// Head blocks: head_dim, or half of it in the complex form.
    #[must_use]
    pub fn head_blocks(&self) -> usize {
        match self.form {
            HeadForm::Real => self.head_dim,
            HeadForm::Complex => self.head_dim / 2,
        }
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

    /// Slots of a head block.
    #[must_use]
    pub fn head_block(&self) -> usize {
        self.slots() / self.head_blocks()
    }

    /// Tokens that fit one ciphertext.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.vector.gap()
    }

    /// Slot of head `head` inside a head block.
    #[must_use]
    pub fn head_slot(&self, head: usize) -> usize {
        let low = self.low();
        (head % low) * self.vector.block() + head / low * self.vector.gap()
    }

    /// Blocks of the ring in a head block, 2^e.
    pub(super) fn low(&self) -> usize {
        self.vector.ring() / self.head_blocks()
    }

    /// Slot of (head block, head) at token offset 0. Head block j holds dimension j, and j + head_dim/2 in the complex
    /// form.
    #[must_use]
    pub fn slot(&self, head_block: usize, head: usize) -> usize {
        head_block * self.head_block() + self.head_slot(head)
    }

    /// Order that puts `feature(head, dimension)` at its place, the imaginary parts of the complex form left out;
    /// padding heads get none.
    #[must_use]
    pub fn order(&self, feature: impl Fn(usize, usize) -> Option<usize>) -> Order {
        let low = self.low();
        Order::from_fn(&self.vector, |r, q| {
            let head = q * low + r % low;
            if head < self.heads { feature(head, r / low) } else { None }
        })
    }

    /// Orders of the real parts, and of the imaginary parts in the complex form.
    #[must_use]
    pub fn orders(&self, feature: impl Fn(usize, usize) -> Option<usize>) -> (Order, Option<Order>) {
        let imaginary = match self.form {
            HeadForm::Real => None,
            HeadForm::Complex => Some(self.order(|head, j| feature(head, j + self.head_blocks()))),
        };
        (self.order(feature), imaginary)
    }

    /// What head block `head_block` holds of `value(head, dimension)`.
    pub(super) fn place(
        &self,
        head: usize,
        head_block: usize,
        value: impl Fn(usize, usize) -> f64,
    ) -> Complex64 {
        let imaginary = match self.form {
            HeadForm::Real => 0.0,
            HeadForm::Complex => value(head, head_block + self.head_blocks()),
        };
        Complex64::new(value(head, head_block), imaginary)
    }

    /// Slot vector with `value(head, dimension)` at token `offset`, zero elsewhere.
    #[must_use]
    pub fn values(&self, offset: usize, value: impl Fn(usize, usize) -> f64) -> Vec<Complex64> {
        let mut slots = vec![Complex64::ZERO; self.slots()];
        for head_block in 0..self.head_blocks() {
            for head in 0..self.heads {
                if let Some(entry) = slots.get_mut(self.slot(head_block, head) + offset) {
                    *entry = self.place(head, head_block, &value);
                }
            }
        }
        slots
    }

    /// Slot vector with `key(head, dimension)` at token `offset`, zero elsewhere, in the form that the K cache keeps:
    /// the conjugates of [`HeadLayout::values`] in the complex form.
    #[must_use]
    pub fn key_values(&self, offset: usize, key: impl Fn(usize, usize) -> f64) -> Vec<Complex64> {
        self.values(offset, |head, j| if j < self.head_blocks() { key(head, j) } else { -key(head, j) })
    }
}
