//! Additions, products, rescaling and level drops. All data in evaluations; a constant c + di is c + d·X^{N/2}, which takes
//! the value c + d·I in the first half of a row and c − d·I in the second (I = ψ^{N/2}, a root of −1).

use super::client::encode_polynomial;
use super::evaluator::CkksEvaluator;
use super::key_switching::Decomposition;
use super::{Ciphertext, Plaintext, Tensor};
use crate::contract::{Complex64, Error, Level, Result, Scale};
use crate::ring::{Evaluations, Limb, Prime, RnsPolynomial};

/// That two operands are at one level.
pub(super) fn check_levels(operation: &'static str, left: Level, right: Level) -> Result<()> {
    if left == right { Ok(()) } else { Err(Error::LevelMismatch { operation, left, right }) }
}

/// That two operands have one scale.
pub(super) fn check_scales(operation: &'static str, left: Scale, right: Scale) -> Result<()> {
    if left.agrees_with(right) { Ok(()) } else { Err(Error::ScaleMismatch { operation, left, right }) }
}

/// A number rounded to an integer, refused when it does not fit.
pub(super) fn rounded(operation: &'static str, value: f64, scale: Scale) -> Result<i128> {
    let scaled = value * scale.0;
    // 2^120 leaves room for the sign and for a reduction in 128 bits.
    if !(scaled.is_finite() && scaled.abs() < 120f64.exp2()) {
        return Err(Error::BadValue {
            operation,
            index: 0,
            value: value.to_string(),
            bound: 120f64.exp2() / scale.0,
        });
    }
    Ok(scaled.round_ties_even() as i128)
}

impl CkksEvaluator {
    pub(super) fn encode_plaintext(
        &self,
        values: &[Complex64],
        level: Level,
        scale: Scale,
    ) -> Result<Plaintext> {
        let polynomial = encode_polynomial(&self.parameters, &self.encoder, "encode", values, level, scale)?;
        Ok(Plaintext { polynomial, level, scale })
    }

    /// That a product at `scale` leaves room below the modulus at `level`.
    pub(super) fn check_room(&self, operation: &'static str, scale: Scale, level: Level) -> Result<()> {
        let log2_modulus = self.parameters.chain().log2_modulus(level)?;
        if scale.log2() >= log2_modulus {
            return Err(Error::ScaleOutOfRange { operation, scale, log2_modulus, level });
        }
        Ok(())
    }

    pub(super) fn add_ciphertexts(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        check_levels("add", a.level, b.level)?;
        check_scales("add", a.scale, b.scale)?;
        let ring = self.parameters.ring();
        Ok(Ciphertext {
            c0: a.c0.add(ring, &b.c0)?,
            c1: a.c1.add(ring, &b.c1)?,
            level: a.level,
            scale: a.scale,
        })
    }

    pub(super) fn sub_ciphertexts(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        check_levels("sub", a.level, b.level)?;
        check_scales("sub", a.scale, b.scale)?;
        let ring = self.parameters.ring();
        Ok(Ciphertext {
            c0: a.c0.sub(ring, &b.c0)?,
            c1: a.c1.sub(ring, &b.c1)?,
            level: a.level,
            scale: a.scale,
        })
    }

    pub(super) fn add_plaintext(&self, a: &Ciphertext, p: &Plaintext) -> Result<Ciphertext> {
        check_levels("add_plain", a.level, p.level)?;
        check_scales("add_plain", a.scale, p.scale)?;
        let ring = self.parameters.ring();
        Ok(Ciphertext {
            c0: a.c0.add(ring, &p.polynomial)?,
            c1: a.c1.clone(),
            level: a.level,
            scale: a.scale,
        })
    }

    pub(super) fn mul_plaintext(&self, a: &Ciphertext, p: &Plaintext) -> Result<Ciphertext> {
        check_levels("mul_plain", a.level, p.level)?;
        let scale = a.scale * p.scale;
        self.check_room("mul_plain", scale, a.level)?;
        let ring = self.parameters.ring();
        Ok(Ciphertext {
            c0: a.c0.mul(ring, &p.polynomial)?,
            c1: a.c1.mul(ring, &p.polynomial)?,
            level: a.level,
            scale,
        })
    }

    /// The values of the integers `real` + `imaginary`·X^{N/2} in the two halves of a limb's row.
    pub(super) fn halves(
        &self,
        limb: Limb,
        prime: &Prime,
        real: i128,
        imaginary: i128,
    ) -> Result<(u64, u64)> {
        let ring = self.parameters.ring();
        let real = prime.reduce_wide(real);
        if imaginary == 0 {
            return Ok((real, real));
        }
        let unit = prime.pow(ring.plan(limb)?.root(), ring.degree() as u64 / 2);
        let turned = prime.mul(prime.reduce_wide(imaginary), unit);
        Ok((prime.add(real, turned), prime.sub(real, turned)))
    }

    /// polynomial · (real + imaginary·X^{N/2}).
    fn multiply_halves(
        &self,
        polynomial: &RnsPolynomial<Evaluations>,
        real: i128,
        imaginary: i128,
    ) -> Result<RnsPolynomial<Evaluations>> {
        let ring = self.parameters.ring();
        let mut result =
            RnsPolynomial::unspecified(ring, polynomial.chain_limbs(), polynomial.special_limbs());
        self.assign_halves(&mut result, polynomial, real, imaginary)?;
        Ok(result)
    }

    /// `result` = polynomial · (real + imaginary·X^{N/2}) over the limbs of `result`.
    pub(super) fn assign_halves(
        &self,
        result: &mut RnsPolynomial<Evaluations>,
        polynomial: &RnsPolynomial<Evaluations>,
        real: i128,
        imaginary: i128,
    ) -> Result<()> {
        let ring = self.parameters.ring();
        result.fill(ring, |limb, prime, row| {
            let (first, second) = self.halves(limb, prime, real, imaginary)?;
            let middle = row.len() / 2;
            let (row_first, row_second) = row.split_at_mut(middle);
            let (from_first, from_second) = polynomial.row(ring, limb)?.split_at(middle);
            ring.kernels().multiply_scalar(prime, row_first, from_first, first);
            ring.kernels().multiply_scalar(prime, row_second, from_second, second);
            Ok(())
        })
    }

    pub(super) fn add_complex(&self, a: &Ciphertext, c: Complex64) -> Result<Ciphertext> {
        let ring = self.parameters.ring();
        let (real, imaginary) =
            (rounded("add_constant", c.re, a.scale)?, rounded("add_constant", c.im, a.scale)?);
        let mut c0 = a.c0.clone();
        c0.fill(ring, |limb, _, row| self.add_halves(limb, 1, (real, imaginary), row))?;
        Ok(Ciphertext { c0, c1: a.c1.clone(), level: a.level, scale: a.scale })
    }

    pub(super) fn mul_complex(&self, a: &Ciphertext, c: Complex64, scale: Scale) -> Result<Ciphertext> {
        let (real, imaginary) = self.constant(a.scale, c, scale, a.level)?;
        Ok(Ciphertext {
            c0: self.multiply_halves(&a.c0, real, imaginary)?,
            c1: self.multiply_halves(&a.c1, real, imaginary)?,
            level: a.level,
            scale: a.scale * scale,
        })
    }

    /// The integers that stand for the constant `c` at `scale`, to multiply a value of scale `given` at `level` with.
    pub(super) fn constant(
        &self,
        given: Scale,
        c: Complex64,
        scale: Scale,
        level: Level,
    ) -> Result<(i128, i128)> {
        if !(scale.0.is_finite() && scale.0 >= 1.0) {
            let log2_modulus = self.parameters.chain().log2_modulus(level)?;
            return Err(Error::ScaleOutOfRange { operation: "mul_constant", scale, log2_modulus, level });
        }
        self.check_room("mul_constant", given * scale, level)?;
        Ok((rounded("mul_constant", c.re, scale)?, rounded("mul_constant", c.im, scale)?))
    }

    pub(super) fn mul_by_integer(&self, a: &Ciphertext, k: i64) -> Result<Ciphertext> {
        let ring = self.parameters.ring();
        Ok(Ciphertext {
            c0: a.c0.mul_scalar(ring, |prime| prime.reduce_signed(k))?,
            c1: a.c1.mul_scalar(ring, |prime| prime.reduce_signed(k))?,
            level: a.level,
            scale: a.scale,
        })
    }

    pub(super) fn mul_by_imaginary_unit(&self, a: &Ciphertext) -> Result<Ciphertext> {
        Ok(Ciphertext {
            c0: self.multiply_halves(&a.c0, 0, 1)?,
            c1: self.multiply_halves(&a.c1, 0, 1)?,
            level: a.level,
            scale: a.scale,
        })
    }

    pub(super) fn tensor_product(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Tensor> {
        check_levels("tensor", a.level, b.level)?;
        let scale = a.scale * b.scale;
        self.check_room("tensor", scale, a.level)?;
        let ring = self.parameters.ring();
        let mut d1 = a.c0.mul(ring, &b.c1)?;
        d1.multiply_accumulate(ring, &a.c1, &b.c0)?;
        Ok(Tensor { d0: a.c0.mul(ring, &b.c0)?, d1, d2: a.c1.mul(ring, &b.c1)?, level: a.level, scale })
    }

    pub(super) fn add_tensors(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        check_levels("add_tensor", a.level, b.level)?;
        check_scales("add_tensor", a.scale, b.scale)?;
        let ring = self.parameters.ring();
        Ok(Tensor {
            d0: a.d0.add(ring, &b.d0)?,
            d1: a.d1.add(ring, &b.d1)?,
            d2: a.d2.add(ring, &b.d2)?,
            level: a.level,
            scale: a.scale,
        })
    }

    pub(super) fn relinearize_tensor(&self, a: &Tensor) -> Result<Ciphertext> {
        let ring = self.parameters.ring();
        let key = self.keys.relinearization(a.level)?;
        let (u0, u1) = Decomposition::new(ring, &a.d2, key.special_limbs())?
            .inner_product(ring, key)?
            .divide_in_workspace(ring)?;
        Ok(Ciphertext { c0: a.d0.add(ring, &u0)?, c1: a.d1.add(ring, &u1)?, level: a.level, scale: a.scale })
    }

    pub(super) fn rescale_ciphertext(&self, a: &Ciphertext) -> Result<Ciphertext> {
        let modulus = self.parameters.chain().rescale_modulus(a.level)?;
        let level = a.level.below("rescale")?;
        let limbs = self.parameters.limbs(level)?;
        let ring = self.parameters.ring();
        Ok(Ciphertext {
            c0: a.c0.divide_by_dropped_limbs(ring, limbs)?,
            c1: a.c1.divide_by_dropped_limbs(ring, limbs)?,
            level,
            scale: Scale(a.scale.0 / modulus),
        })
    }

    pub(super) fn drop_limbs(&self, a: &Ciphertext, level: Level) -> Result<Ciphertext> {
        if level > a.level {
            return Err(Error::LevelTooLow { operation: "drop_level", level: a.level, wanted: level });
        }
        self.check_room("drop_level", a.scale, level)?;
        let ring = self.parameters.ring();
        let limbs = self.parameters.limbs(level)?;
        Ok(Ciphertext {
            c0: a.c0.truncate(ring, limbs)?,
            c1: a.c1.truncate(ring, limbs)?,
            level,
            scale: a.scale,
        })
    }
}
