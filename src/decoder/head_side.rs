//! Which of the two parties applies the output head.

use crate::contract::Level;

/// Which side applies the output head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum HeadSide {
    /// The client, in the clear.
    #[default]
    Client,
    /// The server, on ciphertexts: one level more.
    Server,
}

impl HeadSide {
    /// Level at which the hidden state leaves the final norm: what the head needs.
    pub(crate) fn level(self) -> Level {
        match self {
            Self::Client => Level(0),
            Self::Server => Level(1),
        }
    }
}
