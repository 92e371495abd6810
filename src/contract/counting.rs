//! Counts the operations of any backend.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::{
    BootstrapRequest, BootstrapSummary, CiphertextInfo, Complex64, Evaluator, Level, LevelChain, LinearTerm,
    LinearTransform, Result, Scale, normalize_step,
};

/// Operations performed at one level (the level of their input).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LevelCounts {
    /// Additions and subtractions, of ciphertexts or plaintexts.
    pub additions: usize,
    /// Rotations that decompose their own input: plain ones and giant steps.
    pub rotations: usize,
    /// Rotations that share a decomposition: baby steps of a linear transform, `rotate_many`.
    pub rotations_hoisted: usize,
    /// Decompositions shared by hoisted rotations.
    pub hoisted_groups: usize,
    /// Conjugations.
    pub conjugations: usize,
    /// Products with an encoded plaintext.
    pub plaintext_products: usize,
    /// Products with one constant for all slots.
    pub constant_products: usize,
    /// Products of two ciphertexts.
    pub ciphertext_products: usize,
    /// Relinearizations.
    pub relinearizations: usize,
    /// Rescales.
    pub rescales: usize,
    /// Bootstraps.
    pub bootstraps: usize,
}

impl LevelCounts {
    /// Key switches: every rotation, conjugation and relinearization (bootstraps apart).
    #[must_use]
    pub fn key_switches(&self) -> usize {
        self.rotations + self.rotations_hoisted + self.conjugations + self.relinearizations
    }
}

impl std::ops::AddAssign for LevelCounts {
    fn add_assign(&mut self, other: Self) {
        self.additions += other.additions;
        self.rotations += other.rotations;
        self.rotations_hoisted += other.rotations_hoisted;
        self.hoisted_groups += other.hoisted_groups;
        self.conjugations += other.conjugations;
        self.plaintext_products += other.plaintext_products;
        self.constant_products += other.constant_products;
        self.ciphertext_products += other.ciphertext_products;
        self.relinearizations += other.relinearizations;
        self.rescales += other.rescales;
        self.bootstraps += other.bootstraps;
    }
}

/// Operations per level.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OperationCounts {
    /// Counts by level of the input.
    pub by_level: BTreeMap<Level, LevelCounts>,
    /// Distinct nonzero rotation steps.
    pub rotation_steps: std::collections::BTreeSet<usize>,
}

impl OperationCounts {
    /// Sum over all levels.
    #[must_use]
    pub fn total(&self) -> LevelCounts {
        let mut total = LevelCounts::default();
        for counts in self.by_level.values() {
            total += *counts;
        }
        total
    }
}

/// Passes every operation on to `inner` and counts those that succeed.
pub struct CountingEvaluator<E> {
    inner: E,
    counts: Mutex<OperationCounts>,
}

impl<E: Evaluator> CountingEvaluator<E> {
    /// Wraps `inner`; all counts are zero.
    pub fn new(inner: E) -> Self {
        Self { inner, counts: Mutex::new(OperationCounts::default()) }
    }

    /// The wrapped evaluator.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    /// The counts so far.
    pub fn counts(&self) -> OperationCounts {
        self.lock().clone()
    }

    /// The counts so far; they start again from zero.
    pub fn take_counts(&self) -> OperationCounts {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OperationCounts> {
        // Counters stay consistent even if a thread panicked while holding them.
        self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn note(&self, level: Level, change: impl FnOnce(&mut LevelCounts)) {
        change(self.lock().by_level.entry(level).or_default());
    }

    /// Counts rotations by `steps` at `level`; a step of 0 costs nothing.
    fn note_rotations(&self, level: Level, steps: impl Iterator<Item = i64>, hoisted: bool) {
        let slots = self.inner.slots();
        let steps: std::collections::BTreeSet<usize> =
            steps.map(|step| normalize_step(step, slots)).filter(|step| *step != 0).collect();
        if steps.is_empty() {
            return;
        }
        let mut counts = self.lock();
        let entry = counts.by_level.entry(level).or_default();
        if hoisted {
            entry.rotations_hoisted += steps.len();
            entry.hoisted_groups += 1;
        } else {
            entry.rotations += steps.len();
        }
        counts.rotation_steps.extend(steps);
    }

    /// Counts what a linear combination of `terms` terms consists of.
    fn note_combination(&self, level: Level, terms: usize, addend: Complex64) {
        self.note(level, |counts| {
            counts.constant_products += terms;
            counts.additions += terms.saturating_sub(1) + usize::from(addend != Complex64::ZERO);
        });
    }

    /// Counts transforms of one input at `level` that share their baby steps.
    fn note_transforms(&self, level: Level, transforms: &[LinearTransform<'_, E::Plaintext>]) {
        let babies = LinearTransform::shared_baby_steps(transforms, self.inner.slots());
        self.note_rotations(level, babies.iter().filter_map(|step| i64::try_from(*step).ok()), true);
        for transform in transforms {
            for giant in &transform.giants {
                self.note_rotations(level, std::iter::once(giant.step), false);
            }
            let diagonals = transform.diagonals();
            self.note(level, |counts| {
                counts.plaintext_products += diagonals;
                counts.additions += diagonals.saturating_sub(1);
            });
        }
    }
}

impl<E: Evaluator> Evaluator for CountingEvaluator<E> {
    type Ciphertext = E::Ciphertext;
    type Tensor = E::Tensor;
    type Plaintext = E::Plaintext;

    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn slots(&self) -> usize {
        self.inner.slots()
    }

    fn chain(&self) -> &LevelChain {
        self.inner.chain()
    }

    fn bootstrapping(&self) -> Option<BootstrapSummary> {
        self.inner.bootstrapping()
    }

    fn encode(&self, values: &[Complex64], level: Level, scale: Scale) -> Result<Self::Plaintext> {
        self.inner.encode(values, level, scale)
    }

    fn add(&self, a: &Self::Ciphertext, b: &Self::Ciphertext) -> Result<Self::Ciphertext> {
        let result = self.inner.add(a, b)?;
        self.note(a.level(), |counts| counts.additions += 1);
        Ok(result)
    }

    fn sub(&self, a: &Self::Ciphertext, b: &Self::Ciphertext) -> Result<Self::Ciphertext> {
        let result = self.inner.sub(a, b)?;
        self.note(a.level(), |counts| counts.additions += 1);
        Ok(result)
    }

    fn negate(&self, a: &Self::Ciphertext) -> Result<Self::Ciphertext> {
        self.inner.negate(a)
    }

    fn add_plain(&self, a: &Self::Ciphertext, p: &Self::Plaintext) -> Result<Self::Ciphertext> {
        let result = self.inner.add_plain(a, p)?;
        self.note(a.level(), |counts| counts.additions += 1);
        Ok(result)
    }

    fn add_constant(&self, a: &Self::Ciphertext, c: Complex64) -> Result<Self::Ciphertext> {
        let result = self.inner.add_constant(a, c)?;
        self.note(a.level(), |counts| counts.additions += 1);
        Ok(result)
    }

    fn mul_plain(&self, a: &Self::Ciphertext, p: &Self::Plaintext) -> Result<Self::Ciphertext> {
        let result = self.inner.mul_plain(a, p)?;
        self.note(a.level(), |counts| counts.plaintext_products += 1);
        Ok(result)
    }

    fn mul_constant(&self, a: &Self::Ciphertext, c: Complex64, scale: Scale) -> Result<Self::Ciphertext> {
        let result = self.inner.mul_constant(a, c, scale)?;
        self.note(a.level(), |counts| counts.constant_products += 1);
        Ok(result)
    }

    fn mul_integer(&self, a: &Self::Ciphertext, k: i64) -> Result<Self::Ciphertext> {
        self.inner.mul_integer(a, k)
    }

    fn mul_by_i(&self, a: &Self::Ciphertext) -> Result<Self::Ciphertext> {
        self.inner.mul_by_i(a)
    }

    fn tensor(&self, a: &Self::Ciphertext, b: &Self::Ciphertext) -> Result<Self::Tensor> {
        let result = self.inner.tensor(a, b)?;
        self.note(a.level(), |counts| counts.ciphertext_products += 1);
        Ok(result)
    }

    fn add_tensor(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor> {
        let result = self.inner.add_tensor(a, b)?;
        self.note(a.level(), |counts| counts.additions += 1);
        Ok(result)
    }

    fn relinearize(&self, a: &Self::Tensor) -> Result<Self::Ciphertext> {
        let result = self.inner.relinearize(a)?;
        self.note(a.level(), |counts| counts.relinearizations += 1);
        Ok(result)
    }

    fn rescale(&self, a: &Self::Ciphertext) -> Result<Self::Ciphertext> {
        let result = self.inner.rescale(a)?;
        self.note(a.level(), |counts| counts.rescales += 1);
        Ok(result)
    }

    fn drop_level(&self, a: &Self::Ciphertext, level: Level) -> Result<Self::Ciphertext> {
        self.inner.drop_level(a, level)
    }

    fn rotate(&self, a: &Self::Ciphertext, step: i64) -> Result<Self::Ciphertext> {
        let result = self.inner.rotate(a, step)?;
        self.note_rotations(a.level(), std::iter::once(step), false);
        Ok(result)
    }

    fn rotate_many(&self, a: &Self::Ciphertext, steps: &[i64]) -> Result<Vec<Self::Ciphertext>> {
        let result = self.inner.rotate_many(a, steps)?;
        self.note_rotations(a.level(), steps.iter().copied(), true);
        Ok(result)
    }

    fn rotate_sum(&self, terms: &[(&Self::Ciphertext, i64)]) -> Result<Self::Ciphertext> {
        let result = self.inner.rotate_sum(terms)?;
        for (ciphertext, step) in terms {
            self.note_rotations(ciphertext.level(), std::iter::once(*step), false);
            self.note(ciphertext.level(), |counts| counts.additions += 1);
        }
        Ok(result)
    }

    fn conjugate(&self, a: &Self::Ciphertext) -> Result<Self::Ciphertext> {
        let result = self.inner.conjugate(a)?;
        self.note(a.level(), |counts| counts.conjugations += 1);
        Ok(result)
    }

    fn linear_transform(
        &self,
        a: &Self::Ciphertext,
        transform: &LinearTransform<'_, Self::Plaintext>,
        scale: Scale,
    ) -> Result<Self::Ciphertext> {
        let result = self.inner.linear_transform(a, transform, scale)?;
        self.note_transforms(a.level(), std::slice::from_ref(transform));
        Ok(result)
    }

    fn linear_transforms(
        &self,
        a: &Self::Ciphertext,
        transforms: &[LinearTransform<'_, Self::Plaintext>],
        scale: Scale,
    ) -> Result<Vec<Self::Ciphertext>> {
        let result = self.inner.linear_transforms(a, transforms, scale)?;
        self.note_transforms(a.level(), transforms);
        Ok(result)
    }

    fn linear_combination(
        &self,
        terms: &[LinearTerm<'_, Self::Ciphertext>],
        addend: Complex64,
        level: Level,
    ) -> Result<Self::Ciphertext> {
        let result = self.inner.linear_combination(terms, addend, level)?;
        self.note_combination(level, terms.len(), addend);
        Ok(result)
    }

    fn relinearize_and_rescale(
        &self,
        product: &Self::Tensor,
        terms: &[LinearTerm<'_, Self::Ciphertext>],
        addend: Complex64,
    ) -> Result<Self::Ciphertext> {
        let result = self.inner.relinearize_and_rescale(product, terms, addend)?;
        self.note_combination(product.level(), terms.len(), addend);
        self.note(product.level(), |counts| {
            counts.relinearizations += 1;
            counts.additions += usize::from(!terms.is_empty());
            counts.rescales += 1;
        });
        Ok(result)
    }

    fn bootstrap(&self, a: &Self::Ciphertext, request: &BootstrapRequest) -> Result<Self::Ciphertext> {
        let result = self.inner.bootstrap(a, request)?;
        self.note(a.level(), |counts| counts.bootstraps += 1);
        Ok(result)
    }

    fn ciphertext_to_bytes(&self, a: &Self::Ciphertext) -> Result<Vec<u8>> {
        self.inner.ciphertext_to_bytes(a)
    }

    fn ciphertext_from_bytes(&self, bytes: &[u8]) -> Result<Self::Ciphertext> {
        self.inner.ciphertext_from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests;
