//! Levels and scales.

use std::fmt;

/// Number of rescales a ciphertext still survives. Level 0 is the last: bootstrap before the next product.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Level(pub usize);

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The factor Δ by which slot values are multiplied inside a plaintext or ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Scale(pub f64);

impl Scale {
    /// Largest relative difference between scales that still count as equal. Scales are computed in f64 along
    /// different paths, so they differ by rounding only; an error of 2^-40 of a value is far below any noise.
    pub const RELATIVE_TOLERANCE: f64 = 1.0 / (1u64 << 40) as f64;

    /// Whether two scales are equal up to [`Scale::RELATIVE_TOLERANCE`].
    #[must_use]
    pub fn agrees_with(self, other: Scale) -> bool {
        (self.0 - other.0).abs() <= Self::RELATIVE_TOLERANCE * self.0.abs().max(other.0.abs())
    }

    /// log2 of the scale.
    #[must_use]
    pub fn log2(self) -> f64 {
        self.0.log2()
    }
}

impl std::ops::Mul for Scale {
    type Output = Scale;
    fn mul(self, other: Scale) -> Scale {
        Scale(self.0 * other.0)
    }
}

impl std::ops::Div for Scale {
    type Output = Scale;
    fn div(self, other: Scale) -> Scale {
        Scale(self.0 / other.0)
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2^{:.3}", self.log2())
    }
}
