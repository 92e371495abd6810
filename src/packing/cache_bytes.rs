//! Saving and loading a KV cache.
//!
//! Container: magic and version, the length of a JSON header (layout and number of tokens), the header, then every K
//! ciphertext and every lane: a tag, a length, and either the backend's ciphertext container or the slot values of
//! public tokens (real numbers; pairs of them in the complex form of the heads). Lengths are checked against the bytes
//! that are there before anything is allocated.

use crate::contract::{CiphertextInfo, Complex64, Error, Evaluator, Level, Result};

use super::cache::Stored;
use super::{CacheLayout, HeadForm, KeyValueCache};

const MAGIC: &[u8; 8] = b"CMKVC001";
const PUBLIC: u8 = 0;
const ENCRYPTED: u8 = 1;

#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    layout: CacheLayout,
    tokens: usize,
}

fn bad(why: impl Into<String>) -> Error {
    Error::Format {
        what: "KV cache container".to_owned(),
        why: why.into(),
        remedy: "load what KeyValueCache::to_bytes wrote for the same model, context length and parameters"
            .to_owned(),
    }
}

/// Takes `count` bytes from the front of `bytes`.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (front, rest) = bytes
        .split_at_checked(count)
        .ok_or_else(|| bad(format!("{count} bytes announced where {} are left", bytes.len())))?;
    *bytes = rest;
    Ok(front)
}

/// Slot values of public tokens as bytes.
fn public_to_bytes(values: &[Complex64], form: HeadForm) -> Vec<u8> {
    let bytes = |value: &Complex64| match form {
        HeadForm::Real => value.re.to_le_bytes().to_vec(),
        HeadForm::Complex => [value.re.to_le_bytes(), value.im.to_le_bytes()].concat(),
    };
    values.iter().flat_map(bytes).collect()
}

/// What [`public_to_bytes`] wrote for `slots` slots.
fn public_from_bytes(body: &[u8], slots: usize, form: HeadForm) -> Result<Vec<Complex64>> {
    let numbers: Vec<f64> =
        body.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(f64::from_le_bytes).collect();
    let values: Vec<Complex64> = match form {
        HeadForm::Real => numbers.iter().map(|re| Complex64::new(*re, 0.0)).collect(),
        HeadForm::Complex => numbers
            .chunks_exact(2)
            .filter_map(|pair| <[f64; 2]>::try_from(pair).ok())
            .map(|[re, im]| Complex64::new(re, im))
            .collect(),
    };
    let bytes_per_slot = if form == HeadForm::Real { 8 } else { 16 };
    if values.len() != slots || body.len() != bytes_per_slot * slots {
        return Err(bad(format!("{} bytes of public values for {slots} slots", body.len())));
    }
    if !values.iter().all(|value| value.re.is_finite() && value.im.is_finite()) {
        return Err(bad("a public value is not finite"));
    }
    Ok(values)
}

fn take_length(bytes: &mut &[u8]) -> Result<usize> {
    let word: [u8; 8] = take(bytes, 8)?.try_into().map_err(|_| bad("no length"))?;
    usize::try_from(u64::from_le_bytes(word)).map_err(|error| bad(error.to_string()))
}

impl<C: CiphertextInfo + Clone> KeyValueCache<C> {
    /// The cache as bytes.
    ///
    /// # Errors
    /// [`Error::Foreign`] when a library behind the backend fails ([`Evaluator::ciphertext_to_bytes`]).
    pub fn to_bytes<E: Evaluator<Ciphertext = C>>(&self, evaluator: &E) -> Result<Vec<u8>> {
        let header = serde_json::to_vec(&Header { layout: self.layout, tokens: self.tokens })
            .map_err(|error| Error::Internal(format!("KV cache header: {error}")))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&header);
        for stored in self.keys.iter().chain(self.lanes.iter().flatten()) {
            let (tag, body) = match stored {
                Stored::Public(values) => {
                    (PUBLIC, public_to_bytes(values, self.layout.scores.stored().form()))
                }
                Stored::Encrypted(ciphertext) => (ENCRYPTED, evaluator.ciphertext_to_bytes(ciphertext)?),
            };
            bytes.push(tag);
            bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
            bytes.extend_from_slice(&body);
        }
        Ok(bytes)
    }

    /// Reads what [`KeyValueCache::to_bytes`] wrote for a cache of `layout`.
    ///
    /// # Errors
    /// [`Error::Format`] for damaged data or too many tokens; [`Error::Shape`] for a cache of another layout;
    /// [`Error::LevelMismatch`] for ciphertexts at other levels; errors of [`Evaluator::ciphertext_from_bytes`].
    pub fn from_bytes<E: Evaluator<Ciphertext = C>>(
        evaluator: &E,
        layout: CacheLayout,
        mut bytes: &[u8],
    ) -> Result<Self> {
        if take(&mut bytes, MAGIC.len())? != MAGIC {
            return Err(bad("wrong magic or version"));
        }
        let length = take_length(&mut bytes)?;
        let header: Header =
            serde_json::from_slice(take(&mut bytes, length)?).map_err(|error| bad(error.to_string()))?;
        let mut cache = Self::new(header.layout);
        cache.require(&layout)?;
        if header.tokens > layout.maximum_tokens {
            return Err(bad(format!("{} tokens of at most {}", header.tokens, layout.maximum_tokens)));
        }
        let (slots, form) = (layout.scores.stored().slots(), layout.scores.stored().form());
        let mut read = |level: Level| -> Result<Stored<C>> {
            let tag = take(&mut bytes, 1)?;
            let length = take_length(&mut bytes)?;
            let body = take(&mut bytes, length)?;
            match tag {
                [PUBLIC] => Ok(Stored::Public(public_from_bytes(body, slots, form)?)),
                [ENCRYPTED] => {
                    let ciphertext = evaluator.ciphertext_from_bytes(body)?;
                    if ciphertext.level() != level {
                        return Err(Error::LevelMismatch {
                            operation: "read KV cache",
                            left: ciphertext.level(),
                            right: level,
                        });
                    }
                    let wanted = evaluator.chain().canonical_scale(level)?;
                    if !ciphertext.scale().agrees_with(wanted) {
                        return Err(Error::ScaleMismatch {
                            operation: "read KV cache",
                            left: ciphertext.scale(),
                            right: wanted,
                        });
                    }
                    Ok(Stored::Encrypted(ciphertext))
                }
                _ => Err(bad(format!("an entry with tag {tag:?} of {length} bytes"))),
            }
        };
        for _ in 0..header.tokens.div_ceil(layout.scores.stored().tokens()) {
            cache.keys.push(read(layout.key_level)?);
        }
        for _ in 0..layout.scores.segments(header.tokens) {
            let lanes =
                (0..layout.scores.lanes()).map(|_| read(layout.value_level)).collect::<Result<_>>()?;
            cache.lanes.push(lanes);
        }
        if !bytes.is_empty() {
            return Err(bad(format!("{} bytes after the end", bytes.len())));
        }
        cache.tokens = header.tokens;
        Ok(cache)
    }
}
