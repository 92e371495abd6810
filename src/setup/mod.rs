//! What a model and a preset make ready for both parties.
