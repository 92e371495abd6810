//! Backends by name.

use crate::contract::{Error, Result};

/// Which implementation of [`crate::contract`] computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The simulator: slots as complex f64, with levels and scales enforced. **Encrypts nothing.**
    Clear,
    /// Our own CKKS, [`crate::backend::native`].
    Native,
    /// OpenFHE's CKKS, where this crate was built with its feature `openfhe`.
    Openfhe,
}

impl Backend {
    /// All backends, whether this crate was built with them or not.
    pub const ALL: [Self; 3] = [Self::Clear, Self::Native, Self::Openfhe];

    /// The backend called `name`: `clear`, `native` or `openfhe`.
    ///
    /// # Errors
    /// [`Error::Parameters`] for any other name, with those there are.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|backend| backend.name() == name).ok_or_else(|| Error::Parameters {
            what: format!("there is no backend `{name}`"),
            remedy: format!("use {}", Self::ALL.map(Self::name).join(", ")),
        })
    }

    /// Name of the backend, as reports, plans and [`crate::contract::Evaluator::name`] have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Native => "native",
            Self::Openfhe => "openfhe",
        }
    }

    /// Whether the backend encrypts anything at all.
    #[must_use]
    pub fn encrypts(self) -> bool {
        self != Self::Clear
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::from_name(name)
    }
}
