//! The frame of every JSON report: command, version, commit, machine, backend, preset, and whether anything was secure.

use std::path::Path;

use serde::Serialize;

use crate::contract::{Error, Result};

use super::files::write_atomically;
use super::machine::Machine;

/// The commit of this repository that the program was built from, as the build script finds it: twelve digits, with
/// `-dirty` when the sources differed from it, with `-packaged` for a published package, which carries its commit; a
/// package without one gives its version and `-packaged`.
pub const COMMIT: &str = env!("CACHEMIR_COMMIT");

/// Presets whose every key keeps to the limit of 128-bit security. Only [`SECURE_BACKENDS`] claim it.
pub const SECURE_PRESETS: [&str; 4] = ["n16", "n16-levelled", "n16-few", "n16-few-deep"];

/// Backends that encrypt and check the limits of their keys. OpenFHE's bootstrapping chain is longer and its special
/// primes have 60 bits: no security is claimed for it under any preset. `clear`, and everything in f64, encrypts
/// nothing.
const SECURE_BACKENDS: [&str; 1] = ["native"];

/// Whether nothing, or nothing secure, is encrypted by `backend` under `preset`. Names that are not known as secure
/// are not.
#[must_use]
pub fn is_insecure(backend: &str, preset: &str) -> bool {
    !(SECURE_BACKENDS.contains(&backend) && SECURE_PRESETS.contains(&preset))
}

/// One JSON object: the keys that all reports share, then those of the command (`body` must serialize to an object).
#[derive(Debug, Serialize)]
pub struct Report<T: Serialize> {
    command: &'static str,
    version: &'static str,
    commit: &'static str,
    machine: Machine,
    backend: String,
    preset: String,
    insecure: bool,
    #[serde(flatten)]
    body: T,
}

impl<T: Serialize> Report<T> {
    /// Report of `command` on `backend` under `preset`, made on this machine. `insecure` follows from the two names
    /// ([`is_insecure`]).
    pub fn new(command: &'static str, backend: &str, preset: &str, body: T) -> Self {
        Self {
            command,
            version: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
            machine: Machine::detect(),
            backend: backend.to_owned(),
            preset: preset.to_owned(),
            insecure: is_insecure(backend, preset),
            body,
        }
    }

    /// The command's own part.
    pub fn body(&self) -> &T {
        &self.body
    }

    /// Whether nothing, or nothing secure, was encrypted.
    pub fn insecure(&self) -> bool {
        self.insecure
    }

    /// Program, scheme and machine in one line.
    pub fn origin(&self) -> String {
        format!(
            "cachemir {} ({}), {} with preset {}, on {} cores with {}",
            self.version,
            self.commit,
            self.backend,
            self.preset,
            self.machine.cores,
            self.machine.simd_text()
        )
    }

    /// Writes the report as JSON: whole, or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] naming `path`; [`Error::Internal`] for a body that is no JSON object.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::Internal(format!("report of {}: {error}", self.command)))?;
        write_atomically(path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Body {
        seconds: f64,
    }

    #[test]
    fn a_report_has_the_shared_keys_and_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        Report::new("bench ops", "native", "n16-levelled", Body { seconds: 0.5 }).write(&path).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((json["command"].as_str(), json["seconds"].as_f64()), (Some("bench ops"), Some(0.5)));
        assert_eq!(json["insecure"], false);
        assert!(json["machine"]["cores"].as_u64() > Some(0) && json["machine"]["simd"].is_array());
        let commit = json["commit"].as_str().unwrap();
        let digits = commit.split('-').next().unwrap();
        let is_commit = digits.len() >= 12 && digits.chars().all(|digit| digit.is_ascii_hexdigit());
        assert!(is_commit || commit == format!("{}-packaged", env!("CARGO_PKG_VERSION")), "{commit}");
    }

    #[test]
    fn a_report_without_encryption_or_security_is_insecure() {
        for (backend, preset) in [
            ("clear", "n16"),
            ("twin", "n16"),
            ("native", "test"),
            ("native", "bare-ring"),
            ("openfhe", "n16"),
            ("native,openfhe", "n16"),
            ("none", "none"),
        ] {
            assert!(is_insecure(backend, preset), "{backend} {preset}");
        }
        assert!(!is_insecure("native", "n16") && !is_insecure("native", "n16-levelled"));
    }
}
