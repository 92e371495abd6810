//! Eight words of 52 bits in an AVX-512 register: loads, stores, and arithmetic modulo one prime.
//!
//! AVX512-IFMA multiplies the low 52 bits of two words and adds the low or the high 52 bits of the product to a
//! 64-bit word. Residues stay below 4 p < 2^52 between steps; subtracting wraps modulo 2^52, and minima take
//! multiples of the prime away. The bounds of the quotients are in [`super::super::radix52`].

#![allow(unsafe_code)] // vector loads and stores of arrays of eight words

use std::arch::x86_64::*;

use super::super::Prime;
use super::super::radix52::Radix52;

/// Words in a register.
pub(super) const LANES: usize = 8;

/// Sums of so many products of residues stay below 2^104, so that their high part is a word: 16 (2^50 − 1)^2 + 2^52 <
/// 2^104.
pub(super) const MAX_PRODUCTS: usize = 16;

/// Eight words.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn load(words: &[u64; LANES]) -> __m512i {
    // SAFETY: the reference vouches for eight readable words.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// Writes eight words.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn store(words: &mut [u64; LANES], x: __m512i) {
    // SAFETY: the reference vouches for eight writable words.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), x) };
}

/// Writes the first words, at most eight.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn store_first(words: &mut [u64], x: __m512i) {
    let mut block = [0; LANES];
    store(&mut block, x);
    for (word, value) in words.iter_mut().zip(block) {
        *word = value;
    }
}

/// At most eight words, and zeros behind them.
#[inline]
pub(super) fn padded<T: Copy + Default>(words: &[T]) -> [T; LANES] {
    let mut block = [T::default(); LANES];
    for (place, word) in block.iter_mut().zip(words) {
        *place = *word;
    }
    block
}

/// The word in every lane.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn splat(word: u64) -> __m512i {
    _mm512_set1_epi64(word.cast_signed())
}

/// Sums of products not yet reduced: high · 2^52 + low.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    high: __m512i,
    low: __m512i,
}

impl Sum {
    /// The sum of nothing but a word.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn new(low: __m512i) -> Self {
        Self { high: _mm512_setzero_si512(), low }
    }

    /// This plus x · y, for words x and y.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn add(self, x: __m512i, y: __m512i) -> Self {
        Self { high: _mm512_madd52hi_epu64(self.high, x, y), low: _mm512_madd52lo_epu64(self.low, x, y) }
    }
}

/// A constant factor with Shoup's quotient, in every lane.
#[derive(Clone, Copy)]
pub(super) struct Factor {
    value: __m512i,
    quotient: __m512i,
}

/// A prime and its constants in every lane.
#[derive(Clone, Copy)]
pub(super) struct Lanes {
    p: __m512i,
    twice_p: __m512i,
    /// 2^52 − p: adding a product with it subtracts one with p.
    minus_p: __m512i,
    mask: __m512i,
    product_shift: __m512i,
    product_inverse: __m512i,
    word_inverse: __m512i,
    radix: Factor,
}

impl Lanes {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn new(prime: &Prime) -> Self {
        let (p, constants) = (prime.value(), &prime.radix52);
        Self {
            p: splat(p),
            twice_p: splat(2 * p),
            minus_p: splat((1 << 52) - p),
            mask: splat((1 << 52) - 1),
            product_shift: splat(u64::from(constants.product_shift)),
            product_inverse: splat(constants.product_inverse),
            word_inverse: splat(constants.word_inverse),
            radix: Factor { value: splat(constants.radix), quotient: splat(constants.radix_quotient) },
        }
    }

    /// The residue `c` of `prime` as a factor for [`Self::multiply_by`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn factor(prime: &Prime, c: u64) -> Factor {
        Factor { value: splat(c), quotient: splat(Radix52::shoup(prime.value(), c)) }
    }

    /// x · y − quotient · p modulo 2^52.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn remainder(self, x: __m512i, y: __m512i, quotient: __m512i) -> __m512i {
        let product = _mm512_madd52lo_epu64(_mm512_setzero_si512(), x, y);
        _mm512_and_si512(_mm512_madd52lo_epu64(product, quotient, self.minus_p), self.mask)
    }

    /// a · b modulo p, below 3 p, for residues a and b.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn multiply(self, a: __m512i, b: __m512i) -> __m512i {
        let zero = _mm512_setzero_si512();
        let (shifted, twice) = (_mm512_sllv_epi64(a, self.product_shift), _mm512_add_epi64(b, b));
        let top = _mm512_madd52hi_epu64(zero, shifted, twice);
        self.remainder(a, b, _mm512_madd52hi_epu64(zero, top, self.product_inverse))
    }

    /// x · factor modulo p, below 2 p, for words x.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn multiply_by(self, x: __m512i, factor: Factor) -> __m512i {
        let quotient = _mm512_madd52hi_epu64(_mm512_setzero_si512(), x, factor.quotient);
        self.remainder(x, factor.value, quotient)
    }

    /// Words modulo p, below 2 p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn reduce_word(self, x: __m512i) -> __m512i {
        let quotient = _mm512_madd52hi_epu64(_mm512_setzero_si512(), x, self.word_inverse);
        _mm512_and_si512(_mm512_madd52lo_epu64(x, quotient, self.minus_p), self.mask)
    }

    /// A sum below 2^104 modulo p, below 4 p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn reduce_sum(self, sum: Sum) -> __m512i {
        let high = _mm512_add_epi64(sum.high, _mm512_srli_epi64::<52>(sum.low));
        let low = _mm512_and_si512(sum.low, self.mask);
        _mm512_add_epi64(self.multiply_by(high, self.radix), self.reduce_word(low))
    }

    /// a + b modulo p, canonical for canonical a and b.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn add(self, a: __m512i, b: __m512i) -> __m512i {
        self.below_p(_mm512_add_epi64(a, b))
    }

    /// a − b modulo p, canonical for canonical a and b. A difference below zero wraps to a huge word.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn sub(self, a: __m512i, b: __m512i) -> __m512i {
        let difference = _mm512_sub_epi64(a, b);
        _mm512_min_epu64(difference, _mm512_add_epi64(difference, self.p))
    }

    /// The canonical residue of a word below 2 p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn below_p(self, x: __m512i) -> __m512i {
        _mm512_min_epu64(x, _mm512_sub_epi64(x, self.p))
    }

    /// The canonical residue of a word below 4 p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn canonical(self, x: __m512i) -> __m512i {
        self.below_p(_mm512_min_epu64(x, _mm512_sub_epi64(x, self.twice_p)))
    }

    /// Canonical residues of exact f64 integers of magnitude below 2^52.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn reduce_floats(self, values: &[f64; LANES]) -> __m512i {
        // SAFETY: the reference vouches for eight readable numbers.
        let x = _mm512_cvttpd_epi64(unsafe { _mm512_loadu_pd(values.as_ptr()) });
        let residue = self.below_p(self.reduce_word(_mm512_abs_epi64(x)));
        let negative = _mm512_cmplt_epi64_mask(x, _mm512_setzero_si512());
        // p − residue is p itself for zero.
        self.below_p(_mm512_mask_sub_epi64(residue, negative, self.p, residue))
    }

    /// Centred representatives of canonical residues, as f64.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn centred_floats(self, x: __m512i) -> __m512d {
        // Above p/2 exactly when above its floor, p being odd.
        let above = _mm512_cmpgt_epu64_mask(x, _mm512_srli_epi64::<1>(self.p));
        _mm512_cvtepi64_pd(_mm512_mask_sub_epi64(x, above, x, self.p))
    }

    /// Canonical residues of f64 of magnitude below p, rounded to the nearest integer, ties to even.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn round(self, x: __m512d) -> __m512i {
        let x = _mm512_cvt_roundpd_epi64::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
        // A negative word is huge.
        _mm512_min_epu64(x, _mm512_add_epi64(x, self.p))
    }
}
