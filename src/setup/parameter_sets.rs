//! The parameter sets that presets are made of, with modulus, limit and margin of every key under its own secret.

use serde::Serialize;

use super::security::{KeyMargin, KeyOfPreset, keys_of};
use crate::backend::native::{n16_levelled, test_levelled};
use crate::bootstrapping::BootstrapParameters;
use crate::ckks::security::SecretKind;
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
    pub keys: Vec<KeyOfPreset>,
    /// Levels that a program can use between two bootstraps; `None` where none is offered.
    pub levels_after_bootstrap: Option<usize>,
    /// log2 of the probability that one bootstrap of all slots fails.
    pub log2_failure: Option<f64>,
    /// Levels that a program can use between two bootstraps of few values; `None` where none is offered.
    pub levels_after_bootstrap_of_few_values: Option<usize>,
    /// log2 of the probability that one bootstrap of few values fails.
    pub log2_failure_of_few_values: Option<f64>,
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

fn levelled(literal: ParametersLiteral) -> Result<ParameterSet> {
    let (name, secure) = (literal.name.to_owned(), literal.security == Security::Classical128);
    let parameters = Parameters::new(literal)?;
    let ring = parameters.ring();
    let (log2_n, limbs, special) = (ring.log2_n() as usize, ring.chain_limbs(), ring.special_limbs());
    let Level(levels) = parameters.chain().max_level();
    let bytes = KeySwitchingKey::predicted_bytes(ring.degree(), limbs, special);
    let margin = KeyMargin::new("evaluation", log2_n, parameters.log2_qp_full()?, SecretKind::UniformTernary);
    let keys = vec![KeyOfPreset { margin, bytes }];
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
    let keys = keys_of(parameters, &built)?;
    let levels_after = parameters.output_level().saturating_sub(parameters.minimum_input_level());
    let few =
        parameters.summary().few.map(|few| few.output_level.0.saturating_sub(few.minimum_input_level.0));
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
