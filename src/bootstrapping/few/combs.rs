//! How values in any slots meet a period: teeth and steps, chosen by cost.
//!
//! A dense n × n matrix on data of period n takes n plaintexts, one for each distance k between an input and an output
//! slot. The binary digits of k are shared out. Some are *teeth*: every value has a comb of 2^t slots to itself,
//! reached by rotate-and-add, without a plaintext. The others are *steps*, by which the input is rotated under one
//! plaintext each. Any choice serves for which the combs of all values are disjoint. Values side by side leave room for
//! teeth in the high digits, values far apart in the low ones. ePrint 2026/1023 spreads diagonals over repetitions in
//! this way; the derivation is ours.

use crate::contract::{Error, Result};

/// Cost of a hoisted rotation, in rotations.
const HOISTED: f64 = 0.6;
/// Cost of a plaintext product, in rotations: two products a limb, and a plaintext to keep and to read.
const PLAINTEXT: f64 = 0.05;
/// Most plaintexts of one transform: beyond it they take more memory than the keys (16 MB each under `n16_few`).
pub(super) const MOST_PLAINTEXTS: usize = 256;

/// Teeth and steps of one transform between `places` and a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Combs {
    /// n, the period: a power of two.
    pub period: usize,
    /// Powers of two below n that are teeth, ascending.
    pub teeth: Vec<usize>,
    /// Powers of two below n that are baby steps, ascending.
    pub babies: Vec<usize>,
    /// Powers of two below n that are giant steps, ascending; all of them are a tooth or a step.
    pub giants: Vec<usize>,
}

impl Combs {
    /// The cheapest combs of `places` (distinct, below `total`) for the period `period`, with their cost in rotations
    /// of one ciphertext, the sum over the repetitions of the period included.
    pub fn cheapest(places: &[usize], total: usize, period: usize) -> (Self, f64) {
        let most = most_teeth(places, total, period);
        let repetitions = (total / period.max(1)).max(1).ilog2() as usize;
        let mut best: Option<(Self, f64)> = None;
        // Any of the teeth may be made a step: the combs stay disjoint.
        for kept in 0..=most.len() {
            let teeth: Vec<usize> = most.iter().rev().take(kept).rev().copied().collect();
            let steps: Vec<usize> = powers_below(period).filter(|power| !teeth.contains(power)).collect();
            for split in 0..=steps.len() {
                let (babies, giants) = steps.split_at(split);
                let combs =
                    Self { period, teeth: teeth.clone(), babies: babies.to_vec(), giants: giants.to_vec() };
                let cost = combs.cost() + repetitions as f64;
                if best.as_ref().is_none_or(|(_, least)| cost < *least) {
                    best = Some((combs, cost));
                }
            }
        }
        best.unwrap_or((Self { period, teeth: vec![], babies: vec![], giants: vec![] }, 0.0))
    }

    /// Plaintexts: one for each step.
    pub fn plaintexts(&self) -> usize {
        1 << (self.babies.len() + self.giants.len())
    }

    fn cost(&self) -> f64 {
        let hoisted = (1usize << self.babies.len()) - 1;
        let rotations = (1usize << self.giants.len()) - 1 + self.teeth.len();
        HOISTED * hoisted as f64 + rotations as f64 + PLAINTEXT * self.plaintexts() as f64
    }

    /// Which value each slot of `total` belongs to: `owner[(p_i + t) mod total] = i` for every tooth sum t.
    ///
    /// # Errors
    /// [`Error::Internal`] when two combs meet, which the choice of teeth rules out.
    pub fn owners(&self, places: &[usize], total: usize) -> Result<Vec<Option<usize>>> {
        let teeth = sums(&self.teeth);
        let mut owners = vec![None; total];
        for (value, place) in places.iter().enumerate() {
            for tooth in &teeth {
                match owners.get_mut((place + tooth) % total.max(1)) {
                    Some(owner @ None) => *owner = Some(value),
                    _ => return Err(Error::Internal(format!("two combs meet at slot {place} + {tooth}"))),
                }
            }
        }
        Ok(owners)
    }
}

/// 1, 2, 4 … below `period`.
fn powers_below(period: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1usize), |power| power.checked_mul(2)).take_while(move |power| *power < period)
}

/// All sums of distinct members of `powers`, ascending; 0 first.
pub(super) fn sums(powers: &[usize]) -> Vec<usize> {
    let mut sums = vec![0];
    for power in powers {
        let shifted: Vec<usize> = sums.iter().map(|sum| sum + power).collect();
        sums.extend(shifted);
    }
    sums.sort_unstable();
    sums
}

/// A largest set of powers of two below `period` whose sums give every place a comb of its own.
fn most_teeth(places: &[usize], total: usize, period: usize) -> Vec<usize> {
    let mut occupied = vec![false; total];
    for place in places {
        if let Some(slot) = occupied.get_mut(*place) {
            *slot = true;
        }
    }
    let powers: Vec<usize> = powers_below(period).collect();
    let mut best = Vec::new();
    grow(&occupied, &powers, &mut Vec::new(), &mut best);
    best
}

/// Tries every set of teeth that contains `chosen` and more of `powers`; sets that cannot beat `best` are left out.
fn grow(occupied: &[bool], powers: &[usize], chosen: &mut Vec<usize>, best: &mut Vec<usize>) {
    if chosen.len() > best.len() {
        best.clone_from(chosen);
    }
    for (index, power) in powers.iter().enumerate() {
        let rest = powers.get(index + 1..).unwrap_or_default();
        if chosen.len() + 1 + rest.len() <= best.len() {
            return;
        }
        // All combs so far, moved by one more tooth: disjoint from themselves, or this tooth does not fit.
        let moved = |slot: usize| (slot + occupied.len() - power % occupied.len()) % occupied.len();
        let taken = |slot: usize| occupied.get(moved(slot)).copied().unwrap_or(false);
        if occupied.iter().enumerate().all(|(slot, own)| !(*own && taken(slot))) {
            let both: Vec<bool> =
                occupied.iter().enumerate().map(|(slot, own)| *own || taken(slot)).collect();
            chosen.push(*power);
            grow(&both, rest, chosen, best);
            chosen.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teeth_stand_where_the_layout_leaves_room() {
        let blocks: Vec<usize> = (0..64).flat_map(|b| (0..9).map(move |q| b * 512 + q)).collect();
        assert_eq!(most_teeth(&blocks, 32768, 512), [16, 32, 64, 128, 256], "9 side by side");
        let apart: Vec<usize> = (0..1024).map(|i| 32 * i).collect();
        assert_eq!(most_teeth(&apart, 32768, 512), [1, 2, 4, 8, 16], "far apart");
        let dense: Vec<usize> = (0..64).collect();
        assert_eq!(most_teeth(&dense, 64, 64), Vec::<usize>::new(), "full");
        let (combs, cost) = Combs::cheapest(&blocks, 32768, 512);
        assert!(combs.plaintexts() <= 32 && cost < 17.0, "{combs:?} at {cost}");
        assert_eq!(combs.owners(&blocks, 32768).unwrap().iter().flatten().count(), 576 << combs.teeth.len());
    }

    #[test]
    fn sums_are_all_sums() {
        assert_eq!(sums(&[1, 4]), [0, 1, 4, 5]);
        assert_eq!(sums(&[]), [0]);
    }
}
