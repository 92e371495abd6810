//! Linear transforms as sums of rotated products, the unit a backend may fuse.

use super::{Complex64, Error, Result};

/// One diagonal of a linear transform.
pub enum Diagonal<'a, P> {
    /// Encoded beforehand, at the level of use.
    Encoded(&'a P),
    /// Computed when needed (slot values, at most S of them) and encoded by the backend at the level of use. Keeps
    /// a weight matrix compact: only the diagonals in flight exist as plaintexts.
    Lazy(Box<dyn Fn() -> Vec<Complex64> + Send + Sync + 'a>),
}

/// One giant step of a linear transform: a rotation of an inner sum over baby steps.
pub struct GiantStep<'a, P> {
    /// Step by which the inner sum is rotated (left when positive).
    pub step: i64,
    /// Baby steps with their diagonals: the inner sum is Σ diagonal ⊙ rot(x, baby).
    pub babies: Vec<(i64, Diagonal<'a, P>)>,
}

/// y = Σ_j rot( Σ_i diagonal_{j,i} ⊙ rot(x, baby_{j,i}), giant_j ).
///
/// A transform without baby-step / giant-step split is one giant step of 0. Diagonals are *inside* the giant
/// rotation: whoever builds a transform from matrix diagonals rotates them right by the giant step beforehand.
///
/// Level and scale: all diagonals are encoded at the input's level and at one scale, normally the canonical scale of
/// that level; the result has the input's level and scale times that scale, and is to be rescaled once.
/// Cost: the distinct nonzero babies as hoisted rotations, the nonzero giants as rotations, one plaintext product per
/// diagonal.
pub struct LinearTransform<'a, P> {
    /// The giant steps.
    pub giants: Vec<GiantStep<'a, P>>,
}

impl<'a, P> LinearTransform<'a, P> {
    /// Transform of plain (unsplit) diagonals: Σ diagonal ⊙ rot(x, step).
    #[must_use]
    pub fn from_diagonals(diagonals: Vec<(i64, Diagonal<'a, P>)>) -> Self {
        Self { giants: vec![GiantStep { step: 0, babies: diagonals }] }
    }

    /// The distinct baby steps, normalized to 0 .. `slots`, ascending; 0 included when present.
    #[must_use]
    pub fn baby_steps(&self, slots: usize) -> Vec<usize> {
        let mut steps: Vec<usize> = self
            .giants
            .iter()
            .flat_map(|giant| giant.babies.iter().map(|(step, _)| super::normalize_step(*step, slots)))
            .collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// The distinct baby steps of several transforms of one input, as [`Self::baby_steps`]: what they can share.
    #[must_use]
    pub fn shared_baby_steps(transforms: &[Self], slots: usize) -> Vec<usize> {
        let mut steps: Vec<usize> =
            transforms.iter().flat_map(|transform| transform.baby_steps(slots)).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// That there is at least one diagonal: an empty sum has neither level nor scale.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn require_diagonals(&self) -> Result<()> {
        if self.diagonals() > 0 {
            return Ok(());
        }
        Err(Error::Shape {
            operation: "linear_transform",
            what: "0 diagonals".to_owned(),
            remedy: "give at least one".to_owned(),
        })
    }

    /// Number of diagonals: the plaintext products the transform costs.
    #[must_use]
    pub fn diagonals(&self) -> usize {
        self.giants.iter().map(|giant| giant.babies.len()).sum()
    }
}
