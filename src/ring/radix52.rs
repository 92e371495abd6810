//! Constants of a prime for products of 52-bit words, as AVX512-IFMA computes them: the low and the high 52 bits of a
//! product, each added to a 64-bit word.
//!
//! Quotients are Barrett's and Shoup's (Harvey 2014): a precomputed, rounded-down inverse gives a quotient that is
//! too small by at most two, so the remainder is a small multiple of the prime off. All of it holds for primes of 11
//! to 50 bits.

/// Radix of the words: 2^52.
const LOG2_RADIX: u32 = 52;

/// What [`super::kernels`] need of a prime p to reduce products of 52-bit words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Radix52 {
    /// 52 − n for a prime of n bits: the high word of a · 2^(52−n) and 2 b is ⌊a · b / 2^(n−1)⌋.
    pub(super) product_shift: u32,
    /// ⌊2^(n+51) / p⌋: the quotient of a · b is the high word of this times ⌊a · b / 2^(n−1)⌋, or up to two more.
    pub(super) product_inverse: u64,
    /// ⌊2^52 / p⌋: the quotient of a word is the high word of this times the word, or one more.
    pub(super) word_inverse: u64,
    /// 2^52 mod p.
    pub(super) radix: u64,
    /// Shoup's quotient of [`Self::radix`], see [`Self::shoup`].
    pub(super) radix_quotient: u64,
}

impl Radix52 {
    /// Constants of the prime `value`, of 11 to 50 bits.
    pub(super) fn new(value: u64) -> Self {
        let bits = u64::BITS - value.leading_zeros();
        let radix = (1 << LOG2_RADIX) % value;
        Self {
            product_shift: LOG2_RADIX - bits,
            product_inverse: ((1u128 << (bits + LOG2_RADIX - 1)) / u128::from(value)) as u64,
            word_inverse: (1 << LOG2_RADIX) / value,
            radix,
            radix_quotient: Self::shoup(value, radix),
        }
    }

    /// ⌊2^52 · c / p⌋ for a residue c: the quotient of x · c, for a word x, is the high word of x times this, or one
    /// more.
    pub(super) fn shoup(prime: u64, c: u64) -> u64 {
        ((u128::from(c) << LOG2_RADIX) / u128::from(prime)) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Prime, primes_near};
    use super::*;

    /// The high word of a product, as the instruction computes it: of the low 52 bits of both factors.
    fn high(a: u64, b: u64) -> u64 {
        assert!(a < 1 << 52 && b < 1 << 52, "{a} or {b} is not a word of 52 bits");
        ((u128::from(a) * u128::from(b)) >> 52) as u64
    }

    proptest! {
        /// The bounds the vector code rests on; it subtracts with wrapping words, so a bound that fails gives wrong
        /// residues.
        #[test]
        fn quotients_are_too_small_by_at_most_two(bits in 20i32..=50, a: u64, b: u64, word: u64) {
            let prime = Prime::new(primes_near(2f64.powi(bits), 10, 1, &[]).unwrap()[0]).unwrap();
            let p = prime.value();
            let constants = Radix52::new(p);
            let mask = (1u64 << 52) - 1;
            for (a, b, word) in [(a % p, b % p, word & mask), (p - 1, p - 1, mask), (p - 1, b % p, 0), (0, 0, p)] {
                let product = u128::from(a) * u128::from(b);
                let quotient = high(high(a << constants.product_shift, 2 * b), constants.product_inverse);
                let remainder = product - u128::from(quotient) * u128::from(p);
                prop_assert!(remainder < 3 * u128::from(p), "{a} · {b} modulo {p} leaves {remainder}");
                let rest = word - high(word, constants.word_inverse) * p;
                prop_assert!(rest < 2 * p, "{word} modulo {p} leaves {rest}");
                let shoup = u128::from(word) * u128::from(b)
                    - u128::from(high(word, Radix52::shoup(p, b))) * u128::from(p);
                prop_assert!(shoup < 2 * u128::from(p), "{word} · {b} modulo {p} leaves {shoup}");
            }
        }
    }
}
