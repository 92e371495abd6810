//! The encrypted KV cache.
//!
//! K ciphertext c holds tokens c·G .. (c+1)·G: slot (j, h) + τ of a [`HeadLayout`] is K\[token c·G + τ\]\[h, j\], and
//! the conjugate of K\[h, j\] + i·K\[h, j + head_dim/2\] in its complex form. V (never conjugated) is stored in lanes,
//! C to a segment of C·G tokens: head block m of lane i holds V\[·\]\[h, m\] of the tokens of K ciphertext (m + i) mod
//! C, rotated right by the giant step it will be read with. Appending a token is an addition to the last K ciphertext,
//! and one masked addition per lane.
//!
//! Tokens of a public prefix enter as plaintexts; a ciphertext of public tokens only stays one, and costs plaintext
//! products when read. K and V stand at levels of their own, the lowest that still serve attention.

use crate::contract::{Complex64, Error, Evaluator, Level, Result};

use super::sums::signed;
use super::{Packed, ScoreLayout, Split};

/// Everything that decides where a cache keeps its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CacheLayout {
    /// Layout of the scores, and with it of the stored heads.
    pub scores: ScoreLayout,
    /// Tokens the cache may hold.
    pub maximum_tokens: usize,
    /// Level of the K ciphertexts; reading them takes two levels below it.
    pub key_level: Level,
    /// Level of the V lanes; reading them takes one level below it, and one more for a mask.
    pub value_level: Level,
}

impl CacheLayout {
    /// Baby and giant steps over the lanes of a segment.
    pub(super) fn split(&self) -> Split {
        let lanes = self.scores.lanes();
        // Powers of two, so that lanes divide evenly; a giant costs more than a baby.
        Split::with_babies(lanes, 1 << lanes.ilog2().div_ceil(2))
    }

    /// Shift to the right at which lane `lane` is stored, in slots.
    fn lane_shift(&self, lane: usize) -> usize {
        let babies = self.split().babies;
        lane / babies * babies * self.scores.stored().head_block()
    }

    /// Head blocks of lane `lane` that hold tokens of K ciphertext `c` of the segment, before the shift of the lane.
    fn blocks(&self, lane: usize, c: usize) -> impl Iterator<Item = usize> + use<> {
        let lanes = self.scores.lanes();
        let first = (c + lanes - lane % lanes) % lanes;
        (first..self.scores.stored().head_blocks()).step_by(lanes)
    }
}

/// A ciphertext of a cache, or the slot values of public tokens only.
#[derive(Clone, Debug)]
pub(super) enum Stored<C> {
    /// Public tokens only.
    Public(Vec<Complex64>),
    /// At least one encrypted token.
    Encrypted(C),
}

/// K and V of the tokens so far.
#[derive(Clone, Debug)]
pub struct KeyValueCache<C> {
    pub(super) layout: CacheLayout,
    pub(super) keys: Vec<Stored<C>>,
    /// V lanes, by segment.
    pub(super) lanes: Vec<Vec<Stored<C>>>,
    pub(super) tokens: usize,
}

impl<C: Clone> KeyValueCache<C> {
    /// An empty cache.
    #[must_use]
    pub fn new(layout: CacheLayout) -> Self {
        Self { layout, keys: Vec::new(), lanes: Vec::new(), tokens: 0 }
    }

    /// Where the values are.
    #[must_use]
    pub fn layout(&self) -> &CacheLayout {
        &self.layout
    }

    /// Tokens held.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Ciphertexts held: (K, V).
    #[must_use]
    pub fn ciphertexts(&self) -> (usize, usize) {
        let encrypted = |stored: &&Stored<C>| matches!(stored, Stored::Encrypted(_));
        (self.keys.iter().filter(encrypted).count(), self.lanes.iter().flatten().filter(encrypted).count())
    }

    /// Offset τ of the next token in its K ciphertext: where its k and v have to stand.
    ///
    /// # Errors
    /// [`Error::Shape`] when the cache is full.
    pub fn next_offset(&self) -> Result<usize> {
        if self.tokens >= self.layout.maximum_tokens {
            return Err(Error::Shape {
                operation: "append to the KV cache",
                what: format!("token {} of at most {}", self.tokens, self.layout.maximum_tokens),
                remedy: "declare a larger maximum number of tokens, or start a new sequence".to_owned(),
            });
        }
        Ok(self.tokens % self.layout.scores.stored().tokens())
    }

    /// A cache of `tokens` encrypted tokens, its ciphertexts made by `encrypt(level)`: a sequence to count or to time
    /// with.
    ///
    /// # Errors
    /// [`Error::Shape`] for more tokens than it may hold; those of `encrypt`.
    pub fn filled(layout: CacheLayout, tokens: usize, encrypt: impl Fn(Level) -> Result<C>) -> Result<Self> {
        if tokens > layout.maximum_tokens {
            return Err(Error::Shape {
                operation: "KV cache",
                what: format!("{tokens} tokens of at most {}", layout.maximum_tokens),
                remedy: "declare a larger maximum number of tokens, or fewer tokens".to_owned(),
            });
        }
        let encrypted = |level| Ok(Stored::Encrypted(encrypt(level)?));
        let keys = tokens.div_ceil(layout.scores.stored().tokens());
        let lane = || encrypted(layout.value_level);
        let segment = || (0..layout.scores.lanes()).map(|_| lane()).collect::<Result<Vec<_>>>();
        Ok(Self {
            layout,
            keys: (0..keys).map(|_| encrypted(layout.key_level)).collect::<Result<_>>()?,
            lanes: (0..layout.scores.segments(tokens)).map(|_| segment()).collect::<Result<_>>()?,
            tokens,
        })
    }

    /// Appends one token. `key` is clean (after [`super::Rope::apply_key`]), `value` may hold junk; both stand at
    /// [`KeyValueCache::next_offset`] of the stored heads. `key` at level `key_level` or above (it is lowered), `value`
    /// at `value_level` + 1 or above. One addition, C plaintext products at `value_level` + 1, as many rescales, and
    /// the giant rotations of the lanes. On an error the cache is unchanged.
    ///
    /// # Errors
    /// [`Error::Shape`] when the cache is full or the layouts differ; [`Error::LevelTooLow`]; errors of the evaluator.
    pub fn append<E: Evaluator<Ciphertext = C>>(
        &mut self,
        evaluator: &E,
        key: &Packed<C>,
        value: &Packed<C>,
    ) -> Result<()> {
        let offset = self.next_offset()?;
        let stored = self.layout.scores.stored();
        let layout = stored.vector().at_offset(offset)?;
        key.require(&layout, "append to the K cache")?;
        value.require(&layout.junk(), "append to the V cache")?;
        let key = evaluator.lower(&key.ciphertext, self.layout.key_level)?;
        let value = evaluator.lower(&value.ciphertext, Level(self.layout.value_level.0 + 1))?;
        let key = add(evaluator, self.open_key(), &key)?;
        let mut lanes = Vec::with_capacity(self.layout.scores.lanes());
        let mut shifted: Option<(usize, C)> = None;
        for lane in 0..self.layout.scores.lanes() {
            let shift = self.layout.lane_shift(lane);
            let source = match shifted.take() {
                Some((at, source)) if at == shift => source,
                _ => evaluator.rotate(&value, -signed(shift))?,
            };
            let mask = self.lane_slots(lane, offset, |_, _| Complex64::new(1.0, 0.0));
            lanes.push(add(evaluator, self.open_lane(lane), &evaluator.mul_values(&source, &mask)?)?);
            shifted = Some((shift, source));
        }
        self.commit(key, lanes);
        Ok(())
    }

    /// Appends one public token: `key(stored head, dimension)` after RoPE, and `value`. No ciphertext is touched unless
    /// the token shares one with encrypted tokens. On an error the cache is unchanged.
    ///
    /// # Errors
    /// [`Error::Shape`] when the cache is full; errors of [`Evaluator::add_values`].
    pub fn append_public<E: Evaluator<Ciphertext = C>>(
        &mut self,
        evaluator: &E,
        key: impl Fn(usize, usize) -> f64,
        value: impl Fn(usize, usize) -> f64,
    ) -> Result<()> {
        let offset = self.next_offset()?;
        let stored = self.layout.scores.stored();
        let key = add_public(evaluator, self.open_key(), stored.key_values(offset, key))?;
        let value = |head, head_block| stored.place(head, head_block, &value);
        let lanes = (0..self.layout.scores.lanes())
            .map(|lane| add_public(evaluator, self.open_lane(lane), self.lane_slots(lane, offset, value)))
            .collect::<Result<_>>()?;
        self.commit(key, lanes);
        Ok(())
    }

    /// Slots of the next token in lane `lane`, with `value(head, head block)` there.
    fn lane_slots(
        &self,
        lane: usize,
        offset: usize,
        value: impl Fn(usize, usize) -> Complex64,
    ) -> Vec<Complex64> {
        let stored = self.layout.scores.stored();
        let c = self.tokens % self.layout.scores.segment_tokens() / stored.tokens();
        let shift = self.layout.lane_shift(lane);
        let mut slots = vec![Complex64::ZERO; stored.slots()];
        for block in self.layout.blocks(lane, c) {
            for head in 0..stored.heads() {
                let slot = (stored.slot(block, head) + offset + shift) % stored.slots();
                if let Some(place) = slots.get_mut(slot) {
                    *place = value(head, block);
                }
            }
        }
        slots
    }

    /// The K ciphertext the next token joins, if it does not start one.
    fn open_key(&self) -> Option<&Stored<C>> {
        self.keys.last().filter(|_| !self.tokens.is_multiple_of(self.layout.scores.stored().tokens()))
    }

    /// Lane `lane` of the segment the next token joins, if it does not start one.
    fn open_lane(&self, lane: usize) -> Option<&Stored<C>> {
        let joins = !self.tokens.is_multiple_of(self.layout.scores.segment_tokens());
        self.lanes.last().filter(|_| joins).and_then(|lanes| lanes.get(lane))
    }

    fn commit(&mut self, key: Stored<C>, lanes: Vec<Stored<C>>) {
        if self.open_key().is_some() {
            self.keys.pop();
        }
        if !self.tokens.is_multiple_of(self.layout.scores.segment_tokens()) {
            self.lanes.pop();
        }
        self.keys.push(key);
        self.lanes.push(lanes);
        self.tokens += 1;
    }

    /// A cache of public tokens only, encrypted by `encrypt(slots, level)`: how a client hands over a prefix that it
    /// computed in the clear and wants to keep to itself.
    ///
    /// # Errors
    /// [`Error::Shape`] when a token is encrypted already; those of `encrypt`.
    pub fn encrypted<D>(
        &self,
        encrypt: impl Fn(&[Complex64], Level) -> Result<D>,
    ) -> Result<KeyValueCache<D>> {
        let convert = |stored: &Stored<C>, level| match stored {
            Stored::Public(values) => Ok(Stored::Encrypted(encrypt(values, level)?)),
            Stored::Encrypted(_) => Err(Error::Shape {
                operation: "encrypt a KV cache",
                what: format!("some of its {} tokens are encrypted already", self.tokens),
                remedy: "encrypt the prefix before tokens are generated".to_owned(),
            }),
        };
        let keys = self.keys.iter().map(|key| convert(key, self.layout.key_level)).collect::<Result<_>>()?;
        let lanes = self
            .lanes
            .iter()
            .map(|lanes| lanes.iter().map(|lane| convert(lane, self.layout.value_level)).collect())
            .collect::<Result<_>>()?;
        Ok(KeyValueCache { layout: self.layout, keys, lanes, tokens: self.tokens })
    }

    /// That this cache was made for `layout`.
    ///
    /// # Errors
    /// [`Error::Shape`] naming both layouts.
    pub fn require(&self, layout: &CacheLayout) -> Result<()> {
        if self.layout == *layout {
            return Ok(());
        }
        Err(Error::Shape {
            operation: "KV cache",
            what: format!("the cache is laid out as {:?}, the model wants {layout:?}", self.layout),
            remedy: "use the cache with the model and context length it was made for".to_owned(),
        })
    }
}

fn add<E: Evaluator>(
    evaluator: &E,
    old: Option<&Stored<E::Ciphertext>>,
    new: &E::Ciphertext,
) -> Result<Stored<E::Ciphertext>> {
    Ok(Stored::Encrypted(match old {
        None => new.clone(),
        Some(Stored::Encrypted(old)) => evaluator.add(old, new)?,
        Some(Stored::Public(values)) => evaluator.add_values(new, values)?,
    }))
}

fn add_public<E: Evaluator>(
    evaluator: &E,
    old: Option<&Stored<E::Ciphertext>>,
    mut new: Vec<Complex64>,
) -> Result<Stored<E::Ciphertext>> {
    Ok(match old {
        None => Stored::Public(new),
        Some(Stored::Encrypted(old)) => Stored::Encrypted(evaluator.add_values(old, &new)?),
        Some(Stored::Public(values)) => {
            for (sum, value) in new.iter_mut().zip(values) {
                *sum += value;
            }
            Stored::Public(new)
        }
    })
}
