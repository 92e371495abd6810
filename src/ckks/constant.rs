//! Constants for all slots: c + di is the polynomial c + d·X^{N/2}.
//!
//! Domain: evaluations. X^{N/2} takes the value I in the first half of a row and −I in the second (I = ψ^{N/2}, a
//! root of −1), so a product with a constant is two products with scalars, without an NTT.

use crate::contract::checks::{check_constant_product, check_values};
use crate::contract::{Complex64, Level, Result, Scale};
use crate::ring::{Evaluations, Limb, RingContext, RnsPolynomial};

use super::Parameters;

/// A complex constant rounded at a scale: the integers of real + imaginary·X^{N/2}.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RoundedConstant {
    real: i128,
    imaginary: i128,
}

/// The values of a constant in the first and in the second half of a row.
#[derive(Clone, Copy)]
pub(super) struct Halves {
    pub(super) first: u64,
    pub(super) second: u64,
}

impl RoundedConstant {
    /// The imaginary unit: X^{N/2}, exactly.
    pub(super) const I: Self = Self { real: 0, imaginary: 1 };

    /// `c` at `scale`, to multiply a value of scale `given` at `level` with.
    ///
    /// # Errors
    /// [`crate::Error::BadValue`] and [`crate::Error::ScaleOutOfRange`] for a constant or scale that is not usable
    /// ([`check_constant_product`]).
    pub(super) fn factor(
        parameters: &Parameters,
        given: Scale,
        c: Complex64,
        scale: Scale,
        level: Level,
    ) -> Result<Self> {
        check_constant_product(parameters.chain(), given, c, scale, level)?;
        Ok(Self::rounded(c, scale))
    }

    /// `c` at `scale`, to be added to a value of that scale at `level`.
    ///
    /// # Errors
    /// [`crate::Error::BadValue`] and [`crate::Error::ScaleOutOfRange`] for a constant or scale that is not usable
    /// ([`check_values`]).
    pub(super) fn addend(parameters: &Parameters, c: Complex64, scale: Scale, level: Level) -> Result<Self> {
        check_values("add_constant", parameters.chain(), 1, &[c], level, scale)?;
        Ok(Self::rounded(c, scale))
    }

    /// The checks made sure that both parts fit 2^125.
    fn rounded(c: Complex64, scale: Scale) -> Self {
        let integer = |part: f64| (part * scale.0).round_ties_even() as i128;
        Self { real: integer(c.re), imaginary: integer(c.im) }
    }

    /// The values of the constant in both halves of a row of one limb.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] for a limb that does not exist.
    pub(super) fn halves(self, ring: &RingContext, limb: Limb) -> Result<Halves> {
        let prime = ring.prime(limb)?;
        let real = prime.reduce_wide(self.real);
        if self.imaginary == 0 {
            return Ok(Halves { first: real, second: real });
        }
        let unit = prime.pow(ring.plan(limb)?.root(), ring.degree() as u64 / 2);
        let turned = prime.mul(prime.reduce_wide(self.imaginary), unit);
        Ok(Halves { first: prime.add(real, turned), second: prime.sub(real, turned) })
    }

    /// `result` = polynomial · constant over the limbs of `result`, of which `polynomial` may have more.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when `polynomial` lacks a limb of `result`.
    pub(super) fn assign_product(
        self,
        ring: &RingContext,
        result: &mut RnsPolynomial<Evaluations>,
        polynomial: &RnsPolynomial<Evaluations>,
    ) -> Result<()> {
        result.fill(ring, |limb, prime, row| {
            let halves = self.halves(ring, limb)?;
            let middle = row.len() / 2;
            let (row_first, row_second) = row.split_at_mut(middle);
            let (from_first, from_second) = polynomial.row(ring, limb)?.split_at(middle);
            ring.kernels().multiply_scalar(prime, row_first, from_first, halves.first);
            ring.kernels().multiply_scalar(prime, row_second, from_second, halves.second);
            Ok(())
        })
    }

    /// polynomial · constant.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] never in practice: limbs exist by construction.
    pub(super) fn product(
        self,
        ring: &RingContext,
        polynomial: &RnsPolynomial<Evaluations>,
    ) -> Result<RnsPolynomial<Evaluations>> {
        let mut result =
            RnsPolynomial::unspecified(ring, polynomial.chain_limbs(), polynomial.special_limbs());
        self.assign_product(ring, &mut result, polynomial)?;
        Ok(result)
    }

    /// row += factor · constant on one limb.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] for a limb that does not exist.
    pub(super) fn add_to_row(
        self,
        ring: &RingContext,
        limb: Limb,
        factor: u64,
        row: &mut [u64],
    ) -> Result<()> {
        if (self.real, self.imaginary) == (0, 0) {
            return Ok(());
        }
        let prime = ring.prime(limb)?;
        let halves = self.halves(ring, limb)?;
        let middle = row.len() / 2;
        let (row_first, row_second) = row.split_at_mut(middle);
        for (half, constant) in [(row_first, halves.first), (row_second, halves.second)] {
            let constant = prime.mul(constant, factor);
            for x in half {
                *x = prime.add(*x, constant);
            }
        }
        Ok(())
    }
}
