//! Files that appear whole or not at all.

use std::io::{BufWriter, Error, Result, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file under construction beside its final place: readers see the old file or the finished new one, never a part of
/// it, and a process that dies leaves the old one.
///
/// What is written goes to a temporary file in the same folder, readable by its owner alone. [`AtomicFile::commit`] or
/// [`AtomicFile::commit_new`] gives it its name; dropped before that, it vanishes.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    writer: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// Starts the file that will stand at `path`.
    ///
    /// # Errors
    /// What the system says when no file can be made in the folder of `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let writer = BufWriter::new(NamedTempFile::new_in(folder)?);
        Ok(Self { path: path.to_owned(), writer })
    }

    /// Flushes to the disk and replaces what stands at the path.
    ///
    /// # Errors
    /// What the system says when the disk is full or the name cannot be taken; the old file then stays.
    pub fn commit(self) -> Result<()> {
        let (file, path) = self.synced()?;
        file.persist(path)?;
        Ok(())
    }

    /// Flushes to the disk and takes the path, which must be free.
    ///
    /// # Errors
    /// `AlreadyExists` when something stands at the path, which then stays; what the system says otherwise.
    pub fn commit_new(self) -> Result<()> {
        let (file, path) = self.synced()?;
        file.persist_noclobber(path)?;
        Ok(())
    }

    fn synced(self) -> Result<(NamedTempFile, PathBuf)> {
        let file = self.writer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        Ok((file, self.path))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush()
    }
}

/// Writes `bytes` as the whole content of `path`, by way of an [`AtomicFile`].
///
/// # Errors
/// [`crate::contract::Error::Io`] naming `path`; the old file then stays.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> crate::contract::Result<()> {
    let write = || -> Result<()> {
        let mut file = AtomicFile::create(path)?;
        file.write_all(bytes)?;
        file.commit()
    };
    write().map_err(|source: Error| crate::contract::Error::Io { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        write_atomically(&path, b"old").unwrap();

        let mut unfinished = AtomicFile::create(&path).unwrap();
        unfinished.write_all(b"half").unwrap();
        unfinished.flush().unwrap();
        drop(unfinished);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left behind");

        write_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_file_that_must_be_new_replaces_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let commit = |bytes: &[u8]| {
            let mut file = AtomicFile::create(&path)?;
            file.write_all(bytes)?;
            file.commit_new()
        };
        commit(b"first").unwrap();
        assert_eq!(commit(b"second").unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/report.json");
        let error = write_atomically(&path, b"").unwrap_err().to_string();
        assert!(error.contains("missing/report.json"), "{error}");
    }
}
