//! The keys of a bootstrapper at rest and on the wire, as one container.
//!
//! The first section lists the slot counts that are bootstrapped; without any it is all there is. Then come the
//! switching key to the sparse secret (limbs, special limbs, seed of its uniform halves, the halves b_d) and the one
//! back (seed, b). Sizes follow from the parameters and must agree with what the container states; memory is taken as
//! the data arrives.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Arc;

use super::mod_raise::SPECIAL_LIMBS;
use super::{BootstrapParameters, Bootstrapper, ModRaise};
use crate::ckks::container::{Kind, container_bytes};
use crate::ckks::fields::{FieldReader, extend_u64};
use crate::ckks::{ContainerReader, ContainerWriter, KeySwitchingKey, Parameters};
use crate::contract::{Error, Level, Result};
use crate::ring::RnsPolynomial;

const WHAT: &str = "bootstrapping keys";
/// Bytes of a seed.
const SEED_BYTES: usize = 32;
/// Bytes before the halves of the key to the sparse secret: two u64 and a seed.
const HEAD_BYTES: usize = 16 + SEED_BYTES;
/// Most slot counts: the powers of two.
const MAX_SLOT_COUNTS: usize = 64;

/// Words of the halves b of both keys.
struct Words {
    to_sparse: usize,
    to_dense: usize,
}

impl Words {
    fn of(ring: &Parameters, parameters: &BootstrapParameters) -> Result<Self> {
        let (degree, limbs) = (ring.ring().degree(), ring.limbs(Level(0))?);
        let special = parameters.ephemeral_special_primes;
        let bytes = KeySwitchingKey::predicted_bytes(degree, limbs, special) / 2;
        let to_sparse = usize::try_from(bytes / 8).map_err(|source| Error::Internal(source.to_string()))?;
        Ok(Self { to_sparse, to_dense: degree * (ring.ring().chain_limbs() + SPECIAL_LIMBS) })
    }
}

impl Bootstrapper {
    /// Writes the keys of `bootstrapper`, or that there are none, as one container. Uniform halves are stored as
    /// their seeds: half the bytes that [`ModRaise::bytes`] says.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_to(bootstrapper: Option<&Self>, ring: &Parameters, writer: impl Write) -> Result<()> {
        let slots: Vec<u64> = bootstrapper.iter().flat_map(|keys| keys.slots()).map(|n| n as u64).collect();
        let lengths = lengths(bootstrapper);
        let fingerprint = *ring.fingerprint();
        let mut container =
            ContainerWriter::new(writer, "a stream", Kind::BootstrappingKeys, fingerprint, &lengths)?;
        container.write_words(&[slots.len() as u64])?;
        container.write_words(&slots)?;
        if let Some(keys) = bootstrapper {
            let ModRaise { to_sparse, to_dense, seed, .. } = keys.mod_raise();
            let mut head = Vec::with_capacity(HEAD_BYTES);
            extend_u64(&mut head, &[to_sparse.chain_limbs() as u64, to_sparse.special_limbs() as u64]);
            head.extend_from_slice(to_sparse.seed());
            container.write(&head)?;
            for (half, _) in to_sparse.digits() {
                container.write_words(half.words())?;
            }
            container.write(seed)?;
            container.write_words(to_dense.0.words())?;
        }
        container.finish().map(drop)
    }

    /// Bytes that [`Bootstrapper::write_to`] writes.
    #[must_use]
    pub fn stored_bytes(bootstrapper: Option<&Self>) -> u64 {
        let lengths = lengths(bootstrapper);
        container_bytes(&vec![0; lengths.len()]) as u64 + lengths.iter().sum::<u64>()
    }

    /// Reads what [`Bootstrapper::write_to`] wrote under `parameters`, whose ring is `ring`; `reader` then stands
    /// behind it.
    ///
    /// # Errors
    /// [`Error::Format`] for truncated, damaged or oversized data, [`Error::ParameterMismatch`], [`Error::Io`].
    pub fn read_from(
        ring: &Arc<Parameters>,
        parameters: &BootstrapParameters,
        reader: impl Read,
    ) -> Result<Option<Self>> {
        let fingerprint = *ring.fingerprint();
        let mut container =
            ContainerReader::open(reader, "a stream", Kind::BootstrappingKeys, fingerprint, 3)?;
        let slots = read_slots(&mut container, ring)?;
        if slots.is_empty() {
            if container.lengths().len() != 1 {
                return Err(container.bad("keys for no slots".to_owned()));
            }
            container.finish_container()?;
            return Ok(None);
        }
        let words = Words::of(ring, parameters)?;
        let wanted = [HEAD_BYTES + 8 * words.to_sparse, SEED_BYTES + 8 * words.to_dense];
        let stated = container.lengths().get(1..).unwrap_or_default();
        if stated != wanted.map(|bytes| bytes as u64) {
            return Err(
                container.bad(format!("sections of {stated:?} bytes, these parameters have {wanted:?}"))
            );
        }
        let to_sparse = read_to_sparse(&mut container, ring, parameters)?;
        let mut seed = [0; SEED_BYTES];
        container.read(&mut seed)?;
        let context = ring.ring();
        let b = RnsPolynomial::from_words(
            context,
            container.words(words.to_dense)?,
            context.chain_limbs(),
            SPECIAL_LIMBS,
        )?;
        container.finish_container()?;
        let a = ModRaise::uniform_half(context, &seed)?;
        let mod_raise = ModRaise { parameters: Arc::clone(ring), to_sparse, to_dense: (b, a), seed };
        Self::with_keys(parameters, &slots, mod_raise).map(Some)
    }
}

/// Bytes of each section.
fn lengths(bootstrapper: Option<&Bootstrapper>) -> Vec<u64> {
    let Some(keys) = bootstrapper else { return vec![8] };
    let (sparse, dense) = (keys.mod_raise().to_sparse.digits(), &keys.mod_raise().to_dense.0);
    let words: usize = sparse.iter().map(|(b, _)| b.words().len()).sum();
    [8 * (1 + keys.slots().count()), HEAD_BYTES + 8 * words, SEED_BYTES + 8 * dense.words().len()]
        .map(|bytes| bytes as u64)
        .to_vec()
}

/// The slot counts: distinct powers of two within the ring.
fn read_slots<R: Read>(container: &mut ContainerReader<R>, ring: &Parameters) -> Result<BTreeSet<usize>> {
    let stated = container.lengths().first().copied().unwrap_or_default();
    let count = (stated / 8).saturating_sub(1);
    if stated % 8 != 0 || stated < 8 || count > MAX_SLOT_COUNTS as u64 {
        return Err(container.bad(format!("a list of slot counts of {stated} bytes")));
    }
    let words = container.words(1 + count as usize)?;
    let mut slots = BTreeSet::new();
    for word in words.iter().skip(1) {
        let fits = word.is_power_of_two() && *word <= ring.slots() as u64;
        if !fits || !slots.insert(*word as usize) {
            return Err(container.bad(format!("a slot count of {word} in a ring of {}", ring.slots())));
        }
    }
    if words.first() != Some(&count) {
        return Err(container.bad(format!("{:?} slot counts where there are {count}", words.first())));
    }
    Ok(slots)
}

/// The key to the sparse secret: at level 0, with the special primes that the parameters say.
fn read_to_sparse<R: Read>(
    container: &mut ContainerReader<R>,
    ring: &Parameters,
    parameters: &BootstrapParameters,
) -> Result<KeySwitchingKey> {
    let (limbs, special) = (ring.limbs(Level(0))?, parameters.ephemeral_special_primes);
    let mut head = [0; HEAD_BYTES];
    container.read(&mut head)?;
    let mut head = FieldReader::new(WHAT, &head);
    let stated = (head.u64()?, head.u64()?);
    let seed = head.array()?;
    if stated != (limbs as u64, special as u64) {
        return Err(container.bad(format!("{stated:?} limbs, these parameters have ({limbs}, {special})")));
    }
    let halves = (0..limbs.div_ceil(special.max(1)))
        .map(|_| {
            let words = container.words((limbs + special) * ring.ring().degree())?;
            RnsPolynomial::from_words(ring.ring(), words, limbs, special)
        })
        .collect::<Result<Vec<_>>>()?;
    KeySwitchingKey::from_parts(ring, halves, seed, limbs, special)
}
