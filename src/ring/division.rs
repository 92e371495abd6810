//! Division by dropped limbs: the rescale, and the division by P that ends a key switch (ModDown).
//!
//! round(x / D), D the product of the dropped primes, modulo a prime that stays: (x − [x]_D) · D^{-1}. The remainder
//! [x]_D is taken to coefficients modulo the dropped primes, converted to those that stay, and transformed back.
//! Domain: evaluations.

use rayon::prelude::*;

use super::{Automorphism, BaseConversion, Evaluations, Limb, Prime, RingContext, RnsPolynomial};
use crate::contract::{Error, Result};

/// A division of one polynomial: which limbs go and which stay.
struct Division<'a> {
    ring: &'a RingContext,
    polynomial: &'a RnsPolynomial<Evaluations>,
    dropped: Vec<Limb>,
    dropped_primes: Vec<&'a Prime>,
    kept: Vec<Limb>,
}

impl<'a> Division<'a> {
    /// Division by all special limbs and the limbs of the chain from `chain_limbs` on.
    fn new(
        ring: &'a RingContext,
        polynomial: &'a RnsPolynomial<Evaluations>,
        chain_limbs: usize,
    ) -> Result<Self> {
        if chain_limbs > polynomial.chain_limbs() {
            let limbs = polynomial.chain_limbs();
            return Err(Error::Internal(format!("{limbs} limbs cannot become {chain_limbs}")));
        }
        let dropped: Vec<Limb> = (chain_limbs..polynomial.chain_limbs())
            .map(Limb::Chain)
            .chain((0..polynomial.special_limbs()).map(Limb::Special))
            .collect();
        let dropped_primes = dropped.iter().map(|limb| ring.prime(*limb)).collect::<Result<Vec<_>>>()?;
        let kept = (0..chain_limbs).map(Limb::Chain).collect();
        Ok(Self { ring, polynomial, dropped, dropped_primes, kept })
    }

    /// The remainder modulo the primes that stay, as coefficients, into as many `rows`.
    fn remainder(&self, rows: Vec<&mut [u64]>) -> Result<()> {
        let ring = self.ring;
        if self.dropped.is_empty() {
            rows.into_iter().for_each(|row| row.fill(0));
            return Ok(());
        }
        let mut sources = ring.workspace(self.dropped.len() * ring.degree());
        sources.par_chunks_exact_mut(ring.degree()).zip(&self.dropped).try_for_each(
            |(row, limb)| -> Result<()> {
                row.copy_from_slice(self.polynomial.row(ring, *limb)?);
                ring.plan(*limb)?.inverse(row);
                Ok(())
            },
        )?;
        let kept = self.kept.iter().map(|limb| ring.prime(*limb)).collect::<Result<Vec<_>>>()?;
        let mut conversion = BaseConversion::new(self.dropped_primes.clone(), kept);
        // A rescale rounds to the nearest; a division by P alone may be off by half the number of its primes.
        if self.dropped.len() > 1 && self.kept.len() < self.polynomial.chain_limbs() {
            conversion = conversion.centred();
        }
        let sources: Vec<&[u64]> = sources.rows().collect();
        conversion.convert(ring.kernels(), &sources, rows)
    }

    /// Turns the remainder in `row` (coefficients) into the quotient (evaluations) on one limb. One NTT.
    fn quotient(&self, limb: Limb, row: &mut [u64]) -> Result<()> {
        let prime = self.ring.prime(limb)?;
        let product = self.dropped_primes.iter().fold(1, |x, q| prime.mul(x, prime.reduce(q.value())));
        self.ring.plan(limb)?.forward(row);
        let dividend = self.polynomial.row(self.ring, limb)?;
        self.ring.kernels().subtract_multiply(prime, row, dividend, prime.inv(product));
        Ok(())
    }
}

impl RnsPolynomial<Evaluations> {
    /// round(self / Π dropped), where the dropped limbs are all special ones and the chain limbs from `chain_limbs`
    /// on. Rounding is to the nearest when limbs of the chain are dropped (a rescale), and off by at most half the
    /// number of dropped limbs when all are special: a division by P happens far above the scale of the result. Cost:
    /// one inverse NTT for each dropped limb, one NTT for each that stays.
    ///
    /// # Errors
    /// [`Error::Internal`] when there are fewer limbs than should stay.
    pub fn divide_by_dropped_limbs(&self, ring: &RingContext, chain_limbs: usize) -> Result<Self> {
        let division = Division::new(ring, self, chain_limbs)?;
        let mut result = Self::unspecified(ring, chain_limbs, 0);
        division.remainder(result.rows_mut(ring).collect())?;
        result.fill(ring, |limb, _, row| division.quotient(limb, row))?;
        Ok(result)
    }

    /// φ(round(self / P) + addend) for an automorphism φ and P the product of all special primes: the end of a
    /// rotation, in one pass over each row. `addend` has at least the limbs of the chain of self. Cost as
    /// [`Self::divide_by_dropped_limbs`].
    ///
    /// # Errors
    /// [`Error::Internal`] when `addend` lacks a limb.
    pub fn divide_and_permute(
        &self,
        ring: &RingContext,
        addend: Option<&Self>,
        automorphism: &Automorphism,
    ) -> Result<Self> {
        let chain_limbs = self.chain_limbs();
        let division = Division::new(ring, self, chain_limbs)?;
        let mut rows = ring.workspace(chain_limbs * ring.degree());
        division.remainder(rows.chunks_exact_mut(ring.degree()).collect())?;
        let mut result = Self::unspecified(ring, chain_limbs, 0);
        let out: Vec<&mut [u64]> = result.rows_mut(ring).collect();
        rows.par_chunks_exact_mut(ring.degree()).zip(out).zip(&division.kept).try_for_each(
            |((row, out), limb)| -> Result<()> {
                division.quotient(*limb, row)?;
                if let Some(addend) = addend {
                    ring.kernels().add_assign(ring.prime(*limb)?, row, addend.row(ring, *limb)?);
                }
                automorphism.apply(out, row);
                Ok(())
            },
        )?;
        Ok(result)
    }
}
