//! The counter against formulas, and as a wrapper that changes nothing.

use proptest::prelude::*;

use super::*;
use crate::backend::clear::{ClearClient, ClearEvaluator, ClearParameters};
use crate::contract::{Client, Diagonal, GiantStep};

const SLOTS: usize = 32;

fn client() -> ClearClient {
    ClearClient::new(ClearParameters::new(SLOTS, 4, 40).unwrap())
}

fn counter() -> (ClearClient, CountingEvaluator<ClearEvaluator>) {
    let client = client();
    let evaluator = client.dry_run();
    (client, CountingEvaluator::new(evaluator))
}

fn values(seed: usize) -> Vec<Complex64> {
    (0..SLOTS).map(|s| Complex64::new(((s * 7 + seed) % 11) as f64 / 11.0, (s % 3) as f64 / 9.0)).collect()
}

#[test]
fn every_operation_is_counted_once_at_the_level_of_its_input() {
    let (client, e) = counter();
    let a = client.encrypt(&values(1), Level(3)).unwrap();
    let p = e.encode(&values(2), Level(3), a.scale()).unwrap();
    let scale = a.scale();
    e.add(&a, &a).unwrap();
    e.sub(&a, &a).unwrap();
    e.add_plain(&a, &p).unwrap();
    e.add_constant(&a, Complex64::I).unwrap();
    e.mul_plain(&a, &p).unwrap();
    e.mul_constant(&a, Complex64::I, scale).unwrap();
    let tensor = e.tensor(&a, &a).unwrap();
    let product = e.relinearize(&e.add_tensor(&tensor, &tensor).unwrap()).unwrap();
    let below = e.rescale(&product).unwrap();
    e.conjugate(&below).unwrap();
    e.rotate(&below, 5).unwrap();
    // Free ones.
    e.negate(&a).unwrap();
    e.mul_integer(&a, 3).unwrap();
    e.mul_by_i(&a).unwrap();
    e.drop_level(&a, Level(1)).unwrap();
    e.rotate(&a, 0).unwrap();
    e.rotate(&a, SLOTS as i64).unwrap();
    let at_3 = LevelCounts {
        additions: 5,
        plaintext_products: 1,
        constant_products: 1,
        ciphertext_products: 1,
        relinearizations: 1,
        rescales: 1,
        ..LevelCounts::default()
    };
    let at_2 = LevelCounts { conjugations: 1, rotations: 1, ..LevelCounts::default() };
    let counts = e.take_counts();
    assert_eq!(counts.by_level, BTreeMap::from([(Level(3), at_3), (Level(2), at_2)]));
    assert_eq!(counts.rotation_steps.into_iter().collect::<Vec<_>>(), [5]);
    assert_eq!(counts.by_level.values().map(LevelCounts::key_switches).sum::<usize>(), 3);
    assert_eq!(e.counts(), OperationCounts::default(), "taking the counts starts from zero");
}

#[test]
fn what_a_backend_does_at_once_counts_as_its_steps() {
    let (client, e) = counter();
    let a = client.encrypt(&values(1), Level(3)).unwrap();
    let tensor = e.tensor(&a, &a).unwrap();
    let term = || LinearTerm::at_scale(Complex64::I, &a, tensor.scale());
    for addend in [Complex64::ZERO, Complex64::ONE] {
        for terms in [vec![], vec![term()], vec![term(), term(), term()]] {
            e.take_counts();
            let mut sum = e.relinearize(&tensor).unwrap();
            if let [first, rest @ ..] = terms.as_slice() {
                let mut terms = e.mul_constant(&a, first.constant, first.scale).unwrap();
                for term in rest {
                    terms = e.add(&terms, &e.mul_constant(&a, term.constant, term.scale).unwrap()).unwrap();
                }
                sum = e.add(&sum, &terms).unwrap();
            }
            if addend != Complex64::ZERO {
                sum = e.add_constant(&sum, addend).unwrap();
            }
            let stepwise = e.rescale(&sum).unwrap();
            let steps = e.take_counts();
            let at_once = e.relinearize_and_rescale(&tensor, &terms, addend).unwrap();
            assert_eq!(e.take_counts(), steps, "{} terms, {addend} added", terms.len());
            assert_eq!(at_once, stepwise);
        }
    }
}

#[test]
fn operations_that_fail_are_not_counted() {
    let (client, e) = counter();
    let high = client.encrypt(&values(1), Level(3)).unwrap();
    let low = client.encrypt(&values(1), Level(0)).unwrap();
    e.add(&high, &low).unwrap_err();
    e.tensor(&high, &low).unwrap_err();
    e.rescale(&low).unwrap_err();
    e.rotate_sum(&[]).unwrap_err();
    let request = BootstrapRequest::all(Level(3), SLOTS);
    e.bootstrap(&low, &request).unwrap_err();
    assert_eq!(e.counts(), OperationCounts::default());
}

#[test]
fn a_rotated_sum_counts_one_rotation_for_every_nonzero_step() {
    let (client, e) = counter();
    let a = client.encrypt(&values(1), Level(2)).unwrap();
    e.rotate_sum(&[(&a, 1), (&a, 0), (&a, -1), (&a, 1)]).unwrap();
    let counts = e.counts();
    assert_eq!(counts.total().rotations, 3, "{counts:?}");
    assert_eq!(counts.rotation_steps.into_iter().collect::<Vec<_>>(), [1, SLOTS - 1]);
}

proptest! {
    /// Distinct nonzero babies are hoisted rotations of one group, nonzero giants are rotations, diagonals are
    /// products.
    #[test]
    fn a_linear_transform_costs_what_its_documentation_says(
        giants in prop::collection::vec((-40i64..40, prop::collection::vec(-40i64..40, 1..5)), 1..5)
    ) {
        let (client, e) = counter();
        let a = client.encrypt(&values(3), Level(4)).unwrap();
        let transform = LinearTransform {
            giants: giants
                .iter()
                .map(|(step, babies)| GiantStep {
                    step: *step,
                    babies: babies
                        .iter()
                        .map(|b| (*b, Diagonal::Lazy(Box::new(|| values(4)) as Box<dyn Fn() -> Vec<Complex64> + Send + Sync>)))
                        .collect(),
                })
                .collect(),
        };
        e.linear_transform(&a, &transform, a.scale()).unwrap();
        let babies: std::collections::BTreeSet<usize> = giants
            .iter()
            .flat_map(|(_, babies)| babies)
            .map(|b| normalize_step(*b, SLOTS))
            .filter(|step| *step != 0)
            .collect();
        let total = e.counts().total();
        prop_assert_eq!(total.rotations_hoisted, babies.len());
        prop_assert_eq!(total.hoisted_groups, usize::from(!babies.is_empty()));
        let moved = giants.iter().filter(|(step, _)| normalize_step(*step, SLOTS) != 0).count();
        prop_assert_eq!(total.rotations, moved);
        let diagonals: usize = giants.iter().map(|(_, babies)| babies.len()).sum();
        prop_assert_eq!(total.plaintext_products, diagonals);
        // What was counted is what the dry run recorded: no more keys, no fewer.
        let recorded: Vec<usize> = e.inner().recorded().rotations.into_keys().collect();
        prop_assert_eq!(e.counts().rotation_steps.into_iter().collect::<Vec<_>>(), recorded);
    }

    #[test]
    fn the_wrapper_changes_no_result(step in -50i64..50, c in -2.0f64..2.0, seed in 0usize..100) {
        let (client, counted) = counter();
        let plain = client.dry_run();
        let a = client.encrypt(&values(seed), Level(3)).unwrap();
        let c = Complex64::new(c, 0.25);
        fn circuit<E: Evaluator>(e: &E, a: &E::Ciphertext, step: i64, c: Complex64) -> E::Ciphertext {
            let turned = e.rotate(a, step).unwrap();
            let product = e.mul(&turned, a).unwrap();
            e.mul_scalar(&e.conjugate(&product).unwrap(), c).unwrap()
        }
        prop_assert_eq!(circuit(&counted, &a, step, c), circuit(&plain, &a, step, c));
    }
}
