//! Hybrid key-switching keys (Han–Ki 2020): from a secret s' to a secret s, in digits, modulo QP.
//!
//! Digit d is (b_d, a_d) with b_d = −a_d·s + e_d + P·T_d·s', where T_d is 1 modulo the primes of digit d and 0 modulo
//! the others. A key made over the lowest primes of the chain serves every level that has no more of them.

use rayon::prelude::*;

use super::encryption::{EncryptionOfZero, UniformHalf, add_special_multiple};
use super::secret::SecretPolynomial;
use crate::ckks::Parameters;
use crate::contract::{Error, Result};
use crate::ring::{Evaluations, Randomness, RingContext, RnsPolynomial, Seed};

/// A key-switching key over the lowest `chain_limbs` primes of the chain and the first `special_limbs` special
/// primes; digits of `special_limbs` primes.
#[derive(Clone, Debug)]
pub struct KeySwitchingKey {
    /// (b_d, a_d) for each digit.
    digits: Vec<(RnsPolynomial<Evaluations>, RnsPolynomial<Evaluations>)>,
    chain_limbs: usize,
    special_limbs: usize,
    /// The a_d are expanded from it; only it is stored.
    seed: Seed,
}

impl KeySwitchingKey {
    /// Key from the secret `from` to the secret `to`, both over at least the key's limbs. One encryption of zero a
    /// digit.
    ///
    /// # Errors
    /// [`Error::Internal`] for limbs that do not exist.
    pub(crate) fn generate(
        ring: &RingContext,
        from: &SecretPolynomial<Evaluations>,
        to: &SecretPolynomial<Evaluations>,
        chain_limbs: usize,
        special_limbs: usize,
        randomness: &mut Randomness,
    ) -> Result<Self> {
        let seed = randomness.seed();
        let count = chain_limbs.div_ceil(special_limbs.max(1));
        let mut forks: Vec<(usize, Randomness)> =
            (0..count).map(|digit| (digit, randomness.fork())).collect();
        let digits = forks
            .par_iter_mut()
            .map(|(digit, randomness)| {
                let uniform = UniformHalf { seed: &seed, number: *digit as u32 };
                let EncryptionOfZero { mut b, a } =
                    EncryptionOfZero::new(ring, to, chain_limbs, special_limbs, uniform, randomness)?;
                let own = *digit * special_limbs..(*digit + 1) * special_limbs;
                add_special_multiple(ring, &mut b, from, own)?;
                Ok((b, a))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { digits, chain_limbs, special_limbs, seed })
    }

    /// The digits (b_d, a_d).
    pub(crate) fn digits(&self) -> &[(RnsPolynomial<Evaluations>, RnsPolynomial<Evaluations>)] {
        &self.digits
    }

    /// Primes of the chain the key covers.
    #[must_use]
    pub fn chain_limbs(&self) -> usize {
        self.chain_limbs
    }

    /// Special primes the key uses; also the number of primes in a digit.
    #[must_use]
    pub fn special_limbs(&self) -> usize {
        self.special_limbs
    }

    /// Seed of the uniform halves.
    #[must_use]
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Bytes of a key in memory: 2 · digits · (chain + special limbs) · N · 8.
    #[must_use]
    pub fn predicted_bytes(degree: usize, chain_limbs: usize, special_limbs: usize) -> u64 {
        let digits = chain_limbs.div_ceil(special_limbs.max(1));
        2 * 8 * (digits * (chain_limbs + special_limbs) * degree) as u64
    }

    /// Bytes this key holds in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.digits.iter().map(|(b, a)| 8 * (b.words().len() + a.words().len()) as u64).sum()
    }

    /// A key from its stored halves b_d and its seed.
    ///
    /// # Errors
    /// [`Error::Format`] when the number of digits does not fit the limbs.
    pub fn from_parts(
        parameters: &Parameters,
        halves: Vec<RnsPolynomial<Evaluations>>,
        seed: Seed,
        chain_limbs: usize,
        special_limbs: usize,
    ) -> Result<Self> {
        let ring = parameters.ring();
        if special_limbs == 0 || halves.len() != chain_limbs.div_ceil(special_limbs) {
            return Err(Error::Format {
                what: "key-switching key".to_owned(),
                why: format!(
                    "{} digits for {chain_limbs} limbs and {special_limbs} special primes",
                    halves.len()
                ),
                remedy: "read it under the parameters it was written with".to_owned(),
            });
        }
        let digits = halves
            .into_iter()
            .enumerate()
            .map(|(digit, b)| {
                let uniform = UniformHalf { seed: &seed, number: digit as u32 };
                Ok((b, uniform.expand(ring, chain_limbs, special_limbs)?))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { digits, chain_limbs, special_limbs, seed })
    }
}
