//! What a model and a preset make ready for both parties, and the parties themselves.
//!
//! [`Model`] opens a directory, [`Setup`] fits its functions to a [`Preset`], places the bootstraps and counts the
//! keys; client and server each make their half from the same set-up.

mod backend;
pub mod costs;
mod memory;
mod model;
mod options;
pub mod parameter_sets;
mod parties;
mod preset;
mod scheme;
pub mod security;
mod stored_secret;

pub use backend::Backend;
pub use memory::MemoryNeeded;
pub use model::{Model, ProgressOf, stored_or_default_calibration, unpack_bundled_model};
pub use options::{Setup, SetupOptions};
pub use preset::Preset;
pub use scheme::{Scheme, SimulatedNoise};
pub use stored_secret::StoredSecret;
