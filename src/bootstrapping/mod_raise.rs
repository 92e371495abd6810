//! ModRaise with sparse-secret encapsulation.
//!
//! At level 0 a ciphertext modulo q0 is switched from the dense secret to an ephemeral one of small Hamming weight h (key
//! modulo q0·p, p one special prime: far below the limit for sparse secrets), its coefficients are read as integers and
//! reduced modulo all primes of Q (adding q0·I with |I| ≤ (h + 1)/2), and it is switched back to the dense secret.
//! Bossuat–Troncoso-Pastoriza–Hubaux 2022, §3.
//!
//! The second switch needs no decomposition: what it switches has coefficients below q0, so a single digit with two special
//! primes (p_1·p_2 ≫ q0) suffices, where a general switch at the top takes as many digits as there are.

use std::sync::Arc;

use super::BootstrapParameters;
use crate::ckks::rlwe::{
    Decomposition, EncryptionOfZero, Extended, KeySwitchingKey, SecretKey, UniformHalf, add_special_multiple,
};
use crate::ckks::security::{SecretKind, check_security};
use crate::ckks::{Ciphertext, CkksClient, Parameters, Security};
use crate::contract::{Error, Level, Result, Scale};
use crate::ring::{Coefficients, Evaluations, Limb, RingContext, RnsPolynomial, Seed};

/// Special primes of the switch back.
pub(super) const SPECIAL_LIMBS: usize = 2;

/// The two switching keys around ModRaise. Evaluation keys: no secret.
pub struct ModRaise {
    pub(super) parameters: Arc<Parameters>,
    pub(super) to_sparse: KeySwitchingKey,
    /// (b, a) with b = −a·s + e + p_1·p_2·s_sparse on all primes of the chain and two special ones.
    pub(super) to_dense: (RnsPolynomial<Evaluations>, RnsPolynomial<Evaluations>),
    /// The half a is expanded from it; only it is stored.
    pub(super) seed: Seed,
}

impl ModRaise {
    /// Draws an ephemeral secret and makes both keys; the secret is wiped on return.
    ///
    /// # Errors
    /// [`Error::Insecure`] when the parameters claim security and a key exceeds the limit of its secret;
    /// [`Error::Parameters`] with fewer than two special primes.
    pub fn generate(client: &CkksClient, bootstrap: &BootstrapParameters) -> Result<Self> {
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
        let uniform = UniformHalf { seed: &seed, number: 0 };
        let limbs = ring.chain_limbs();
        let EncryptionOfZero { mut b, a } =
            EncryptionOfZero::new(ring, dense, limbs, SPECIAL_LIMBS, uniform, &mut randomness)?;
        add_special_multiple(ring, &mut b, sparse, 0..limbs)?;
        Ok(Self { parameters, to_sparse, to_dense: (b, a), seed })
    }

    /// The half a of the key back to the dense secret, from its seed.
    pub(super) fn uniform_half(ring: &RingContext, seed: &Seed) -> Result<RnsPolynomial<Evaluations>> {
        UniformHalf { seed, number: 0 }.expand(ring, ring.chain_limbs(), SPECIAL_LIMBS)
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

    /// Bytes of both keys, known before they are made.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] never in practice: level 0 exists.
    pub fn predicted_bytes(parameters: &Parameters, bootstrap: &BootstrapParameters) -> Result<u64> {
        let ring = parameters.ring();
        let dense = 16 * (ring.degree() * (ring.chain_limbs() + SPECIAL_LIMBS)) as u64;
        let bottom = parameters.limbs(Level(0))?;
        Ok(dense
            + KeySwitchingKey::predicted_bytes(ring.degree(), bottom, bootstrap.ephemeral_special_primes))
    }

    /// Bytes both keys hold in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let words = self.to_dense.0.words().len() + self.to_dense.1.words().len();
        self.to_sparse.bytes() + 8 * words as u64
    }

    /// `a` (level 0) with its coefficients m + q0·I modulo all primes of Q, labelled with `scale`. Cost: one switch at one
    /// limb; 2·(l + 2) forward and as many MAC rows, one division by two primes at l limbs.
    ///
    /// # Errors
    /// [`Error::Shape`] above level 0 (drop the limbs first).
    pub fn raise(&self, a: &Ciphertext, scale: Scale) -> Result<Ciphertext> {
        if a.level != Level(0) {
            return Err(Error::Shape {
                operation: "ModRaise",
                what: format!("a ciphertext at level {}", a.level),
                remedy: "bring it to level 0 with SlotsToCoeffs".to_owned(),
            });
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
        let mut product = Extended::new(ring, limbs, SPECIAL_LIMBS);
        product.c0.assign_product(ring, &self.to_dense.0, &raised_1)?;
        product.c1.assign_product(ring, &self.to_dense.1, &raised_1)?;
        let (back_0, back_1) = product.divide(ring)?;
        let raised_0 =
            RnsPolynomial::<Coefficients>::from_signed(ring, &c0, limbs, 0)?.into_evaluations(ring)?;
        let level = self.parameters.chain().max_level();
        Ok(Ciphertext { c0: raised_0.add(ring, &back_0)?, c1: back_1, level, scale })
    }
}

/// Coefficients modulo q0 as integers in (−q0/2, q0/2].
fn centred(ring: &RingContext, polynomial: RnsPolynomial<Evaluations>) -> Result<Vec<i64>> {
    let coefficients = polynomial.into_coefficients(ring)?;
    let prime = ring.prime(Limb::Chain(0))?;
    Ok(coefficients.row(ring, Limb::Chain(0))?.iter().map(|c| prime.centred(*c)).collect())
}
