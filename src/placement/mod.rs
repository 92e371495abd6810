//! Bootstrapping placement: where to bootstrap and to which level.
