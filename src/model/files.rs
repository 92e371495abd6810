//! Reading files of models without believing them: bounded sizes, errors that name the file.

use std::io::Read;
use std::path::Path;

use crate::contract::{Error, Result};

/// Whole file, refused when it is longer than `limit` bytes.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::Format`] when it is longer.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |source| Error::Io { path: path.display().to_string(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    // One byte beyond the limit tells "too long" from "exactly the limit".
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(Error::Format {
            what: path.display().to_string(),
            why: format!("longer than {limit} bytes"),
            remedy: "fetch the file again, or check that it is the right one".to_owned(),
        });
    }
    Ok(bytes)
}

/// Maps a file read-only.
///
/// The file must not be changed while it is mapped; a model directory is not.
///
/// # Errors
/// [`Error::Io`] when it cannot be opened or mapped.
pub fn map_file(path: &Path) -> Result<memmap2::Mmap> {
    let io = |source| Error::Io { path: path.display().to_string(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    #[expect(unsafe_code, reason = "mapping a file is unsafe in memmap2; the only place of the crate")]
    // SAFETY: the map is read-only and private to the process; bytes are only ever read as plain numbers and
    // checked when used, so a concurrent writer could give wrong weights but no invalid value.
    unsafe { memmap2::Mmap::map(&file) }.map_err(io)
}
