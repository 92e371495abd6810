//! The keys of a bootstrapper at rest and on the wire, as one container.
//!
//! The first section lists what is bootstrapped: the number of slot counts and those, the number of layouts of few
//! values and for each whether it is real, how many slots it has, and which. Without any it is all there is. Then come
//! the switching key to the sparse secret (limbs, special limbs, seed of its uniform halves, the halves b_d) and those
//! back (seed, each b): one, or eight where few values are bootstrapped. Sizes follow from the parameters and must
//! agree with what the container states; memory is taken as the data arrives.

use std::io::{Read, Write};
use std::sync::Arc;

use super::mod_raise::{SPECIAL_LIMBS, SingleDigit};
use super::{BootstrapParameters, Bootstrapper, ModRaise};
use crate::ckks::container::{Kind, container_bytes};
use crate::ckks::fields::{FieldReader, extend_u64};
use crate::ckks::{ContainerReader, ContainerWriter, KeySwitchingKey, Parameters};
use crate::contract::{BootstrapKeys, Error, FewValues, Level, OccupiedSlots, Result};
use crate::ring::RnsPolynomial;

const WHAT: &str = "bootstrapping keys";
/// Bytes of a seed.
const SEED_BYTES: usize = 32;
/// Bytes before the halves of the key to the sparse secret: two u64 and a seed.
const HEAD_BYTES: usize = 16 + SEED_BYTES;
/// Most slot counts (the powers of two), and most layouts of few values.
const MAX_COUNT: usize = 64;

/// Words of the halves b of the key to the sparse secret, and of one key back.
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
        let lengths = lengths(bootstrapper);
        let fingerprint = *ring.fingerprint();
        let mut container =
            ContainerWriter::new(writer, "a stream", Kind::BootstrappingKeys, fingerprint, &lengths)?;
        container.write_words(&listed(bootstrapper))?;
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
            for key in to_dense {
                container.write_words(key.b.words())?;
            }
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
        let keys = read_listed(&mut container, ring)?;
        if keys == BootstrapKeys::default() {
            if container.lengths().len() != 1 {
                return Err(container.bad("keys to bootstrap nothing".to_owned()));
            }
            container.finish_container()?;
            return Ok(None);
        }
        let words = Words::of(ring, parameters)?;
        let back = ModRaise::keys_back(!keys.few.is_empty());
        let wanted = [HEAD_BYTES + 8 * words.to_sparse, SEED_BYTES + 8 * back * words.to_dense];
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
        let limbs = context.chain_limbs();
        let to_dense = (0..back)
            .map(|number| {
                let words = container.words(words.to_dense)?;
                let b = RnsPolynomial::from_words(context, words, limbs, SPECIAL_LIMBS)?;
                SingleDigit::from_parts(context, b, &seed, number)
            })
            .collect::<Result<Vec<_>>>()?;
        container.finish_container()?;
        let mod_raise = ModRaise { parameters: Arc::clone(ring), to_sparse, to_dense, seed };
        Self::with_keys(parameters, &keys, mod_raise).map(Some)
    }
}

/// Bytes of each section.
fn lengths(bootstrapper: Option<&Bootstrapper>) -> Vec<u64> {
    let list = 8 * listed(bootstrapper).len();
    let Some(keys) = bootstrapper else { return vec![list as u64] };
    let (sparse, dense) = (keys.mod_raise().to_sparse.digits(), &keys.mod_raise().to_dense);
    let back: usize = dense.iter().map(|key| key.b.words().len()).sum();
    let words: usize = sparse.iter().map(|(b, _)| b.words().len()).sum();
    [list, HEAD_BYTES + 8 * words, SEED_BYTES + 8 * back].map(|bytes| bytes as u64).to_vec()
}

/// The words of the first section.
fn listed(bootstrapper: Option<&Bootstrapper>) -> Vec<u64> {
    let keys = bootstrapper.map(Bootstrapper::contents).unwrap_or_default();
    let mut words = vec![keys.slots.len() as u64];
    words.extend(keys.slots.iter().map(|slots| *slots as u64));
    words.push(keys.few.len() as u64);
    for values in &keys.few {
        words.extend([u64::from(values.real), values.slots.len() as u64]);
        words.extend(values.slots.slots().iter().map(|slot| *slot as u64));
    }
    words
}

/// Reads the first section: slot counts are distinct powers of two within the ring, slots of values ascend within it.
fn read_listed<R: Read>(container: &mut ContainerReader<R>, ring: &Parameters) -> Result<BootstrapKeys> {
    let stated = container.lengths().first().copied().unwrap_or_default();
    let most = 8 * (2 + MAX_COUNT + MAX_COUNT * (2 + ring.slots()));
    if stated % 8 != 0 || stated < 16 || stated > most as u64 {
        return Err(
            container.bad(format!("a list of {stated} bytes of what is bootstrapped, at most {most}"))
        );
    }
    let words = container.words(stated as usize / 8)?;
    parse_listed(&words, ring.slots())
        .map_err(|why| container.bad(format!("a list of what is bootstrapped with {why}")))
}

fn parse_listed(words: &[u64], total: usize) -> std::result::Result<BootstrapKeys, String> {
    let mut words = words.iter().copied();
    let mut next = |what: &str| words.next().ok_or_else(|| format!("no {what}"));
    let count = |number: u64, what: &str, most: usize| match usize::try_from(number) {
        Ok(number) if number <= most => Ok(number),
        _ => Err(format!("{number} {what}, at most {most}")),
    };
    let mut keys = BootstrapKeys::default();
    for _ in 0..count(next("number of slot counts")?, "slot counts", MAX_COUNT)? {
        let slots = count(next("slot count")?, "slots", total)?;
        if !slots.is_power_of_two() || !keys.slots.insert(slots) {
            return Err(format!("a slot count of {slots}, which is no power of two or stands there twice"));
        }
    }
    for _ in 0..count(next("number of layouts")?, "layouts", MAX_COUNT)? {
        let real = match next("kind of values")? {
            kind @ (0 | 1) => kind == 1,
            kind => return Err(format!("values of kind {kind}")),
        };
        let mut slots: Vec<usize> = Vec::new();
        for _ in 0..count(next("number of values")?, "values", total)? {
            let slot = count(next("slot of a value")?, "as a slot", total.saturating_sub(1))?;
            if slots.last().is_some_and(|last| *last >= slot) {
                return Err(format!("slot {slot} out of order"));
            }
            slots.push(slot);
        }
        let slots = OccupiedSlots::new(slots).map_err(|error| error.to_string())?;
        if !keys.few.insert(FewValues { slots, real }) {
            return Err("a layout twice".to_owned());
        }
    }
    match words.next() {
        None => Ok(keys),
        Some(word) => Err(format!("{word} behind its end")),
    }
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
