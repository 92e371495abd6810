//! One list of checks that every backend passes: what the contract promises, tested against slots in f64.
//!
//! A backend implements [`Backend`] in a test module and calls [`conformance_tests!`], which makes one test of every
//! check; backends with bootstrapping add [`bootstrapping_conformance_tests!`]. Checks are generic functions over
//! [`Backend`]; they draw reproducible random inputs, compute the expected slots densely, and compare slots, level
//! and scale. The levels and errors of random programs are also compared with those of the simulator on the same chain
//! ([`simulator_twin`]), so that what runs on `clear` runs on the real backends.

mod arithmetic;
mod bootstrapping;
mod errors;
mod few_values;
mod fixture;
mod levels;
mod linear_transforms;
mod precision;
mod products;
mod rotations;
mod serialization;
mod simulator_twin;

use crate::contract::{BootstrapRequest, Client, Evaluator, Level, LevelChain};

/// Test modules of this crate name the checks through these.
pub(crate) mod checks {
    pub(crate) use super::arithmetic::*;
    pub(crate) use super::bootstrapping::*;
    pub(crate) use super::errors::*;
    pub(crate) use super::few_values::*;
    pub(crate) use super::levels::*;
    pub(crate) use super::linear_transforms::*;
    pub(crate) use super::precision::*;
    pub(crate) use super::products::*;
    pub(crate) use super::rotations::*;
    pub(crate) use super::serialization::*;
    pub(crate) use super::simulator_twin::*;
}

/// Evaluator of a backend under test.
pub(crate) type EvaluatorOf<B> = <<B as Backend>::Client as Client>::Evaluator;
/// Ciphertext of a backend under test.
pub(crate) type CiphertextOf<B> = <EvaluatorOf<B> as Evaluator>::Ciphertext;
/// Plaintext of a backend under test.
pub(crate) type PlaintextOf<B> = <EvaluatorOf<B> as Evaluator>::Plaintext;

/// A backend under test: where its clients come from, and how exact it claims to be.
pub(crate) trait Backend {
    /// The client side.
    type Client: Client;

    /// Bits of precision of every slot of values up to 1 in magnitude after encryption and one operation at a canonical
    /// scale. Checks of several operations allow for their number and for the size of their results.
    const PRECISION_BITS: f64;

    /// A client with a secret of its own, under small parameters: at most 2^13 slots, at least four levels.
    fn client() -> Self::Client;

    /// The noise the formulas predict under the chain of [`Self::client`]; `None` where no formula is known, and then
    /// the noise is held against [`Self::PRECISION_BITS`] only.
    fn predicted_noise(_chain: &LevelChain) -> Option<PredictedNoise> {
        None
    }

    /// How the backend bootstraps under test parameters, for [`bootstrapping_conformance_tests!`].
    fn bootstrapping() -> Option<BootstrapUnderTest<Self::Client>> {
        None
    }
}

/// Standard deviations of the real part of a slot's error, in units of 1/scale (equal for the imaginary part).
///
/// A coefficient error of standard deviation σ_c gives σ_c·√(N/2) here.
pub(crate) struct PredictedNoise {
    /// Of a fresh encryption, rounding of the encoder included.
    pub fresh: f64,
    /// Added by one rotation, by level.
    pub rotation: Box<dyn Fn(Level) -> f64>,
    /// Added by one relinearization, by level.
    pub relinearization: Box<dyn Fn(Level) -> f64>,
}

/// What [`bootstrapping_conformance_tests!`] needs.
pub(crate) struct BootstrapUnderTest<C> {
    /// A client under parameters that bootstrap.
    pub client: C,
    /// Requests for all slots to try; every one with its own period.
    pub requests: Vec<BootstrapRequest>,
    /// Bits of precision for values up to 1.
    pub precision_bits: f64,
    /// Bits that a second iteration adds to few values.
    pub second_iteration_bits: f64,
}

/// Makes one test of every check for a [`Backend`].
macro_rules! conformance_tests {
    ($backend:ty) => {
        $crate::backend::conformance::conformance_tests! { @each $backend;
            fresh_values_come_back_at_every_level
            short_inputs_are_padded_with_zeros
            fresh_precision_matches_theory
            rotation_noise_matches_the_formula
            relinearization_noise_matches_the_formula
            encoding_alone_is_exact_to_the_scale
            sums_and_differences_match_the_slots
            plaintext_operations_match_the_slots
            constants_reach_every_slot
            integers_and_the_imaginary_unit_are_free
            provided_operations_are_their_definitions
            products_match_the_slots_and_keep_the_canonical_scale
            sums_of_tensors_are_relinearized_once
            products_are_relinearized_and_rescaled_with_what_is_added
            linear_combinations_match_the_slots
            a_chain_of_squarings_uses_every_level
            rescaling_divides_by_the_modulus_of_the_level
            dropping_levels_keeps_scale_and_values
            lowering_is_exact_from_every_level_to_every_level
            aligned_values_can_be_added
            rotations_match_the_slots
            hoisted_rotations_equal_plain_ones
            rotations_by_multiples_of_the_slots_need_no_key
            rotated_sums_match_the_slots
            conjugation_matches_the_slots
            linear_transforms_match_the_dense_product
            encoded_and_lazy_diagonals_agree
            baby_step_giant_step_equals_the_plain_sum
            linear_transforms_work_at_every_level
            ciphertexts_survive_serialization
            truncated_bytes_are_refused
            damaged_bytes_are_refused
            bytes_of_other_parameters_are_refused
            evaluators_work_on_several_threads
            inputs_stay_unchanged
            mixed_levels_are_refused
            mixed_scales_are_refused
            missing_rotation_keys_are_named
            rotation_keys_end_at_their_level
            missing_evaluation_keys_are_named
            too_many_values_are_refused
            values_that_are_not_finite_are_refused
            scales_beyond_the_modulus_are_refused
            levels_outside_the_chain_are_refused
            the_last_level_cannot_be_rescaled
            empty_sums_and_transforms_are_refused
            keys_above_the_chain_are_refused
            random_programs_behave_as_on_the_simulator
        }
    };
    (@each $backend:ty; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                $crate::backend::conformance::checks::$check::<$backend>();
            }
        )*
    };
}

/// Makes one test of every bootstrapping check for a [`Backend`] whose [`Backend::bootstrapping`] is given.
macro_rules! bootstrapping_conformance_tests {
    ($backend:ty) => {
        $crate::backend::conformance::conformance_tests! { @each $backend;
            bootstrapping_keeps_values_and_reaches_the_level
            bootstrapping_requests_that_cannot_be_met_are_refused
            few_values_come_back_and_nothing_beside_them
            bootstraps_of_few_values_that_cannot_be_met_are_refused
        }
    };
}

#[allow(unused_imports, reason = "not every backend of a build has bootstrapping under test")]
pub(crate) use {bootstrapping_conformance_tests, conformance_tests};
