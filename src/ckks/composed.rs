//! Products with their rescaling in one: the steps of the contract's compositions with everything between the first and the
//! last in workspaces. Constant products give the bits of their steps. After a key switch the division by P and that of the
//! rescale are one, to the nearest: l NTTs fewer for each half, and one rounding instead of two.

use rayon::prelude::*;

use super::Ciphertext;
use super::arithmetic::{check_levels, rounded};
use super::evaluator::CkksEvaluator;
use super::key_switching::{Decomposition, special_product};
use super::linear_combination::{Summand, sum_into};
use crate::contract::{Complex64, Level, LinearTerm, Result, Scale};
use crate::ring::{Evaluations, Limb, RnsPolynomial, Temporary};

/// A product before relinearization, wherever its parts are kept.
#[derive(Clone, Copy)]
pub(super) struct ProductParts<'a> {
    pub(super) d0: &'a RnsPolynomial<Evaluations>,
    pub(super) d1: &'a RnsPolynomial<Evaluations>,
    pub(super) d2: &'a RnsPolynomial<Evaluations>,
}

impl CkksEvaluator {
    /// rescale(relinearize(tensor(a, b))).
    pub(super) fn multiply_and_rescale(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        check_levels("tensor", a.level, b.level)?;
        let scale = a.scale * b.scale;
        self.check_room("tensor", scale, a.level)?;
        let ring = self.parameters.ring();
        let part = || Temporary::new(ring, a.c1.chain_limbs(), 0);
        let (mut d0, mut d1, mut d2) = (part(), part(), part());
        d0.assign_product(ring, &a.c0, &b.c0)?;
        d1.assign_product(ring, &a.c0, &b.c1)?;
        d1.multiply_accumulate(ring, &a.c1, &b.c0)?;
        d2.assign_product(ring, &a.c1, &b.c1)?;
        let parts = ProductParts { d0: &d0, d1: &d1, d2: &d2 };
        self.relinearize_combine_rescale(parts, (a.level, scale), &[], Complex64::ZERO)
    }

    /// [`crate::contract::Evaluator::relinearize_and_rescale`]: everything is added up times P, modulo QP, and divided by P·q_ℓ.
    pub(super) fn relinearize_combine_rescale(
        &self,
        product: ProductParts<'_>,
        (level, scale): (Level, Scale),
        terms: &[LinearTerm<'_, Ciphertext>],
        addend: Complex64,
    ) -> Result<Ciphertext> {
        let below = level.below("rescale")?;
        let terms = self.rounded_terms(terms, level, scale)?;
        let addend = (rounded("add_constant", addend.re, scale)?, rounded("add_constant", addend.im, scale)?);
        let key = self.keys.relinearization(level)?;
        let ring = self.parameters.ring();
        let mut sum = Decomposition::new(ring, product.d2, key.special_limbs())?.inner_product(ring, key)?;
        let chain_limbs = product.d2.chain_limbs();
        let rows_0 = sum.c0.rows_mut(ring).take(chain_limbs).collect::<Vec<_>>();
        let rows_1 = sum.c1.rows_mut(ring).take(chain_limbs).collect::<Vec<_>>();
        rows_0.into_par_iter().zip(rows_1).enumerate().try_for_each(|(index, (row_0, row_1))| {
            let limb = Limb::Chain(index);
            let prime = ring.prime(limb)?;
            let special = special_product(ring, prime, key.special_limbs())?;
            let part = |row| Summand { row, factors: (special, special) };
            let mut summands = self.summands(limb, special, &terms, |x| &x.c0)?;
            summands.push(part(product.d0.row(ring, limb)?));
            sum_into(ring.kernels(), prime, row_0, &summands, false);
            let mut summands = self.summands(limb, special, &terms, |x| &x.c1)?;
            summands.push(part(product.d1.row(ring, limb)?));
            sum_into(ring.kernels(), prime, row_1, &summands, false);
            self.add_halves(limb, special, addend, row_0)
        })?;
        let limbs = self.parameters.limbs(below)?;
        let modulus = self.parameters.chain().rescale_modulus(level)?;
        Ok(Ciphertext {
            c0: sum.c0.divide_by_dropped_limbs(ring, limbs)?,
            c1: sum.c1.divide_by_dropped_limbs(ring, limbs)?,
            level: below,
            scale: Scale(scale.0 / modulus),
        })
    }

    /// rescale(a · c) at the canonical scale of a's level.
    pub(super) fn multiply_scalar_and_rescale(&self, a: &Ciphertext, c: Complex64) -> Result<Ciphertext> {
        let scale = self.parameters.chain().canonical_scale(a.level)?;
        self.scale_and_rescale(a, c, scale, a.level)
    }

    /// [`crate::contract::Evaluator::lower`].
    pub(super) fn lower_to(&self, a: &Ciphertext, level: Level) -> Result<Ciphertext> {
        let Some(factor) = self.parameters.chain().lowering_factor(a.level, a.scale, level)? else {
            return Ok(a.clone());
        };
        let above = Level(level.0 + 1);
        self.check_room("drop_level", a.scale, above)?;
        self.scale_and_rescale(a, Complex64::new(1.0, 0.0), factor, above)
    }

    /// Limbs above `level` dropped, multiplied by `c` at `scale`, rescaled.
    fn scale_and_rescale(
        &self,
        a: &Ciphertext,
        c: Complex64,
        scale: Scale,
        level: Level,
    ) -> Result<Ciphertext> {
        let (real, imaginary) = self.constant(a.scale, c, scale, level)?;
        let ring = self.parameters.ring();
        let limbs = self.parameters.limbs(level)?;
        let mut halves = (Temporary::new(ring, limbs, 0), Temporary::new(ring, limbs, 0));
        self.assign_halves(&mut halves.0, &a.c0, real, imaginary)?;
        self.assign_halves(&mut halves.1, &a.c1, real, imaginary)?;
        self.rescale_halves(&halves.0, &halves.1, level, a.scale * scale)
    }

    /// The ciphertext of two halves at `level`, rescaled.
    fn rescale_halves(
        &self,
        c0: &Temporary,
        c1: &Temporary,
        level: Level,
        scale: Scale,
    ) -> Result<Ciphertext> {
        let modulus = self.parameters.chain().rescale_modulus(level)?;
        let level = level.below("rescale")?;
        let limbs = self.parameters.limbs(level)?;
        let ring = self.parameters.ring();
        Ok(Ciphertext {
            c0: c0.divide_by_dropped_limbs(ring, limbs)?,
            c1: c1.divide_by_dropped_limbs(ring, limbs)?,
            level,
            scale: Scale(scale.0 / modulus),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::ckks::{CkksClient, CkksEvaluator, Parameters, ParametersLiteral, Security, Stretch};
    use crate::contract::{Complex64, Evaluator, KeyRequest, Level, Scale};
    use crate::ring::Randomness;

    #[test]
    fn compositions_give_the_bits_of_their_steps() {
        let parameters = Parameters::new(ParametersLiteral {
            name: "test",
            log2_n: 8,
            base_bits: vec![49.9],
            stretches: vec![Stretch { levels: 4, log2_scale: 41.0, primes_per_level: 1 }],
            special_primes: 2,
            special_bits: 49.9,
            security: Security::InsecureForTests,
        })
        .unwrap();
        let client = CkksClient::new(Arc::new(parameters), Randomness::from_insecure_fixed_seed(3)).unwrap();
        let mut request = KeyRequest::new();
        request.relinearization(Level(4));
        let keys = client.evaluation_keys(&request).unwrap();
        let evaluator =
            CkksEvaluator::new(Arc::clone(client.parameters()), Arc::clone(client.encoder()), keys);
        let value = |seed: f64| {
            let values: Vec<Complex64> =
                (0..128).map(|k| Complex64::new((seed * f64::from(k)).sin(), 0.1 * seed)).collect();
            client.encrypt(&values, Level(4)).unwrap()
        };
        let (a, b) = (value(0.3), value(1.7));
        let bytes = |x: &crate::ckks::Ciphertext| evaluator.ciphertext_to_bytes(x).unwrap();
        let tensor = evaluator.tensor(&a, &b).unwrap();
        let together = evaluator.relinearize_and_rescale(&tensor, &[], Complex64::ZERO).unwrap();
        assert!(bytes(&evaluator.mul(&a, &b).unwrap()) == bytes(&together), "mul");
        // A key switch rounds once here and twice there: the results differ by the roundings, a few units times the secret.
        let stepwise = evaluator.rescale(&evaluator.relinearize(&tensor).unwrap()).unwrap();
        assert!(together.scale.agrees_with(stepwise.scale) && together.level == stepwise.level);
        let difference = client.decrypt(&evaluator.sub(&together, &stepwise).unwrap()).unwrap();
        let worst = difference.iter().map(|z| z.norm()).fold(0.0, f64::max) * stepwise.scale.0;
        // Two roundings of both halves: √(2·(1 + 2N/3)/12·N/2) = 60 units in each part of a slot; 187 is the largest to expect.
        assert!(worst < 400.0, "roundings differ by {worst} units");
        let c = Complex64::new(0.3, -1.25);
        let scale = evaluator.chain().canonical_scale(Level(4)).unwrap();
        let stepwise = evaluator.rescale(&evaluator.mul_constant(&a, c, scale).unwrap()).unwrap();
        assert!(bytes(&evaluator.mul_scalar(&a, c).unwrap()) == bytes(&stepwise), "mul_scalar");
        for level in 0..4 {
            let chain = evaluator.chain();
            let above = Level(level + 1);
            let factor = chain.lowering_factor(a.level, a.scale, Level(level)).unwrap().unwrap();
            let dropped = evaluator.drop_level(&a, above).unwrap();
            let one = Complex64::new(1.0, 0.0);
            let stepwise =
                evaluator.rescale(&evaluator.mul_constant(&dropped, one, factor).unwrap()).unwrap();
            assert!(bytes(&evaluator.lower(&a, Level(level)).unwrap()) == bytes(&stepwise), "to {level}");
        }
        assert!(bytes(&evaluator.lower(&a, Level(4)).unwrap()) == bytes(&a), "nothing to do");
        // A product that was not rescaled stands too high to be lowered.
        let high = evaluator.mul_constant(&a, c, Scale(30f64.exp2())).unwrap();
        assert!(evaluator.lower(&high, Level(1)).is_err(), "scale {}", high.scale);
    }
}
