//! Ciphertexts, unrelinearized products and plaintexts of the simulator: slot values in the clear, with level and
//! scale.

use std::sync::Arc;

use crate::contract::{CiphertextInfo, Complex64, Level, Scale};

/// What all objects of the simulator are: slot values with a level and a scale.
pub(super) trait SlotVector: CiphertextInfo {
    /// The slot values.
    fn slots(&self) -> &[Complex64];
}

macro_rules! slot_vector {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            pub(super) values: Arc<Vec<Complex64>>,
            pub(super) level: Level,
            pub(super) scale: Scale,
        }

        impl $name {
            pub(crate) fn new(values: Vec<Complex64>, level: Level, scale: Scale) -> Self {
                Self { values: Arc::new(values), level, scale }
            }

            /// The slot values.
            #[must_use]
            pub fn values(&self) -> &[Complex64] {
                &self.values
            }
        }

        impl SlotVector for $name {
            fn slots(&self) -> &[Complex64] {
                &self.values
            }
        }

        impl CiphertextInfo for $name {
            fn level(&self) -> Level {
                self.level
            }
            fn scale(&self) -> Scale {
                self.scale
            }
        }
    };
}

slot_vector!(
    /// A "ciphertext" of the simulator.
    ClearCiphertext
);
slot_vector!(
    /// An unrelinearized product of the simulator.
    ClearTensor
);
slot_vector!(
    /// A plaintext of the simulator.
    ClearPlaintext
);
