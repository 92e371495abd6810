//! Coefficients of polynomials on ciphertexts: one number for all slots, or one number per slot.

use std::sync::Arc;

use crate::contract::Complex64;

/// A coefficient: the same number in every slot (a constant product, no NTT) or a vector of slot values (a plaintext
/// product, encoded when it is used).
#[derive(Clone, Debug, PartialEq)]
pub enum Coefficient {
    /// One number for all slots.
    Same(Complex64),
    /// One number per slot, at most S of them; the rest are zero.
    Slots(Arc<Vec<Complex64>>),
}

impl Coefficient {
    /// The coefficient 0.
    #[must_use]
    pub fn zero() -> Self {
        Coefficient::Same(Complex64::ZERO)
    }

    /// Whether every entry is exactly 0.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        match self {
            Coefficient::Same(c) => *c == Complex64::ZERO,
            Coefficient::Slots(values) => values.iter().all(|c| *c == Complex64::ZERO),
        }
    }

    /// self · `factor`.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        match self {
            Coefficient::Same(c) => Coefficient::Same(c * factor),
            Coefficient::Slots(values) => {
                Coefficient::Slots(Arc::new(values.iter().map(|c| c * factor).collect()))
            }
        }
    }

    /// self + `other`; a number meets a vector in each of the vector's entries.
    #[must_use]
    pub fn plus(&self, other: &Coefficient) -> Self {
        match (self, other) {
            (Coefficient::Same(a), Coefficient::Same(b)) => Coefficient::Same(a + b),
            (Coefficient::Slots(values), Coefficient::Same(c))
            | (Coefficient::Same(c), Coefficient::Slots(values)) => {
                Coefficient::Slots(Arc::new(values.iter().map(|v| v + c).collect()))
            }
            (Coefficient::Slots(a), Coefficient::Slots(b)) => {
                let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
                let mut sum = long.as_ref().clone();
                for (x, y) in sum.iter_mut().zip(short.iter()) {
                    *x += y;
                }
                Coefficient::Slots(Arc::new(sum))
            }
        }
    }
}
