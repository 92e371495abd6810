//! Products with their rescaling in one: the steps of the contract's compositions with everything between the first
//! and the last in buffers that are used again. Constant products give the bits of their steps. After a key switch
//! the division by P and that of the rescale are one, to the nearest: l NTTs fewer for each half, and one rounding
//! instead of two.

use rayon::prelude::*;

use super::constant::{Halves, RoundedConstant};
use super::linear_combination::{Summand, rounded_terms, sum_into, summands};
use super::rlwe::{Decomposition, KeySwitchingKey, special_product};
use super::{Ciphertext, Parameters};
use crate::contract::checks::{check_room, product_scale};
use crate::contract::{Complex64, Level, LinearTerm, Result, Scale};
use crate::ring::{Evaluations, Limb, RnsPolynomial};

/// A product before relinearization, wherever its parts are kept.
#[derive(Clone, Copy)]
pub(super) struct ProductParts<'a> {
    pub(super) d0: &'a RnsPolynomial<Evaluations>,
    pub(super) d1: &'a RnsPolynomial<Evaluations>,
    pub(super) d2: &'a RnsPolynomial<Evaluations>,
    pub(super) level: Level,
    pub(super) scale: Scale,
}

/// rescale(relinearize(tensor(a, b))) with a relinearization key that reaches the level of both.
///
/// # Errors
/// [`crate::Error::LevelMismatch`] and [`crate::Error::ScaleOutOfRange`] for factors that cannot be multiplied
/// ([`product_scale`]), [`crate::Error::LevelExhausted`] at level 0; errors of the terms and the addend
/// ([`relinearize_and_rescale`]).
pub(super) fn multiply_and_rescale(
    parameters: &Parameters,
    key: &KeySwitchingKey,
    a: &Ciphertext,
    b: &Ciphertext,
) -> Result<Ciphertext> {
    let scale = product_scale("tensor", parameters.chain(), a, b)?;
    let ring = parameters.ring();
    let part = || RnsPolynomial::unspecified(ring, a.c1.chain_limbs(), 0);
    let (mut d0, mut d1, mut d2) = (part(), part(), part());
    d0.assign_product(ring, &a.c0, &b.c0)?;
    d1.assign_product(ring, &a.c0, &b.c1)?;
    d1.multiply_accumulate(ring, &a.c1, &b.c0)?;
    d2.assign_product(ring, &a.c1, &b.c1)?;
    let product = ProductParts { d0: &d0, d1: &d1, d2: &d2, level: a.level, scale };
    relinearize_and_rescale(parameters, key, product, &[], Complex64::ZERO)
}

/// What [`crate::contract::Evaluator::relinearize_and_rescale`] computes: everything is added up times P, modulo QP,
/// and divided by P·q_ℓ at once.
///
/// # Errors
/// [`crate::Error::LevelExhausted`] at level 0; those of the terms and of the addend.
pub(super) fn relinearize_and_rescale(
    parameters: &Parameters,
    key: &KeySwitchingKey,
    product: ProductParts<'_>,
    terms: &[LinearTerm<'_, Ciphertext>],
    addend: Complex64,
) -> Result<Ciphertext> {
    let (level, scale) = (product.level, product.scale);
    let below = level.below("rescale")?;
    let terms = rounded_terms(parameters, terms, level, scale)?;
    let addend = RoundedConstant::addend(parameters, addend, scale, level)?;
    let ring = parameters.ring();
    let mut sum = Decomposition::new(ring, product.d2, key.special_limbs())?.inner_product(ring, key)?;
    let chain_limbs = product.d2.chain_limbs();
    let rows_0 = sum.c0.rows_mut(ring).take(chain_limbs).collect::<Vec<_>>();
    let rows_1 = sum.c1.rows_mut(ring).take(chain_limbs).collect::<Vec<_>>();
    rows_0.into_par_iter().zip(rows_1).enumerate().try_for_each(|(index, (row_0, row_1))| {
        let limb = Limb::Chain(index);
        let prime = ring.prime(limb)?;
        // Modulo the special primes everything times P is zero: only the rows of the chain change.
        let special = special_product(ring, prime, key.special_limbs())?;
        let part = |row| Summand { row, factors: Halves { first: special, second: special } };
        let mut parts = summands(ring, limb, special, &terms, |x| &x.c0)?;
        parts.push(part(product.d0.row(ring, limb)?));
        sum_into(ring.kernels(), prime, row_0, &parts, false);
        let mut parts = summands(ring, limb, special, &terms, |x| &x.c1)?;
        parts.push(part(product.d1.row(ring, limb)?));
        sum_into(ring.kernels(), prime, row_1, &parts, false);
        addend.add_to_row(ring, limb, special, row_0)
    })?;
    let limbs = parameters.limbs(below)?;
    let modulus = parameters.chain().rescale_modulus(level)?;
    Ok(Ciphertext {
        c0: sum.c0.divide_by_dropped_limbs(ring, limbs)?,
        c1: sum.c1.divide_by_dropped_limbs(ring, limbs)?,
        level: below,
        scale: Scale(scale.0 / modulus),
    })
}

/// What [`crate::contract::Evaluator::lower`] computes.
///
/// # Errors
/// [`crate::Error::LevelTooLow`] for a level above the value, [`crate::Error::ScaleMismatch`] for a scale that cannot
/// be brought to the canonical one ([`crate::contract::LevelChain::lowering_factor`]); errors of [`scale_and_rescale`].
pub(super) fn lower_to(parameters: &Parameters, a: &Ciphertext, level: Level) -> Result<Ciphertext> {
    let Some(factor) = parameters.chain().lowering_factor(a.level, a.scale, level)? else {
        return Ok(a.clone());
    };
    let above = Level(level.0 + 1);
    check_room("drop_level", parameters.chain(), a.scale, above)?;
    scale_and_rescale(parameters, a, Complex64::new(1.0, 0.0), factor, above)
}

/// Limbs above `level` dropped, multiplied by `c` at `scale`, rescaled.
///
/// # Errors
/// [`crate::Error::LevelExhausted`] at level 0; [`crate::Error::BadValue`] and [`crate::Error::ScaleOutOfRange`] for
/// the constant.
pub(super) fn scale_and_rescale(
    parameters: &Parameters,
    a: &Ciphertext,
    c: Complex64,
    scale: Scale,
    level: Level,
) -> Result<Ciphertext> {
    let constant = RoundedConstant::factor(parameters, a.scale, c, scale, level)?;
    let ring = parameters.ring();
    let limbs = parameters.limbs(level)?;
    let mut halves = (RnsPolynomial::unspecified(ring, limbs, 0), RnsPolynomial::unspecified(ring, limbs, 0));
    constant.assign_product(ring, &mut halves.0, &a.c0)?;
    constant.assign_product(ring, &mut halves.1, &a.c1)?;
    rescale_halves(parameters, &halves.0, &halves.1, level, a.scale * scale)
}

/// The ciphertext of two halves at `level` and `scale`, divided by q_ℓ.
///
/// # Errors
/// [`crate::Error::LevelExhausted`] at level 0.
pub(super) fn rescale_halves(
    parameters: &Parameters,
    c0: &RnsPolynomial<Evaluations>,
    c1: &RnsPolynomial<Evaluations>,
    level: Level,
    scale: Scale,
) -> Result<Ciphertext> {
    let modulus = parameters.chain().rescale_modulus(level)?;
    let level = level.below("rescale")?;
    let limbs = parameters.limbs(level)?;
    let ring = parameters.ring();
    Ok(Ciphertext {
        c0: c0.divide_by_dropped_limbs(ring, limbs)?,
        c1: c1.divide_by_dropped_limbs(ring, limbs)?,
        level,
        scale: Scale(scale.0 / modulus),
    })
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
        // A key switch rounds once here and twice there: the results differ by the roundings, a few units times the
        // secret.
        let stepwise = evaluator.rescale(&evaluator.relinearize(&tensor).unwrap()).unwrap();
        assert!(together.scale.agrees_with(stepwise.scale) && together.level == stepwise.level);
        let difference = client.decrypt(&evaluator.sub(&together, &stepwise).unwrap()).unwrap();
        let worst = difference.iter().map(|z| z.norm()).fold(0.0, f64::max) * stepwise.scale.0;
        // Two roundings of both halves: √(2·(1 + 2N/3)/12·N/2) = 60 units in each part of a slot; 187 is the largest
        // to expect.
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
