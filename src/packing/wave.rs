//! Several vectors side by side in one ciphertext: a *wave*. Its members share bootstraps and element-wise functions;
//! products and rotations work on one member at a time. (Cachemir, arXiv 2602.11470, packs ciphertexts before a
//! bootstrap; that whole stretches between two products run packed goes beyond it.)
//!
//! Member i stands `i · spacing` slots to the right of where it stands alone. In a compact layout of m values per block
//! the spacing is 2m − 1, so that a sum over the values of a block, seen from each of them, does not reach the next
//! member.

use std::ops::Range;

use crate::contract::{Complex64, Error, Evaluator, Result};

use super::VectorLayout;
use super::sums::signed;

/// Places of the members of a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wave {
    vector: VectorLayout,
    spacing: usize,
    members: usize,
}

fn spacing(vector: &VectorLayout) -> usize {
    if vector.is_compact() { 2 * vector.values() - 1 } else { 1 }
}

impl Wave {
    /// Wave of `members` vectors laid out by `vector` (offset 0).
    ///
    /// # Errors
    /// [`Error::Shape`] for no members or more than [`Wave::capacity`].
    pub fn new(vector: VectorLayout, members: usize) -> Result<Self> {
        let capacity = Self::capacity(&vector);
        if members == 0 || members > capacity {
            return Err(Error::Shape {
                operation: "wave",
                what: format!(
                    "{members} vectors of {} values per block of {} slots, {capacity} fit",
                    vector.values(),
                    vector.block()
                ),
                remedy: "send fewer tokens at a time".to_owned(),
            });
        }
        Ok(Self { vector: vector.clean(), spacing: spacing(&vector), members })
    }

    /// A vector alone.
    #[must_use]
    pub fn single(vector: VectorLayout) -> Self {
        Self { vector: vector.clean(), spacing: spacing(&vector), members: 1 }
    }

    /// Members that fit the layout.
    #[must_use]
    pub fn capacity(vector: &VectorLayout) -> usize {
        if vector.is_compact() { vector.block() / spacing(vector) } else { vector.gap() }
    }

    /// Layout of a member that stands alone: clean, place 0.
    #[must_use]
    pub fn vector(&self) -> VectorLayout {
        self.vector
    }

    /// Number of members.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members
    }

    /// Slots by which member `member` stands to the right.
    #[must_use]
    pub fn offset(&self, member: usize) -> usize {
        member * self.spacing
    }

    /// Slot vector with `factor` at every value of the given members, zero elsewhere.
    #[must_use]
    pub fn mask(&self, members: Range<usize>, factor: f64) -> Vec<Complex64> {
        let mut mask = vec![Complex64::ZERO; self.vector.slots()];
        for member in members {
            for slot in self.vector.value_slots() {
                if let Some(entry) = mask.get_mut(slot + self.offset(member)) {
                    *entry = Complex64::new(factor, 0.0);
                }
            }
        }
        mask
    }

    /// `slots`, the slot values of a clean vector at place 0, at the place of every given member; zero elsewhere.
    #[must_use]
    pub fn repeat_slots(&self, members: Range<usize>, slots: &[Complex64]) -> Vec<Complex64> {
        let copies: Vec<&[Complex64]> =
            (0..members.end).map(|member| if member < members.start { &[] } else { slots }).collect();
        self.pack_slots(&copies)
    }

    /// Slot values of the members' slot values, each clean and at its own place 0.
    #[must_use]
    pub fn pack_slots<S: AsRef<[Complex64]>>(&self, members: &[S]) -> Vec<Complex64> {
        let mut packed = vec![Complex64::ZERO; self.vector.slots()];
        for (member, slots) in members.iter().enumerate() {
            for (entry, value) in packed.iter_mut().skip(self.offset(member)).zip(slots.as_ref()) {
                *entry += value;
            }
        }
        packed
    }

    /// One ciphertext of `members`: pairs of a number and a clean vector at place 0. No level; a rotation per member
    /// but number 0.
    ///
    /// # Errors
    /// [`Error::Shape`] without members; errors of the evaluator.
    pub fn pack<E: Evaluator>(
        &self,
        evaluator: &E,
        members: &[(usize, E::Ciphertext)],
    ) -> Result<E::Ciphertext> {
        let mut sum: Option<E::Ciphertext> = None;
        for (member, vector) in members {
            let moved = self.moved(evaluator, vector, -signed(self.offset(*member)))?;
            sum = Some(match sum {
                Some(sum) => evaluator.add(&sum, &moved)?,
                None => moved,
            });
        }
        sum.ok_or_else(|| Error::Shape {
            operation: "wave",
            what: "0 members".to_owned(),
            remedy: "pack at least one".to_owned(),
        })
    }

    /// `packed` with member `member` at place 0; what stood beside it still does. At most one rotation.
    ///
    /// # Errors
    /// [`Error::RotationKey`] for a missing key.
    pub fn bring<E: Evaluator>(
        &self,
        evaluator: &E,
        packed: &E::Ciphertext,
        member: usize,
    ) -> Result<E::Ciphertext> {
        self.moved(evaluator, packed, signed(self.offset(member)))
    }

    /// Member `member` alone, clean and at place 0: one level and at most one rotation; `packed` itself when it has one
    /// member only.
    ///
    /// # Errors
    /// [`Error::RotationKey`] for a missing key, [`Error::LevelExhausted`] at level 0: errors of the evaluator.
    pub fn extract<E: Evaluator>(
        &self,
        evaluator: &E,
        packed: &E::Ciphertext,
        member: usize,
    ) -> Result<E::Ciphertext> {
        if self.members == 1 {
            return Ok(packed.clone());
        }
        let alone = evaluator.mul_values(packed, &self.mask(member..member + 1, 1.0))?;
        self.bring(evaluator, &alone, member)
    }

    fn moved<E: Evaluator>(&self, evaluator: &E, x: &E::Ciphertext, step: i64) -> Result<E::Ciphertext> {
        if step == 0 { Ok(x.clone()) } else { evaluator.rotate(x, step) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::clear::{ClearClient, ClearParameters};
    use crate::contract::{Client, Level};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn members_come_out_of_a_wave_as_they_went_in(
            log_ring in 0u32..4, log_block in 2u32..6, values in 1usize..5, compact: bool, seed: u32,
        ) {
            let (ring, block) = (1usize << log_ring, 1usize << log_block);
            prop_assume!(values <= block);
            let slots = ring * block;
            let layout = if compact {
                VectorLayout::compact(slots, ring, values).unwrap()
            } else {
                VectorLayout::spread(slots, ring, values).unwrap()
            };
            let members = (1 + seed as usize % 5).min(Wave::capacity(&layout));
            prop_assume!(members > 0);
            let wave = Wave::new(layout, members).unwrap();
            let client = ClearClient::new(ClearParameters::new(slots, 1, 40).unwrap());
            let evaluator = client.dry_run();
            let vectors: Vec<Vec<Complex64>> = (0..members)
                .map(|member| {
                    let values: Vec<Complex64> = (0..layout.dimension())
                        .map(|p| Complex64::new((member * 1000 + p + 1) as f64, 0.0))
                        .collect();
                    layout.scatter(&values).unwrap()
                })
                .collect();
            let encrypted: Vec<_> = vectors
                .iter()
                .enumerate()
                .map(|(member, slots)| (member, client.encrypt(slots, Level(1)).unwrap()))
                .collect();
            let packed = wave.pack(&evaluator, &encrypted).unwrap();
            prop_assert_eq!(client.decrypt(&packed).unwrap(), wave.pack_slots(&vectors));
            let places = wave.mask(0..members, 1.0).iter().filter(|z| z.re != 0.0).count();
            prop_assert_eq!(places, members * layout.dimension(), "no two members share a slot");
            for (member, slots) in vectors.iter().enumerate() {
                let alone = wave.extract(&evaluator, &packed, member).unwrap();
                prop_assert_eq!(&client.decrypt(&alone).unwrap(), slots);
            }
        }
    }

    #[test]
    fn a_wave_of_too_many_is_refused_with_its_numbers() {
        let layout = VectorLayout::compact(64, 4, 3).unwrap();
        let text = Wave::new(layout, 4).unwrap_err().to_string();
        assert!(text.contains("4 vectors") && text.contains("3 fit"), "{text}");
        assert!(Wave::new(layout, 0).is_err());
    }
}
