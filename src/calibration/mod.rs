//! From texts to the ranges of every non-linear function, measured with the exact model.

pub(crate) mod checks;
pub mod fit;
pub mod ranges;
pub mod record;
pub mod shift;
pub mod table;
