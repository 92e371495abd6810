//! How large a modulus may be: limits on log2(QP) for 128 bits of classical security.
//!
//! Key-switching keys live modulo QP, so QP is what counts, and it counts **for each key under its own secret**. The
//! limits for a uniform ternary secret with error σ = 3.2 are those of the *Security Guidelines for Implementing
//! Homomorphic Encryption* (ePrint 2024/463; N = 2^16 and 2^17 as OpenFHE's `stdlatticeparms` has them too); they are
//! a little below the HomomorphicEncryption.org standard of 2018 (438 and 881 at N = 2^14 and 2^15). For sparse
//! secrets no such table exists; the rows for Hamming weight 32 are conservative published figures for the ephemeral
//! secret of sparse-secret encapsulation (ePrint 2022/024).
//!
//! Errors here are centred binomials of variance 10, σ = √10 = 3.162, where the tables assume 3.2. An instance with
//! modulus q and error σ is as hard as one with both multiplied by 3.2/3.162: the difference counts like 0.017 bits
//! of log2(QP), a thousandth of a percent of the limit at N = 2^16. It is not taken off the margins.
//!
//! A ring or weight without a row has no limit that this crate knows, and is refused.

use crate::contract::{Error, Result};

/// How the coefficients of a secret are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecretKind {
    /// Each coefficient uniform in −1, 0, 1.
    UniformTernary,
    /// Exactly this many coefficients are ±1, the others are 0.
    SparseTernary {
        /// Hamming weight h.
        hamming_weight: usize,
    },
}

impl std::fmt::Display for SecretKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SecretKind::UniformTernary => f.write_str("uniform ternary"),
            SecretKind::SparseTernary { hamming_weight } => {
                write!(f, "sparse ternary (h = {hamming_weight})")
            }
        }
    }
}

/// (log2 N, largest log2(QP)) for a uniform ternary secret.
const UNIFORM_TERNARY: [(usize, f64); 8] =
    [(10, 26.0), (11, 53.0), (12, 106.0), (13, 214.0), (14, 430.0), (15, 868.0), (16, 1747.0), (17, 3523.0)];

/// (log2 N, largest log2(QP)) for a sparse ternary secret of Hamming weight 32.
const SPARSE_32: [(usize, f64); 2] = [(15, 162.0), (16, 345.0)];

/// Smallest Hamming weight for which the sparse rows are claimed.
const SPARSE_WEIGHT: usize = 32;

/// Largest log2(QP) of a key under a secret of this kind at N = 2^`log2_n` for 128-bit classical security; `None`
/// where no figure is known. Denser sparse secrets get the row of weight 32, which is lower than theirs would be.
#[must_use]
pub fn limit_log2_qp(log2_n: usize, secret: SecretKind) -> Option<f64> {
    let table: &[(usize, f64)] = match secret {
        SecretKind::UniformTernary => &UNIFORM_TERNARY,
        SecretKind::SparseTernary { hamming_weight } if hamming_weight >= SPARSE_WEIGHT => &SPARSE_32,
        SecretKind::SparseTernary { .. } => &[],
    };
    table.iter().find(|(ring, _)| *ring == log2_n).map(|(_, limit)| *limit)
}

/// That a key named `key` with modulus 2^`log2_qp` under a secret of this kind keeps 128-bit classical security;
/// returns the margin in bits (limit − log2(QP)).
///
/// # Errors
/// [`Error::Insecure`] above the limit; [`Error::Parameters`] where no limit is known, or when `log2_qp` is not a
/// number.
pub fn check_security(key: &str, log2_n: usize, log2_qp: f64, secret: SecretKind) -> Result<f64> {
    let limit = limit_log2_qp(log2_n, secret).ok_or_else(|| Error::Parameters {
        what: format!("no security limit is known for a {secret} secret at N = 2^{log2_n} (key `{key}`)"),
        remedy: "use a uniform ternary secret with N = 2^10 to 2^17, or ask for insecure parameters by name"
            .to_owned(),
    })?;
    if !log2_qp.is_finite() {
        return Err(Error::Parameters {
            what: format!("log2(QP) of key `{key}` is {log2_qp}"),
            remedy: "give moduli that are positive numbers".to_owned(),
        });
    }
    if log2_qp > limit {
        return Err(Error::Insecure {
            key: key.to_owned(),
            log2_qp,
            limit,
            secret: secret.to_string(),
            log2_n,
        });
    }
    Ok(limit - log2_qp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paper_s_own_setting_is_refused_and_names_the_numbers() {
        let error = check_security("relinearization", 16, 1763.0, SecretKind::UniformTernary).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Insecure { .. }), "{text}");
        assert!(text.contains("1763.0") && text.contains("1747") && text.contains("2^16"), "{text}");
    }

    #[test]
    fn a_modulus_at_the_limit_passes_with_no_margin() {
        let margin = check_security("rotation", 16, 1747.0, SecretKind::UniformTernary).unwrap();
        assert_eq!(margin, 0.0);
        let margin = check_security("rotation", 16, 1600.5, SecretKind::UniformTernary).unwrap();
        assert_eq!(margin, 146.5);
    }

    #[test]
    fn sparse_secrets_have_their_own_much_lower_limit() {
        let sparse = SecretKind::SparseTernary { hamming_weight: 32 };
        assert!(matches!(check_security("dense to sparse", 16, 400.0, sparse), Err(Error::Insecure { .. })));
        assert_eq!(check_security("dense to sparse", 16, 100.0, sparse).unwrap(), 245.0);
        let denser = SecretKind::SparseTernary { hamming_weight: 192 };
        assert_eq!(limit_log2_qp(16, denser), Some(345.0));
        let sparser = SecretKind::SparseTernary { hamming_weight: 16 };
        assert!(matches!(check_security("k", 16, 60.0, sparser), Err(Error::Parameters { .. })));
    }

    #[test]
    fn unknown_rings_and_numbers_that_are_none_are_refused() {
        for log2_n in [0, 9, 18, 64] {
            let result = check_security("k", log2_n, 1.0, SecretKind::UniformTernary);
            assert!(matches!(result, Err(Error::Parameters { .. })), "N = 2^{log2_n}");
        }
        for log2_qp in [f64::NAN, f64::INFINITY] {
            assert!(check_security("k", 16, log2_qp, SecretKind::UniformTernary).is_err(), "{log2_qp}");
        }
    }

    #[test]
    fn limits_about_double_with_the_ring() {
        for log2_n in 10..17 {
            let [small, large] =
                [log2_n, log2_n + 1].map(|n| limit_log2_qp(n, SecretKind::UniformTernary).unwrap());
            assert!((1.95..2.1).contains(&(large / small)), "2^{log2_n}: {small} and {large}");
        }
    }
}
