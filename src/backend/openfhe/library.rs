//! The one lock around OpenFHE, and its exceptions as our errors.
//!
//! OpenFHE keeps process-wide state that several threads may not touch at once: evaluation keys by tag, the tables of
//! every ring and modulus it has met, a pseudo-random generator. So every call goes through [`call`], which holds one
//! lock for the whole process. OpenFHE's own OpenMP threads, where the library has them, run inside that one call.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bridge::ffi;
use crate::contract::{Error, Result};

static LOCK: Mutex<()> = Mutex::new(());

fn lock() -> MutexGuard<'static, ()> {
    // The lock guards no Rust data, so a panic elsewhere leaves nothing half-written behind it.
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `action` under the lock. An exception becomes [`Error::Foreign`] with OpenFHE's text.
pub(super) fn call<T>(
    operation: &'static str,
    action: impl FnOnce() -> std::result::Result<T, cxx::Exception>,
) -> Result<T> {
    let _guard = lock();
    action().map_err(|exception| Error::Foreign {
        library: "OpenFHE",
        message: format!("{operation}: {}", exception.what()),
        remedy: "check the parameters against OpenFHE's limits".to_owned(),
    })
}

/// Version of the OpenFHE in use, e.g. `1.4.2`.
///
/// # Errors
/// [`Error::Foreign`].
pub fn version() -> Result<String> {
    call("version", ffi::library_version)
}

/// Number of secret keys of this process that have evaluation keys in OpenFHE's maps. Falls back to what it was when an
/// evaluator is dropped.
///
/// # Errors
/// [`Error::Foreign`].
pub fn stored_key_tags() -> Result<u64> {
    call("count keys", ffi::count_key_tags)
}

/// Number of contexts in OpenFHE's process-wide list; ours are not in it.
///
/// # Errors
/// [`Error::Foreign`].
pub fn listed_contexts() -> Result<u64> {
    call("count contexts", ffi::listed_contexts)
}
