//! The modulus of every kind of key against what 128-bit security allows under that key's own secret.

use serde::Serialize;

use crate::bootstrapping::{BootstrapParameters, ModRaise};
use crate::ckks::security::{SecretKind, limit_log2_qp};
use crate::ckks::{KeySwitchingKey, Parameters};
use crate::contract::Result;

/// log2(QP) of one kind of key, and the limit for its secret (classical attacks, 128 bits; see
/// [`crate::ckks::security`] for the table).
#[derive(Clone, Debug, Serialize)]
pub struct KeyMargin {
    /// What the key is for.
    pub name: &'static str,
    /// log2 of the modulus it lives under: moduli chain times special primes.
    pub log2_qp: f64,
    /// Kind of secret it is made under.
    pub secret: String,
    /// The largest log2(QP) that is secure for such a secret; `None` where the table has no entry.
    pub limit_log2_qp: Option<f64>,
    /// The limit less the modulus, in bits.
    pub margin_bits: Option<f64>,
}

impl KeyMargin {
    /// Margin of a key called `name` with modulus 2^`log2_qp` under `secret` in the ring of degree 2^`log2_n`.
    #[must_use]
    pub fn new(name: &'static str, log2_n: usize, log2_qp: f64, secret: SecretKind) -> Self {
        let limit = limit_log2_qp(log2_n, secret);
        Self {
            name,
            log2_qp,
            secret: secret.to_string(),
            limit_log2_qp: limit,
            margin_bits: limit.map(|limit| limit - log2_qp),
        }
    }
}

impl std::fmt::Display for KeyMargin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:<20} log2(QP) = {:.1}, {} secret, ", self.name, self.log2_qp, self.secret)?;
        match (self.limit_log2_qp, self.margin_bits) {
            (Some(limit), Some(margin)) => write!(f, "limit {limit:.0}, margin {margin:+.1}"),
            _ => write!(f, "no limit known"),
        }
    }
}

/// A kind of key: its margin, and the bytes of one key at the highest level.
#[derive(Clone, Debug, Serialize)]
pub struct KeyOfPreset {
    /// Modulus against limit.
    #[serde(flatten)]
    pub margin: KeyMargin,
    /// Bytes of one key at the highest level.
    pub bytes: u64,
}

/// Every kind of key of bootstrapping `parameters`, whose ring is `ring`: evaluation keys, and the two around ModRaise.
///
/// # Errors
/// [`crate::Error::Internal`] for special primes that do not exist.
pub fn keys_of(parameters: &BootstrapParameters, ring: &Parameters) -> Result<Vec<KeyOfPreset>> {
    let context = ring.ring();
    let (log2_n, degree) = (context.log2_n() as usize, context.degree());
    let key = |name, log2_qp, secret, bytes| KeyOfPreset {
        margin: KeyMargin::new(name, log2_n, log2_qp, secret),
        bytes,
    };
    let evaluation = KeySwitchingKey::predicted_bytes(degree, context.chain_limbs(), context.special_limbs());
    let (sparse_bits, sparse) = ModRaise::ephemeral_key(ring, parameters)?;
    let to_sparse = KeySwitchingKey::predicted_bytes(degree, 1, parameters.ephemeral_special_primes);
    let to_dense = ModRaise::predicted_bytes(ring, parameters, false)?.saturating_sub(to_sparse);
    let dense = SecretKind::UniformTernary;
    Ok(vec![
        key("evaluation", ring.log2_qp_full()?, dense, evaluation),
        key("to ephemeral secret", sparse_bits, sparse, to_sparse),
        key("from ephemeral secret", ModRaise::dense_key_log2_qp(ring)?, dense, to_dense),
    ])
}

/// Margins of every kind of key of bootstrapping `parameters`.
///
/// # Errors
/// [`crate::Error::Parameters`] and [`crate::Error::Insecure`] for literals that make no parameters
/// ([`Parameters::new`]); [`crate::Error::Internal`] for special primes that do not exist.
pub fn margins(parameters: &BootstrapParameters) -> Result<Vec<KeyMargin>> {
    let ring = Parameters::new(parameters.chain.clone())?;
    Ok(keys_of(parameters, &ring)?.into_iter().map(|key| key.margin).collect())
}
