//! NTT-friendly primes and scalar arithmetic modulo one of them.

use fhe_math::zq::Modulus;

use super::radix52::Radix52;
use crate::contract::{Error, Result};

/// Primes stay below 2^50: the f64 and the 52-bit integer kernels need it, and `tfhe-ntt` 0.7.1 computes wrong products
/// for some primes just below 2^51.
pub const MAX_PRIME_BITS: u32 = 50;

/// A prime modulus with what the kernels need of it.
#[derive(Clone, Debug)]
pub struct Prime {
    value: u64,
    modulus: Modulus,
    pub(super) float: f64,
    pub(super) inverse: f64,
    pub(super) radix52: Radix52,
}

impl Prime {
    /// The prime `value`, below 2^50.
    ///
    /// # Errors
    /// [`Error::Parameters`] when it is not a prime below 2^50 or below 2^10.
    pub fn new(value: u64) -> Result<Self> {
        let usable = value < (1 << MAX_PRIME_BITS) && value > (1 << 10) && fhe_util::is_prime(value);
        let modulus = if usable { Modulus::new(value).ok() } else { None };
        let modulus = modulus.ok_or_else(|| Error::Parameters {
            what: format!("{value} is not a prime between 2^10 and 2^{MAX_PRIME_BITS}"),
            remedy: "take primes from `primes_near`".to_owned(),
        })?;
        Ok(Self {
            value,
            modulus,
            float: value as f64,
            inverse: 1.0 / value as f64,
            radix52: Radix52::new(value),
        })
    }

    /// The prime itself.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value
    }

    /// a + b.
    #[must_use]
    pub fn add(&self, a: u64, b: u64) -> u64 {
        self.modulus.add(a, b)
    }

    /// a − b.
    #[must_use]
    pub fn sub(&self, a: u64, b: u64) -> u64 {
        self.modulus.sub(a, b)
    }

    /// a · b.
    #[must_use]
    pub fn mul(&self, a: u64, b: u64) -> u64 {
        self.modulus.mul(a, b)
    }

    /// a^n.
    #[must_use]
    pub fn pow(&self, a: u64, n: u64) -> u64 {
        self.modulus.pow(a, n)
    }

    /// 1/a by Fermat; 0 for 0.
    #[must_use]
    pub fn inv(&self, a: u64) -> u64 {
        self.modulus.pow(a, self.value - 2)
    }

    /// a modulo this prime, for any a.
    #[must_use]
    pub fn reduce(&self, a: u64) -> u64 {
        a % self.value
    }

    /// A signed number modulo this prime.
    #[must_use]
    pub fn reduce_signed(&self, a: i64) -> u64 {
        let residue = a.unsigned_abs() % self.value;
        if a < 0 && residue != 0 { self.value - residue } else { residue }
    }

    /// A signed wide number modulo this prime.
    #[must_use]
    pub fn reduce_wide(&self, a: i128) -> u64 {
        let residue = (a.unsigned_abs() % u128::from(self.value)) as u64;
        if a < 0 && residue != 0 { self.value - residue } else { residue }
    }

    /// The representative of `a` in (−q/2, q/2].
    #[must_use]
    pub fn centred(&self, a: u64) -> i64 {
        if a > self.value / 2 { a as i64 - self.value as i64 } else { a as i64 }
    }
}

/// Largest log2 of a ring degree; keeps the arithmetic on steps of 2N below 2^64.
const MAX_LOG2_N: u32 = 17;

/// `count` distinct primes ≡ 1 modulo 2N nearest to `target`, nearest first, leaving out those in `taken`.
///
/// # Errors
/// [`Error::Parameters`] when there are not enough of them between 2^10 and 2^50.
pub fn primes_near(target: f64, log2_n: u32, count: usize, taken: &[u64]) -> Result<Vec<u64>> {
    if log2_n > MAX_LOG2_N {
        return Err(Error::Parameters {
            what: format!("ring degree 2^{log2_n}"),
            remedy: format!("use at most 2^{MAX_LOG2_N}"),
        });
    }
    let step = 2u64 << log2_n;
    let limit = 1u64 << MAX_PRIME_BITS;
    let not_enough = || Error::Parameters {
        what: format!(
            "fewer than {count} free primes near 2^{:.2} that are 1 modulo 2^{}",
            target.log2(),
            log2_n + 1
        ),
        remedy: "use fewer levels, another prime size, or a smaller ring".to_owned(),
    };
    if !(target.is_finite() && target >= 1024.0 && target <= limit as f64) {
        return Err(not_enough());
    }
    let centre = (target / step as f64).round() as u64 * step + 1;
    let mut found = Vec::with_capacity(count);
    // Alternating above and below the target; past 2^20 steps no useful prime remains.
    for distance in 0..(1u64 << 20) {
        let above = centre.checked_add(distance * step);
        let below = if distance == 0 { None } else { centre.checked_sub(distance * step) };
        for candidate in [above, below].into_iter().flatten() {
            if found.len() < count
                && candidate < limit
                && candidate > step
                && !taken.contains(&candidate)
                && fhe_util::is_prime(candidate)
            {
                found.push(candidate);
            }
        }
        if found.len() == count {
            return Ok(found);
        }
    }
    Err(not_enough())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_distinct_ntt_friendly_and_below_the_limit() {
        let taken = primes_near(2f64.powi(50), 16, 3, &[]).unwrap();
        let more = primes_near(2f64.powi(50), 16, 30, &taken).unwrap();
        for p in taken.iter().chain(&more) {
            assert!(*p < 1 << 50 && p % (1 << 17) == 1 && fhe_util::is_prime(*p), "{p}");
        }
        assert!(more.iter().all(|p| !taken.contains(p)));
    }

    #[test]
    fn signed_numbers_reduce_to_canonical_residues() {
        let prime = Prime::new(primes_near(2f64.powi(40), 10, 1, &[]).unwrap()[0]).unwrap();
        for a in [0i64, 1, -1, i64::MAX, i64::MIN, 12345, -98765] {
            let expected = i128::from(a).rem_euclid(i128::from(prime.value())) as u64;
            assert_eq!(prime.reduce_signed(a), expected);
            assert_eq!(prime.reduce_wide(i128::from(a)), expected);
        }
    }
}
