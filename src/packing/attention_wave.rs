//! Attention of several tokens at once ([`super::Wave`]): their scores share one ciphertext, so that they share its
//! bootstrap and the exponential.
//!
//! A score ciphertext repeats with the period of its segment ([`super::ScoreLayout`]); a wave keeps one copy per
//! member instead, that of member i in copy i. Only of segments short enough, and where every query head has its own
//! keys.

use std::ops::Range;

use crate::contract::{Complex64, Evaluator, Result};

use super::sums::{signed, sum_strided};
use super::{AttentionPlan, Grouping, Packed, Wave};

impl AttentionPlan {
    /// Members of a wave whose scores fit one ciphertext: 1 when a sequence may need several, or when heads are
    /// compact or complex.
    #[must_use]
    pub fn wave_capacity(&self) -> usize {
        let layout = self.score_layout();
        let alone = self.grouping() != Grouping::Duplicated
            || layout.segments(self.cache_layout().maximum_tokens) > 1
            || self.output_layout().is_err();
        if alone { 1 } else { layout.copies().min(Wave::capacity(&self.stored().vector())) }
    }

    /// The weights of one member out of those of a wave, repeated over all copies, as
    /// [`AttentionPlan::weighted_values`] wants them. One level (a mask) and a rotation per doubling of the copies.
    ///
    /// # Errors
    /// Errors of the evaluator.
    pub fn member_weights<E: Evaluator>(
        &self,
        evaluator: &E,
        weights: &E::Ciphertext,
        member: usize,
    ) -> Result<E::Ciphertext> {
        let layout = self.score_layout();
        let mut mask = vec![Complex64::new(1.0, 0.0); layout.stored().slots()];
        layout.keep_copy(&mut mask, member);
        let alone = evaluator.mul_values(weights, &mask)?;
        sum_strided(evaluator, &alone, layout.copies(), signed(layout.period()))
    }

    /// Σ_token weight · factor for each of `factors` and all query heads of the given members of a wave
    /// ([`AttentionPlan::denominators`] of one token): the sums of member i in the places of member i of `wave`.
    /// `weights` must be zero at the slots of no token. One level; a mask per factor and member, a rotation per factor
    /// and member, and log2(head blocks) rotations per factor.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] without members; errors of the evaluator.
    pub fn wave_denominators<E: Evaluator>(
        &self,
        evaluator: &E,
        weights: &E::Ciphertext,
        wave: &Wave,
        members: Range<usize>,
        factors: &[f64],
    ) -> Result<Vec<Packed<E::Ciphertext>>> {
        let (stored, layout) = (self.stored(), self.score_layout());
        let block = signed(stored.head_block());
        let blocks = sum_strided(evaluator, weights, layout.lanes(), block)?;
        let sums = sum_strided(evaluator, &blocks, stored.tokens(), 1)?;
        let mut scaled = Vec::with_capacity(factors.len());
        for factor in factors {
            let mut placed = Vec::with_capacity(members.len());
            for member in members.clone() {
                // The sum over a member's copy stands in the first head block of the copy.
                let first = member * layout.period();
                let mut mask = stored.vector().mask(*factor);
                for (slot, entry) in mask.iter_mut().enumerate() {
                    if !(first..first + stored.head_block()).contains(&slot) {
                        *entry = Complex64::ZERO;
                    }
                }
                placed.push((member, evaluator.mul_values(&sums, &mask)?));
            }
            let placed = wave.pack(evaluator, &placed)?;
            let everywhere = sum_strided(evaluator, &placed, stored.head_blocks(), block)?;
            scaled.push(Packed::new(everywhere, self.output_layout()?));
        }
        Ok(scaled)
    }
}
