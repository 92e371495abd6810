//! How a bootstrap of few values runs: period, combs of both transforms, one reduction or two. All chosen by cost.

use super::combs::{Combs, MOST_PLAINTEXTS};
use crate::contract::{Error, FewValues, Result};

/// Cost of a second EvalMod, in rotations at the top of the chain.
const EVAL_MOD: f64 = 16.0;
/// Cost of a key switch at level 1, of one digit at a few limbs, in rotations at the top of the chain.
const AT_THE_BOTTOM: f64 = 0.12;
/// Larger periods than the smallest that are tried, as powers of two.
const LARGER_PERIODS: u32 = 3;

/// Where the parts of the values stand while EvalMod reduces them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Real values, each in its slot: one EvalMod.
    Real,
    /// Complex values whose imaginary parts stand this many slots after the real ones: one EvalMod.
    SideBySide(usize),
    /// Complex values without that room: two EvalMods.
    Twice,
}

/// The course of a bootstrap of few values, in the clear.
#[derive(Clone, Debug)]
pub(super) struct FewPlan {
    /// SlotsToCoeffs: from the slots of the values to the period.
    pub down: Combs,
    /// CoeffsToSlots: from the period to `returned`.
    pub up: Combs,
    /// Slots that CoeffsToSlots fills: those of the values, and with [`Reduction::SideBySide`] as many again.
    pub returned: Vec<usize>,
    pub reduction: Reduction,
}

impl FewPlan {
    /// The cheapest course for `few` in a ring of `total` slots.
    ///
    /// # Errors
    /// [`Error::Shape`] for slots that do not exist, and for so many values that their diagonals would not fit in
    /// memory.
    pub fn new(few: &FewValues, total: usize) -> Result<Self> {
        few.slots.check(total)?;
        let values = few.slots.len();
        // Each of the n complex coefficients of a period holds two real values or a complex one.
        let smallest = (if few.real { values.div_ceil(2) } else { values }).next_power_of_two();
        let mut best: Option<(Self, f64)> = None;
        for period in (0..=LARGER_PERIODS).map(|more| smallest << more).take_while(|period| *period <= total)
        {
            let (down, down_cost) = Combs::cheapest(few.slots.slots(), total, period);
            let mut consider = |(returned, reduction): (Vec<usize>, Reduction), extra: f64| {
                let (up, up_cost) = Combs::cheapest(&returned, total, period);
                let cost = AT_THE_BOTTOM * down_cost + up_cost + extra;
                if up.plaintexts() <= MOST_PLAINTEXTS && best.as_ref().is_none_or(|(_, least)| cost < *least)
                {
                    best = Some((Self { down: down.clone(), up, returned, reduction }, cost));
                }
            };
            let own = few.slots.slots().to_vec();
            if few.real {
                consider((own, Reduction::Real), 0.0);
                continue;
            }
            for distance in std::iter::successors(Some(1), |d| Some(2 * d)).take_while(|d| *d < total) {
                if let Some(returned) = side_by_side(few.slots.slots(), distance, total) {
                    consider((returned, Reduction::SideBySide(distance)), 1.0);
                }
            }
            consider((own, Reduction::Twice), EVAL_MOD);
        }
        best.map(|(plan, _)| plan).ok_or_else(|| Error::Shape {
            operation: "bootstrap of few values",
            what: format!(
                "{values} values in {total} slots need more than {MOST_PLAINTEXTS} diagonals in memory"
            ),
            remedy: "refresh all slots, or fewer values at a time".to_owned(),
        })
    }

    /// Coefficient that slot number `index` of [`Self::returned`] is read from: k < n the real part of w_k, n + k its
    /// imaginary part.
    pub fn coefficient(&self, index: usize) -> usize {
        let values = self.returned.len() / 2;
        match self.reduction {
            Reduction::SideBySide(_) if index >= values => self.up.period + index - values,
            _ => index,
        }
    }
}

/// The slots, then all of them `distance` further: `None` where the two sets meet.
fn side_by_side(slots: &[usize], distance: usize, total: usize) -> Option<Vec<usize>> {
    let mut returned = slots.to_vec();
    returned.extend(slots.iter().map(|slot| (slot + distance) % total));
    let mut sorted = returned.clone();
    sorted.sort_unstable();
    sorted.dedup();
    (sorted.len() == returned.len()).then_some(returned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::OccupiedSlots;

    fn plan(slots: Vec<usize>, real: bool, total: usize) -> FewPlan {
        FewPlan::new(&FewValues { slots: OccupiedSlots::new(slots).unwrap(), real }, total).unwrap()
    }

    #[test]
    fn complex_values_use_the_room_beside_them() {
        let numerators = plan((0..512).map(|i| 64 * i).collect(), false, 32768);
        assert!(matches!(numerators.reduction, Reduction::SideBySide(_)), "{numerators:?}");
        assert_eq!((numerators.up.period, numerators.returned.len()), (512, 1024));
        assert!(numerators.up.plaintexts() <= 32 && numerators.down.plaintexts() <= 32, "{numerators:?}");
        // Half of all slots and more: no room.
        let full = plan((0..12).collect(), false, 16);
        assert_eq!(full.reduction, Reduction::Twice);
    }

    #[test]
    fn the_residual_stream_of_a_small_model_takes_few_rotations() {
        let blocks = (0..64).flat_map(|b| (0..9).map(move |q| b * 512 + q)).collect();
        let residual = plan(blocks, true, 32768);
        let rotations = |combs: &Combs| {
            combs.teeth.len() + (1 << combs.babies.len()) - 1 + (1 << combs.giants.len()) - 1
                + (32768 / combs.period).ilog2() as usize
        };
        assert!(rotations(&residual.up) <= 17 && residual.up.plaintexts() <= 32, "{:?}", residual.up);
        assert!(rotations(&residual.down) <= 24, "{:?}", residual.down);
    }

    #[test]
    fn too_many_values_are_refused_with_their_number() {
        let few = FewValues { slots: OccupiedSlots::new((0..20000).collect()).unwrap(), real: false };
        assert!(FewPlan::new(&few, 32768).unwrap_err().to_string().contains("20000 values"));
        let outside = FewValues { slots: OccupiedSlots::new(vec![64]).unwrap(), real: true };
        assert!(FewPlan::new(&outside, 64).is_err());
    }
}
