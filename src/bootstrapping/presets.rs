//! The moduli chains that bootstraps run on, by name. [`BootstrapParameters`] says why each part is as it is.

use super::{BootstrapParameters, FewParameters};
use crate::ckks::{ParametersLiteral, Security, Stretch};

/// log2 of primes "of 50 bits": all primes stay below 2^50, the limit of the fast kernels.
const LARGE: f64 = 49.9;

impl BootstrapParameters {
    /// N = 2^16, 128-bit security with a dense ternary secret.
    ///
    /// log2(QP) = 50 + 3·42 + 13·42 + 9·48 + 4·46 + 8·50 = 1738 ≤ 1747; 30 limbs in 4 digits. The ephemeral key (32
    /// nonzero coefficients) lives at 100 bits (limit 345). A bootstrap takes a value at level 3 or above and returns
    /// level 16: 13 levels between bootstraps. Precision: see the module header.
    #[must_use]
    pub fn n16() -> Self {
        Self {
            chain: ParametersLiteral {
                name: "n16",
                log2_n: 16,
                base_bits: vec![LARGE],
                stretches: vec![stretch(3 + 13, 42.0), stretch(9, 48.0), stretch(4, 46.0)],
                special_primes: 8,
                special_bits: LARGE,
                security: Security::Classical128,
            },
            coeffs_to_slots: vec![4, 4, 4, 3],
            slots_to_coeffs: vec![5, 5, 5],
            few: None,
            ..Self::test(16, 0)
        }
    }

    /// N = 2^16, 128-bit security with a dense ternary secret, for bootstraps of few values; all slots as well.
    ///
    /// log2(QP) = 50 + 18·42 + 9·48 + 60 + 10·44.8 = 1746 ≤ 1747; 30 limbs in 3 digits of 10: special primes of 45 bits
    /// cover digits of 42-bit limbs, where eight of 50 bits would leave a level more and take 4 digits. The top level
    /// is two primes of 30 bits: a dense CoeffsToSlots loses 2^(36−b) of a value to the rounding of its diagonals, b
    /// the bits of its level. Few values enter at level 1 and come back at level 18: 17 levels between bootstraps. All
    /// slots enter at level 3 and come back at level 15, their last squarings at 42 bits instead of 48: 12 levels, and
    /// fewer bits than under [`Self::n16`].
    #[must_use]
    pub fn n16_few() -> Self {
        Self {
            chain: ParametersLiteral {
                name: "n16-few",
                stretches: vec![stretch(1 + 17, 42.0), stretch(9, 48.0), WIDE_TOP],
                special_primes: 10,
                special_bits: 44.8,
                ..Self::n16().chain
            },
            // A digit of one 50-bit prime against one special prime of 45 bits would be short of bits.
            ephemeral_special_primes: 2,
            few: Some(FewParameters { interval: FEW_INTERVAL }),
            ..Self::n16()
        }
    }

    /// [`Self::n16_few`] with one level more: eight special primes of 50 bits and 31 limbs in 4 digits, hence larger
    /// keys and slower key switches.
    ///
    /// log2(QP) = 50 + 19·42 + 9·48 + 60 + 8·50 = 1739 ≤ 1747. Few values from level 1 to level 19, all slots from 3 to
    /// 16.
    #[must_use]
    pub fn n16_few_deep() -> Self {
        Self {
            chain: ParametersLiteral {
                name: "n16-few-deep",
                stretches: vec![stretch(1 + 18, 42.0), stretch(9, 48.0), WIDE_TOP],
                ..Self::n16().chain
            },
            few: Some(FewParameters { interval: FEW_INTERVAL }),
            ..Self::n16()
        }
    }

    /// Insecure parameters for tests: N = 2^`log2_n` (small), `application_levels` between bootstraps.
    #[must_use]
    pub fn test(log2_n: u32, application_levels: usize) -> Self {
        let stages = log2_n.saturating_sub(1) as usize;
        let merged = if stages < 2 { vec![stages] } else { vec![stages.div_ceil(2), stages / 2] };
        Self {
            chain: ParametersLiteral {
                name: "test",
                log2_n,
                base_bits: vec![LARGE],
                stretches: vec![
                    stretch(merged.len() + application_levels, 42.0),
                    stretch(9, 48.0),
                    stretch(merged.len().saturating_sub(1), 46.0),
                    WIDE_TOP,
                ],
                special_primes: 6,
                special_bits: LARGE,
                security: Security::InsecureForTests,
            },
            ephemeral_weight: 32,
            ephemeral_special_primes: 1,
            log2_message_ratio: 7,
            bound: 1.125,
            interval: 15.1,
            degree: 31,
            squarings: 3,
            coeffs_to_slots: merged.clone(),
            slots_to_coeffs: merged,
            few: Some(FewParameters { interval: FEW_INTERVAL }),
        }
    }
}

/// The top level, of 60 bits, for a dense CoeffsToSlots.
const WIDE_TOP: Stretch = Stretch { levels: 1, log2_scale: 60.0, primes_per_level: 2 };
/// Half-width of the interval of EvalMod for few values; see [`super::few`].
const FEW_INTERVAL: f64 = 17.1;

/// `levels` levels of one prime of `log2_scale` bits.
fn stretch(levels: usize, log2_scale: f64) -> Stretch {
    Stretch { levels, log2_scale, primes_per_level: 1 }
}
