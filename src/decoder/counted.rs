//! What is known of a step once it has been counted: its lowest level, what it writes, and its work level by level.

use crate::backend::clear::ClearCiphertext;
use crate::contract::{CiphertextInfo, OperationCounts, Result};
use crate::decoder::prepared_step::StepPoint;
use crate::decoder::values::{LayerValue, Values};
use crate::placement::Work;

/// A step as counted.
#[derive(Clone)]
pub(super) struct Counted {
    /// Lowest level at which it runs.
    pub(super) lowest: usize,
    /// What it writes: the values, their ciphertexts, and the levels it takes from the one at which it runs.
    pub(super) writes: Vec<Written>,
    /// Work by levels below the one at which it runs.
    pub(super) stages: Vec<Work>,
}

/// A value that a step writes.
#[derive(Clone, Copy)]
pub(super) struct Written {
    pub(super) value: LayerValue,
    /// Ciphertexts of the value.
    pub(super) ciphertexts: usize,
    /// Levels it stands below the one at which the step ran.
    pub(super) depth: usize,
}

/// What a step has written: `written`, and the caches, which stay at the level at which it ran.
pub(super) fn writes(point: &StepPoint, written: &Values<ClearCiphertext>) -> Result<Vec<Written>> {
    let caches = point.step.edges().1.iter().filter(|value| value.is_cache());
    let mut writes: Vec<Written> =
        caches.map(|value| Written { value: *value, ciphertexts: 1, depth: 0 }).collect();
    for (value, list) in written.iter() {
        let lowest = list.iter().map(CiphertextInfo::level).min().unwrap_or(point.level);
        let depth = point.level.minus(lowest.0, "step of a layer")?.0;
        writes.push(Written { value, ciphertexts: list.len(), depth });
    }
    Ok(writes)
}

/// Work by levels below `level`. What happens to inputs that stand above it counts at it.
pub(super) fn stages(level: usize, counts: &OperationCounts) -> Vec<Work> {
    let mut stages = vec![Work::default(); level + 1];
    for (at, counts) in &counts.by_level {
        let work = Work::from(*counts);
        let work = Work { encodings: work.plaintext_products, ..work };
        if let Some(stage) = stages.get_mut(level.saturating_sub(at.0)) {
            *stage += work;
        }
    }
    while stages.len() > 1 && stages.last() == Some(&Work::default()) {
        stages.pop();
    }
    stages
}
