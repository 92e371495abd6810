//! The flag `--head`.

use crate::decoder::head::HeadSide;
use clap::ValueEnum;

/// Where the output head runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Head {
    /// On the client, in the clear: the server returns an encrypted hidden state.
    Client,
    /// On the server: it returns encrypted logits.
    Server,
}

impl Head {
    /// As the library knows it.
    pub fn side(self) -> HeadSide {
        match self {
            Self::Client => HeadSide::Client,
            Self::Server => HeadSide::Server,
        }
    }

    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}
