//! Bootstrapping of the native backend.
