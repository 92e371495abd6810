//! Which evaluation keys a circuit needs, and up to which level.

use std::collections::{BTreeMap, BTreeSet};

use super::{BootstrapRequest, FewValues, Level, Refreshed};

/// `step` modulo `slots`, in 0 .. `slots`.
#[must_use]
pub fn normalize_step(step: i64, slots: usize) -> usize {
    let slots = i64::try_from(slots.max(1)).unwrap_or(i64::MAX);
    usize::try_from(step.rem_euclid(slots)).unwrap_or(0)
}

/// Bootstrapping keys wanted.
#[derive(Clone, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct BootstrapKeys {
    /// Slot counts (powers of two, at most S) of the ciphertexts that will be bootstrapped.
    pub slots: BTreeSet<usize>,
    /// Few values that will be bootstrapped: each layout has keys of its own, which overlap.
    #[serde(default)]
    pub few: BTreeSet<FewValues>,
}

impl BootstrapKeys {
    /// The periods to bootstrap on a backend of `total` slots that treats few values as a special case of all slots.
    #[must_use]
    pub fn periods(&self, total: usize) -> BTreeSet<usize> {
        let mut periods = self.slots.clone();
        periods.extend((!self.few.is_empty()).then_some(total));
        periods
    }

    /// Whether these keys serve what is to be refreshed.
    #[must_use]
    pub fn serve(&self, refreshed: &Refreshed) -> bool {
        match refreshed {
            Refreshed::All { period, .. } => self.slots.contains(period),
            Refreshed::Few(few) => self.few.contains(few),
        }
    }
}

/// The evaluation keys to generate: rotation steps, relinearization, conjugation, each with the highest level at which
/// it is used, so that keys used low are small; bootstrapping by slot count, and of few values by layout.
///
/// A dry run on `clear` fills one ([`crate::backend::clear::ClearEvaluator::dry_run`]).
#[derive(Clone, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct KeyRequest {
    /// Rotation steps, normalized to 1 .. S, with the highest level of use.
    pub rotations: BTreeMap<usize, Level>,
    /// Highest level at which products are relinearized.
    pub relinearization: Option<Level>,
    /// Highest level at which values are conjugated.
    pub conjugation: Option<Level>,
    /// Bootstrapping, if any.
    pub bootstrapping: Option<BootstrapKeys>,
}

impl KeyRequest {
    /// An empty request.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a rotation by the normalized `step` up to `level`. Step 0 needs no key.
    pub fn rotation(&mut self, step: usize, level: Level) -> &mut Self {
        if step != 0 {
            let entry = self.rotations.entry(step).or_insert(level);
            *entry = (*entry).max(level);
        }
        self
    }

    /// Asks for rotations by `steps` (any sign) in a ring of `slots` slots, up to `level`.
    pub fn rotations(&mut self, steps: &[i64], slots: usize, level: Level) -> &mut Self {
        for step in steps {
            self.rotation(normalize_step(*step, slots), level);
        }
        self
    }

    /// Asks for relinearization up to `level`.
    pub fn relinearization(&mut self, level: Level) -> &mut Self {
        self.relinearization = self.relinearization.max(Some(level));
        self
    }

    /// Asks for conjugation up to `level`.
    pub fn conjugation(&mut self, level: Level) -> &mut Self {
        self.conjugation = self.conjugation.max(Some(level));
        self
    }

    /// Asks for bootstrapping of ciphertexts with `slots` slots.
    pub fn bootstrapping(&mut self, slots: usize) -> &mut Self {
        self.bootstrapping.get_or_insert_with(BootstrapKeys::default).slots.insert(slots);
        self
    }

    /// Asks for the bootstraps of few values like `few`.
    pub fn bootstrapping_few(&mut self, few: &FewValues) -> &mut Self {
        self.bootstrapping.get_or_insert_with(BootstrapKeys::default).few.insert(few.clone());
        self
    }

    /// Asks for what [`super::Evaluator::bootstrap`] of `request` needs, whichever its level and iterations.
    pub fn bootstrapping_of(&mut self, request: &BootstrapRequest) -> &mut Self {
        match &request.refreshed {
            Refreshed::All { period, .. } => self.bootstrapping(*period),
            Refreshed::Few(few) => self.bootstrapping_few(few),
        }
    }

    /// Adds everything `other` asks for.
    pub fn merge(&mut self, other: &KeyRequest) -> &mut Self {
        for (step, level) in &other.rotations {
            self.rotation(*step, *level);
        }
        self.relinearization = self.relinearization.max(other.relinearization);
        self.conjugation = self.conjugation.max(other.conjugation);
        if let Some(boot) = &other.bootstrapping {
            let own = self.bootstrapping.get_or_insert_with(BootstrapKeys::default);
            own.slots.extend(&boot.slots);
            own.few.extend(boot.few.iter().cloned());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_keep_their_highest_level() {
        let mut request = KeyRequest::new();
        request.rotations(&[-1, 3, 0], 16, Level(2)).rotation(3, Level(5));
        assert_eq!(request.rotations, BTreeMap::from([(3, Level(5)), (15, Level(2))]));
    }
}
