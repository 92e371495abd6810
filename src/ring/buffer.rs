//! Memory of polynomials and workspaces, recycled: the one pool of the process.
//!
//! A polynomial under `n16` is up to 20 MB. Fresh memory of that size comes from the operating system page by page,
//! which took a sixth of the time of an encrypted token; so buffers that are dropped wait in a pool for whoever asks
//! next. What waits is bounded, and the oldest is freed first. Contents are overwritten before use; secrets wipe
//! their buffers before they drop them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut, RangeInclusive};
use std::sync::{Mutex, PoisonError};

/// Bytes that may wait in the pool. The largest working set is that of a linear transform at the top of `n16`: some
/// 500 MB of inner sums.
const POOL_BYTES: usize = 1 << 30;

/// Buffers below this many words are left to the allocator, which recycles them itself.
const SMALLEST_WORDS: usize = 1 << 11;

/// A buffer that waits, with its turn: the lower, the longer it has waited.
struct Waiting {
    turn: u64,
    buffer: Vec<u64>,
}

/// Buffers by their capacity in words; of one capacity the oldest comes first.
struct Pool {
    waiting: BTreeMap<usize, VecDeque<Waiting>>,
    bytes: usize,
    turn: u64,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { waiting: BTreeMap::new(), bytes: 0, turn: 0 });

/// Bytes of polynomials and workspaces that were dropped and wait to be used again.
#[must_use]
pub fn idle_bytes() -> usize {
    POOL.lock().unwrap_or_else(PoisonError::into_inner).bytes
}

impl Pool {
    /// The smallest buffer whose capacity lies in the range, of several the one dropped last: it may still be in a
    /// cache.
    fn take(&mut self, capacities: RangeInclusive<usize>) -> Option<Vec<u64>> {
        let (capacity, buffers) = self.waiting.range_mut(capacities).next()?;
        let capacity = *capacity;
        let found = buffers.pop_back();
        if buffers.is_empty() {
            self.waiting.remove(&capacity);
        }
        let buffer = found?.buffer;
        self.bytes -= 8 * capacity;
        Some(buffer)
    }

    /// Lets a buffer wait; returns those that had to make room.
    fn put(&mut self, buffer: Vec<u64>) -> Vec<Vec<u64>> {
        let bytes = 8 * buffer.capacity();
        let mut freed = Vec::new();
        while self.bytes + bytes > POOL_BYTES {
            let Some(oldest) = self.take_oldest() else { break };
            freed.push(oldest);
        }
        self.bytes += bytes;
        self.turn += 1;
        let waiting = Waiting { turn: self.turn, buffer };
        self.waiting.entry(waiting.buffer.capacity()).or_default().push_back(waiting);
        freed
    }

    fn take_oldest(&mut self) -> Option<Vec<u64>> {
        let turn = |buffers: &VecDeque<Waiting>| buffers.front().map_or(u64::MAX, |waiting| waiting.turn);
        let capacity = *self.waiting.iter().min_by_key(|(_, buffers)| turn(buffers))?.0;
        let buffers = self.waiting.get_mut(&capacity)?;
        let oldest = buffers.pop_front();
        if buffers.is_empty() {
            self.waiting.remove(&capacity);
        }
        let buffer = oldest?.buffer;
        self.bytes -= 8 * capacity;
        Some(buffer)
    }
}

/// Words of a polynomial or of a workspace. Goes to the pool when dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Buffer(Vec<u64>);

impl Buffer {
    /// `words` zeros.
    pub(super) fn zeros(words: usize) -> Self {
        match recycled(words, tight(words)) {
            Some(mut buffer) => {
                buffer.clear();
                buffer.resize(words, 0);
                Self(buffer)
            }
            None => Self(vec![0; words]),
        }
    }

    /// `words` words with unspecified contents, to be kept: whoever asks writes all of them.
    pub(super) fn unspecified(words: usize) -> Self {
        Self::stale(words, tight(words))
    }

    /// `words` words with unspecified contents for a short while, in a buffer of up to twice the size.
    pub(super) fn workspace(words: usize) -> Self {
        Self::stale(words, 2 * words)
    }

    fn stale(words: usize, most: usize) -> Self {
        match recycled(words, most) {
            Some(mut buffer) => {
                buffer.resize(words, 0);
                Self(buffer)
            }
            None => Self(vec![0; words]),
        }
    }

    /// A copy of `words`.
    pub(super) fn copy_of(words: &[u64]) -> Self {
        match recycled(words.len(), tight(words.len())) {
            Some(mut buffer) => {
                buffer.clear();
                buffer.extend_from_slice(words);
                Self(buffer)
            }
            None => Self(words.to_vec()),
        }
    }
}

/// Largest capacity for `words` that may live long: a key-value cache should not hold much more than its values.
fn tight(words: usize) -> usize {
    words + words / 8
}

/// A buffer of the pool with room for `words` and a capacity of at most `most`.
fn recycled(words: usize, most: usize) -> Option<Vec<u64>> {
    if words < SMALLEST_WORDS {
        return None;
    }
    POOL.lock().unwrap_or_else(PoisonError::into_inner).take(words..=most)
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        if buffer.capacity() < SMALLEST_WORDS || 8 * buffer.capacity() > POOL_BYTES / 4 {
            return;
        }
        // Giving memory back takes long: not under the lock, which ends with this statement.
        let freed = POOL.lock().unwrap_or_else(PoisonError::into_inner).put(buffer);
        drop(freed);
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self::copy_of(&self.0)
    }
}

impl From<Vec<u64>> for Buffer {
    fn from(words: Vec<u64>) -> Self {
        Self(words)
    }
}

impl Deref for Buffer {
    type Target = [u64];
    fn deref(&self) -> &[u64] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }
}

/// Rows of one ring for a short while, with unspecified contents at first. It never holds secrets: it is not wiped.
pub struct Workspace {
    buffer: Buffer,
    degree: usize,
}

impl Workspace {
    /// `words` words for rows of `degree` words.
    pub(super) fn new(words: usize, degree: usize) -> Self {
        Self { buffer: Buffer::workspace(words), degree }
    }

    /// The rows of N words, in order.
    pub fn rows(&self) -> impl Iterator<Item = &[u64]> {
        self.buffer.chunks_exact(self.degree)
    }
}

impl Deref for Workspace {
    type Target = [u64];
    fn deref(&self) -> &[u64] {
        &self.buffer
    }
}

impl DerefMut for Workspace {
    fn deref_mut(&mut self) -> &mut [u64] {
        &mut self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn recycled_buffers_have_the_asked_length_and_contents(
            lengths in proptest::collection::vec(1usize..8 * SMALLEST_WORDS, 1..12),
        ) {
            let mut held = Vec::new();
            for (index, length) in lengths.iter().enumerate() {
                let mut zeros = Buffer::zeros(*length);
                prop_assert_eq!(zeros.len(), *length);
                prop_assert!(zeros.iter().all(|word| *word == 0), "a recycled buffer is cleared");
                zeros.fill(index as u64 + 1);
                let copy = zeros.clone();
                prop_assert_eq!(&copy, &zeros);
                prop_assert_eq!(Buffer::workspace(*length).len(), *length);
                if index % 3 == 0 { held.push((index, copy)); }
            }
            for (index, buffer) in held {
                prop_assert!(buffer.iter().all(|word| *word == index as u64 + 1), "nobody else wrote to it");
            }
        }
    }

    fn empty_pool() -> Pool {
        Pool { waiting: BTreeMap::new(), bytes: 0, turn: 0 }
    }

    #[test]
    fn the_pool_keeps_to_its_bytes_and_frees_the_oldest() {
        let words = POOL_BYTES / 8 / 16;
        let mut pool = empty_pool();
        // Sixteen fit exactly, of two sizes in turn; eight more push out the oldest half.
        let sizes = [words - 1, words + 1];
        let freed: Vec<usize> = (0..24)
            .flat_map(|k| pool.put(Vec::with_capacity(sizes[k % 2])))
            .map(|buffer| buffer.capacity())
            .collect();
        assert_eq!(freed, [sizes, sizes, sizes, sizes].concat());
        let waiting = pool.waiting.iter().map(|(capacity, buffers)| 8 * capacity * buffers.len());
        assert_eq!(waiting.sum::<usize>(), pool.bytes);
        assert_eq!(pool.bytes, POOL_BYTES);
    }

    #[test]
    fn the_smallest_buffer_that_fits_is_taken_last_dropped_first() {
        let mut pool = empty_pool();
        let buffers: Vec<Vec<u64>> = [40, 30, 30].map(Vec::with_capacity).into();
        let places: Vec<*const u64> = buffers.iter().map(|buffer| buffer.as_ptr()).collect();
        for buffer in buffers {
            assert!(pool.put(buffer).is_empty());
        }
        let mut take = |range| pool.take(range).map(|buffer| buffer.as_ptr());
        assert_eq!(take(41..=80), None);
        assert_eq!(take(20..=40), Some(places[2]));
        assert_eq!(take(20..=40), Some(places[1]));
        assert_eq!(take(20..=39), None);
        assert_eq!(take(20..=40), Some(places[0]));
        assert_eq!((pool.bytes, pool.waiting.len()), (0, 0));
    }
}
