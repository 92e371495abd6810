//! Spellings of the library's choices on the command line, and the model that a verb works on.

use std::path::Path;

use crate::decoder::head_side::HeadSide;
use crate::setup::{Backend, Model, Preset, ProgressOf};
use clap::ValueEnum;
use clap::builder::PossibleValue;

impl ValueEnum for Preset {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(match self {
            Self::Test => "A small ring without any security, for tests",
            Self::N16 => "N = 2^16, 128-bit security",
        }))
    }
}

impl ValueEnum for Backend {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(match self {
            Self::Clear => "The simulator: slots in the clear, nothing is encrypted",
            Self::Native => "Our own CKKS",
            Self::Openfhe => "OpenFHE's CKKS",
        }))
    }
}

impl ValueEnum for HeadSide {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Client, Self::Server]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(head_name(*self)).help(match self {
            Self::Client => "On the client, in the clear: the server returns an encrypted hidden state",
            Self::Server => "On the server: it returns encrypted logits",
        }))
    }
}

/// The side as reports name it.
pub fn head_name(side: HeadSide) -> &'static str {
    match side {
        HeadSide::Client => "client",
        HeadSide::Server => "server",
    }
}

/// The model in `directory`, or the bundled one without it.
pub fn open_model(directory: Option<&Path>, progress: &mut ProgressOf<'_>) -> anyhow::Result<Model> {
    Ok(match directory {
        Some(directory) => Model::open_with(directory, progress)?,
        None => Model::bundled_with(progress)?,
    })
}
