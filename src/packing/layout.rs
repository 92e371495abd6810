//! Where the values of a vector lie in the slots (Cachemir, arXiv 2602.11470, section on interleaved packing; the
//! mixed-radix form for dimensions m·2^k goes beyond the paper).
//!
//! S slots are cut into a *ring* of R = 2^k blocks of T = S/R slots. Every block holds m values, `gap` slots apart:
//! value (r, q) of block r stands at slot `r·T + q·gap + offset`. With m = 1 this is the paper's interleaved layout of
//! stride T; m > 1 with gap 1 is called *compact*, with a wider gap *spread*.

use crate::contract::{Complex64, Error, Result};

/// What the slots that carry no value hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum OtherSlots {
    /// Zeros. Needed by everything that replicates values over neighbouring slots.
    Clean,
    /// Partial sums of a product. A mask, or a plaintext product that is zero there, must clear them first.
    Junk,
}

/// Places of R·m values in S slots. The index of value (r, q) is p = q·R + r.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct VectorLayout {
    slots: usize,
    ring: usize,
    values: usize,
    gap: usize,
    offset: usize,
    other_slots: OtherSlots,
}

impl VectorLayout {
    /// Layout of `ring`·`values` values, `values` of them `gap` apart in each of `ring` blocks; clean, offset 0. With
    /// one value per block the gap is the block.
    ///
    /// # Errors
    /// [`Error::Shape`] when `slots` or `ring` is not a power of two, the ring exceeds the slots, or the values of a
    /// block do not fit it.
    pub fn new(slots: usize, ring: usize, values: usize, gap: usize) -> Result<Self> {
        let bad = |what: String, remedy: &str| Error::Shape {
            operation: "vector layout",
            what,
            remedy: remedy.to_owned(),
        };
        if !slots.is_power_of_two() || !ring.is_power_of_two() || ring > slots {
            return Err(bad(
                format!("a ring of {ring} blocks in {slots} slots"),
                "use powers of two, at most as many blocks as slots",
            ));
        }
        let block = slots / ring;
        if values == 0 || gap == 0 || values.checked_mul(gap).is_none_or(|span| span > block) && values > 1 {
            return Err(bad(
                format!("{values} values {gap} slots apart in blocks of {block} slots"),
                "use fewer values per block, or parameters with more slots",
            ));
        }
        let gap = if values == 1 { block } else { gap };
        Ok(Self { slots, ring, values, gap, offset: 0, other_slots: OtherSlots::Clean })
    }

    /// The paper's interleaved layout: `dimension` values (a power of two), stride S/`dimension`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `slots` or the ring is not a power of two, or the values do not fit
    /// ([`VectorLayout::new`]).
    pub fn interleaved(slots: usize, dimension: usize) -> Result<Self> {
        Self::new(slots, dimension, 1, 1)
    }

    /// Compact layout: the values of a block side by side.
    ///
    /// # Errors
    /// [`Error::Shape`] when `slots` or the ring is not a power of two, or the values do not fit
    /// ([`VectorLayout::new`]).
    pub fn compact(slots: usize, ring: usize, values: usize) -> Result<Self> {
        Self::new(slots, ring, values, 1)
    }

    /// Spread layout: the values of a block as far apart as they go, ⌊T/m⌋.
    ///
    /// # Errors
    /// [`Error::Shape`] when `slots` or the ring is not a power of two, or the values do not fit
    /// ([`VectorLayout::new`]).
    pub fn spread(slots: usize, ring: usize, values: usize) -> Result<Self> {
        let gap = slots.checked_div(ring).and_then(|block| block.checked_div(values)).unwrap_or(0);
        Self::new(slots, ring, values, gap)
    }

    /// Number of slots S.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Number of blocks R.
    #[must_use]
    pub fn ring(&self) -> usize {
        self.ring
    }

    /// Slots of a block, T = S/R.
    #[must_use]
    pub fn block(&self) -> usize {
        self.slots / self.ring
    }

    /// Values per block m.
    #[must_use]
    pub fn values(&self) -> usize {
        self.values
    }

    /// Slots between neighbouring values of a block.
    #[must_use]
    pub fn gap(&self) -> usize {
        self.gap
    }

    /// Slots by which all values are shifted to the right.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// What the slots without a value hold.
    #[must_use]
    pub fn other_slots(&self) -> OtherSlots {
        self.other_slots
    }

    /// Number of values R·m.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.ring * self.values
    }

    /// Whether the values of a block stand side by side (also true of one value per block).
    #[must_use]
    pub fn is_compact(&self) -> bool {
        self.values == 1 || self.gap == 1
    }

    /// Slot of value (`block`, `value`).
    #[must_use]
    pub fn slot(&self, block: usize, value: usize) -> usize {
        block * self.block() + value * self.gap + self.offset
    }

    /// Slots of all values, by index p = q·R + r.
    pub fn value_slots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.values).flat_map(move |q| (0..self.ring).map(move |r| self.slot(r, q)))
    }

    /// This layout with zeros in all slots that hold no value.
    #[must_use]
    pub fn clean(self) -> Self {
        Self { other_slots: OtherSlots::Clean, ..self }
    }

    /// This layout with unknown contents (junk) in all slots that hold no value.
    #[must_use]
    pub fn junk(self) -> Self {
        Self { other_slots: OtherSlots::Junk, ..self }
    }

    /// Number of offsets the values can be shifted to: the gap, or what is left of the block in a compact layout.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.is_compact() && self.values > 1 { self.block() - self.values + 1 } else { self.gap }
    }

    /// This layout shifted right to `offset`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `offset` leaves the room.
    pub fn at_offset(self, offset: usize) -> Result<Self> {
        let room = self.room();
        if offset >= room {
            return Err(Error::Shape {
                operation: "vector layout",
                what: format!("offset {offset} where there is room for {room}"),
                remedy: "use an offset below the gap (or, in a compact layout, inside the block)".to_owned(),
            });
        }
        Ok(Self { offset, ..self })
    }

    /// This layout read as a smaller ring of `ring` blocks with more values each, in the same places; only of layouts
    /// with one value per block. Index r of the old layout becomes block r / m', value r mod m'
    /// ([`super::Order::coarse`] renumbers).
    ///
    /// # Errors
    /// [`Error::Shape`] for more than one value per block, or a ring that is not a smaller power of two.
    pub fn coarse(self, ring: usize) -> Result<Self> {
        if self.values != 1 || !ring.is_power_of_two() || ring > self.ring {
            return Err(Error::Shape {
                operation: "coarse layout",
                what: format!(
                    "{} values per block of {} blocks, seen as {ring} blocks",
                    self.values, self.ring
                ),
                remedy: "coarsen layouts with one value per block, to a smaller power of two".to_owned(),
            });
        }
        let values = self.ring / ring;
        let gap = if values == 1 { self.slots / ring } else { self.block() };
        Ok(Self { ring, values, gap, ..self })
    }

    /// Refuses junk: `operation` needs zeros between the values.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the operation.
    pub fn require_clean(&self, operation: &'static str) -> Result<()> {
        if self.other_slots == OtherSlots::Clean {
            return Ok(());
        }
        Err(Error::Shape {
            operation,
            what: format!(
                "the layout of {} values in {} slots has junk between its values",
                self.dimension(),
                self.slots
            ),
            remedy: "mask it first (Packed::mask), or multiply by a plaintext that is zero there".to_owned(),
        })
    }

    /// Slot vector with `factor` at every value and zero elsewhere: the mask that makes the layout clean.
    #[must_use]
    pub fn mask(&self, factor: f64) -> Vec<Complex64> {
        let mut slots = vec![Complex64::ZERO; self.slots];
        for slot in self.value_slots() {
            if let Some(entry) = slots.get_mut(slot) {
                *entry = Complex64::new(factor, 0.0);
            }
        }
        slots
    }

    /// Slot vector with `values[p]` at the slot of index p, zeros elsewhere.
    ///
    /// # Errors
    /// [`Error::TooManyValues`] for more values than the layout has places.
    pub fn scatter(&self, values: &[Complex64]) -> Result<Vec<Complex64>> {
        if values.len() > self.dimension() {
            return Err(Error::TooManyValues {
                operation: "scatter",
                given: values.len(),
                slots: self.dimension(),
            });
        }
        let mut slots = vec![Complex64::ZERO; self.slots];
        for (slot, value) in self.value_slots().zip(values) {
            if let Some(entry) = slots.get_mut(slot) {
                *entry = *value;
            }
        }
        Ok(slots)
    }

    /// The values of a slot vector by index p; slots missing at the end count as zero.
    #[must_use]
    pub fn gather(&self, slots: &[Complex64]) -> Vec<Complex64> {
        self.value_slots().map(|slot| slots.get(slot).copied().unwrap_or_default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn scatter_then_gather_returns_the_values(log_ring in 0u32..5, log_block in 0u32..5, values in 1usize..6) {
            let (ring, block) = (1usize << log_ring, 1usize << log_block);
            prop_assume!(values <= block);
            for layout in [
                VectorLayout::compact(ring * block, ring, values).unwrap(),
                VectorLayout::spread(ring * block, ring, values).unwrap(),
            ] {
                let data: Vec<Complex64> =
                    (0..layout.dimension()).map(|p| Complex64::new(p as f64 + 1.0, 0.0)).collect();
                let slots = layout.scatter(&data).unwrap();
                prop_assert_eq!(slots.iter().filter(|z| z.norm() > 0.0).count(), data.len());
                prop_assert_eq!(layout.gather(&slots), data);
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused_with_their_numbers() {
        let text = VectorLayout::new(64, 16, 5, 1).unwrap_err().to_string();
        assert!(text.contains('5') && text.contains("4 slots"), "{text}");
        assert!(VectorLayout::new(64, 12, 1, 1).is_err());
        assert!(VectorLayout::new(64, 128, 1, 1).is_err());
        assert!(VectorLayout::spread(64, 0, 0).is_err());
    }

    #[test]
    fn a_coarse_view_keeps_every_value_in_its_slot() {
        let fine = VectorLayout::interleaved(64, 16).unwrap();
        let coarse = fine.coarse(4).unwrap();
        for index in 0..16 {
            assert_eq!(fine.slot(index, 0), coarse.slot(index / 4, index % 4), "index {index}");
        }
        assert_eq!(fine.coarse(16).unwrap(), fine);
    }
}
