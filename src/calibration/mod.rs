//! From texts to the ranges of every non-linear function, measured with the exact model. Nothing is fitted here but
//! the shifts of the scores: [`crate::decoder::functions`] fits the functions, once, to these ranges.
//!
//! [`calibrate`] is the way through: record what the exact model meets on texts ([`record`]), turn it into ranges with
//! margins and score shifts ([`measure`], [`shift`]), widen those that held-out texts leave ([`widen`]), and keep them
//! beside the model ([`table`]).

pub mod calibrate;
mod checks;
pub mod measure;
pub mod ranges;
pub mod record;
pub mod shift;
pub mod table;
pub mod widen;
