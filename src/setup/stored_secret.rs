//! The client's secret key in a file of its own, readable by its owner alone.

use std::io::Write;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Setup;
use crate::backend::native::NativeClient;
use crate::contract::{Error, Result};
use crate::generation::checkpoint::{CHECKPOINT_FILE, key_fingerprint};
use crate::measure::AtomicFile;
use crate::model::files::read_bounded;

/// The client's secret key beside a checkpoint.
const SECRET_KEY_FILE: &str = "secret.key";
/// Largest file that is read as a secret key: N = 2^16 takes 64 KiB to 512 KiB.
const MAX_SECRET_KEY_BYTES: u64 = 1 << 24;

/// A secret key as it lies in its file; wiped when dropped.
pub struct StoredSecret {
    secret: Zeroizing<Vec<u8>>,
    path: PathBuf,
}

impl StoredSecret {
    /// The secret key in `directory`. Where there is none a fresh one for the native parameters of `setup` is made
    /// and written, whole or not at all, readable by its owner alone; not beside a checkpoint, whose caches nothing
    /// else opens.
    ///
    /// # Errors
    /// [`Error::Plan`] for a checkpoint without its key; [`Error::Io`]; [`Error::Unsupported`] for a set-up of
    /// another backend.
    pub fn open_or_create(setup: &Setup, directory: &Path) -> Result<Self> {
        let path = directory.join(SECRET_KEY_FILE);
        if path.exists() {
            let secret = Zeroizing::new(read_bounded(&path, MAX_SECRET_KEY_BYTES)?);
            return Ok(Self { secret, path });
        }
        if directory.join(CHECKPOINT_FILE).exists() {
            return Err(Error::Plan {
                why: format!("{} has a checkpoint and no {SECRET_KEY_FILE}", directory.display()),
                remedy: "put the key back, or keep this run in another directory".to_owned(),
            });
        }
        let parameters = setup.scheme().native_parameters()?.clone();
        let secret = NativeClient::with_bootstrapping(parameters, None)?.secret_to_bytes()?;
        let io = |source| Error::Io { path: path.display().to_string(), source };
        std::fs::create_dir_all(directory).map_err(io)?;
        // A temporary file is private to its owner from the start; it becomes the key in one step.
        let mut file = AtomicFile::create(&path).map_err(io)?;
        file.write_all(&secret).map_err(io)?;
        file.commit_new().map_err(io)?;
        Ok(Self { secret, path })
    }

    /// The key in its container.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.secret
    }

    /// File of the stored secret.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name for the key that says nothing else about it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        key_fingerprint(&self.secret)
    }
}
