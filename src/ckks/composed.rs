//! Products with their rescaling in one: the steps of the contract's compositions, and bit for bit their results, with
//! everything between the first and the last in workspaces.

use super::Ciphertext;
use super::arithmetic::check_levels;
use super::evaluator::CkksEvaluator;
use super::key_switching::Decomposition;
use crate::contract::{Complex64, Level, Result, Scale};
use crate::ring::Temporary;

impl CkksEvaluator {
    /// rescale(relinearize(tensor(a, b))).
    pub(super) fn multiply_and_rescale(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        check_levels("tensor", a.level, b.level)?;
        let scale = a.scale * b.scale;
        self.check_room("tensor", scale, a.level)?;
        let key = self.keys.relinearization(a.level)?;
        let ring = self.parameters.ring();
        let mut d2 = Temporary::new(ring, a.c1.chain_limbs(), 0);
        d2.assign_product(ring, &a.c1, &b.c1)?;
        let (mut c0, mut c1) = Decomposition::new(ring, &d2, key.special_limbs())?
            .inner_product(ring, key)?
            .divide_in_workspace(ring)?;
        drop(d2);
        c0.multiply_accumulate(ring, &a.c0, &b.c0)?;
        c1.multiply_accumulate(ring, &a.c0, &b.c1)?;
        c1.multiply_accumulate(ring, &a.c1, &b.c0)?;
        self.rescale_halves(&c0, &c1, a.level, scale)
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
        let product = evaluator.relinearize(&evaluator.tensor(&a, &b).unwrap()).unwrap();
        let stepwise = evaluator.rescale(&product).unwrap();
        assert!(bytes(&evaluator.mul(&a, &b).unwrap()) == bytes(&stepwise), "mul");
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
