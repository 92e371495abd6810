//! RNS polynomials with their domain in the type.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{Automorphism, Limb, Prime, RingContext};
use crate::contract::{Error, Result};

/// Domain of the residues of a polynomial.
pub trait Domain: Copy + Send + Sync + 'static {}

/// Coefficients in natural order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coefficients;

/// Evaluations (NTT form) in bit-reversed order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluations;

impl Domain for Coefficients {}
impl Domain for Evaluations {}

/// A polynomial as residues modulo the first `chain_limbs` primes of the chain, then `special_limbs` special primes;
/// flat, limb-major, N words a limb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RnsPolynomial<D> {
    pub(super) data: Buffer,
    chain_limbs: usize,
    special_limbs: usize,
    domain: PhantomData<D>,
}

/// The limbs of a polynomial with `chain` and `special` limbs, in order.
fn limbs_of(chain: usize, special: usize) -> impl Iterator<Item = Limb> + Clone {
    (0..chain).map(Limb::Chain).chain((0..special).map(Limb::Special))
}

impl<D: Domain> RnsPolynomial<D> {
    /// The zero polynomial.
    #[must_use]
    pub fn zero(ring: &RingContext, chain_limbs: usize, special_limbs: usize) -> Self {
        let words = (chain_limbs + special_limbs) * ring.degree();
        Self { data: Buffer::zeros(words), chain_limbs, special_limbs, domain: PhantomData }
    }

    /// A polynomial with unspecified contents: whoever asks for it writes every row. (Zeros cost a pass over memory.)
    #[must_use]
    pub(crate) fn unspecified(ring: &RingContext, chain_limbs: usize, special_limbs: usize) -> Self {
        let words = (chain_limbs + special_limbs) * ring.degree();
        Self { data: Buffer::unspecified(words), chain_limbs, special_limbs, domain: PhantomData }
    }

    /// A polynomial of given residues (canonical, limb-major).
    ///
    /// # Errors
    /// [`Error::Format`] when the number of words is wrong or a residue is not canonical.
    pub fn from_words(
        ring: &RingContext,
        data: Vec<u64>,
        chain_limbs: usize,
        special_limbs: usize,
    ) -> Result<Self> {
        let bad = |why: String| Error::Format {
            what: "polynomial".to_owned(),
            why,
            remedy: "read it under the parameters it was written with".to_owned(),
        };
        let words = (chain_limbs + special_limbs) * ring.degree();
        if data.len() != words {
            return Err(bad(format!("{} words, expected {words}", data.len())));
        }
        let polynomial = Self { data: data.into(), chain_limbs, special_limbs, domain: PhantomData };
        for (limb, row) in polynomial.rows(ring) {
            let p = ring.prime(limb)?.value();
            if let Some(x) = row.iter().find(|x| **x >= p) {
                return Err(bad(format!("residue {x} modulo {p}")));
            }
        }
        Ok(polynomial)
    }

    /// All words, limb-major.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.data
    }

    /// Number of limbs of the chain.
    #[must_use]
    pub fn chain_limbs(&self) -> usize {
        self.chain_limbs
    }

    /// Number of special limbs.
    #[must_use]
    pub fn special_limbs(&self) -> usize {
        self.special_limbs
    }

    /// The limbs, in the order of the rows.
    #[must_use]
    pub fn limbs(&self) -> Vec<Limb> {
        limbs_of(self.chain_limbs, self.special_limbs).collect()
    }

    /// The rows with their limbs.
    pub fn rows<'a>(&'a self, ring: &RingContext) -> impl Iterator<Item = (Limb, &'a [u64])> {
        limbs_of(self.chain_limbs, self.special_limbs).zip(self.data.chunks_exact(ring.degree()))
    }

    /// The row of one limb.
    ///
    /// # Errors
    /// [`Error::Internal`] when the polynomial does not have it.
    pub fn row(&self, ring: &RingContext, limb: Limb) -> Result<&[u64]> {
        let index = match limb {
            Limb::Chain(index) if index < self.chain_limbs => index,
            Limb::Special(index) if index < self.special_limbs => self.chain_limbs + index,
            _ => return Err(Error::Internal(format!("no row for {limb:?}"))),
        };
        let n = ring.degree();
        self.data
            .get(index * n..(index + 1) * n)
            .ok_or_else(|| Error::Internal(format!("no row for {limb:?}")))
    }

    /// Writable rows in the order of [`Self::limbs`].
    pub fn rows_mut(&mut self, ring: &RingContext) -> std::slice::ChunksExactMut<'_, u64> {
        self.data.chunks_exact_mut(ring.degree())
    }

    /// Fills every row in parallel: `fill(limb, prime, row)`.
    ///
    /// # Errors
    /// The first error of `fill`.
    pub fn fill(
        &mut self,
        ring: &RingContext,
        fill: impl Fn(Limb, &Prime, &mut [u64]) -> Result<()> + Sync,
    ) -> Result<()> {
        let limbs = self.limbs();
        self.data
            .par_chunks_exact_mut(ring.degree())
            .zip(limbs)
            .try_for_each(|(row, limb)| fill(limb, ring.prime(limb)?, row))
    }

    fn combine(
        &self,
        ring: &RingContext,
        other: &Self,
        kernel: impl Fn(&Prime, &mut [u64], &[u64], &[u64]) + Sync,
    ) -> Result<Self> {
        if (self.chain_limbs, self.special_limbs) != (other.chain_limbs, other.special_limbs) {
            return Err(Error::Internal(format!(
                "polynomials of {}+{} and {}+{} limbs",
                self.chain_limbs, self.special_limbs, other.chain_limbs, other.special_limbs
            )));
        }
        let mut result = Self::unspecified(ring, self.chain_limbs, self.special_limbs);
        result.fill(ring, |limb, prime, row| {
            kernel(prime, row, self.row(ring, limb)?, other.row(ring, limb)?);
            Ok(())
        })?;
        Ok(result)
    }

    /// self + other, limbs equal.
    ///
    /// # Errors
    /// [`Error::Internal`] for unequal limbs.
    pub fn add(&self, ring: &RingContext, other: &Self) -> Result<Self> {
        self.combine(ring, other, |prime, out, a, b| ring.kernels().add(prime, out, a, b))
    }

    /// self += other over the limbs of self; `other` may have more.
    ///
    /// # Errors
    /// [`Error::Internal`] when `other` lacks a limb of self.
    pub fn add_assign(&mut self, ring: &RingContext, other: &Self) -> Result<()> {
        self.fill(ring, |limb, prime, row| {
            ring.kernels().add_assign(prime, row, other.row(ring, limb)?);
            Ok(())
        })
    }

    /// self − other, limbs equal.
    ///
    /// # Errors
    /// [`Error::Internal`] for unequal limbs.
    pub fn sub(&self, ring: &RingContext, other: &Self) -> Result<Self> {
        self.combine(ring, other, |prime, out, a, b| ring.kernels().sub(prime, out, a, b))
    }

    /// self = −self.
    ///
    /// # Errors
    /// [`Error::Internal`] never in practice: limbs exist by construction.
    pub fn negate(&mut self, ring: &RingContext) -> Result<()> {
        self.fill(ring, |_, prime, row| {
            ring.kernels().negate(prime, row);
            Ok(())
        })
    }

    /// self · c(prime) with one constant a prime.
    ///
    /// # Errors
    /// [`Error::Internal`] never in practice: limbs exist by construction.
    pub fn mul_scalar(&self, ring: &RingContext, constant: impl Fn(&Prime) -> u64 + Sync) -> Result<Self> {
        let mut result = Self::unspecified(ring, self.chain_limbs, self.special_limbs);
        result.fill(ring, |limb, prime, row| {
            ring.kernels().multiply_scalar(prime, row, self.row(ring, limb)?, constant(prime));
            Ok(())
        })?;
        Ok(result)
    }

    /// A copy over the lowest `chain_limbs` primes of the chain, without special limbs (no division).
    ///
    /// # Errors
    /// [`Error::Internal`] when it has fewer.
    pub fn truncate(&self, ring: &RingContext, chain_limbs: usize) -> Result<Self> {
        let words = self
            .data
            .get(..chain_limbs * ring.degree())
            .filter(|_| chain_limbs <= self.chain_limbs)
            .ok_or_else(|| {
                Error::Internal(format!("{} limbs cannot become {chain_limbs}", self.chain_limbs))
            })?;
        Ok(Self { data: Buffer::copy_of(words), chain_limbs, special_limbs: 0, domain: PhantomData })
    }
}

impl RnsPolynomial<Evaluations> {
    /// self · other slot by slot of the NTT, limbs equal.
    ///
    /// # Errors
    /// [`Error::Internal`] for unequal limbs.
    pub fn mul(&self, ring: &RingContext, other: &Self) -> Result<Self> {
        self.combine(ring, other, |prime, out, a, b| ring.kernels().multiply(prime, out, a, b))
    }

    /// self = a · b over the limbs of self; a and b may have more limbs.
    ///
    /// # Errors
    /// [`Error::Internal`] when a or b lack a limb of self.
    pub fn assign_product(&mut self, ring: &RingContext, a: &Self, b: &Self) -> Result<()> {
        self.fill(ring, |limb, prime, row| {
            ring.kernels().multiply(prime, row, a.row(ring, limb)?, b.row(ring, limb)?);
            Ok(())
        })
    }

    /// self += a · b over the limbs of self; a and b may have more limbs.
    ///
    /// # Errors
    /// [`Error::Internal`] when a or b lack a limb of self.
    pub fn multiply_accumulate(&mut self, ring: &RingContext, a: &Self, b: &Self) -> Result<()> {
        self.fill(ring, |limb, prime, row| {
            ring.kernels().multiply_accumulate(prime, row, a.row(ring, limb)?, b.row(ring, limb)?);
            Ok(())
        })
    }

    /// The image under an automorphism.
    ///
    /// # Errors
    /// [`Error::Internal`] never in practice: limbs exist by construction.
    pub fn automorphism(&self, ring: &RingContext, automorphism: &Automorphism) -> Result<Self> {
        let mut result = Self::unspecified(ring, self.chain_limbs, self.special_limbs);
        result.assign_automorphism(ring, self, automorphism)?;
        Ok(result)
    }

    /// self = the image of `other` under an automorphism, over the limbs of self.
    ///
    /// # Errors
    /// [`Error::Internal`] when `other` lacks a limb of self.
    pub fn assign_automorphism(
        &mut self,
        ring: &RingContext,
        other: &Self,
        automorphism: &Automorphism,
    ) -> Result<()> {
        self.fill(ring, |limb, _, row| {
            automorphism.apply(row, other.row(ring, limb)?);
            Ok(())
        })
    }

    /// self += the image of `other` under an automorphism, over the limbs of self.
    ///
    /// # Errors
    /// [`Error::Internal`] when `other` lacks a limb of self.
    pub fn add_automorphism(
        &mut self,
        ring: &RingContext,
        other: &Self,
        automorphism: &Automorphism,
    ) -> Result<()> {
        self.fill(ring, |limb, prime, row| {
            let mut image = ring.workspace(row.len());
            automorphism.apply(&mut image, other.row(ring, limb)?);
            ring.kernels().add_assign(prime, row, &image);
            Ok(())
        })
    }

    /// To coefficients, in place.
    ///
    /// # Errors
    /// [`Error::Internal`] never in practice: limbs exist by construction.
    pub fn into_coefficients(mut self, ring: &RingContext) -> Result<RnsPolynomial<Coefficients>> {
        self.fill(ring, |limb, _, row| {
            ring.plan(limb)?.inverse(row);
            Ok(())
        })?;
        let Self { data, chain_limbs, special_limbs, .. } = self;
        Ok(RnsPolynomial { data, chain_limbs, special_limbs, domain: PhantomData })
    }
}

impl RnsPolynomial<Coefficients> {
    /// A polynomial of small signed coefficients, reduced modulo every limb.
    ///
    /// # Errors
    /// [`Error::Internal`] when there are not N coefficients.
    pub fn from_signed(
        ring: &RingContext,
        coefficients: &[i64],
        chain_limbs: usize,
        special_limbs: usize,
    ) -> Result<Self> {
        if coefficients.len() != ring.degree() {
            return Err(Error::Internal(format!(
                "{} coefficients for degree {}",
                coefficients.len(),
                ring.degree()
            )));
        }
        let mut result = Self::unspecified(ring, chain_limbs, special_limbs);
        result.fill(ring, |_, prime, row| {
            for (out, c) in row.iter_mut().zip(coefficients) {
                *out = prime.reduce_signed(*c);
            }
            Ok(())
        })?;
        Ok(result)
    }

    /// To evaluations, in place.
    ///
    /// # Errors
    /// [`Error::Internal`] never in practice: limbs exist by construction.
    pub fn into_evaluations(mut self, ring: &RingContext) -> Result<RnsPolynomial<Evaluations>> {
        self.fill(ring, |limb, _, row| {
            ring.plan(limb)?.forward(row);
            Ok(())
        })?;
        let Self { data, chain_limbs, special_limbs, .. } = self;
        Ok(RnsPolynomial { data, chain_limbs, special_limbs, domain: PhantomData })
    }
}

impl<D> zeroize::Zeroize for RnsPolynomial<D> {
    fn zeroize(&mut self) {
        self.data.zeroize();
    }
}
