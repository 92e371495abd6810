//! AVX512-IFMA kernels that add products of many rows: the inner product of a key switch and the base conversion.
//!
//! High and low words of the products are added up apart, without any reduction, for up to 16 rows; see
//! [`super::ifma_lanes`].

#![allow(unsafe_code)] // loads at checked offsets, and calls under the witness of detection
#![allow(clippy::indexing_slicing)] // row lengths are equal and checked at entry

use std::arch::x86_64::*;

use super::super::Prime;
use super::ifma::{check, detected};
use super::ifma_lanes::{Factor, LANES, Lanes, MAX_PRODUCTS, Sum, load, padded, splat, store, store_first};
use super::{ConversionColumn, IfmaToken, portable};

/// Coefficients handled at once by a base conversion: the weighted sources of a block stay in the first-level cache.
const BLOCK: usize = 128;
/// Registers of a block.
const BLOCK_VECTORS: usize = BLOCK / LANES;
/// Registers of one target computed at once: they share the factors, and their sums do not wait for each other.
const TOGETHER: usize = 4;

/// Eight words of a row from `k` on.
///
/// # Safety
/// k + 8 must not exceed the row's length.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
unsafe fn load_at(row: &[u64], k: usize) -> __m512i {
    // SAFETY: the caller vouches for eight words from k on, and an array needs no more alignment than its words.
    load(unsafe { &*row.as_ptr().add(k).cast() })
}

pub(super) fn inner_product(
    token: IfmaToken,
    prime: &Prime,
    out: (&mut [u64], &mut [u64]),
    digits: &[&[u64]],
    keys: &[(&[u64], &[u64])],
) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn run(prime: &Prime, out: (&mut [u64], &mut [u64]), digits: &[&[u64]], keys: &[(&[u64], &[u64])]) {
        let length = out.0.len();
        check(length, &[out.1.len()]);
        assert!(digits.len() == keys.len(), "as many digits as key rows");
        for (digit, key) in digits.iter().zip(keys) {
            check(length, &[digit.len(), key.0.len(), key.1.len()]);
        }
        let lanes = Lanes::new(prime);
        let ((out_0, rest_0), (out_1, rest_1)) = (out.0.as_chunks_mut(), out.1.as_chunks_mut());
        for (index, (out_0, out_1)) in out_0.iter_mut().zip(out_1).enumerate() {
            // SAFETY: all rows have the length of the outputs, which have eight words from 8 · index on.
            let sums = sum(lanes, digits, keys, |row| unsafe { load_at(row, LANES * index) });
            store(out_0, sums.0);
            store(out_1, sums.1);
        }
        if !rest_0.is_empty() {
            let start = length - rest_0.len();
            let sums = sum(lanes, digits, keys, |row| load(&padded(&row[start..])));
            store_first(rest_0, sums.0);
            store_first(rest_1, sums.1);
        }
    }
    detected!(token, run(prime, out, digits, keys));
}

/// Σ_d digits_d · keys_d for one register of each row, as `part` reads it: canonical residues.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn sum(
    lanes: Lanes,
    digits: &[&[u64]],
    keys: &[(&[u64], &[u64])],
    part: impl Fn(&[u64]) -> __m512i,
) -> (__m512i, __m512i) {
    let mut total = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for (digits, keys) in digits.chunks(MAX_PRODUCTS).zip(keys.chunks(MAX_PRODUCTS)) {
        // What earlier digits left is below 4 p < 2^52.
        let mut sums = (Sum::new(total.0), Sum::new(total.1));
        for (digit, key) in digits.iter().zip(keys) {
            let digit = part(digit);
            sums.0 = sums.0.add(digit, part(key.0));
            sums.1 = sums.1.add(digit, part(key.1));
        }
        total = (lanes.reduce_sum(sums.0), lanes.reduce_sum(sums.1));
    }
    (lanes.canonical(total.0), lanes.canonical(total.1))
}

/// A residue a stands for its centred representative y; y + ⌊q/2⌋ lies in [0, q), and is a + ⌊q/2⌋ modulo q. The
/// sources are shifted so, and Σ_i ⌊q_i/2⌋ · factor_i is taken from every target.
pub(super) fn convert_base(
    token: IfmaToken,
    sources: &[(&Prime, u64, &[u64])],
    targets: &mut [(&Prime, &ConversionColumn, &mut [u64])],
) {
    let length = sources.first().map_or(0, |source| source.2.len());
    if sources.len() > MAX_PRODUCTS {
        portable::convert_base(sources, targets);
        return;
    }
    for source in sources {
        check(length, &[source.2.len()]);
    }
    for target in targets.iter() {
        check(length, &[target.2.len()]);
        assert!(target.1.factors.len() == sources.len(), "one factor a source");
    }
    detected!(token, convert_base_run(sources, targets, length));
}

/// Shifted sources of one block.
type Shifted = [[[u64; LANES]; BLOCK_VECTORS]; MAX_PRODUCTS];

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn convert_base_run(
    sources: &[(&Prime, u64, &[u64])],
    targets: &mut [(&Prime, &ConversionColumn, &mut [u64])],
    length: usize,
) {
    let mut shifted: Shifted = [[[0; LANES]; BLOCK_VECTORS]; MAX_PRODUCTS];
    let weights: Vec<Factor> =
        sources.iter().map(|(prime, weight, _)| Lanes::factor(prime, *weight)).collect();
    let shifts: Vec<u64> = targets.iter().map(|(prime, column, _)| shift(sources, prime, column)).collect();
    for start in (0..length).step_by(BLOCK) {
        let size = BLOCK.min(length - start);
        for (((prime, _, row), weight), shifted) in sources.iter().zip(&weights).zip(&mut shifted) {
            let lanes = Lanes::new(prime);
            let half = splat(prime.value() / 2);
            for (place, words) in shifted.iter_mut().zip(row[start..start + size].chunks(LANES)) {
                let words = words.first_chunk().map_or_else(|| load(&padded(words)), |words| load(words));
                let residue = lanes.below_p(lanes.multiply_by(words, *weight));
                store(place, lanes.add(residue, half));
            }
        }
        for ((prime, column, row), shift) in targets.iter_mut().zip(&shifts) {
            let lanes = Lanes::new(prime);
            let row = &mut row[start..start + size];
            let mut vector = 0;
            for words in row.chunks_mut(LANES * TOGETHER) {
                let sums = convert_vectors(lanes, &shifted, &column.factors, *shift, vector);
                for (words, sum) in words.chunks_mut(LANES).zip(sums) {
                    match words.first_chunk_mut() {
                        Some(words) => store(words, sum),
                        None => store_first(words, sum),
                    }
                }
                vector += TOGETHER;
            }
        }
    }
}

/// −Σ_i ⌊q_i/2⌋ · factor_i.
fn shift(sources: &[(&Prime, u64, &[u64])], prime: &Prime, column: &ConversionColumn) -> u64 {
    sources.iter().zip(&column.factors).fold(0, |sum, ((source, _, _), factor)| {
        prime.sub(sum, prime.mul(prime.reduce(source.value() / 2), *factor))
    })
}

/// shift + Σ_i shifted_i · factor_i for `TOGETHER` registers from `vector` on: canonical residues.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn convert_vectors(
    lanes: Lanes,
    shifted: &Shifted,
    factors: &[u64],
    shift: u64,
    vector: usize,
) -> [__m512i; TOGETHER] {
    let mut sums = [Sum::new(splat(shift)); TOGETHER];
    for (source, factor) in shifted.iter().zip(factors) {
        let factor = splat(*factor);
        for (sum, words) in sums.iter_mut().zip(&source[vector..vector + TOGETHER]) {
            *sum = sum.add(load(words), factor);
        }
    }
    let mut results = [_mm512_setzero_si512(); TOGETHER];
    for (result, sum) in results.iter_mut().zip(sums) {
        *result = lanes.canonical(lanes.reduce_sum(sum));
    }
    results
}

pub(super) fn conversion_quotients(token: IfmaToken, sources: &[(&Prime, u64, &[u64])], out: &mut [u64]) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn run(sources: &[(&Prime, u64, &[u64])], out: &mut [u64]) {
        let Some((first, _, _)) = sources.first() else { return };
        for (_, _, row) in sources {
            check(out.len(), &[row.len()]);
        }
        let first = Lanes::new(first);
        let weights: Vec<Factor> =
            sources.iter().map(|(prime, weight, _)| Lanes::factor(prime, *weight)).collect();
        for (index, words) in out.chunks_mut(LANES).enumerate() {
            let start = index * LANES;
            let mut sum = _mm512_setzero_pd();
            for ((prime, _, row), weight) in sources.iter().zip(&weights) {
                let lanes = Lanes::new(prime);
                let part = &row[start..start + words.len()];
                let part = part.first_chunk().map_or_else(|| load(&padded(part)), |part| load(part));
                let y = lanes.centred_floats(lanes.below_p(lanes.multiply_by(part, *weight)));
                // Two roundings, as the portable kernel has them.
                sum = _mm512_add_pd(sum, _mm512_mul_pd(y, _mm512_set1_pd(prime.inverse)));
            }
            let quotients = first.round(sum);
            match words.first_chunk_mut() {
                Some(words) => store(words, quotients),
                None => store_first(words, quotients),
            }
        }
    }
    detected!(token, run(sources, out));
}
