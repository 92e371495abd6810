//! ModRaise with sparse-secret encapsulation.
//!
//! At level 0 a ciphertext modulo q0 is switched from the dense secret to an ephemeral one of small Hamming weight h
//! (key modulo q0·p, p one special prime: far below the limit for sparse secrets), its coefficients are read as
//! integers and reduced modulo all primes of Q (adding q0·I with |I| ≤ (h + 1)/2), and it is switched back to the dense
//! secret. Bossuat–Troncoso-Pastoriza–Hubaux 2022, §3.
//!
//! The second switch needs no decomposition: what it switches has coefficients below q0, so a single digit with two
//! special primes (p_1·p_2 ≫ q0) suffices, where a general switch at the top takes as many digits as there are.
//!
//! # The first steps of a trace, for little
//! A bootstrap of few values adds up rotations right after ModRaise: Σ_i φ_i(c_0) + φ_i(c_1)·φ_i(s_sparse). Every
//! φ_i(c_1) is as small as c_1, so with keys from φ_i(s_sparse) the sum of [`TRACED`] rotations is one switch of as
//! many single digits: a product and 2·(l + 2) rows of key each, and one division. Three rotations at the top of the
//! chain, each with its decomposition, cost five times as much, and their keys are larger.

use std::sync::Arc;

use rayon::prelude::*;

use super::BootstrapParameters;
use crate::ckks::rlwe::{
    Decomposition, EncryptionOfZero, Extended, KeySwitchingKey, SecretKey, UniformHalf, add_special_multiple,
};
use crate::ckks::security::{SecretKind, check_security};
use crate::ckks::{Ciphertext, CkksClient, Parameters, Security};
use crate::contract::{Error, Level, Result, Scale};
use crate::ring::{
    Automorphism, Coefficients, Evaluations, Limb, RingContext, RnsPolynomial, Seed, rotation_element,
};

/// Special primes of the switch back.
pub(super) const SPECIAL_LIMBS: usize = 2;
/// Rotations whose sum ModRaise can give, by multiples of S/8.
pub const TRACED: usize = 8;

/// The switching keys around ModRaise. Evaluation keys: no secret.
pub struct ModRaise {
    pub(super) parameters: Arc<Parameters>,
    pub(super) to_sparse: KeySwitchingKey,
    /// From the sparse secret, and where traces were asked for from its images under all [`TRACED`] rotations.
    pub(super) to_dense: Vec<SingleDigit>,
    /// The halves a of `to_dense` are expanded from it; only it is stored.
    pub(super) seed: Seed,
}

/// A switching key of one digit: (b, a) with b = −a·s + e + p_1·p_2·φ(s_sparse) on all primes of the chain and two
/// special ones, and the rotation φ that the ciphertext goes through before.
pub(super) struct SingleDigit {
    pub(super) b: RnsPolynomial<Evaluations>,
    a: RnsPolynomial<Evaluations>,
    rotation: Automorphism,
}

impl SingleDigit {
    /// The key of rotation number `number` from its stored half b.
    pub(super) fn from_parts(
        ring: &RingContext,
        b: RnsPolynomial<Evaluations>,
        seed: &Seed,
        number: usize,
    ) -> Result<Self> {
        let uniform = UniformHalf { seed, number: number as u32 };
        let a = uniform.expand(ring, ring.chain_limbs(), SPECIAL_LIMBS)?;
        Ok(Self { b, a, rotation: rotation(ring, number) })
    }
}

/// Rotation number `number` of a trace: by that many eighths of the slots.
fn rotation(ring: &RingContext, number: usize) -> Automorphism {
    let step = number * (ring.degree() / 2) / TRACED;
    Automorphism::new(rotation_element(step, ring.log2_n()), ring.log2_n())
}

impl ModRaise {
    /// Draws an ephemeral secret and makes the keys, with `traced` also those of [`Self::raise_traced`]; the secret is
    /// wiped on return.
    ///
    /// # Errors
    /// [`Error::Insecure`] when the parameters claim security and a key exceeds the limit of its secret;
    /// [`Error::Parameters`] with fewer than two special primes.
    pub fn generate(client: &CkksClient, bootstrap: &BootstrapParameters, traced: bool) -> Result<Self> {
        let parameters = Arc::clone(client.parameters());
        let ring = parameters.ring();
        if ring.special_limbs() < SPECIAL_LIMBS.max(bootstrap.ephemeral_special_primes) {
            return Err(Error::Parameters {
                what: format!("{} special primes", ring.special_limbs()),
                remedy: format!("bootstrapping needs at least {SPECIAL_LIMBS}"),
            });
        }
        if parameters.literal().security == Security::Classical128 {
            let (log2_qp, kind) = Self::ephemeral_key(&parameters, bootstrap)?;
            check_security("dense to sparse", parameters.literal().log2_n as usize, log2_qp, kind)?;
        }
        let mut randomness = client.fork_randomness();
        let sparse = SecretKey::generate_sparse(&parameters, bootstrap.ephemeral_weight, &mut randomness)?;
        let bottom = parameters.limbs(Level(0))?;
        let (dense, sparse) = (client.secret().evaluations(), sparse.evaluations());
        let special = bootstrap.ephemeral_special_primes;
        let to_sparse = KeySwitchingKey::generate(ring, dense, sparse, bottom, special, &mut randomness)?;
        let seed = randomness.seed();
        let limbs = ring.chain_limbs();
        let to_dense = (0..Self::keys_back(traced))
            .map(|number| {
                let rotation = rotation(ring, number);
                let image = sparse.image(ring, &rotation)?;
                let uniform = UniformHalf { seed: &seed, number: number as u32 };
                let EncryptionOfZero { mut b, a } =
                    EncryptionOfZero::new(ring, dense, limbs, SPECIAL_LIMBS, uniform, &mut randomness)?;
                add_special_multiple(ring, &mut b, &image, 0..limbs)?;
                Ok(SingleDigit { b, a, rotation })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { parameters, to_sparse, to_dense, seed })
    }

    /// Keys back to the dense secret: one, or one for each rotation of a trace.
    pub(super) fn keys_back(traced: bool) -> usize {
        if traced { TRACED } else { 1 }
    }

    /// log2(QP) and kind of secret of the key towards the ephemeral secret.
    ///
    /// # Errors
    /// [`Error::Internal`] for special primes that do not exist.
    pub fn ephemeral_key(
        parameters: &Parameters,
        bootstrap: &BootstrapParameters,
    ) -> Result<(f64, SecretKind)> {
        let log2_qp = parameters.log2_qp(parameters.limbs(Level(0))?, bootstrap.ephemeral_special_primes)?;
        Ok((log2_qp, SecretKind::SparseTernary { hamming_weight: bootstrap.ephemeral_weight }))
    }

    /// log2(QP) of the key back to the dense secret: all of the chain and two special primes.
    ///
    /// # Errors
    /// [`Error::Internal`] for special primes that do not exist.
    pub fn dense_key_log2_qp(parameters: &Parameters) -> Result<f64> {
        parameters.log2_qp(parameters.ring().chain_limbs(), SPECIAL_LIMBS)
    }

    /// Bytes of the keys, known before they are made.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] never in practice: level 0 exists.
    pub fn predicted_bytes(
        parameters: &Parameters,
        bootstrap: &BootstrapParameters,
        traced: bool,
    ) -> Result<u64> {
        let ring = parameters.ring();
        let dense = 16 * (ring.degree() * (ring.chain_limbs() + SPECIAL_LIMBS)) as u64;
        let bottom = parameters.limbs(Level(0))?;
        Ok(Self::keys_back(traced) as u64 * dense
            + KeySwitchingKey::predicted_bytes(ring.degree(), bottom, bootstrap.ephemeral_special_primes))
    }

    /// Bytes the keys hold in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let words = self.to_dense.iter().map(|key| key.b.words().len() + key.a.words().len()).sum::<usize>();
        self.to_sparse.bytes() + 8 * words as u64
    }

    /// `a` (level 0) with its coefficients m + q0·I modulo all primes of Q, labelled with `scale`. Cost: one switch at
    /// one limb; 2·(l + 2) forward and as many MAC rows, one division by two primes at l limbs.
    ///
    /// # Errors
    /// [`Error::Shape`] above level 0 (drop the limbs first).
    pub fn raise(&self, a: &Ciphertext, scale: Scale) -> Result<Ciphertext> {
        self.raise_traced(a, scale, 1)
    }

    /// The sum of `copies` rotations of what [`Self::raise`] gives, by multiples of S/`copies`: 1, 2, 4 or 8. Cost:
    /// that of [`Self::raise`], and 2·(l + 2) MAC rows for each copy.
    ///
    /// # Errors
    /// [`Error::Shape`] above level 0 (drop the limbs first); [`Error::EvaluationKey`] for more than one copy without
    /// keys for traces.
    pub fn raise_traced(&self, a: &Ciphertext, scale: Scale, copies: usize) -> Result<Ciphertext> {
        if a.level != Level(0) {
            return Err(Error::Shape {
                operation: "ModRaise",
                what: format!("a ciphertext at level {}", a.level),
                remedy: "bring it to level 0 with SlotsToCoeffs".to_owned(),
            });
        }
        if copies > self.to_dense.len() {
            return Err(Error::EvaluationKey { key: "bootstrapping", level: a.level });
        }
        let ring = self.parameters.ring();
        let special = self.to_sparse.special_limbs();
        let (switched_0, switched_1) =
            Decomposition::new(ring, &a.c1, special)?.inner_product(ring, &self.to_sparse)?.divide(ring)?;
        let c0 = centred(ring, a.c0.add(ring, &switched_0)?)?;
        let c1 = centred(ring, switched_1)?;
        let limbs = ring.chain_limbs();
        let raised_1 = RnsPolynomial::<Coefficients>::from_signed(ring, &c1, limbs, SPECIAL_LIMBS)?
            .into_evaluations(ring)?;
        let keys: Vec<&SingleDigit> =
            self.to_dense.iter().step_by(self.to_dense.len() / copies.max(1)).collect();
        let (back_0, back_1) = switch_back(ring, &raised_1, &keys)?.divide(ring)?;
        let traced = traced_integers(&c0, &keys);
        let raised_0 =
            RnsPolynomial::<Coefficients>::from_signed(ring, &traced, limbs, 0)?.into_evaluations(ring)?;
        let level = self.parameters.chain().max_level();
        Ok(Ciphertext { c0: raised_0.add(ring, &back_0)?, c1: back_1, level, scale })
    }
}

/// Σ φ(c_1)·key over `keys`, limb by limb, times p_1·p_2.
fn switch_back(
    ring: &Arc<RingContext>,
    c1: &RnsPolynomial<Evaluations>,
    keys: &[&SingleDigit],
) -> Result<Extended> {
    let limbs = c1.limbs();
    let n = ring.degree();
    let mut product = Extended::new(ring, c1.chain_limbs(), SPECIAL_LIMBS);
    let rows: Vec<_> = product.c0.rows_mut(ring).zip(product.c1.rows_mut(ring)).zip(&limbs).collect();
    rows.into_par_iter().try_for_each(|(out, limb)| -> Result<()> {
        let row = c1.row(ring, *limb)?;
        let mut images = ring.workspace(keys.len() * n);
        for (image, key) in images.chunks_exact_mut(n).zip(keys) {
            key.rotation.apply(image, row);
        }
        let images: Vec<&[u64]> = images.chunks_exact(n).collect();
        let halves = keys.iter().map(|key| Ok((key.b.row(ring, *limb)?, key.a.row(ring, *limb)?)));
        let halves = halves.collect::<Result<Vec<_>>>()?;
        ring.kernels().inner_product(ring.prime(*limb)?, out, &images, &halves);
        Ok(())
    })?;
    Ok(product)
}

/// Σ φ(c) over the rotations of `keys`, on integer coefficients: X^k becomes X^(k·g), and X^N = −1.
fn traced_integers(c: &[i64], keys: &[&SingleDigit]) -> Vec<i64> {
    let degree = c.len().max(1);
    let mut sum = vec![0i64; c.len()];
    for key in keys {
        let element = usize::try_from(key.rotation.element()).unwrap_or(1) % (2 * degree);
        let mut power = 0;
        for value in c {
            let (place, signed) = if power < degree { (power, *value) } else { (power - degree, -*value) };
            if let Some(slot) = sum.get_mut(place) {
                *slot += signed;
            }
            power = (power + element) % (2 * degree);
        }
    }
    sum
}

/// Coefficients modulo q0 as integers in (−q0/2, q0/2].
fn centred(ring: &RingContext, polynomial: RnsPolynomial<Evaluations>) -> Result<Vec<i64>> {
    let coefficients = polynomial.into_coefficients(ring)?;
    let prime = ring.prime(Limb::Chain(0))?;
    Ok(coefficients.row(ring, Limb::Chain(0))?.iter().map(|c| prime.centred(*c)).collect())
}
