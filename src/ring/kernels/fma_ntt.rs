//! Negacyclic NTT in f64 with fused multiply-add, for machines with AVX2 but without AVX512-IFMA.
//!
//! Harvey's lazy butterflies in radix 4: forward Cooley–Tukey from natural to bit-reversed order, inverse
//! Gentleman–Sande back, twiddles ψ^{brv(i)} in bit-reversed order. Output index i of the forward transform is the
//! value at ψ^{2·brv(i)+1}, as with `tfhe-ntt`; the tests compare bits.
//!
//! Between passes the buffer holds signed f64 integers (as bit patterns in the u64 row). Bounds for p < 2^50, with
//! |x·w| reduced to at most p (1/2 + 0.75 · |x| / 2^52): a forward pass of two layers takes 0.5 p to 1.8 p, a second
//! one to 3.7 p < 2^52, then a reduction brings 0.5 p back. An inverse pass takes at most 1.3 p to 5.2 p < 2^53 in its
//! sums, which are reduced, and leaves products below 1.3 p.

#![allow(unsafe_code)] // vector loads and stores at checked offsets, and calls under the witness of detection
#![allow(clippy::indexing_slicing)] // table indices follow from the transform size, checked when the tables are made

use std::arch::x86_64::*;

use super::super::Prime;
use super::FmaToken;
use super::fma::{VectorPrime, load, store};

/// Smallest transform: below it the last radix-4 pass would not fill four vectors.
const MIN_SIZE: usize = 64;

/// Twiddle tables of one prime and size.
#[derive(Debug)]
pub(crate) struct FmaNtt {
    token: FmaToken,
    prime: Prime,
    size: usize,
    forward: Vec<f64>,
    inverse: Vec<f64>,
    /// 1/N, centred.
    size_inverse: f64,
}

impl FmaNtt {
    /// Tables for the primitive 2N-th root `root`; `None` for sizes below 64.
    pub(super) fn new(token: FmaToken, prime: &Prime, root: u64, size: usize) -> Option<Self> {
        if size < MIN_SIZE || !size.is_power_of_two() {
            return None;
        }
        let log2 = size.trailing_zeros();
        let table = |root: u64| {
            let mut powers = vec![0.0; size];
            let mut power = 1u64;
            for exponent in 0..size {
                powers[exponent.reverse_bits() >> (usize::BITS - log2)] = prime.centred(power) as f64;
                power = prime.mul(power, root);
            }
            powers
        };
        let size_inverse = prime.centred(prime.inv(prime.reduce(size as u64))) as f64;
        Some(Self {
            token,
            prime: prime.clone(),
            size,
            forward: table(root),
            inverse: table(prime.inv(root)),
            size_inverse,
        })
    }

    /// Coefficients to evaluations, in place.
    pub(crate) fn forward(&self, row: &mut [u64]) {
        assert!(row.len() == self.size, "row of another size");
        let FmaToken(()) = self.token;
        // SAFETY: a token exists only when AVX2 and FMA were detected; the row has the size of the tables.
        unsafe { self.forward_run(row) }
    }

    /// Evaluations to coefficients (divided by N), in place.
    pub(crate) fn inverse(&self, row: &mut [u64]) {
        assert!(row.len() == self.size, "row of another size");
        let FmaToken(()) = self.token;
        // SAFETY: as in `forward`.
        unsafe { self.inverse_run(row) }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn forward_run(&self, row: &mut [u64]) {
        let n = self.size;
        let prime = VectorPrime::new(&self.prime);
        let data = row.as_mut_ptr().cast::<f64>();
        let half = _mm256_mul_pd(prime.p, _mm256_set1_pd(0.5));
        for k in (0..n).step_by(4) {
            // SAFETY: k + 4 ≤ n. Residues become centred f64 integers in place.
            unsafe {
                let x = load(row.as_ptr().add(k));
                let above = _mm256_cmp_pd::<_CMP_GT_OQ>(x, half);
                _mm256_storeu_pd(data.add(k), _mm256_sub_pd(x, _mm256_and_pd(above, prime.p)));
            }
        }
        // SAFETY: all offsets below stay inside the row of n words; see each function.
        unsafe {
            let mut blocks = 1;
            if n.trailing_zeros() % 2 == 1 {
                self.forward_radix_2(prime, data);
                blocks = 2;
            }
            // Whole-row passes first, then each block of at most 4096 words (32 KiB) runs to the end in the first-level
            // cache.
            let mut reduce = false;
            while n / blocks > 4096 {
                for block in 0..blocks {
                    let base = data.add(block * (n / blocks));
                    self.radix_4::<true>(prime, base, n / blocks, (blocks, block), reduce);
                }
                blocks *= 4;
                reduce = !reduce;
            }
            let length = n / blocks;
            for outer in 0..blocks {
                let base = data.add(outer * length);
                let mut reduce = reduce;
                let mut inner = 1;
                while length / inner > 4 {
                    for block in 0..inner {
                        let size = length / inner;
                        let place = (blocks * inner, outer * inner + block);
                        self.radix_4::<true>(prime, base.add(block * size), size, place, reduce);
                    }
                    inner *= 4;
                    reduce = !reduce;
                }
                for group in (0..inner).step_by(4) {
                    self.forward_last(prime, base.add(4 * group), blocks * inner, outer * inner + group);
                }
            }
        }
    }

    /// First layer alone, for odd log2 N.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn forward_radix_2(&self, prime: VectorPrime, data: *mut f64) {
        let half = self.size / 2;
        let w = _mm256_set1_pd(self.forward[1]);
        for k in (0..half).step_by(4) {
            // SAFETY: k + half + 4 ≤ n.
            unsafe {
                let u = _mm256_loadu_pd(data.add(k));
                let v = prime.multiply(_mm256_loadu_pd(data.add(k + half)), w);
                _mm256_storeu_pd(data.add(k), prime.reduce(_mm256_add_pd(u, v)));
                _mm256_storeu_pd(data.add(k + half), prime.reduce(_mm256_sub_pd(u, v)));
            }
        }
    }

    /// Two layers on the block at `data` of `length` words, the `block`-th of `blocks`; the results of a forward pass
    /// reduced when `reduce` says so (those of an inverse pass are already).
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn radix_4<const FORWARD: bool>(
        &self,
        prime: VectorPrime,
        data: *mut f64,
        length: usize,
        (blocks, block): (usize, usize),
        reduce: bool,
    ) {
        let table = if FORWARD { &self.forward } else { &self.inverse };
        let w1 = _mm256_set1_pd(table[blocks + block]);
        let w2 = _mm256_set1_pd(table[2 * (blocks + block)]);
        let w3 = _mm256_set1_pd(table[2 * (blocks + block) + 1]);
        let quarter = length / 4;
        for k in (0..quarter).step_by(4) {
            // SAFETY: k + 3 · quarter + 4 ≤ length, and the block lies in the row.
            unsafe {
                let a = load_4(data.add(k), quarter);
                let mut b = if FORWARD {
                    forward_butterfly_4(prime, a, w1, w2, w3)
                } else {
                    inverse_butterfly_4(prime, a, w1, w2, w3)
                };
                if FORWARD && reduce {
                    b = [prime.reduce(b[0]), prime.reduce(b[1]), prime.reduce(b[2]), prime.reduce(b[3])];
                }
                store_4(data.add(k), quarter, b);
            }
        }
    }

    /// The last two layers on four neighbouring blocks of four words, with canonical output.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn forward_last(&self, prime: VectorPrime, data: *mut f64, blocks: usize, block: usize) {
        // SAFETY: 16 words from `data`; table indices blocks + block + 4 ≤ 2 · blocks and twice that.
        unsafe {
            let rows = load_4(data, 4);
            let w1 = _mm256_loadu_pd(self.forward.as_ptr().add(blocks + block));
            let (w2, w3) = even_odd(self.forward.as_ptr().add(2 * (blocks + block)));
            let b = forward_butterfly_4(prime, transpose(rows), w1, w2, w3);
            let b = [prime.reduce(b[0]), prime.reduce(b[1]), prime.reduce(b[2]), prime.reduce(b[3])];
            let b = transpose(b);
            store(data.cast(), prime.canonical(b[0]));
            store(data.add(4).cast(), prime.canonical(b[1]));
            store(data.add(8).cast(), prime.canonical(b[2]));
            store(data.add(12).cast(), prime.canonical(b[3]));
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn inverse_run(&self, row: &mut [u64]) {
        let n = self.size;
        let prime = VectorPrime::new(&self.prime);
        let data = row.as_mut_ptr().cast::<f64>();
        let odd = n.trailing_zeros() % 2 == 1;
        // Blocks of the first-level cache: the radix-4 ladder of block lengths is n, n/4, … (n/2, n/8, … for odd log2
        // N).
        let mut blocks = if odd { 2 } else { 1 };
        while n / blocks > 4096 {
            blocks *= 4;
        }
        let length = n / blocks;
        // SAFETY: all offsets stay inside the row of n words; see each function.
        unsafe {
            for outer in 0..blocks {
                let base = data.add(outer * length);
                let mut inner = length / 4;
                for group in (0..inner).step_by(4) {
                    self.inverse_first(prime, base.add(4 * group), blocks * inner, outer * inner + group);
                }
                while inner > 1 {
                    inner /= 4;
                    let size = length / inner;
                    for block in 0..inner {
                        let place = (blocks * inner, outer * inner + block);
                        self.radix_4::<false>(prime, base.add(block * size), size, place, false);
                    }
                }
            }
            while blocks > 2 {
                blocks /= 4;
                for block in 0..blocks {
                    let base = data.add(block * (n / blocks));
                    self.radix_4::<false>(prime, base, n / blocks, (blocks, block), false);
                }
            }
            if odd {
                self.inverse_radix_2(prime, data);
            }
            let scale = _mm256_set1_pd(self.size_inverse);
            for k in (0..n).step_by(4) {
                let x = prime.multiply(_mm256_loadu_pd(data.add(k)), scale);
                store(row.as_mut_ptr().add(k), prime.canonical(x));
            }
        }
    }

    /// The first two inverse layers on four neighbouring blocks of four canonical words.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn inverse_first(&self, prime: VectorPrime, data: *mut f64, blocks: usize, block: usize) {
        // SAFETY: as in `forward_last`.
        unsafe {
            let words: *const u64 = data.cast_const().cast();
            let rows = [load(words), load(words.add(4)), load(words.add(8)), load(words.add(12))];
            let w1 = _mm256_loadu_pd(self.inverse.as_ptr().add(blocks + block));
            let (w2, w3) = even_odd(self.inverse.as_ptr().add(2 * (blocks + block)));
            let b = transpose(inverse_butterfly_4(prime, transpose(rows), w1, w2, w3));
            store_4(data, 4, b);
        }
    }

    /// Last inverse layer alone, for odd log2 N.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn inverse_radix_2(&self, prime: VectorPrime, data: *mut f64) {
        let half = self.size / 2;
        let w = _mm256_set1_pd(self.inverse[1]);
        for k in (0..half).step_by(4) {
            // SAFETY: k + half + 4 ≤ n.
            unsafe {
                let u = _mm256_loadu_pd(data.add(k));
                let v = _mm256_loadu_pd(data.add(k + half));
                _mm256_storeu_pd(data.add(k), prime.reduce(_mm256_add_pd(u, v)));
                _mm256_storeu_pd(data.add(k + half), prime.multiply(_mm256_sub_pd(u, v), w));
            }
        }
    }
}

/// Four vectors `stride` words apart. Written out: a closure over vectors would not be inlined into `array::map`.
///
/// # Safety
/// `data` must be readable for 3 · `stride` + 4 values.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load_4(data: *const f64, stride: usize) -> [__m256d; 4] {
    // SAFETY: the caller vouches for the values.
    unsafe {
        [
            _mm256_loadu_pd(data),
            _mm256_loadu_pd(data.add(stride)),
            _mm256_loadu_pd(data.add(2 * stride)),
            _mm256_loadu_pd(data.add(3 * stride)),
        ]
    }
}

/// Stores four vectors `stride` words apart.
///
/// # Safety
/// `data` must be writable for 3 · `stride` + 4 values.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_4(data: *mut f64, stride: usize, x: [__m256d; 4]) {
    // SAFETY: the caller vouches for the values.
    unsafe {
        _mm256_storeu_pd(data, x[0]);
        _mm256_storeu_pd(data.add(stride), x[1]);
        _mm256_storeu_pd(data.add(2 * stride), x[2]);
        _mm256_storeu_pd(data.add(3 * stride), x[3]);
    }
}

/// Layers (0,2)(1,3) by w1, then (0,1) by w2 and (2,3) by w3.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn forward_butterfly_4(
    prime: VectorPrime,
    a: [__m256d; 4],
    w1: __m256d,
    w2: __m256d,
    w3: __m256d,
) -> [__m256d; 4] {
    let [a0, a1, a2, a3] = a;
    let (v2, v3) = (prime.multiply(a2, w1), prime.multiply(a3, w1));
    let (b0, b2) = (_mm256_add_pd(a0, v2), _mm256_sub_pd(a0, v2));
    let (b1, b3) = (_mm256_add_pd(a1, v3), _mm256_sub_pd(a1, v3));
    let (v1, v3) = (prime.multiply(b1, w2), prime.multiply(b3, w3));
    [_mm256_add_pd(b0, v1), _mm256_sub_pd(b0, v1), _mm256_add_pd(b2, v3), _mm256_sub_pd(b2, v3)]
}

/// Layers (0,1) by w2 and (2,3) by w3, then (0,2)(1,3) by w1; the sums reduced.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn inverse_butterfly_4(
    prime: VectorPrime,
    a: [__m256d; 4],
    w1: __m256d,
    w2: __m256d,
    w3: __m256d,
) -> [__m256d; 4] {
    let [a0, a1, a2, a3] = a;
    let (b0, b1) = (_mm256_add_pd(a0, a1), prime.multiply(_mm256_sub_pd(a0, a1), w2));
    let (b2, b3) = (_mm256_add_pd(a2, a3), prime.multiply(_mm256_sub_pd(a2, a3), w3));
    [
        prime.reduce(_mm256_add_pd(b0, b2)),
        prime.reduce(_mm256_add_pd(b1, b3)),
        prime.multiply(_mm256_sub_pd(b0, b2), w1),
        prime.multiply(_mm256_sub_pd(b1, b3), w1),
    ]
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose(rows: [__m256d; 4]) -> [__m256d; 4] {
    let [r0, r1, r2, r3] = rows;
    let (t0, t1) = (_mm256_unpacklo_pd(r0, r1), _mm256_unpackhi_pd(r0, r1));
    let (t2, t3) = (_mm256_unpacklo_pd(r2, r3), _mm256_unpackhi_pd(r2, r3));
    [
        _mm256_permute2f128_pd::<0x20>(t0, t2),
        _mm256_permute2f128_pd::<0x20>(t1, t3),
        _mm256_permute2f128_pd::<0x31>(t0, t2),
        _mm256_permute2f128_pd::<0x31>(t1, t3),
    ]
}

/// The even and the odd of eight neighbouring twiddles.
///
/// # Safety
/// `table` must be readable for eight values.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn even_odd(table: *const f64) -> (__m256d, __m256d) {
    // SAFETY: the caller vouches for eight readable values.
    let (low, high) = unsafe { (_mm256_loadu_pd(table), _mm256_loadu_pd(table.add(4))) };
    // Interleaved halves come out as lanes 0, 2 | 1, 3; the permutation restores ascending order.
    let even = _mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_unpacklo_pd(low, high));
    let odd = _mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_unpackhi_pd(low, high));
    (even, odd)
}
