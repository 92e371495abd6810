//! The parameter sets that presets are made of, with modulus, limit and margin of every key under its own secret.

use serde::Serialize;

use crate::backend::native::{n16_levelled, test_levelled};
use crate::bootstrapping::{BootstrapParameters, ModRaise};
use crate::ckks::security::{SecretKind, limit_log2_qp};
use crate::ckks::{KeySwitchingKey, Parameters, ParametersLiteral, Security};
use crate::contract::{Level, Result};

/// One parameter set.
#[derive(Clone, Debug, Serialize)]
pub struct ParameterSet {
    /// Name.
    pub name: String,
    /// log2 of the ring degree.
    pub log2_n: usize,
    /// Whether 128-bit security is claimed for every key.
    pub secure: bool,
    /// Highest level.
    pub levels: usize,
    /// Primes of the moduli chain.
    pub limbs: usize,
    /// Special primes.
    pub special_primes: usize,
    /// Kinds of key, each at its largest.
    pub keys: Vec<KeySize>,
    /// Levels that a program can use between two bootstraps; `None` where none is offered.
    pub levels_after_bootstrap: Option<usize>,
    /// log2 of the probability that one bootstrap fails.
    pub log2_failure: Option<f64>,
    /// Levels that a program can use between two bootstraps of few values; `None` where none is offered.
    pub levels_after_bootstrap_of_few_values: Option<usize>,
    /// log2 of the probability that one bootstrap of few values fails.
    pub log2_failure_of_few_values: Option<f64>,
}

/// One kind of key, at its largest.
#[derive(Clone, Debug, Serialize)]
pub struct KeySize {
    /// Its modulus against the limit.
    #[serde(flatten)]
    pub margin: KeyMargin,
    /// Bytes of one key at the highest level.
    pub bytes: u64,
}

/// The modulus of one kind of key against what 128-bit security allows under its secret.
#[derive(Clone, Debug, Serialize)]
pub struct KeyMargin {
    /// Kind of key.
    pub name: &'static str,
    /// log2(QP).
    pub log2_qp: f64,
    /// Kind of secret.
    pub secret: String,
    /// Largest log2(QP) allowed; `None` where no figure is known.
    pub limit_log2_qp: Option<f64>,
    /// Limit minus modulus.
    pub margin_bits: Option<f64>,
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

/// All parameter sets: levelled and bootstrapping, of the test ring and of N = 2^16.
///
/// # Errors
/// What parameters return that cannot be built.
pub fn parameter_sets() -> Result<Vec<ParameterSet>> {
    Ok(vec![
        levelled(test_levelled(12, 6))?,
        levelled(n16_levelled())?,
        bootstrapping("test-bootstrap", &BootstrapParameters::test(12, 6))?,
        bootstrapping("n16", &BootstrapParameters::n16())?,
        bootstrapping("n16-few", &BootstrapParameters::n16_few())?,
        bootstrapping("n16-few-deep", &BootstrapParameters::n16_few_deep())?,
    ])
}

/// Margins of all kinds of key of bootstrapping `parameters`.
///
/// # Errors
/// What parameters return that cannot be built.
pub fn margins(parameters: &BootstrapParameters) -> Result<Vec<KeyMargin>> {
    Ok(bootstrapping("", parameters)?.keys.into_iter().map(|key| key.margin).collect())
}

fn key(name: &'static str, log2_n: usize, log2_qp: f64, secret: SecretKind, bytes: u64) -> KeySize {
    let limit = limit_log2_qp(log2_n, secret);
    let margin = KeyMargin {
        name,
        log2_qp,
        secret: secret.to_string(),
        limit_log2_qp: limit,
        margin_bits: limit.map(|limit| limit - log2_qp),
    };
    KeySize { margin, bytes }
}

fn levelled(literal: ParametersLiteral) -> Result<ParameterSet> {
    let (name, secure) = (literal.name.to_owned(), literal.security == Security::Classical128);
    let parameters = Parameters::new(literal)?;
    let ring = parameters.ring();
    let (log2_n, limbs, special) = (ring.log2_n() as usize, ring.chain_limbs(), ring.special_limbs());
    let Level(levels) = parameters.chain().max_level();
    let bytes = KeySwitchingKey::predicted_bytes(ring.degree(), limbs, special);
    let keys = vec![key("evaluation", log2_n, parameters.log2_qp_full()?, SecretKind::UniformTernary, bytes)];
    Ok(ParameterSet {
        name,
        log2_n,
        secure,
        levels,
        limbs,
        special_primes: special,
        keys,
        levels_after_bootstrap: None,
        log2_failure: None,
        levels_after_bootstrap_of_few_values: None,
        log2_failure_of_few_values: None,
    })
}

fn bootstrapping(name: &str, parameters: &BootstrapParameters) -> Result<ParameterSet> {
    let built = Parameters::new(parameters.chain.clone())?;
    let ring = built.ring();
    let (log2_n, limbs, special) = (ring.log2_n() as usize, ring.chain_limbs(), ring.special_limbs());
    let bytes = KeySwitchingKey::predicted_bytes(ring.degree(), limbs, special);
    let (sparse_bits, sparse) = ModRaise::ephemeral_key(&built, parameters)?;
    let ephemeral_bytes =
        KeySwitchingKey::predicted_bytes(ring.degree(), 1, parameters.ephemeral_special_primes);
    let back_bytes = ModRaise::predicted_bytes(&built, parameters)?.saturating_sub(ephemeral_bytes);
    let dense = SecretKind::UniformTernary;
    let few = parameters.summary().few;
    let few = few.map(|few| few.output_level.0.saturating_sub(few.minimum_input_level.0));
    let keys = vec![
        key("evaluation", log2_n, built.log2_qp_full()?, dense, bytes),
        key("to ephemeral secret", log2_n, sparse_bits, sparse, ephemeral_bytes),
        key("from ephemeral secret", log2_n, ModRaise::dense_key_log2_qp(&built)?, dense, back_bytes),
    ];
    let levels_after = parameters.output_level().saturating_sub(parameters.minimum_input_level());
    Ok(ParameterSet {
        name: name.to_owned(),
        log2_n,
        secure: parameters.chain.security == Security::Classical128,
        levels: parameters.levels(),
        limbs,
        special_primes: special,
        keys,
        levels_after_bootstrap: Some(levels_after),
        log2_failure: Some(parameters.log2_failure()),
        levels_after_bootstrap_of_few_values: few,
        log2_failure_of_few_values: parameters.log2_failure_few(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::is_insecure;

    #[test]
    fn reports_call_the_sets_insecure_that_claim_no_security_and_no_others() {
        for set in parameter_sets().unwrap() {
            assert_eq!(is_insecure("native", &set.name), !set.secure, "{}", set.name);
            assert!(is_insecure("clear", &set.name), "{}", set.name);
            if set.secure {
                let margins = set.keys.iter().map(|key| key.margin.margin_bits);
                assert!(margins.into_iter().all(|margin| margin >= Some(0.0)), "{set:?}");
            }
        }
    }
}
