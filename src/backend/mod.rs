//! The three backends behind the [`contract`](crate::contract), and the conformance suite each of them passes.

pub mod clear;
#[cfg(test)]
pub(crate) mod conformance;
pub mod native;
#[cfg(feature = "openfhe")]
pub mod openfhe;
#[cfg(doctest)]
mod trust;
