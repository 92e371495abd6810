//! The container of [`super::container`], written and read as a stream, for objects too large to hold twice.
//!
//! The format is the same, byte for byte. Lengths of all sections are stated before the first is written; the
//! checksum runs along. A reader has verified the header when it opens and the checksum only when it finishes: what
//! was read in between must not be used before.

use std::io::{ErrorKind, Read, Write};

use sha2::{Digest, Sha256};

use super::container::{Fingerprint, HEADER_BYTES, Header, Kind};
use super::fields::FieldReader;
use crate::contract::{Error, Result};

/// Words read or written at once.
const CHUNK: usize = 8192;

/// Writes one container section by section.
pub(crate) struct ContainerWriter<W> {
    writer: W,
    name: String,
    checksum: Sha256,
    /// Bytes of the sections still to be written.
    left: u64,
}

impl<W: Write> ContainerWriter<W> {
    /// Writes the header. `name` names the destination in errors.
    ///
    /// # Errors
    /// [`Error::Format`] for too many sections, [`Error::Io`].
    pub(crate) fn new(
        writer: W,
        name: &str,
        kind: Kind,
        fingerprint: Fingerprint,
        lengths: &[u64],
    ) -> Result<Self> {
        let header = Header::new(kind, fingerprint, lengths.len())?;
        let left = lengths.iter().sum();
        let mut this = Self { writer, name: name.to_owned(), checksum: Sha256::new(), left };
        this.put(&header.to_bytes())?;
        for length in lengths {
            this.put(&length.to_le_bytes())?;
        }
        Ok(this)
    }

    /// The next bytes of the sections.
    ///
    /// # Errors
    /// [`Error::Internal`] for more bytes than were announced, [`Error::Io`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| Error::Internal("more bytes than the container announced".to_owned()))?;
        self.put(bytes)
    }

    /// The next words of the sections, little-endian.
    ///
    /// # Errors
    /// [`Error::Internal`] for more bytes than were announced, [`Error::Io`] when writing fails.
    pub(crate) fn write_words(&mut self, words: &[u64]) -> Result<()> {
        let mut bytes = Vec::with_capacity(8 * CHUNK.min(words.len()));
        for chunk in words.chunks(CHUNK) {
            bytes.clear();
            super::fields::extend_u64(&mut bytes, chunk);
            self.write(&bytes)?;
        }
        Ok(())
    }

    /// Writes the checksum and returns the writer, flushed.
    ///
    /// # Errors
    /// [`Error::Internal`] for fewer bytes than were announced, [`Error::Io`].
    pub(crate) fn finish(mut self) -> Result<W> {
        if self.left != 0 {
            return Err(Error::Internal(format!("{} announced bytes were not written", self.left)));
        }
        let checksum = self.checksum.clone().finalize();
        self.put(&checksum)?;
        self.writer.flush().map_err(|source| Error::Io { path: self.name, source })?;
        Ok(self.writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.checksum.update(bytes);
        self.writer.write_all(bytes).map_err(|source| Error::Io { path: self.name.clone(), source })
    }
}

/// Reads one container section by section.
pub(crate) struct ContainerReader<R> {
    reader: R,
    name: String,
    what: &'static str,
    checksum: Sha256,
    lengths: Vec<u64>,
    offset: u64,
}

impl<R: Read> ContainerReader<R> {
    /// Reads and verifies the header: magic, version, kind, parameters, and at most `maximum_sections` sections, whose
    /// lengths (8 bytes each) are all that is allocated. `name` names the source in errors.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::ParameterMismatch`], [`Error::Io`].
    pub(crate) fn open(
        reader: R,
        name: &str,
        kind: Kind,
        fingerprint: Fingerprint,
        maximum_sections: usize,
    ) -> Result<Self> {
        let mut this = Self {
            reader,
            name: name.to_owned(),
            what: kind.name(),
            checksum: Sha256::new(),
            lengths: Vec::new(),
            offset: 0,
        };
        let mut header = [0; HEADER_BYTES];
        this.read(&mut header)?;
        let header = Header::parse(&mut FieldReader::new("container", &header))?;
        header.require(kind, fingerprint)?;
        if header.sections > maximum_sections {
            return Err(
                this.bad(format!("{} sections, these parameters allow {maximum_sections}", header.sections))
            );
        }
        for _ in 0..header.sections {
            let mut length = [0; 8];
            this.read(&mut length)?;
            this.lengths.push(u64::from_le_bytes(length));
        }
        Ok(this)
    }

    /// Lengths of the sections, as stated: not to be allocated for.
    pub(crate) fn lengths(&self) -> &[u64] {
        &self.lengths
    }

    /// The next bytes of the sections.
    ///
    /// # Errors
    /// [`Error::Format`] when the data ends before, [`Error::Io`].
    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.reader.read_exact(bytes).map_err(|source| self.failure(source, bytes.len()))?;
        self.checksum.update(&*bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// The next `count` words of the sections; memory is taken as they arrive.
    ///
    /// # Errors
    /// [`Error::Format`] when the data ends before, [`Error::Io`] when reading fails.
    pub(crate) fn words(&mut self, count: usize) -> Result<Vec<u64>> {
        let mut words = Vec::new();
        let mut bytes = vec![0; 8 * CHUNK.min(count)];
        while words.len() < count {
            let now = (count - words.len()).min(CHUNK);
            let Some(bytes) = bytes.get_mut(..8 * now) else {
                return Err(Error::Internal(format!("a chunk of {now} words")));
            };
            self.read(bytes)?;
            words.extend(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)));
        }
        Ok(words)
    }

    /// Verifies the checksum. The reader then stands behind the container.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::Io`].
    pub(crate) fn finish_container(&mut self) -> Result<()> {
        let wanted = std::mem::take(&mut self.checksum).finalize();
        let mut checksum = [0; 32];
        self.read(&mut checksum)?;
        if wanted.as_slice() != checksum {
            return Err(self.bad("its checksum does not match".to_owned()));
        }
        Ok(())
    }

    /// Verifies the checksum, and that nothing follows.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::Io`].
    pub(crate) fn finish(mut self) -> Result<()> {
        self.finish_container()?;
        let mut more = [0];
        match self.reader.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.bad(format!("more bytes follow after {}", self.offset))),
            Err(source) => Err(self.failure(source, 1)),
        }
    }

    /// An [`Error::Format`] about this container.
    pub(crate) fn bad(&self, why: String) -> Error {
        Error::Format {
            what: format!("{} of {}", self.what, self.name),
            why,
            remedy: "transfer it again".to_owned(),
        }
    }

    fn failure(&self, source: std::io::Error, wanted: usize) -> Error {
        if source.kind() == ErrorKind::UnexpectedEof {
            return self.bad(format!("it ends where {wanted} bytes are wanted at offset {}", self.offset));
        }
        Error::Io { path: self.name.clone(), source }
    }
}
