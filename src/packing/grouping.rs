//! How the cache keeps heads: the choice of a packing for attention.

use super::HeadForm;

/// How the cache keeps the heads of grouped queries, and the dimensions of a head.
///
/// With G tokens per K ciphertext of duplicated real heads and g query heads per KV head, the others hold g·G
/// (compact), 2·G (complex) or 2·g·G tokens (both), give or take the padding of heads. Each of the three halves the
/// ciphertext products with a cache, compact heads where g is even: two query heads, or two dimensions of one, share a
/// product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Grouping {
    /// Every query head has its own copy of its KV head (the paper).
    Duplicated,
    /// KV heads once; query heads in complex pairs.
    Compact,
    /// Every query head has its own copy of its KV head, in the complex form: RoPE is a complex product, q and k share
    /// slots as z_q and conj(z_k), and V and the output of attention are complex, too.
    Complex,
    /// KV heads once, in the complex form; one query vector per query head of a group.
    CompactComplex,
}

impl Grouping {
    /// The form of the stored heads.
    #[must_use]
    pub fn form(self) -> HeadForm {
        match self {
            Self::Duplicated | Self::Compact => HeadForm::Real,
            Self::Complex | Self::CompactComplex => HeadForm::Complex,
        }
    }

    /// Whether KV heads are stored once.
    #[must_use]
    pub fn is_compact(self) -> bool {
        matches!(self, Self::Compact | Self::CompactComplex)
    }
}
