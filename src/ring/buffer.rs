//! Memory of polynomials, recycled.
//!
//! A polynomial under `n16` is up to 20 MB. Fresh memory of that size comes from the operating system page by page, which
//! took a sixth of the time of an encrypted token; so buffers that are dropped wait in a pool for the next polynomial.
//! Contents are overwritten before use. Secrets wipe their buffers before they drop them (`zeroize`).

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Bytes that may wait in the pool; the oldest buffers are freed first.
const POOL_BYTES: usize = 512 << 20;

/// Buffers below this many words are left to the allocator, which recycles them itself.
const SMALLEST_WORDS: usize = 1 << 14;

struct Pool {
    waiting: VecDeque<Vec<u64>>,
    bytes: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { waiting: VecDeque::new(), bytes: 0 });

/// Bytes of polynomials that were dropped and wait to be used again.
#[must_use]
pub fn idle_polynomial_bytes() -> usize {
    POOL.lock().unwrap_or_else(PoisonError::into_inner).bytes
}

/// Words of a polynomial.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Buffer(Vec<u64>);

impl Buffer {
    /// `words` zeros.
    pub(super) fn zeros(words: usize) -> Self {
        match recycled(words) {
            Some(mut buffer) => {
                buffer.clear();
                buffer.resize(words, 0);
                Self(buffer)
            }
            None => Self(vec![0; words]),
        }
    }

    /// `words` words with unspecified contents: whoever asks writes all of them.
    pub(super) fn unspecified(words: usize) -> Self {
        match recycled(words) {
            Some(mut buffer) => {
                buffer.resize(words, 0);
                Self(buffer)
            }
            None => Self(vec![0; words]),
        }
    }

    /// A copy of `words`.
    pub(super) fn copy_of(words: &[u64]) -> Self {
        match recycled(words.len()) {
            Some(mut buffer) => {
                buffer.clear();
                buffer.extend_from_slice(words);
                Self(buffer)
            }
            None => Self(words.to_vec()),
        }
    }

    /// The words, which leave the pool's care; nothing remains.
    pub(super) fn take(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.0)
    }
}

/// The smallest buffer in the pool with room for `words`, unless it would waste more than half.
fn recycled(words: usize) -> Option<Vec<u64>> {
    if words < SMALLEST_WORDS {
        return None;
    }
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = |buffer: &Vec<u64>| (words..=2 * words).contains(&buffer.capacity());
    let candidates = pool.waiting.iter().enumerate().filter(|(_, buffer)| fits(buffer));
    let (index, _) = candidates.min_by_key(|(_, buffer)| buffer.capacity())?;
    let buffer = pool.waiting.remove(index)?;
    pool.bytes -= 8 * buffer.capacity();
    Some(buffer)
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        let bytes = 8 * buffer.capacity();
        if buffer.capacity() < SMALLEST_WORDS || bytes > POOL_BYTES / 4 {
            return;
        }
        let mut freed = Vec::new();
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        while pool.bytes + bytes > POOL_BYTES {
            let Some(oldest) = pool.waiting.pop_front() else { break };
            pool.bytes -= 8 * oldest.capacity();
            freed.push(oldest);
        }
        pool.bytes += bytes;
        pool.waiting.push_back(buffer);
        // Giving memory back takes long: not under the lock.
        drop(pool);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn recycled_buffers_have_the_asked_length_and_contents(
            lengths in proptest::collection::vec(1usize..4 * SMALLEST_WORDS, 1..12),
        ) {
            let mut held = Vec::new();
            for (index, length) in lengths.iter().enumerate() {
                let mut zeros = Buffer::zeros(*length);
                prop_assert_eq!(zeros.len(), *length);
                prop_assert!(zeros.iter().all(|word| *word == 0), "a recycled buffer is cleared");
                zeros.fill(index as u64 + 1);
                let copy = zeros.clone();
                prop_assert_eq!(&copy, &zeros);
                if index % 3 == 0 { held.push((index, copy)); }
            }
            for (index, buffer) in held {
                prop_assert!(buffer.iter().all(|word| *word == index as u64 + 1), "nobody else wrote to it");
            }
        }
    }

    #[test]
    fn the_pool_keeps_to_its_bytes() {
        let words = POOL_BYTES / 8 / 16;
        let all: Vec<Buffer> = (0..24).map(|_| Buffer::from(Vec::with_capacity(words))).collect();
        drop(all);
        let pool = POOL.lock().unwrap();
        let bytes: usize = pool.waiting.iter().map(|buffer| 8 * buffer.capacity()).sum();
        assert_eq!(bytes, pool.bytes);
        assert!(bytes <= POOL_BYTES, "{bytes} bytes wait");
    }
}
