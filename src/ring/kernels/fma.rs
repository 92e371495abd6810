//! AVX2/FMA kernels in f64.
//!
//! A residue below 2^50 is an exact f64. For integers x, w with |x·w/p| < 2^50 the product's rounded high part
//! h = RN(x·w), its exact remainder l = x·w − h and the quotient q = RN(h/p) give r = (h − q·p) + l ≡ x·w (mod p) with
//! |r| ≤ p (1/2 + 0.75 · 2^-51 · |x·w/p|); every step is exact (the differences are integers below 2^53).

#![allow(unsafe_code)] // vector loads and stores at checked offsets, and calls under the witness of detection
#![allow(clippy::indexing_slicing)] // row lengths are equal and checked at entry

use std::arch::x86_64::*;

use super::super::Prime;
use super::{ConversionColumn, FmaToken, portable};

/// 2^52: adding it to an f64 integer in [0, 2^52) puts the integer in the mantissa.
const MAGIC: f64 = 4_503_599_627_370_496.0;
/// Coefficients handled at once by a base conversion: the split sources of a block stay in the first-level cache.
const BLOCK: usize = 128;
/// Split point of the exact products in a base conversion.
const SPLIT: f64 = 33_554_432.0; // 2^25

/// A prime in every lane.
#[derive(Clone, Copy)]
pub(super) struct VectorPrime {
    pub(super) p: __m256d,
    pub(super) inverse: __m256d,
}

impl VectorPrime {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn new(prime: &Prime) -> Self {
        Self { p: _mm256_set1_pd(prime.float), inverse: _mm256_set1_pd(prime.inverse) }
    }

    /// x · w modulo p, in about (−p, p); see the module header for the exact bound.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn multiply(self, x: __m256d, w: __m256d) -> __m256d {
        let high = _mm256_mul_pd(x, w);
        let low = _mm256_fmsub_pd(x, w, high);
        let quotient = round(_mm256_mul_pd(high, self.inverse));
        _mm256_add_pd(_mm256_fnmadd_pd(quotient, self.p, high), low)
    }

    /// x modulo p in [−p/2, p/2] up to a rounding of x/p, for |x| < 2^53.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn reduce(self, x: __m256d) -> __m256d {
        _mm256_fnmadd_pd(round(_mm256_mul_pd(x, self.inverse)), self.p, x)
    }

    /// The canonical residue of a number in [−p, p).
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn canonical(self, x: __m256d) -> __m256d {
        let negative = _mm256_cmp_pd::<_CMP_LT_OQ>(x, _mm256_setzero_pd());
        _mm256_add_pd(x, _mm256_and_pd(negative, self.p))
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn round(x: __m256d) -> __m256d {
    _mm256_round_pd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)
}

/// Four residues as f64.
///
/// # Safety
/// `source` must be readable for four words, each below 2^52.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn load(source: *const u64) -> __m256d {
    let magic = _mm256_set1_pd(MAGIC);
    // SAFETY: the caller vouches for four readable words.
    let bits = unsafe { _mm256_loadu_si256(source.cast()) };
    _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(bits, _mm256_castpd_si256(magic))), magic)
}

/// Stores four integers of [0, 2^52) as words.
///
/// # Safety
/// `target` must be writable for four words.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn store(target: *mut u64, x: __m256d) {
    let magic = _mm256_set1_pd(MAGIC);
    let bits = _mm256_xor_si256(_mm256_castpd_si256(_mm256_add_pd(x, magic)), _mm256_castpd_si256(magic));
    // SAFETY: the caller vouches for four writable words.
    unsafe { _mm256_storeu_si256(target.cast(), bits) };
}

/// Panics unless all rows have the length of the first, a multiple of 4: the contract of every kernel here.
#[inline]
fn check(length: usize, others: &[usize]) {
    assert!(
        length.is_multiple_of(4) && others.iter().all(|other| *other == length),
        "rows of unequal length"
    );
}

macro_rules! detected {
    ($token:ident, $call:expr) => {{
        let FmaToken(()) = $token;
        // SAFETY: a token exists only when AVX2 and FMA were detected.
        unsafe { $call }
    }};
}

pub(super) fn multiply(token: FmaToken, prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
    #[target_feature(enable = "avx2,fma")]
    fn run(prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
        check(out.len(), &[a.len(), b.len()]);
        let vector = VectorPrime::new(prime);
        for k in (0..out.len()).step_by(4) {
            // SAFETY: k + 4 ≤ the checked common length.
            unsafe {
                let r = vector.multiply(load(a.as_ptr().add(k)), load(b.as_ptr().add(k)));
                store(out.as_mut_ptr().add(k), vector.canonical(r));
            }
        }
    }
    detected!(token, run(prime, out, a, b));
}

pub(super) fn multiply_accumulate(
    token: FmaToken,
    prime: &Prime,
    accumulator: &mut [u64],
    a: &[u64],
    b: &[u64],
) {
    #[target_feature(enable = "avx2,fma")]
    fn run(prime: &Prime, accumulator: &mut [u64], a: &[u64], b: &[u64]) {
        check(accumulator.len(), &[a.len(), b.len()]);
        let vector = VectorPrime::new(prime);
        for k in (0..accumulator.len()).step_by(4) {
            // SAFETY: k + 4 ≤ the checked common length.
            unsafe {
                let r = vector.multiply(load(a.as_ptr().add(k)), load(b.as_ptr().add(k)));
                let sum = vector.reduce(_mm256_add_pd(r, load(accumulator.as_ptr().add(k))));
                store(accumulator.as_mut_ptr().add(k), vector.canonical(sum));
            }
        }
    }
    detected!(token, run(prime, accumulator, a, b));
}

pub(super) fn inner_product(
    token: FmaToken,
    prime: &Prime,
    out: (&mut [u64], &mut [u64]),
    digits: &[&[u64]],
    keys: &[(&[u64], &[u64])],
) {
    #[target_feature(enable = "avx2,fma")]
    fn run(prime: &Prime, out: (&mut [u64], &mut [u64]), digits: &[&[u64]], keys: &[(&[u64], &[u64])]) {
        let length = out.0.len();
        check(length, &[out.1.len()]);
        assert!(digits.len() == keys.len(), "as many digits as key rows");
        for (digit, key) in digits.iter().zip(keys) {
            check(length, &[digit.len(), key.0.len(), key.1.len()]);
        }
        let vector = VectorPrime::new(prime);
        for k in (0..length).step_by(4) {
            let mut sum_0 = _mm256_setzero_pd();
            let mut sum_1 = _mm256_setzero_pd();
            for (index, (digit, key)) in digits.iter().zip(keys).enumerate() {
                // SAFETY: k + 4 ≤ the checked common length.
                unsafe {
                    let x = load(digit.as_ptr().add(k));
                    sum_0 = _mm256_add_pd(sum_0, vector.multiply(x, load(key.0.as_ptr().add(k))));
                    sum_1 = _mm256_add_pd(sum_1, vector.multiply(x, load(key.1.as_ptr().add(k))));
                }
                // Each product is below p in magnitude and 2^53 / p ≥ 8: reduce before the eighth.
                if index % 4 == 3 {
                    sum_0 = vector.reduce(sum_0);
                    sum_1 = vector.reduce(sum_1);
                }
            }
            // SAFETY: k + 4 ≤ the checked common length.
            unsafe {
                store(out.0.as_mut_ptr().add(k), vector.canonical(vector.reduce(sum_0)));
                store(out.1.as_mut_ptr().add(k), vector.canonical(vector.reduce(sum_1)));
            }
        }
    }
    detected!(token, run(prime, out, digits, keys));
}

pub(super) fn multiply_scalar(token: FmaToken, prime: &Prime, out: &mut [u64], a: &[u64], c: u64) {
    #[target_feature(enable = "avx2,fma")]
    fn run(prime: &Prime, out: &mut [u64], a: &[u64], c: u64) {
        check(out.len(), &[a.len()]);
        let vector = VectorPrime::new(prime);
        let c = _mm256_set1_pd(c as f64);
        for k in (0..out.len()).step_by(4) {
            // SAFETY: k + 4 ≤ the checked common length.
            unsafe {
                let r = vector.multiply(load(a.as_ptr().add(k)), c);
                store(out.as_mut_ptr().add(k), vector.canonical(r));
            }
        }
    }
    detected!(token, run(prime, out, a, c));
}

pub(super) fn subtract_multiply(token: FmaToken, prime: &Prime, row: &mut [u64], a: &[u64], c: u64) {
    #[target_feature(enable = "avx2,fma")]
    fn run(prime: &Prime, row: &mut [u64], a: &[u64], c: u64) {
        check(row.len(), &[a.len()]);
        let vector = VectorPrime::new(prime);
        let c = _mm256_set1_pd(c as f64);
        for k in (0..row.len()).step_by(4) {
            // SAFETY: k + 4 ≤ the checked common length.
            unsafe {
                let difference = _mm256_sub_pd(load(a.as_ptr().add(k)), load(row.as_ptr().add(k)));
                let r = vector.multiply(difference, c);
                store(row.as_mut_ptr().add(k), vector.canonical(r));
            }
        }
    }
    detected!(token, run(prime, row, a, c));
}

pub(super) fn multiply_scalar_accumulate(
    token: FmaToken,
    prime: &Prime,
    accumulator: &mut [u64],
    a: &[u64],
    c: u64,
) {
    #[target_feature(enable = "avx2,fma")]
    fn run(prime: &Prime, accumulator: &mut [u64], a: &[u64], c: u64) {
        check(accumulator.len(), &[a.len()]);
        let vector = VectorPrime::new(prime);
        let c = _mm256_set1_pd(c as f64);
        for k in (0..accumulator.len()).step_by(4) {
            // SAFETY: k + 4 ≤ the checked common length.
            unsafe {
                let r = vector.multiply(load(a.as_ptr().add(k)), c);
                let sum = vector.reduce(_mm256_add_pd(r, load(accumulator.as_ptr().add(k))));
                store(accumulator.as_mut_ptr().add(k), vector.canonical(sum));
            }
        }
    }
    detected!(token, run(prime, accumulator, a, c));
}

pub(super) fn reduce_floats(token: FmaToken, prime: &Prime, out: &mut [u64], values: &[f64]) {
    #[target_feature(enable = "avx2,fma")]
    fn run(prime: &Prime, out: &mut [u64], values: &[f64]) {
        check(out.len(), &[values.len()]);
        let vector = VectorPrime::new(prime);
        for k in (0..out.len()).step_by(4) {
            // SAFETY: k + 4 ≤ the checked common length.
            unsafe {
                let x = vector.reduce(_mm256_loadu_pd(values.as_ptr().add(k)));
                store(out.as_mut_ptr().add(k), vector.canonical(x));
            }
        }
    }
    detected!(token, run(prime, out, values));
}

pub(super) fn add(token: FmaToken, prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
    #[target_feature(enable = "avx2,fma")]
    fn run(prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
        portable::add(prime, out, a, b);
    }
    detected!(token, run(prime, out, a, b));
}

pub(super) fn add_assign(token: FmaToken, prime: &Prime, accumulator: &mut [u64], a: &[u64]) {
    #[target_feature(enable = "avx2,fma")]
    fn run(prime: &Prime, accumulator: &mut [u64], a: &[u64]) {
        portable::add_assign(prime, accumulator, a);
    }
    detected!(token, run(prime, accumulator, a));
}

pub(super) fn sub(token: FmaToken, prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
    #[target_feature(enable = "avx2,fma")]
    fn run(prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
        portable::sub(prime, out, a, b);
    }
    detected!(token, run(prime, out, a, b));
}

pub(super) fn negate(token: FmaToken, prime: &Prime, row: &mut [u64]) {
    #[target_feature(enable = "avx2,fma")]
    fn run(prime: &Prime, row: &mut [u64]) {
        portable::negate(prime, row);
    }
    detected!(token, run(prime, row));
}

/// x = high · 2^25 + low with |low| ≤ 2^24.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn split(x: __m256d) -> (__m256d, __m256d) {
    let high = round(_mm256_mul_pd(x, _mm256_set1_pd(1.0 / SPLIT)));
    (high, _mm256_fnmadd_pd(high, _mm256_set1_pd(SPLIT), x))
}

/// Most sources whose split products sum exactly: |high|, |low| ≤ 2^24 and the middle sums two of them, 2^49 · 15 <
/// 2^53.
const MAX_SOURCES: usize = 15;

pub(super) fn convert_base(
    token: FmaToken,
    sources: &[(&Prime, u64, &[u64])],
    targets: &mut [(&Prime, &ConversionColumn, &mut [u64])],
) {
    let length = sources.first().map_or(0, |source| source.2.len());
    if sources.len() > MAX_SOURCES || !length.is_multiple_of(4) {
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

#[target_feature(enable = "avx2,fma")]
fn convert_base_run(
    sources: &[(&Prime, u64, &[u64])],
    targets: &mut [(&Prime, &ConversionColumn, &mut [u64])],
    length: usize,
) {
    // Split sources of one block: high and low parts interleaved by vector.
    let mut parts = [[0.0f64; 2 * BLOCK]; MAX_SOURCES];
    let splits: Vec<SplitColumn> =
        targets.iter().map(|(prime, column, _)| SplitColumn::new(prime, column)).collect();
    for start in (0..length).step_by(BLOCK) {
        let size = BLOCK.min(length - start);
        for ((prime, weight, row), parts) in sources.iter().zip(&mut parts) {
            let vector = VectorPrime::new(prime);
            let weight = _mm256_set1_pd(*weight as f64);
            for k in (0..size).step_by(4) {
                // SAFETY: start + k + 4 ≤ length, and 2k + 8 ≤ 2 · BLOCK.
                unsafe {
                    let product = vector.multiply(load(row.as_ptr().add(start + k)), weight);
                    // Into [−(p−1)/2, (p−1)/2] exactly: canonical first, then centred.
                    let (high, low) = split(centre(vector, product));
                    _mm256_storeu_pd(parts.as_mut_ptr().add(2 * k), high);
                    _mm256_storeu_pd(parts.as_mut_ptr().add(2 * k + 4), low);
                }
            }
        }
        for ((prime, _, row), column) in targets.iter_mut().zip(&splits) {
            let vector = VectorPrime::new(prime);
            let factors = &column.factors[..sources.len()];
            // Two vectors at once: they share the factors, and their sums do not wait for each other.
            let pairs = size - size % 8;
            for k in (0..pairs).step_by(8) {
                // SAFETY: 2k + 16 ≤ 2 · BLOCK, and start + k + 8 ≤ length.
                unsafe {
                    let [first, second] =
                        convert_vectors::<2>(vector, &parts, factors, column.radix_squared, k);
                    store(row.as_mut_ptr().add(start + k), first);
                    store(row.as_mut_ptr().add(start + k + 4), second);
                }
            }
            for k in (pairs..size).step_by(4) {
                // SAFETY: 2k + 8 ≤ 2 · BLOCK, and start + k + 4 ≤ length.
                unsafe {
                    let [only] = convert_vectors::<1>(vector, &parts, factors, column.radix_squared, k);
                    store(row.as_mut_ptr().add(start + k), only);
                }
            }
        }
    }
}

pub(super) fn conversion_quotients(token: FmaToken, sources: &[(&Prime, u64, &[u64])], out: &mut [u64]) {
    #[target_feature(enable = "avx2,fma")]
    fn run(sources: &[(&Prime, u64, &[u64])], out: &mut [u64]) {
        let Some((first, _, _)) = sources.first() else { return };
        let first = VectorPrime::new(first);
        for (_, _, row) in sources {
            check(out.len(), &[row.len()]);
        }
        for k in (0..out.len()).step_by(4) {
            let mut sum = _mm256_setzero_pd();
            for (prime, weight, row) in sources {
                let vector = VectorPrime::new(prime);
                // SAFETY: k + 4 ≤ the checked common length.
                let x = unsafe { load(row.as_ptr().add(k)) };
                let y = centre(vector, vector.multiply(x, _mm256_set1_pd(*weight as f64)));
                // Two roundings, as the portable kernel has them.
                sum = _mm256_add_pd(sum, _mm256_mul_pd(y, vector.inverse));
            }
            // SAFETY: k + 4 ≤ the checked common length.
            unsafe { store(out.as_mut_ptr().add(k), first.canonical(round(sum))) };
        }
    }
    detected!(token, run(sources, out));
}

/// The factors of one target, centred and split as the sources are.
struct SplitColumn {
    factors: [(f64, f64); MAX_SOURCES],
    /// 2^50 modulo the target, centred.
    radix_squared: f64,
}

impl SplitColumn {
    fn new(prime: &Prime, column: &ConversionColumn) -> Self {
        let mut factors = [(0.0, 0.0); MAX_SOURCES];
        for (factor, place) in column.factors.iter().zip(&mut factors) {
            let centred = prime.centred(*factor) as f64;
            let high = (centred / SPLIT).round_ties_even();
            *place = (high, centred - high * SPLIT);
        }
        Self { factors, radix_squared: prime.centred(prime.reduce(1 << 50)) as f64 }
    }
}

/// Σ_i y_i · factor_i for `VECTORS` neighbouring vectors of a block from coefficient `k` on: canonical residues.
///
/// # Safety
/// 2k + 8 · `VECTORS` must not exceed 2 · `BLOCK`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn convert_vectors<const VECTORS: usize>(
    vector: VectorPrime,
    parts: &[[f64; 2 * BLOCK]; MAX_SOURCES],
    factors: &[(f64, f64)],
    radix_squared: f64,
    k: usize,
) -> [__m256d; VECTORS] {
    let mut sums = [[_mm256_setzero_pd(); 4]; VECTORS];
    for (parts, (factor_high, factor_low)) in parts.iter().zip(factors) {
        let factor_high = _mm256_set1_pd(*factor_high);
        let factor_low = _mm256_set1_pd(*factor_low);
        for (place, sums) in sums.iter_mut().enumerate() {
            let at = 2 * k + 8 * place;
            // SAFETY: the caller vouches for 2k + 8 · VECTORS ≤ 2 · BLOCK.
            let (high, low) = unsafe {
                (_mm256_loadu_pd(parts.as_ptr().add(at)), _mm256_loadu_pd(parts.as_ptr().add(at + 4)))
            };
            sums[0] = _mm256_fmadd_pd(high, factor_high, sums[0]);
            sums[1] = _mm256_fmadd_pd(high, factor_low, sums[1]);
            sums[2] = _mm256_fmadd_pd(low, factor_high, sums[2]);
            sums[3] = _mm256_fmadd_pd(low, factor_low, sums[3]);
        }
    }
    let (radix, radix_squared) = (_mm256_set1_pd(SPLIT), _mm256_set1_pd(radix_squared));
    let mut results = [_mm256_setzero_pd(); VECTORS];
    for (result, [top, left, right, bottom]) in results.iter_mut().zip(sums) {
        // top · 2^50 + middle · 2^25 + bottom. Every sum is exact: products are below p and the bottom below 2^52.
        let high = vector.multiply(vector.reduce(top), radix_squared);
        let middle = vector.multiply(vector.reduce(_mm256_add_pd(left, right)), radix);
        let sum = _mm256_add_pd(_mm256_add_pd(high, middle), bottom);
        *result = vector.canonical(vector.reduce(sum));
    }
    results
}

/// The centred representative, as the portable kernel defines it: canonical residues above p/2 less p.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn centre(vector: VectorPrime, x: __m256d) -> __m256d {
    let x = vector.canonical(x);
    let half = _mm256_mul_pd(vector.p, _mm256_set1_pd(0.5));
    let above = _mm256_cmp_pd::<_CMP_GT_OQ>(x, half);
    _mm256_sub_pd(x, _mm256_and_pd(above, vector.p))
}
