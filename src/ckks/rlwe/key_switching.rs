//! Hybrid key switching (Han–Ki 2020): decompose into digits (ModUp), inner product with a key, divide by P (ModDown).
//!
//! Everything in evaluations. N = 2^16 at 24 limbs with 8 special primes: 24 inverse and 72 forward NTTs to
//! decompose, 16 and 48 to divide, 160 in all. A decomposition is shared by all rotations of one ciphertext
//! (hoisting), and the division by P by all terms of a sum (lazy ModDown).

use rayon::prelude::*;

use super::key_switching_key::KeySwitchingKey;
use crate::contract::{Error, Result};
use crate::ring::{BaseConversion, Evaluations, Limb, Prime, RingContext, RnsPolynomial, Workspace};

/// The digits of a polynomial, each extended to all limbs of the level and to the special primes.
pub(crate) struct Decomposition<'a> {
    /// On its own primes a digit is the polynomial itself.
    polynomial: &'a RnsPolynomial<Evaluations>,
    /// The extended rows, digit by digit: those of each digit in the order of `limbs`, without its own.
    rows: Workspace,
    limbs: Vec<Limb>,
    special_limbs: usize,
    digits: usize,
}

impl<'a> Decomposition<'a> {
    /// Decomposes `polynomial` (no special limbs) into digits of `special_limbs` primes. Cost: one inverse NTT a
    /// limb, and one NTT for each limb that a digit is extended to.
    pub(crate) fn new(
        ring: &RingContext,
        polynomial: &'a RnsPolynomial<Evaluations>,
        special_limbs: usize,
    ) -> Result<Self> {
        let chain_limbs = polynomial.chain_limbs();
        let limbs: Vec<Limb> =
            (0..chain_limbs).map(Limb::Chain).chain((0..special_limbs).map(Limb::Special)).collect();
        let digits = chain_limbs.div_ceil(special_limbs.max(1));
        let n = ring.degree();
        // Base conversion reads coefficients: one inverse NTT a limb, shared by all digits.
        let mut coefficients = ring.workspace(chain_limbs * n);
        coefficients.par_chunks_exact_mut(n).enumerate().try_for_each(|(index, row)| -> Result<()> {
            row.copy_from_slice(polynomial.row(ring, Limb::Chain(index))?);
            ring.plan(Limb::Chain(index))?.inverse(row);
            Ok(())
        })?;
        let coefficients: Vec<&[u64]> = coefficients.rows().collect();
        // Every digit has all limbs but its own, of which there are `chain_limbs` in all.
        let mut rows = ring.workspace((digits * limbs.len() - chain_limbs) * n);
        let mut free = rows.chunks_exact_mut(n);
        for digit in 0..digits {
            // ModUp of one digit: from its own primes to all other limbs, then back into evaluations.
            let own = digit * special_limbs..chain_limbs.min((digit + 1) * special_limbs);
            let others =
                limbs.iter().filter(|limb| !matches!(limb, Limb::Chain(index) if own.contains(index)));
            let mut targets: Vec<(Limb, &mut [u64])> = others.copied().zip(free.by_ref()).collect();
            let sources =
                own.clone().map(|index| ring.prime(Limb::Chain(index))).collect::<Result<Vec<&Prime>>>()?;
            let primes =
                targets.iter().map(|(limb, _)| ring.prime(*limb)).collect::<Result<Vec<&Prime>>>()?;
            let source_rows =
                coefficients.get(own).ok_or_else(|| Error::Internal("digit out of range".to_owned()))?;
            BaseConversion::new(sources, primes).convert(
                ring.kernels(),
                source_rows,
                targets.iter_mut().map(|(_, row)| &mut **row).collect(),
            )?;
            targets.into_par_iter().try_for_each(|(limb, row)| -> Result<()> {
                ring.plan(limb)?.forward(row);
                Ok(())
            })?;
        }
        Ok(Self { polynomial, rows, limbs, special_limbs, digits })
    }

    /// The row of a digit on one limb, by its index into [`Self::limbs`].
    fn row(&self, ring: &RingContext, digit: usize, index: usize) -> Result<&[u64]> {
        let chain_limbs = self.polynomial.chain_limbs();
        let own = digit * self.special_limbs..chain_limbs.min((digit + 1) * self.special_limbs);
        if own.contains(&index) {
            return self.polynomial.row(ring, Limb::Chain(index));
        }
        // All digits before this one are whole: each has `special_limbs` rows fewer than there are limbs.
        let before = digit * (self.limbs.len() - self.special_limbs);
        let within = if index < own.start { index } else { index - own.len() };
        let start = (before + within) * ring.degree();
        self.rows
            .get(start..start + ring.degree())
            .ok_or_else(|| Error::Internal(format!("no row {index} of digit {digit}")))
    }

    /// All limbs: those of the level, then the special ones.
    pub(crate) fn limbs(&self) -> &[Limb] {
        &self.limbs
    }

    /// That `key` covers this decomposition.
    pub(crate) fn check_key(&self, key: &KeySwitchingKey) -> Result<()> {
        let chain_limbs = self.polynomial.chain_limbs();
        if key.chain_limbs() < chain_limbs || key.special_limbs() != self.special_limbs {
            return Err(Error::Internal(format!(
                "key of {}+{} limbs for a decomposition of {}+{}",
                key.chain_limbs(),
                key.special_limbs(),
                chain_limbs,
                self.special_limbs
            )));
        }
        Ok(())
    }

    /// Σ_d digit_d · key_d on one limb (by index into [`Self::limbs`]): the two halves of the switched polynomial
    /// times P.
    pub(crate) fn inner_product_limb(
        &self,
        ring: &RingContext,
        key: &KeySwitchingKey,
        index: usize,
        out: (&mut [u64], &mut [u64]),
    ) -> Result<()> {
        let limb =
            *self.limbs.get(index).ok_or_else(|| Error::Internal(format!("no limb number {index}")))?;
        let mut digits = Vec::with_capacity(self.digits);
        let mut keys = Vec::with_capacity(self.digits);
        for (digit, (b, a)) in key.digits().iter().take(self.digits).enumerate() {
            digits.push(self.row(ring, digit, index)?);
            keys.push((b.row(ring, limb)?, a.row(ring, limb)?));
        }
        ring.kernels().inner_product(ring.prime(limb)?, out, &digits, &keys);
        Ok(())
    }

    /// Σ_d digit_d · key_d on all limbs: modulo QP, to be divided by P.
    pub(crate) fn inner_product(&self, ring: &RingContext, key: &KeySwitchingKey) -> Result<Extended> {
        self.check_key(key)?;
        let mut result = Extended::new(ring, self.polynomial.chain_limbs(), self.special_limbs);
        // Modulo QP limbs do not meet: each is summed alone. The division by P, which mixes them, is left to the
        // caller.
        let rows: Vec<_> = result.c0.rows_mut(ring).zip(result.c1.rows_mut(ring)).collect();
        rows.into_par_iter().enumerate().try_for_each(|(index, (out_0, out_1))| {
            self.inner_product_limb(ring, key, index, (out_0, out_1))
        })?;
        Ok(result)
    }
}

/// A pair of polynomials modulo QP, P times the ciphertext it stands for.
#[derive(Debug)]
pub(crate) struct Extended {
    pub(crate) c0: RnsPolynomial<Evaluations>,
    pub(crate) c1: RnsPolynomial<Evaluations>,
}

impl Extended {
    /// A pair over the given limbs with unspecified contents: every row is to be written.
    pub(crate) fn new(ring: &RingContext, chain_limbs: usize, special_limbs: usize) -> Self {
        Self {
            c0: RnsPolynomial::unspecified(ring, chain_limbs, special_limbs),
            c1: RnsPolynomial::unspecified(ring, chain_limbs, special_limbs),
        }
    }

    /// self += other.
    pub(crate) fn add_assign(&mut self, ring: &RingContext, other: &Self) -> Result<()> {
        self.c0.add_assign(ring, &other.c0)?;
        self.c1.add_assign(ring, &other.c1)
    }

    /// Both halves divided by P and rounded.
    pub(crate) fn divide(
        &self,
        ring: &RingContext,
    ) -> Result<(RnsPolynomial<Evaluations>, RnsPolynomial<Evaluations>)> {
        let limbs = self.c0.chain_limbs();
        Ok((self.c0.divide_by_dropped_limbs(ring, limbs)?, self.c1.divide_by_dropped_limbs(ring, limbs)?))
    }
}
