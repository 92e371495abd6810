//! Language models: files, reference, calibration, encrypted decoder, generation.
