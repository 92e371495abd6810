//! The frame of every `--json` report: command, version, commit, machine, backend, preset.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::machine::Machine;

/// One JSON object: the common keys, then the command's own (`body` must serialize to an object).
#[derive(Serialize)]
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
    /// Report of `command` on `backend` under `preset`; `insecure` when that preset claims no security.
    pub fn new(command: &'static str, backend: &str, preset: &str, insecure: bool, body: T) -> Self {
        Self {
            command,
            version: env!("CARGO_PKG_VERSION"),
            // Of the sources this program was built from: the build script records it.
            commit: env!("CACHEMIR_COMMIT"),
            machine: Machine::detect(),
            backend: backend.to_owned(),
            preset: preset.to_owned(),
            insecure,
            body,
        }
    }

    /// The command's own part.
    pub fn body(&self) -> &T {
        &self.body
    }

    /// Whether the parameters claim no security.
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
            self.machine.simd.join(", ")
        )
    }

    /// Writes the report atomically.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        write_atomically(path, text.as_bytes())
    }
}

/// Writes `bytes` to a temporary file beside `path` and renames it: readers see the old file or the new one.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
