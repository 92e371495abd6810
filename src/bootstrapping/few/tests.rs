//! Bootstraps of few values against dense algebra, on the simulator, and the law of junk.

use proptest::prelude::*;

use super::*;
use crate::backend::clear::{ClearCiphertext, ClearClient, ClearParameters};
use crate::bootstrapping::{BootstrapParameters, EvalMod};
use crate::contract::{
    CiphertextInfo, Client, Complex64, CountingEvaluator, Evaluator, FewValues, Level, LevelChain,
    OccupiedSlots,
};

const LOG2_N: u32 = 9;
const TOTAL: usize = 256;

/// The chain of the native backend under these parameters.
fn chain(parameters: &BootstrapParameters) -> LevelChain {
    crate::ckks::Parameters::new(parameters.chain.clone()).unwrap().chain().clone()
}

/// Slots of the polynomial with real coefficients: a dense sum.
fn slots_of(coefficients: &[f64]) -> Vec<Complex64> {
    let degree = coefficients.len();
    let step = std::f64::consts::PI / degree as f64;
    let mut power = 1;
    (0..degree / 2)
        .map(|_| {
            let terms = coefficients.iter().enumerate();
            let slot =
                terms.map(|(k, c)| Complex64::from_polar(*c, step * (k * power % (2 * degree)) as f64)).sum();
            power = power * 5 % (2 * degree);
            slot
        })
        .collect()
}

/// Coefficients of the polynomial with these slots.
fn coefficients_of(slots: &[Complex64]) -> Vec<f64> {
    let degree = 2 * slots.len();
    let step = std::f64::consts::PI / degree as f64;
    let powers = std::iter::successors(Some(1), |power| Some(power * 5 % (2 * degree)));
    let powers: Vec<usize> = powers.take(slots.len()).collect();
    (0..degree)
        .map(|k| {
            let terms = slots.iter().zip(&powers);
            let root = |power: usize| Complex64::from_polar(1.0, -step * (k * power % (2 * degree)) as f64);
            2.0 / degree as f64 * terms.map(|(slot, power)| (slot * root(*power)).re).sum::<f64>()
        })
        .collect()
}

/// Distinct pseudo-random numbers from a seed.
fn random(seed: u64, index: usize) -> u64 {
    let x = (index as u64 + 1).wrapping_mul(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15));
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any slots, real or complex: the course of a bootstrap, with ModRaise in the clear, is the identity on the
    /// values; it goes through the subring; it uses exactly the keys that were planned.
    #[test]
    fn values_in_any_slots_survive_with_the_keys_planned(
        places in prop::collection::btree_set(0..TOTAL, 1..40), real in any::<bool>(), seed in any::<u64>(),
    ) {
        let parameters = BootstrapParameters::test(LOG2_N, 2);
        let chain = chain(&parameters);
        let top = chain.max_level();
        let client = ClearClient::new(ClearParameters { slots: TOTAL, chain, bootstrapping: None, noise: None });
        let counting = CountingEvaluator::new(client.dry_run());
        let values = FewValues { slots: OccupiedSlots::new(places.into_iter().collect()).unwrap(), real };
        let circuit = FewCircuit::new(&parameters, &values).unwrap();
        let unit = |index| random(seed, index) as f64 / (1u64 << 43) as f64 - 1.0;
        let mut slots = vec![Complex64::ZERO; TOTAL];
        for place in values.slots.slots() {
            slots[*place] = Complex64::new(unit(*place), if real { 0.0 } else { unit(place + TOTAL) });
        }
        let encoded = circuit.encode(&counting).unwrap();
        let input = client.encrypt(&slots, Level(1)).unwrap();
        let bottom = circuit.to_coefficients(&counting, &encoded, &input).unwrap();
        prop_assert_eq!(bottom.level(), Level(0));
        // Each value stands in a coefficient of its own, and none outside the subring.
        let coefficients = coefficients_of(bottom.values());
        let mut found: Vec<f64> = coefficients.iter().copied().filter(|c| c.abs() > 1e-9).collect();
        let parts = values.slots.slots().iter().flat_map(|place| [slots[*place].re, slots[*place].im]);
        let mut wanted: Vec<f64> = parts.filter(|part| part.abs() > 1e-9).collect();
        found.sort_by(f64::total_cmp);
        wanted.sort_by(f64::total_cmp);
        prop_assert_eq!(found.len(), wanted.len());
        prop_assert!(found.iter().zip(&wanted).all(|(x, y)| (x - y).abs() < 1e-8));
        // ModRaise: an integer beside every coefficient, in units of q0.
        let ratio = f64::from(parameters.log2_message_ratio).exp2();
        let raised: Vec<f64> = coefficients
            .iter()
            .enumerate()
            .map(|(k, c)| c / ratio + (random(seed ^ 77, k) % 27) as f64 - 13.0)
            .collect();
        let interval = parameters.few.as_ref().unwrap().interval;
        let scale = circuit.raised_scale(&counting).unwrap();
        // The label counts the repetitions of the period, which the trace brings.
        let label = scale.0 / counting.chain().log2_modulus(Level(0)).unwrap().exp2();
        let slots_raised: Vec<Complex64> = slots_of(&raised).iter().map(|z| z / label).collect();
        // ModRaise gives the first steps of the trace.
        let apart = TOTAL / circuit.copies_raised();
        let raised: Vec<Complex64> = (0..TOTAL)
            .map(|slot| slots_raised.iter().skip(slot % apart).step_by(apart).sum())
            .collect();
        prop_assert!(label >= interval * 0.999);
        let raised = ClearCiphertext::new(raised, top, scale);
        let output = circuit.output_level(top);
        let scale = counting.chain().canonical_scale(output).unwrap();
        let result = circuit.from_coefficients(&counting, &encoded, raised, scale).unwrap();
        prop_assert_eq!(result.level(), output);
        prop_assert_eq!(output, Level(parameters.few_output_level().unwrap()));
        prop_assert!(result.scale().agrees_with(scale));
        let decrypted = client.decrypt(&result).unwrap();
        for place in values.slots.slots() {
            let error = (decrypted[*place] - slots[*place]).norm();
            prop_assert!(error < 2f64.powi(-20), "slot {place}: error 2^{:.1}", error.log2());
        }
        let inputs = if circuit.reduction() == Reduction::Twice { 2 } else { 1 };
        prop_assert!(counting.counts().total().relinearizations <= 14 * inputs);
        prop_assert_eq!(circuit.key_request(top), counting.inner().recorded());
    }
}

#[test]
fn a_bootstrap_of_few_values_fails_with_at_most_2_to_the_minus_100() {
    let parameters = BootstrapParameters::n16_few();
    let log2_failure = parameters.log2_failure_few().unwrap();
    assert!((-101.0..=-100.0).contains(&log2_failure), "2^{log2_failure:.2}");
    // The reach that it rests on, and that junk stays small inside the interval.
    let interval = parameters.few.as_ref().unwrap().interval;
    let eval_mod = EvalMod::on_interval(&parameters, interval).unwrap();
    let largest =
        |to: f64| (0..=1000).map(|i| eval_mod.value_at(to * f64::from(i) / 1000.0).abs()).fold(0.0, f64::max);
    assert!(largest(interval) <= parameters.summary().few.unwrap().junk);
    assert!(largest(20.5) < 64.0 && largest(21.0) < JUNK_LIMIT && largest(22.0) > JUNK_LIMIT);
    // Values: every integer part there can be, to more than the bits of a bootstrap.
    for integer in -16..=16 {
        for v in [-1.0, -0.3, 0.0, 0.7, 1.0] {
            let error = (eval_mod.value_at(f64::from(integer) + v / 128.0) - v).abs();
            assert!(error < 2f64.powf(-22.5), "I = {integer}, v = {v}: 2^{:.1}", error.log2());
        }
    }
}

#[test]
fn the_chains_for_few_values_leave_seventeen_and_eighteen_levels_below_the_limit() {
    for (parameters, output, digits) in
        [(BootstrapParameters::n16_few(), 18, 3), (BootstrapParameters::n16_few_deep(), 19, 4)]
    {
        parameters.check().unwrap();
        let few = parameters.summary().few.unwrap();
        assert_eq!((few.minimum_input_level, few.output_level), (Level(1), Level(output)));
        assert_eq!(
            (parameters.minimum_input_level(), parameters.output_level()),
            (3, output - 3),
            "all slots"
        );
        let chain = &parameters.chain;
        let bits: f64 = chain.stretches.iter().map(|s| s.levels as f64 * s.log2_scale).sum();
        let special = chain.special_primes as f64 * chain.special_bits;
        assert!(bits + 49.9 + special <= 1747.0, "log2(QP) = {}", bits + 49.9 + special);
        let limbs: usize = chain.stretches.iter().map(|s| s.levels * s.primes_per_level).sum();
        assert_eq!((1 + limbs).div_ceil(chain.special_primes), digits);
    }
}

#[test]
fn parameters_without_few_values_say_so() {
    let values = FewValues { slots: OccupiedSlots::new(vec![0]).unwrap(), real: true };
    let error = FewCircuit::new(&BootstrapParameters::n16(), &values).unwrap_err().to_string();
    assert!(error.contains("n16") && error.contains("refresh all slots"), "{error}");
    assert!(BootstrapParameters::n16().summary().few.is_none());
}
