//! The one container in which parameters, keys, plaintexts and ciphertexts travel.
//!
//! Layout, little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic `CACHEMIR` |
//! | 2 | format version |
//! | 2 | kind of the payload ([`Kind`]) |
//! | 4 | number of sections n, at most [`MAXIMUM_SECTIONS`] |
//! | 32 | fingerprint of the parameters ([`Fingerprint`]) |
//! | 8·n | length of every section in bytes |
//! | … | the sections, one after another |
//! | 32 | SHA-256 of everything before |
//!
//! Reading borrows from the input and allocates for the section list only, whose length is capped: no length inside
//! untrusted data is ever allocated for. Checks go from cheap to dear, the checksum last. The checksum finds damage,
//! not forgery: whoever can change the payload can change the checksum. What a section means, and whether its numbers
//! are reduced modulo the right primes, is checked by whoever reads it with [`FieldReader`].

use sha2::{Digest, Sha256};

use super::fields::FieldReader;
use crate::contract::{Error, Result};

const MAGIC: &[u8; 8] = b"CACHEMIR";
/// Version written; older ones would be converted on reading, newer ones are refused.
pub const FORMAT_VERSION: u16 = 1;
/// Most sections a container may have.
pub const MAXIMUM_SECTIONS: usize = 1 << 16;
pub(super) const HEADER_BYTES: usize = 48;
const CHECKSUM_BYTES: usize = 32;

/// What a container holds. (3 and 8 are free: no version wrote them.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// Parameters of the scheme.
    Parameters = 1,
    /// A secret key. Stays with the client.
    SecretKey = 2,
    /// A set of evaluation keys: rotations, conjugation, relinearization.
    EvaluationKeys = 4,
    /// One key-switching key.
    SwitchingKey = 5,
    /// An encoded plaintext.
    Plaintext = 6,
    /// A ciphertext.
    Ciphertext = 7,
    /// A ciphertext of the simulator, which hides nothing.
    SimulatedCiphertext = 9,
    /// A ciphertext of OpenFHE: its residues, in our container.
    OpenFheCiphertext = 10,
    /// The switching keys around ModRaise, and what they bootstrap.
    BootstrappingKeys = 11,
    /// Encrypted tokens on their way to a server.
    EncryptedTokens = 12,
    /// What a server answers to them.
    EncryptedAnswer = 13,
}

impl Kind {
    const ALL: [Kind; 11] = [
        Kind::Parameters,
        Kind::SecretKey,
        Kind::EvaluationKeys,
        Kind::SwitchingKey,
        Kind::Plaintext,
        Kind::Ciphertext,
        Kind::SimulatedCiphertext,
        Kind::OpenFheCiphertext,
        Kind::BootstrappingKeys,
        Kind::EncryptedTokens,
        Kind::EncryptedAnswer,
    ];

    fn from_code(code: u16) -> Option<Kind> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == code)
    }

    /// The kind in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Parameters => "parameters",
            Kind::SecretKey => "secret key",
            Kind::EvaluationKeys => "evaluation keys",
            Kind::SwitchingKey => "switching key",
            Kind::Plaintext => "plaintext",
            Kind::Ciphertext => "ciphertext",
            Kind::SimulatedCiphertext => "simulated ciphertext",
            Kind::OpenFheCiphertext => "OpenFHE ciphertext",
            Kind::BootstrappingKeys => "bootstrapping keys",
            Kind::EncryptedTokens => "encrypted tokens",
            Kind::EncryptedAnswer => "encrypted answer",
        }
    }
}

/// SHA-256 of the bytes that define a set of parameters: two objects can be used together when theirs are equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Fingerprint of parameters given as canonical bytes (e.g. ring degree and primes, little-endian).
    #[must_use]
    pub fn of(parameters: &[u8]) -> Self {
        Self(Sha256::digest(parameters).into())
    }
}

impl std::fmt::Display for Fingerprint {
    /// The first eight bytes in hexadecimal, enough to tell sets apart in a message.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Exact number of bytes of a container with sections of these lengths.
#[must_use]
pub fn container_bytes(section_lengths: &[usize]) -> usize {
    HEADER_BYTES + 8 * section_lengths.len() + section_lengths.iter().sum::<usize>() + CHECKSUM_BYTES
}

/// Writes a container.
///
/// # Errors
/// [`Error::Format`] for more than [`MAXIMUM_SECTIONS`] sections.
pub fn write_container(kind: Kind, fingerprint: Fingerprint, sections: &[&[u8]]) -> Result<Vec<u8>> {
    let header = Header::new(kind, fingerprint, sections.len())?;
    let lengths: Vec<usize> = sections.iter().map(|section| section.len()).collect();
    let mut bytes = Vec::with_capacity(container_bytes(&lengths));
    bytes.extend_from_slice(&header.to_bytes());
    for length in lengths {
        bytes.extend_from_slice(&(length as u64).to_le_bytes());
    }
    for section in sections {
        bytes.extend_from_slice(section);
    }
    let checksum: [u8; CHECKSUM_BYTES] = Sha256::digest(&bytes).into();
    bytes.extend_from_slice(&checksum);
    Ok(bytes)
}

/// Reads a container of the given kind and fingerprint: its sections, borrowed from `bytes`.
///
/// # Errors
/// [`Error::Format`] for anything but the exact bytes [`write_container`] makes, [`Error::ParameterMismatch`] for
/// an intact container of other parameters.
pub fn read_container(bytes: &[u8], kind: Kind, fingerprint: Fingerprint) -> Result<Vec<&[u8]>> {
    let container = Container::parse(bytes)?;
    let sections = container.sections.len();
    Header { kind: container.kind, fingerprint: container.fingerprint, sections }
        .require(kind, fingerprint)?;
    Ok(container.sections)
}

/// The first [`HEADER_BYTES`] bytes of a container.
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) fingerprint: Fingerprint,
    /// Number of sections, at most [`MAXIMUM_SECTIONS`].
    pub(super) sections: usize,
}

impl Header {
    /// Header of a container to be written.
    ///
    /// # Errors
    /// [`Error::Format`] for more than [`MAXIMUM_SECTIONS`] sections.
    pub(super) fn new(kind: Kind, fingerprint: Fingerprint, sections: usize) -> Result<Self> {
        if sections > MAXIMUM_SECTIONS {
            return Err(too_many_sections(kind, sections));
        }
        Ok(Self { kind, fingerprint, sections })
    }

    /// The bytes; [`Self::new`] and [`Self::parse`] made sure that the number of sections fits.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.kind as u16).to_le_bytes());
        bytes.extend_from_slice(&(self.sections as u32).to_le_bytes());
        bytes.extend_from_slice(&self.fingerprint.0);
        bytes
    }

    /// Reads a header from the front of `reader`.
    ///
    /// # Errors
    /// [`Error::Format`] naming what is wrong.
    pub(super) fn parse(reader: &mut FieldReader<'_>) -> Result<Self> {
        if reader.bytes(8)? != MAGIC {
            return Err(damaged("it does not begin with the magic CACHEMIR".to_owned()));
        }
        let version = reader.u16()?;
        if version != FORMAT_VERSION {
            return Err(Error::Format {
                what: "container".to_owned(),
                why: format!("format version {version}, this program reads version {FORMAT_VERSION}"),
                remedy: "read it with the version of the program that wrote it".to_owned(),
            });
        }
        let code = reader.u16()?;
        let kind = Kind::from_code(code).ok_or_else(|| damaged(format!("unknown kind {code}")))?;
        let sections = reader.u32()? as usize;
        Self::new(kind, Fingerprint(reader.array()?), sections)
    }

    /// That the container holds an object of `kind` made under the parameters of `fingerprint`.
    ///
    /// # Errors
    /// [`Error::Format`] for another kind, [`Error::ParameterMismatch`] for other parameters.
    pub(super) fn require(&self, kind: Kind, fingerprint: Fingerprint) -> Result<()> {
        if self.kind != kind {
            return Err(bad(kind, format!("holds {}", self.kind.name())));
        }
        if self.fingerprint != fingerprint {
            return Err(Error::ParameterMismatch {
                operation: "read container",
                given: self.fingerprint.to_string(),
                wanted: fingerprint.to_string(),
            });
        }
        Ok(())
    }
}

/// A container whose structure and checksum have been verified.
#[derive(Debug)]
pub struct Container<'a> {
    /// What it says it holds.
    pub kind: Kind,
    /// Under which parameters.
    pub fingerprint: Fingerprint,
    /// The payload.
    pub sections: Vec<&'a [u8]>,
}

impl<'a> Container<'a> {
    /// Verifies structure and checksum of a container of any kind and parameters.
    ///
    /// Cost: one SHA-256 of the input. Allocates 16 bytes a section, at most [`MAXIMUM_SECTIONS`] of them.
    ///
    /// # Errors
    /// [`Error::Format`] naming what is wrong and where.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut header = FieldReader::new("container", bytes);
        let Header { kind, fingerprint, sections: count } = Header::parse(&mut header)?;
        // The table of lengths must itself be there before a list of that many sections is made.
        let mut lengths = FieldReader::new("container", header.bytes(8 * count)?);
        let payload_and_checksum = header.rest();
        let payload_bytes = payload_and_checksum
            .len()
            .checked_sub(CHECKSUM_BYTES)
            .ok_or_else(|| damaged(format!("{} bytes are too few", bytes.len())))?;
        let (payload, checksum) = payload_and_checksum.split_at(payload_bytes);
        let mut payload = FieldReader::new("container", payload);
        let mut sections = Vec::with_capacity(count);
        for _ in 0..count {
            let length = usize::try_from(lengths.u64()?).unwrap_or(usize::MAX);
            sections.push(payload.bytes(length)?);
        }
        payload.finish()?;
        let (covered, _) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        if Sha256::digest(covered).as_slice() != checksum {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        Ok(Self { kind, fingerprint, sections })
    }
}

fn bad(kind: Kind, why: String) -> Error {
    Error::Format {
        what: format!("{} container", kind.name()),
        why,
        remedy: "pass the bytes of the right kind of object".to_owned(),
    }
}

fn too_many_sections(kind: Kind, count: usize) -> Error {
    bad(kind, format!("{count} sections, at most {MAXIMUM_SECTIONS} are allowed"))
}

fn damaged(why: String) -> Error {
    Error::Format {
        what: "container".to_owned(),
        why,
        remedy: "the data is damaged or not of this program: transfer it again".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn parameters() -> Fingerprint {
        Fingerprint::of(b"some parameters")
    }

    fn sample() -> Vec<u8> {
        write_container(Kind::Ciphertext, parameters(), &[b"first", b"", b"third section"]).unwrap()
    }

    /// The sample with a changed header word and a checksum that fits again: what a forger sends.
    fn forged(offset: usize, value: &[u8]) -> Vec<u8> {
        let mut bytes = sample();
        bytes[offset..offset + value.len()].copy_from_slice(value);
        let covered = bytes.len() - CHECKSUM_BYTES;
        let checksum = Sha256::digest(&bytes[..covered]);
        bytes[covered..].copy_from_slice(&checksum);
        bytes
    }

    fn refused(bytes: &[u8]) -> String {
        match read_container(bytes, Kind::Ciphertext, parameters()) {
            Err(error) => error.to_string(),
            Ok(sections) => panic!("accepted with {} sections", sections.len()),
        }
    }

    #[test]
    fn the_length_is_predicted_exactly() {
        assert_eq!(sample().len(), container_bytes(&[5, 0, 13]));
    }

    #[test]
    fn another_kind_is_refused_by_name() {
        let text = read_container(&sample(), Kind::Plaintext, parameters()).unwrap_err().to_string();
        assert!(text.contains("plaintext") && text.contains("holds ciphertext"), "{text}");
    }

    #[test]
    fn other_parameters_are_refused_with_both_fingerprints() {
        let other = Fingerprint::of(b"other parameters");
        let error = read_container(&sample(), Kind::Ciphertext, other).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::ParameterMismatch { .. }), "{text}");
        assert!(text.contains(&other.to_string()) && text.contains(&parameters().to_string()), "{text}");
    }

    #[test]
    fn a_later_version_is_refused_by_number() {
        let text = refused(&forged(8, &7u16.to_le_bytes()));
        assert!(text.contains("version 7"), "{text}");
    }

    #[test]
    fn forged_section_counts_allocate_nothing() {
        let text = refused(&forged(12, &u32::MAX.to_le_bytes()));
        assert!(text.contains("4294967295 sections"), "{text}");
        // Within the cap, but the table would be longer than the data.
        refused(&forged(12, &60_000u32.to_le_bytes()));
    }

    #[test]
    fn forged_section_lengths_are_refused() {
        for length in [u64::MAX, u64::MAX / 2, 1 << 40, 19, 4, 6] {
            refused(&forged(HEADER_BYTES, &length.to_le_bytes()));
        }
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused() {
        let bytes = sample();
        for length in 0..bytes.len() {
            refused(&bytes[..length]);
        }
        for position in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position / 8] ^= 1 << (position % 8);
            refused(&damaged);
        }
        let mut longer = bytes.clone();
        longer.push(0);
        refused(&longer);
    }

    #[test]
    fn too_many_sections_are_not_written() {
        let sections = vec![&b""[..]; MAXIMUM_SECTIONS + 1];
        write_container(Kind::Plaintext, parameters(), &sections).unwrap_err();
        let sections = vec![&b""[..]; MAXIMUM_SECTIONS];
        let bytes = write_container(Kind::Plaintext, parameters(), &sections).unwrap();
        assert_eq!(read_container(&bytes, Kind::Plaintext, parameters()).unwrap().len(), MAXIMUM_SECTIONS);
    }

    proptest! {
        #[test]
        fn sections_survive_the_round_trip(sections in vec(vec(any::<u8>(), 0..50), 0..20), kind in proptest::sample::select(Kind::ALL.to_vec())) {
            let borrowed: Vec<&[u8]> = sections.iter().map(Vec::as_slice).collect();
            let bytes = write_container(kind, parameters(), &borrowed).unwrap();
            prop_assert_eq!(read_container(&bytes, kind, parameters()).unwrap(), borrowed);
        }

        #[test]
        fn random_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..300), head in any::<bool>()) {
            if head {
                let start = sample();
                let end = bytes.len().min(16);
                bytes[..end].copy_from_slice(&start[..end]);
            }
            prop_assert!(Container::parse(&bytes).is_err());
        }
    }
}
