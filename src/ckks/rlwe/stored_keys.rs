//! Evaluation keys at rest: the whole set of one client, as one container, streamed.
//!
//! The first section is the table of keys: for each its role, rotation step and level, three u64. Every further
//! section is one key: limbs and special limbs, the seed of its uniform halves, and the halves b_d as evaluations.
//! Keys stand in one order (relinearization, conjugation, rotations by step), so equal sets are equal bytes. Sizes
//! follow from the table and the parameters and must agree with what the container states; memory is taken key by key
//! as the data arrives.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use super::evaluation_keys::EvaluationKeys;
use super::galois::GaloisKey;
use super::key_switching_key::KeySwitchingKey;
use crate::ckks::Parameters;
use crate::ckks::container::{Kind, container_bytes};
use crate::ckks::container_stream::{ContainerReader, ContainerWriter};
use crate::ckks::fields::{FieldReader, extend_u64};
use crate::contract::{Error, KeyRequest, Level, Result};
use crate::measure::AtomicFile;
use crate::ring::{Automorphism, RnsPolynomial, conjugation_element, rotation_element};

const RELINEARIZATION: usize = 0;
const CONJUGATION: usize = 1;
const ROTATION: usize = 2;
/// Bytes of a table entry.
const ENTRY_BYTES: usize = 24;
/// Bytes before the halves of a key: two u64 and a seed.
const HEAD_BYTES: usize = 48;

/// A line of the table; ordered as keys are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    role: usize,
    step: usize,
    level: Level,
}

impl Entry {
    /// The keys of a request, in order.
    fn all(request: &KeyRequest) -> Vec<Self> {
        let single = |role, level: Option<Level>| level.map(|level| Self { role, step: 0, level });
        let rotations =
            request.rotations.iter().map(|(step, level)| Self { role: ROTATION, step: *step, level: *level });
        [single(RELINEARIZATION, request.relinearization), single(CONJUGATION, request.conjugation)]
            .into_iter()
            .flatten()
            .chain(rotations)
            .collect()
    }

    /// Reads an entry and checks it against the parameters and the entry before it.
    fn read(parameters: &Parameters, reader: &mut FieldReader<'_>, before: Option<&Self>) -> Result<Self> {
        let role = reader.count("role of a key", ROTATION)?;
        let steps = if role == ROTATION { parameters.slots() - 1 } else { 0 };
        let step = reader.count("rotation step", steps)?;
        let level = Level(reader.count("level of a key", parameters.chain().max_level().0)?);
        let entry = Self { role, step, level };
        let twice = before.is_some_and(|before| (before.role, before.step) >= (role, step));
        if twice || role == ROTATION && step == 0 {
            return Err(Error::Format {
                what: "evaluation keys".to_owned(),
                why: format!("key of role {role} and step {step} after {before:?}"),
                remedy: "transfer them again".to_owned(),
            });
        }
        Ok(entry)
    }

    /// Bytes of the key's section.
    fn section_bytes(&self, parameters: &Parameters) -> Result<u64> {
        let ring = parameters.ring();
        let limbs = parameters.limbs(self.level)?;
        let halves = KeySwitchingKey::predicted_bytes(ring.degree(), limbs, ring.special_limbs()) / 2;
        Ok(HEAD_BYTES as u64 + halves)
    }
}

impl EvaluationKeys {
    /// What these keys were generated for: steps and levels.
    #[must_use]
    pub fn contents(&self) -> KeyRequest {
        KeyRequest {
            rotations: self.rotations.iter().map(|(step, key)| (*step, key.level)).collect(),
            relinearization: self.relinearization.as_ref().map(|(_, level)| *level),
            conjugation: self.conjugation.as_ref().map(|key| key.level),
            bootstrapping: None,
        }
    }

    /// Bytes [`Self::write_to`] writes for the keys of `request`.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for levels outside the chain.
    pub fn stored_bytes(parameters: &Parameters, request: &KeyRequest) -> Result<u64> {
        let entries = Entry::all(request);
        let table = container_bytes(&vec![0; entries.len() + 1]) + ENTRY_BYTES * entries.len();
        entries.iter().try_fold(table as u64, |sum, entry| Ok(sum + entry.section_bytes(parameters)?))
    }

    /// Writes all keys as one container. Uniform halves are stored as their seeds.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_to(&self, parameters: &Parameters, writer: impl Write) -> Result<()> {
        self.write_named(parameters, writer, "a stream").map(drop)
    }

    fn write_named<W: Write>(&self, parameters: &Parameters, writer: W, name: &str) -> Result<W> {
        let entries = Entry::all(&self.contents());
        let mut lengths = vec![(ENTRY_BYTES * entries.len()) as u64];
        for entry in &entries {
            lengths.push(entry.section_bytes(parameters)?);
        }
        let fingerprint = *parameters.fingerprint();
        let mut container = ContainerWriter::new(writer, name, Kind::EvaluationKeys, fingerprint, &lengths)?;
        for entry in &entries {
            container.write_words(&[entry.role as u64, entry.step as u64, entry.level.0 as u64])?;
        }
        let single = self.relinearization.iter().map(|(key, _)| key);
        let conjugation = self.conjugation.iter().map(|key| &key.key);
        for key in single.chain(conjugation).chain(self.rotations.values().map(|key| &key.key)) {
            let mut head = Vec::with_capacity(HEAD_BYTES);
            extend_u64(&mut head, &[key.chain_limbs() as u64, key.special_limbs() as u64]);
            head.extend_from_slice(key.seed());
            container.write(&head)?;
            for (half, _) in key.digits() {
                container.write_words(half.words())?;
            }
        }
        container.finish()
    }

    /// Reads what [`Self::write_to`] wrote, to the end of `reader`.
    ///
    /// # Errors
    /// [`Error::Format`] for truncated, damaged or oversized data, [`Error::ParameterMismatch`], [`Error::Io`].
    pub fn read_from(parameters: &Parameters, reader: impl Read) -> Result<Self> {
        Self::read_named(parameters, reader, "a stream")
    }

    fn read_named(parameters: &Parameters, reader: impl Read, name: &str) -> Result<Self> {
        // The table, two single keys, and one rotation per nonzero step.
        let most = parameters.slots() + 2;
        let fingerprint = *parameters.fingerprint();
        let mut container = ContainerReader::open(reader, name, Kind::EvaluationKeys, fingerprint, most)?;
        let Some((table_bytes, lengths)) = container.lengths().split_first() else {
            return Err(container.bad("no table of keys".to_owned()));
        };
        let (table_bytes, lengths) = (*table_bytes, lengths.to_vec());
        if table_bytes != (ENTRY_BYTES * lengths.len()) as u64 {
            return Err(container.bad(format!("a table of {table_bytes} bytes for {} keys", lengths.len())));
        }
        let mut entries: Vec<Entry> = Vec::new();
        for length in lengths {
            let mut bytes = [0; ENTRY_BYTES];
            container.read(&mut bytes)?;
            let entry =
                Entry::read(parameters, &mut FieldReader::new("evaluation keys", &bytes), entries.last())?;
            let wanted = entry.section_bytes(parameters)?;
            if length != wanted {
                return Err(container.bad(format!("{length} bytes for {entry:?}, which takes {wanted}")));
            }
            entries.push(entry);
        }
        let mut keys = Self::default();
        for entry in entries {
            let key = read_key(parameters, &mut container, entry.level)?;
            keys.insert(parameters, entry, key);
        }
        container.finish()?;
        Ok(keys)
    }

    fn insert(&mut self, parameters: &Parameters, entry: Entry, key: KeySwitchingKey) {
        let log2_n = parameters.ring().log2_n();
        let galois = |key, element| GaloisKey {
            key,
            automorphism: Automorphism::new(element, log2_n),
            level: entry.level,
        };
        match entry.role {
            RELINEARIZATION => self.relinearization = Some((key, entry.level)),
            CONJUGATION => self.conjugation = Some(galois(key, conjugation_element(log2_n))),
            _ => {
                let element = rotation_element(entry.step, log2_n);
                self.rotations.insert(entry.step, Arc::new(galois(key, element)));
            }
        }
    }

    /// Writes all keys to a file, which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, parameters: &Parameters, path: &Path) -> Result<()> {
        let io = |source| Error::Io { path: path.display().to_string(), source };
        let file = AtomicFile::create(path).map_err(io)?;
        let file = self.write_named(parameters, file, &path.display().to_string())?;
        file.commit().map_err(io)
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Format`] for truncated, damaged or oversized data, [`Error::ParameterMismatch`] for keys of other
    /// parameters, [`Error::Io`] when the file cannot be read.
    pub fn load(parameters: &Parameters, path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = std::fs::File::open(path).map_err(|source| Error::Io { path: name.clone(), source })?;
        Self::read_named(parameters, BufReader::new(file), &name)
    }
}

/// The next key of the container, up to `level`.
fn read_key<R: Read>(
    parameters: &Parameters,
    container: &mut ContainerReader<R>,
    level: Level,
) -> Result<KeySwitchingKey> {
    let ring = parameters.ring();
    let (limbs, special) = (parameters.limbs(level)?, ring.special_limbs());
    let mut head = [0; HEAD_BYTES];
    container.read(&mut head)?;
    let mut head = FieldReader::new("evaluation keys", &head);
    let stated = (head.u64()?, head.u64()?);
    let seed = head.array()?;
    if stated != (limbs as u64, special as u64) {
        return Err(
            container.bad(format!("{stated:?} limbs at level {level}, which has ({limbs}, {special})"))
        );
    }
    let halves = (0..limbs.div_ceil(special.max(1)))
        .map(|_| {
            let words = container.words((limbs + special) * ring.degree())?;
            RnsPolynomial::from_words(ring, words, limbs, special)
        })
        .collect::<Result<Vec<_>>>()?;
    KeySwitchingKey::from_parts(parameters, halves, seed, limbs, special)
}
