//! Operations of the packings that recompute the whole prefix, as whoever can run them counts them.

use crate::contract::Result;
use crate::placement::Work;

/// Work by level below the input's.
pub type Stages = Vec<Work>;

/// Counts of MOAI's and THOR's products.
pub trait RecomputeCounts {
    /// MOAI's columns `inputs` → `outputs` over all sequences side by side.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for dimensions that MOAI's packing cannot hold.
    fn moai_product(&self, tokens: usize, inputs: usize, outputs: usize) -> Result<Stages>;

    /// MOAI's Q·Kᵀ and P·V of one head, over all sequences side by side.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for dimensions that MOAI's packing cannot hold.
    fn moai_attention(&self, tokens: usize, head_dim: usize) -> Result<(Stages, Stages)>;

    /// THOR's product of `sources` ciphertexts to `results` ciphertexts of `diagonals` diagonals each, two results
    /// folded.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for dimensions that THOR's packing cannot hold.
    fn thor_product(&self, diagonals: usize, sources: usize, results: usize) -> Result<Stages>;

    /// THOR's Q·Kᵀ and P·V of one ciphertext of heads.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for dimensions that THOR's packing cannot hold.
    fn thor_attention(&self, diagonals: usize, tokens: usize, head_dim: usize) -> Result<(Stages, Stages)>;
}

/// Every stage times `factor`.
#[must_use]
pub fn times(stages: &[Work], factor: f64) -> Stages {
    stages.iter().map(|work| *work * factor).collect()
}

/// Stage by stage.
#[must_use]
pub fn sum(a: &[Work], b: &[Work]) -> Stages {
    let at = |stages: &[Work], index: usize| stages.get(index).copied().unwrap_or_default();
    (0..a.len().max(b.len())).map(|index| at(a, index) + at(b, index)).collect()
}
