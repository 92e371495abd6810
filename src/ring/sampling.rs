//! Randomness: secrets, errors and uniform polynomials.

use rand::{RngCore, SeedableRng};
use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use zeroize::Zeroizing;

use super::{Limb, Prime};
use crate::contract::{Error, Result};

/// Variance of the error, a centred binomial: σ = √10 = 3.162.
pub const ERROR_VARIANCE: usize = 10;

/// Seed of the uniform half of a key or ciphertext. Public.
pub type Seed = [u8; 32];

/// Cryptographic randomness of a client.
pub struct Randomness(ChaCha20Rng);

impl Randomness {
    /// Seeded from the operating system's entropy.
    #[must_use]
    pub fn from_system() -> Self {
        Self(ChaCha20Rng::from_os_rng())
    }

    /// A fixed seed, for reproducible tests only: whoever knows the seed knows the secret key.
    #[must_use]
    pub fn from_insecure_fixed_seed(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }

    /// A fresh public seed.
    pub fn seed(&mut self) -> Seed {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }

    /// An independent generator for a parallel task.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        let mut seed = Zeroizing::new([0u8; 32]);
        self.0.fill_bytes(&mut *seed);
        Self(ChaCha20Rng::from_seed(*seed))
    }
}

/// Uniform ternary coefficients in {−1, 0, 1}.
#[must_use]
pub fn sample_ternary(degree: usize, randomness: &mut Randomness) -> Zeroizing<Vec<i64>> {
    let mut coefficients = Zeroizing::new(Vec::with_capacity(degree));
    while coefficients.len() < degree {
        let mut word = randomness.0.next_u64();
        for _ in 0..32 {
            // Two bits a draw; the fourth value is drawn again, which says nothing about those that are kept.
            let draw = (word & 3) as i64;
            if draw < 3 && coefficients.len() < degree {
                coefficients.push(draw - 1);
            }
            word >>= 2;
        }
    }
    coefficients
}

/// Ternary coefficients with exactly `weight` nonzero ones, positions and signs uniform.
///
/// # Errors
/// [`Error::Parameters`] when `weight` exceeds the degree.
pub fn sample_sparse_ternary(
    degree: usize,
    weight: usize,
    randomness: &mut Randomness,
) -> Result<Zeroizing<Vec<i64>>> {
    if weight > degree || !degree.is_power_of_two() {
        return Err(Error::Parameters {
            what: format!("Hamming weight {weight} in degree {degree}"),
            remedy: "use a weight of at most the degree, a power of two".to_owned(),
        });
    }
    let mut coefficients = Zeroizing::new(vec![0i64; degree]);
    let mut placed = 0;
    while placed < weight {
        let word = randomness.0.next_u64();
        let position = (word >> 1) as usize % degree;
        if let Some(coefficient) = coefficients.get_mut(position).filter(|coefficient| **coefficient == 0) {
            *coefficient = 1 - 2 * (word & 1) as i64;
            placed += 1;
        }
    }
    Ok(coefficients)
}

/// Error coefficients of variance 10.
///
/// # Errors
/// [`Error::Internal`] never in practice: the variance is one the sampler accepts.
pub fn sample_error(degree: usize, randomness: &mut Randomness) -> Result<Zeroizing<Vec<i64>>> {
    fhe_util::sample_vec_cbd(degree, ERROR_VARIANCE, &mut randomness.0)
        .map(Zeroizing::new)
        .map_err(|why| Error::Internal(why.to_owned()))
}

/// Uniform residues of one limb, expanded from a public seed: rejection sampling on 50-bit words of ChaCha8, one stream
/// a (`stream`, limb). `stream` numbers the polynomials of one seed.
pub fn uniform_limb(seed: &Seed, stream: u32, limb: Limb, prime: &Prime, row: &mut [u64]) {
    let mut generator = ChaCha8Rng::from_seed(*seed);
    let limb_number = match limb {
        Limb::Chain(index) => index as u64,
        Limb::Special(index) => (1 << 31) | index as u64,
    };
    generator.set_stream((u64::from(stream) << 32) | limb_number);
    let mask = prime.value().next_power_of_two() - 1;
    let mut bytes = [0u8; 1024];
    let mut filled = 0;
    while filled < row.len() {
        generator.fill_bytes(&mut bytes);
        for word in bytes.as_chunks::<8>().0 {
            let candidate = u64::from_le_bytes(*word) & mask;
            if candidate < prime.value()
                && let Some(out) = row.get_mut(filled)
            {
                *out = candidate;
                filled += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::primes_near;
    use super::*;

    #[test]
    fn ternary_secrets_are_balanced() {
        let secret = sample_ternary(1 << 14, &mut Randomness::from_insecure_fixed_seed(1));
        for value in -1..=1 {
            let count = secret.iter().filter(|x| **x == value).count() as f64;
            // Six standard deviations of a binomial(2^14, 1/3).
            assert!((count - 16384.0 / 3.0).abs() < 6.0 * 60.4, "{value}: {count}");
        }
    }

    #[test]
    fn sparse_secrets_have_their_weight() {
        let secret =
            sample_sparse_ternary(1 << 10, 32, &mut Randomness::from_insecure_fixed_seed(2)).unwrap();
        assert_eq!(secret.iter().filter(|x| x.abs() == 1).count(), 32);
        assert_eq!(secret.iter().filter(|x| **x == 0).count(), 1024 - 32);
        assert!(sample_sparse_ternary(16, 17, &mut Randomness::from_insecure_fixed_seed(2)).is_err());
    }

    #[test]
    fn errors_have_variance_ten() {
        let error = sample_error(1 << 15, &mut Randomness::from_insecure_fixed_seed(3)).unwrap();
        let variance = error.iter().map(|x| (x * x) as f64).sum::<f64>() / error.len() as f64;
        assert!((variance - 10.0).abs() < 0.6, "variance {variance}");
    }

    #[test]
    fn equal_seeds_expand_equally_and_limbs_differ() {
        let prime = Prime::new(primes_near(2f64.powi(50), 8, 1, &[]).unwrap()[0]).unwrap();
        let expand = |seed: u8, stream, limb| {
            let mut row = vec![0; 256];
            uniform_limb(&[seed; 32], stream, limb, &prime, &mut row);
            row
        };
        assert_eq!(expand(1, 0, Limb::Chain(3)), expand(1, 0, Limb::Chain(3)));
        assert_ne!(expand(1, 0, Limb::Chain(3)), expand(1, 0, Limb::Special(3)));
        assert_ne!(expand(1, 0, Limb::Chain(3)), expand(1, 1, Limb::Chain(3)));
        assert!(expand(9, 0, Limb::Chain(0)).iter().all(|x| *x < prime.value()));
    }
}
