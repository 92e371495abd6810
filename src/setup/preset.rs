//! Parameter presets by name, once for the whole crate.

use crate::backend::native::{n16_levelled, test_levelled};
use crate::bootstrapping::BootstrapParameters;
use crate::ckks::ParametersLiteral;
use crate::contract::{Error, Result};

/// Levels between two bootstraps that the decoder needs at most: what both presets leave.
const LEVELS: usize = 13;
/// log2 of the ring degree of [`Preset::Test`].
const TEST_LOG2_N: u32 = 12;
/// Levels of the test ring without bootstrapping.
const TEST_LEVELS: usize = 6;

/// A set of parameters with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// N = 2^12, 2048 slots, **no security**: for tests, examples and first steps. A token of the bundled model takes
    /// a second or two.
    Test,
    /// N = 2^16, 32768 slots, 128-bit classical security for every key under its own secret.
    N16,
}

impl Preset {
    /// All presets, in the order of their rings.
    pub const ALL: [Self; 2] = [Self::Test, Self::N16];

    /// The preset called `name`: `test` or `n16`.
    ///
    /// # Errors
    /// [`Error::Parameters`] for any other name, with those there are.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| Error::Parameters {
            what: format!("there is no preset `{name}`"),
            remedy: format!("use {}", Self::ALL.map(Self::name).join(" or ")),
        })
    }

    /// Name of the preset, as reports and plans have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::N16 => "n16",
        }
    }

    /// Complex slots of a ciphertext: half the ring degree.
    #[must_use]
    pub fn slots(self) -> usize {
        match self {
            Self::Test => 1 << (TEST_LOG2_N - 1),
            Self::N16 => 1 << 15,
        }
    }

    /// Whether its parameters claim 128-bit security.
    #[must_use]
    pub fn is_secure(self) -> bool {
        match self {
            Self::Test => false,
            Self::N16 => true,
        }
    }

    /// The native backend's parameters with bootstrapping: what generation runs on.
    #[must_use]
    pub fn bootstrapping(self) -> BootstrapParameters {
        match self {
            Self::Test => BootstrapParameters::test(TEST_LOG2_N, LEVELS),
            Self::N16 => BootstrapParameters::n16(),
        }
    }

    /// The native backend's parameters without bootstrapping: to measure single operations.
    #[must_use]
    pub fn levelled(self) -> ParametersLiteral {
        match self {
            Self::Test => test_levelled(TEST_LOG2_N, TEST_LEVELS),
            Self::N16 => n16_levelled(),
        }
    }
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::from_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_found_by_name_and_say_what_they_are() {
        for preset in Preset::ALL {
            assert_eq!(Preset::from_name(preset.name()).unwrap(), preset);
            let parameters = preset.bootstrapping();
            assert_eq!(1usize << (parameters.chain.log2_n - 1), preset.slots());
            assert_eq!(parameters.chain.security == crate::ckks::Security::Classical128, preset.is_secure());
            assert_eq!(parameters.output_level() - parameters.minimum_input_level(), LEVELS);
        }
        let error = "N15".parse::<Preset>().unwrap_err().to_string();
        assert!(error.contains("N15") && error.contains("test or n16"), "{error}");
    }
}
