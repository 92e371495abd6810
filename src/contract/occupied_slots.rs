//! Which slots of a ciphertext hold values: the layout that a bootstrap of few values reads and writes.

use std::fmt;
use std::sync::Arc;

use super::{Error, Result};

/// An ascending list of the slots that hold values; every other slot is zero, or junk once a bootstrap of few values is
/// done with them. Shared, cheap to clone, never empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct OccupiedSlots {
    /// First, so that two lists are mostly told apart by one comparison.
    fingerprint: u64,
    slots: Arc<[usize]>,
}

impl OccupiedSlots {
    /// The slots in `slots`, in any order.
    ///
    /// # Errors
    /// [`Error::Shape`] for an empty list and for a slot given twice.
    pub fn new(mut slots: Vec<usize>) -> Result<Self> {
        slots.sort_unstable();
        let twice = slots.iter().zip(slots.iter().skip(1)).find(|(slot, next)| slot == next);
        let what = match (slots.is_empty(), twice) {
            (true, _) => "no slot".to_owned(),
            (false, Some((slot, _))) => format!("slot {slot} twice"),
            (false, None) => {
                let fingerprint = slots.iter().fold(FNV_OFFSET, |hash, slot| {
                    (hash ^ *slot as u64).wrapping_mul(FNV_PRIME).rotate_left(23)
                });
                return Ok(Self { fingerprint, slots: slots.into() });
            }
        };
        let remedy = "name every slot that holds a value once, and at least one".to_owned();
        Err(Error::Shape { operation: "occupied slots", what, remedy })
    }

    /// The slots, ascending.
    #[must_use]
    pub fn slots(&self) -> &[usize] {
        &self.slots
    }

    /// Number of values; at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// A number that tells lists apart in file names and messages; equal lists have equal ones, in every build.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// 1 at every occupied slot of `total`, 0 elsewhere: the mask that clears junk.
    #[must_use]
    pub fn mask(&self, total: usize) -> Vec<super::Complex64> {
        let mut mask = vec![super::Complex64::ZERO; total];
        for slot in self.slots.iter() {
            if let Some(place) = mask.get_mut(*slot) {
                *place = super::Complex64::ONE;
            }
        }
        mask
    }

    /// That all slots exist in a ring of `total`.
    ///
    /// # Errors
    /// [`Error::Shape`] with the highest slot and their number.
    pub fn check(&self, total: usize) -> Result<()> {
        match self.slots.last() {
            Some(last) if *last < total => Ok(()),
            last => Err(Error::Shape {
                operation: "bootstrap of few values",
                what: format!("slot {} of {total}", last.copied().unwrap_or_default()),
                remedy: format!("use slots below {total}"),
            }),
        }
    }
}

/// Start and factor of the 64-bit Fowler–Noll–Vo hash, which is the same in every build.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

impl fmt::Debug for OccupiedSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.slots.first().copied(), self.slots.last().copied());
        let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
        write!(f, "{} slots from {first} to {last} ({:016x})", self.slots.len(), self.fingerprint)
    }
}

impl TryFrom<Vec<usize>> for OccupiedSlots {
    type Error = Error;

    fn try_from(slots: Vec<usize>) -> Result<Self> {
        Self::new(slots)
    }
}

impl From<OccupiedSlots> for Vec<usize> {
    fn from(slots: OccupiedSlots) -> Self {
        slots.slots.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_checked_and_told_apart() {
        let slots = OccupiedSlots::new(vec![9, 0, 4]).unwrap();
        assert_eq!(slots.slots(), [0, 4, 9]);
        assert_eq!(slots, OccupiedSlots::new(vec![0, 4, 9]).unwrap());
        let other = OccupiedSlots::new(vec![0, 4, 10]).unwrap();
        assert!(slots != other && slots.fingerprint() != other.fingerprint());
        assert!(OccupiedSlots::new(vec![]).is_err());
        assert!(OccupiedSlots::new(vec![3, 1, 3]).unwrap_err().to_string().contains("slot 3 twice"));
        assert!(slots.check(10).is_ok());
        assert!(slots.check(9).unwrap_err().to_string().contains("slot 9 of 9"));
        let mask: Vec<f64> = slots.mask(12).iter().map(|z| z.re).collect();
        assert_eq!(mask, [1., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0., 0.]);
    }

    #[test]
    fn they_survive_serialization_and_damaged_ones_do_not() {
        let slots = OccupiedSlots::new(vec![2, 7]).unwrap();
        let text = serde_json::to_string(&slots).unwrap();
        assert_eq!(text, "[2,7]");
        assert_eq!(serde_json::from_str::<OccupiedSlots>(&text).unwrap(), slots);
        assert!(serde_json::from_str::<OccupiedSlots>("[2,2]").is_err());
    }
}
