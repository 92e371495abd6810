//! What a model and a preset make ready for both parties.

pub mod calibrate;
pub mod parameter_sets;
