//! A ciphertext together with the layout of its values.

use crate::contract::{Error, Evaluator, Result};

use super::VectorLayout;

/// A ciphertext whose slots follow `layout`. Products and caches compare the layout with the one they were built for,
/// so that a vector with junk never enters where zeros are needed.
#[derive(Clone, Debug)]
pub struct Packed<C> {
    /// The ciphertext.
    pub ciphertext: C,
    /// Where its values are.
    pub layout: VectorLayout,
}

impl<C> Packed<C> {
    /// States that `ciphertext` follows `layout`.
    pub fn new(ciphertext: C, layout: VectorLayout) -> Self {
        Self { ciphertext, layout }
    }

    /// That the layout is `wanted`; a clean vector also serves where junk is allowed.
    ///
    /// # Errors
    /// [`Error::Shape`] naming both layouts.
    pub fn require(&self, wanted: &VectorLayout, operation: &'static str) -> Result<()> {
        if self.layout == *wanted || self.layout.junk() == *wanted {
            return Ok(());
        }
        if self.layout.clean() == *wanted {
            return self.layout.require_clean(operation);
        }
        Err(Error::Shape {
            operation,
            what: format!("the vector is packed as {:?}, wanted {wanted:?}", self.layout),
            remedy: "use vectors and products of one plan".to_owned(),
        })
    }

    /// The vector with every slot between its values cleared, times `factor`. One plaintext product, one level; the
    /// canonical scale stays canonical.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`] at level 0; errors of [`Evaluator::mul_values`].
    pub fn mask<E: Evaluator<Ciphertext = C>>(&self, evaluator: &E, factor: f64) -> Result<Self> {
        let ciphertext = evaluator.mul_values(&self.ciphertext, &self.layout.mask(factor))?;
        Ok(Self::new(ciphertext, self.layout.clean()))
    }

    /// This vector with its ciphertext replaced by the result of `change`, its layout kept; `change` must keep zeros
    /// zero when the layout is clean.
    ///
    /// # Errors
    /// Whatever `change` returns.
    pub fn map(&self, change: impl FnOnce(&C) -> Result<C>) -> Result<Self> {
        Ok(Self::new(change(&self.ciphertext)?, self.layout))
    }
}
