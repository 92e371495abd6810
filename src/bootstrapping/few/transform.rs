//! Dense transforms between the slots of the values and the coefficients of a period, at one level each.
//!
//! Data: n complex coefficients w_k = c_k + i·c_(k+n) of Y = X^(N/2n) have slots of period n, z_o = Σ_k ζ^(k·5^o)·w_k
//! with ζ = exp(2πi/4n), that is z = V·w, V⁻¹ = Vᴴ/n. Real value i lives in coefficient c_i, complex value i in w_i.
//! * towards the coefficients: z_o = Σ_i A\[o, i\]·x\[p_i\], A's columns those of V, or i times them for i ≥ n;
//! * back: y\[p_i\] = Σ_o B\[i, o\]·z_o, B's rows those of V⁻¹, or −i times them, halved for the sum with the
//!   conjugate.
//!
//! `spec/sparse_bootstrap_reference.py`, sections 1 to 3, asserts both against dense algebra.

use super::combs::{Combs, sums};
use super::plan::FewPlan;
use crate::contract::{
    Complex64, Diagonal, Evaluator, GiantStep, KeyRequest, Level, LinearTransform, Result, Scale,
    normalize_step,
};

/// Diagonals of one dense transform, encoded for one level, by giant and baby step.
pub(super) struct EncodedTransform<P> {
    giants: Vec<(i64, Vec<(i64, P)>)>,
    scale: Scale,
}

/// One dense transform in the clear: its combs, which value owns which slot, and the matrix.
struct Dense<'a> {
    combs: &'a Combs,
    owners: Vec<Option<usize>>,
    /// exp(2πi·k/4n) for all k.
    roots: Vec<Complex64>,
    /// 5^o modulo 4n.
    powers: Vec<usize>,
}

impl<'a> Dense<'a> {
    fn new(combs: &'a Combs, places: &[usize], total: usize) -> Result<Self> {
        let order = 4 * combs.period;
        let angle = std::f64::consts::TAU / order as f64;
        let roots = (0..order).map(|k| Complex64::from_polar(1.0, angle * k as f64)).collect();
        let powers = std::iter::successors(Some(1), |power| Some(power * 5 % order));
        let powers = powers.take(combs.period).collect();
        Ok(Self { combs, owners: combs.owners(places, total)?, roots, powers })
    }

    /// V\[o, k\] for a coefficient below n, i·V\[o, k − n\] above.
    fn vandermonde(&self, slot: usize, coefficient: usize) -> Complex64 {
        let n = self.combs.period;
        let power = self.powers.get(slot % n).copied().unwrap_or_default();
        let root = self.roots.get(power * (coefficient % n) % (4 * n)).copied().unwrap_or_default();
        if coefficient < n { root } else { root * Complex64::I }
    }

    /// The diagonal of `step`, as it stands inside the rotation by `giant`: rotated right by it.
    fn diagonal(&self, giant: usize, entry: impl Fn(usize) -> Complex64) -> Vec<Complex64> {
        let total = self.owners.len();
        (0..total).map(|slot| entry((slot + total - giant % total) % total)).collect()
    }

    fn encode<E: Evaluator>(
        &self,
        evaluator: &E,
        level: Level,
        scale: Scale,
        entry: impl Fn(usize, usize) -> Complex64,
    ) -> Result<EncodedTransform<E::Plaintext>> {
        let signed = |step: usize| i64::try_from(step).unwrap_or(i64::MAX);
        let giants = sums(&self.combs.giants)
            .into_iter()
            .map(|giant| {
                let babies = sums(&self.combs.babies)
                    .into_iter()
                    .map(|baby| {
                        let values = self.diagonal(giant, |slot| entry(slot, giant + baby));
                        Ok((signed(baby), evaluator.encode(&values, level, scale)?))
                    })
                    .collect::<Result<Vec<_>>>()?;
                Ok((signed(giant), babies))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(EncodedTransform { giants, scale })
    }
}

impl FewPlan {
    /// The diagonals towards the coefficients for inputs at `level`, encoded at `scale`.
    ///
    /// # Errors
    /// [`crate::Error::LevelOutOfRange`] and [`crate::Error::ScaleOutOfRange`] for a level or scale that the chain
    /// lacks ([`Evaluator::encode`]).
    pub fn encode_down<E: Evaluator>(
        &self,
        evaluator: &E,
        places: &[usize],
        level: Level,
        scale: Scale,
    ) -> Result<EncodedTransform<E::Plaintext>> {
        let dense = Dense::new(&self.down, places, evaluator.slots())?;
        dense.encode(evaluator, level, scale, |slot, step| {
            // The input is rotated by the step: what arrives here comes from that much further.
            let owner = dense.owners.get((slot + step) % evaluator.slots()).copied().flatten();
            owner.map_or(Complex64::ZERO, |value| dense.vandermonde(slot, value))
        })
    }

    /// The diagonals back to the slots for inputs at `level`, encoded at `scale`; all of it halved.
    ///
    /// # Errors
    /// [`crate::Error::LevelOutOfRange`] and [`crate::Error::ScaleOutOfRange`] for a level or scale that the chain
    /// lacks ([`Evaluator::encode`]).
    pub fn encode_up<E: Evaluator>(
        &self,
        evaluator: &E,
        level: Level,
        scale: Scale,
    ) -> Result<EncodedTransform<E::Plaintext>> {
        let dense = Dense::new(&self.up, &self.returned, evaluator.slots())?;
        let half = 0.5 / self.up.period as f64;
        dense.encode(evaluator, level, scale, |slot, step| {
            let owner = dense.owners.get(slot).copied().flatten();
            owner.map_or(Complex64::ZERO, |index| {
                dense.vandermonde(slot + step, self.coefficient(index)).conj() * half
            })
        })
    }
}

impl Combs {
    /// Adds the rotations of baby and giant steps at `level` to `request`.
    pub(super) fn request_steps(&self, request: &mut KeyRequest, level: Level) {
        for step in sums(&self.babies).into_iter().chain(sums(&self.giants)) {
            request.rotation(step, level);
        }
    }
}

impl<P> EncodedTransform<P> {
    /// Plaintexts in it.
    pub(super) fn plaintexts(&self) -> impl Iterator<Item = &P> {
        self.giants.iter().flat_map(|(_, babies)| babies.iter().map(|(_, plaintext)| plaintext))
    }

    /// Σ over steps of diagonal ⊙ rot(x, step), not rescaled: baby steps hoisted, one rotation for each giant step.
    ///
    /// # Errors
    /// [`crate::Error::RotationKey`] for a missing key, [`crate::Error::Shape`] for a transform without diagonals
    /// ([`Evaluator::linear_transform`]).
    pub(super) fn apply<E: Evaluator<Plaintext = P>>(
        &self,
        evaluator: &E,
        x: &E::Ciphertext,
    ) -> Result<E::Ciphertext> {
        let giants = self
            .giants
            .iter()
            .map(|(step, babies)| GiantStep {
                step: *step,
                babies: babies.iter().map(|(baby, p)| (*baby, Diagonal::Encoded(p))).collect(),
            })
            .collect();
        evaluator.linear_transform(x, &LinearTransform { giants }, self.scale)
    }
}

/// x + rot(x, step) for each of `steps` in turn: the sum over all their sums.
///
/// # Errors
/// [`crate::Error::RotationKey`] for a missing key.
pub(super) fn rotate_and_add<E: Evaluator>(
    evaluator: &E,
    x: E::Ciphertext,
    steps: impl IntoIterator<Item = i64>,
) -> Result<E::Ciphertext> {
    let mut sum = x;
    for step in steps {
        sum = evaluator.add(&sum, &evaluator.rotate(&sum, step)?)?;
    }
    Ok(sum)
}

/// `step` to the right, normalized.
pub(super) fn right(step: usize, total: usize) -> usize {
    normalize_step(-i64::try_from(step).unwrap_or_default(), total)
}
