//! Bootstraps of few values: the values come back, what stands beside them does not.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fixture::{assert_close, assert_state};
use super::{Backend, EvaluatorOf};
use crate::contract::{
    BootstrapRequest, CiphertextInfo, Client, Complex64, Error, Evaluator, KeyRequest, Level, OccupiedSlots,
    Scale,
};

/// Layouts of one, two, three and many values in `total` slots: at the ends, side by side in blocks, far apart.
fn layouts(total: usize) -> Vec<OccupiedSlots> {
    let blocks = (0..total / 64).flat_map(|block| (0..5).map(move |value| 64 * block + value));
    [
        vec![total - 1],
        vec![0, 1],
        vec![2, total / 2 + 1, total - 3],
        blocks.collect(),
        (0..total / 8).map(|value| 8 * value).collect(),
    ]
    .into_iter()
    .map(|slots| OccupiedSlots::new(slots).unwrap())
    .collect()
}

/// Random values in `slots` of `total`, zero elsewhere.
fn values_in(random: &mut ChaCha8Rng, slots: &OccupiedSlots, total: usize, real: bool) -> Vec<Complex64> {
    let mut values = vec![Complex64::ZERO; total];
    for slot in slots.slots() {
        let imaginary = if real { 0.0 } else { random.random_range(-0.9..0.9) };
        values[*slot] = Complex64::new(random.random_range(-0.9..0.9), imaginary);
    }
    values
}

pub(crate) fn few_values_come_back_and_nothing_beside_them<B: Backend>() {
    let under_test = B::bootstrapping().expect("Backend::bootstrapping is given");
    let client = under_test.client;
    let total = client.slots();
    let mut keys = KeyRequest::new();
    let mut requests = Vec::new();
    for slots in layouts(total) {
        for real in [true, false] {
            requests.push(BootstrapRequest::few(Level(0), slots.clone()).real(real));
            keys.bootstrapping_of(requests.last().unwrap());
        }
    }
    let evaluator: EvaluatorOf<B> = client.evaluator(&keys).unwrap();
    let summary = evaluator.bootstrapping().unwrap();
    let few = summary.few.expect("every backend serves few values");
    let mut random = ChaCha8Rng::seed_from_u64(11);
    for (request, slots) in requests.iter().zip(layouts(total).iter().flat_map(|slots| [slots, slots])) {
        for iterations in [1, 2] {
            let request = request.clone().iterations(iterations);
            let (lowest, highest) = summary.levels(&request, evaluator.name()).unwrap();
            for (from, to) in [(lowest, highest), (few.output_level, Level(highest.0 - 1))] {
                let request = request.clone().to(to);
                let values = values_in(&mut random, slots, total, request.refreshed.is_real());
                let input = client.encrypt(&values, from).unwrap();
                let before = evaluator.ciphertext_to_bytes(&input).unwrap();
                let output = evaluator.bootstrap(&input, &request).unwrap();
                let what = format!("{request:?} from level {from}");
                assert_state(&what, &output, to, evaluator.chain().canonical_scale(to).unwrap());
                assert!(
                    before == evaluator.ciphertext_to_bytes(&input).unwrap(),
                    "{what}: the input changed"
                );
                let wanted: Vec<Complex64> = slots.slots().iter().map(|slot| values[*slot]).collect();
                let found = client.decrypt_few(&output, summary, slots).unwrap();
                let gained = if iterations == 1 { 0.0 } else { under_test.second_iteration_bits };
                assert_close(&what, &found, &wanted, (-under_test.precision_bits - gained).exp2());
                let all = client.decrypt(&output).unwrap();
                let largest = all.iter().map(|z| z.re.abs().max(z.im.abs())).fold(0.0, f64::max);
                assert!(largest <= summary.bound.max(few.junk * 1.01), "{what}: junk of {largest}");
                // A mask is what makes it clean again.
                if to > Level(0) {
                    let clean = evaluator.mul_values(&output, &slots.mask(total)).unwrap();
                    let clean = client.decrypt(&clean).unwrap();
                    assert_close(&what, &clean, &values, (-under_test.precision_bits).exp2());
                }
            }
        }
    }
}

pub(crate) fn bootstraps_of_few_values_that_cannot_be_met_are_refused<B: Backend>() {
    let under_test = B::bootstrapping().expect("Backend::bootstrapping is given");
    let client = under_test.client;
    let slots = OccupiedSlots::new(vec![1, 5]).unwrap();
    let request = BootstrapRequest::few(Level(0), slots.clone()).real(true);
    let mut keys = KeyRequest::new();
    keys.bootstrapping_of(&request);
    let evaluator: EvaluatorOf<B> = client.evaluator(&keys).unwrap();
    let summary = evaluator.bootstrapping().unwrap();
    let few = summary.few.expect("every backend serves few values");
    let values = values_in(&mut ChaCha8Rng::seed_from_u64(3), &slots, client.slots(), true);
    let input = client.encrypt(&values, Level(few.minimum_input_level.0 + 1)).unwrap();

    let others = BootstrapRequest::few(Level(0), OccupiedSlots::new(vec![1, 6]).unwrap()).real(true);
    for unplanned in [others, request.clone().real(false), BootstrapRequest::all(Level(0), client.slots())] {
        let result = evaluator.bootstrap(&input, &unplanned);
        assert!(matches!(result, Err(Error::EvaluationKey { .. })), "{unplanned:?} without keys");
    }
    let high = Level(few.output_level.0 + 1);
    let result = evaluator.bootstrap(&input, &request.clone().to(high));
    assert!(matches!(result, Err(Error::LevelOutOfRange { .. })), "to level {high}");
    let result = evaluator.bootstrap(&input, &request.clone().to(few.output_level).iterations(2));
    assert!(matches!(result, Err(Error::LevelOutOfRange { .. })), "a second iteration takes a level");
    let result = evaluator.bootstrap(&input, &request.clone().iterations(3));
    assert!(matches!(result, Err(Error::Unsupported { .. })), "three iterations");
    let low = client.encrypt(&values, Level(few.minimum_input_level.0 - 1)).unwrap();
    let result = evaluator.bootstrap(&low, &request);
    assert!(matches!(result, Err(Error::LevelTooLow { .. })), "from below the lowest input level");
    let off = evaluator.mul_constant(&input, Complex64::ONE, Scale(1024.0)).unwrap();
    assert!(!off.scale().agrees_with(input.scale()));
    let result = evaluator.bootstrap(&off, &request);
    assert!(matches!(result, Err(Error::ScaleMismatch { .. })), "from a scale that is not canonical");
    let outside = OccupiedSlots::new(vec![client.slots()]).unwrap();
    let mut keys = KeyRequest::new();
    keys.bootstrapping_of(&BootstrapRequest::few(Level(0), outside.clone()));
    let refused = match client.evaluator(&keys) {
        Err(error) => error,
        Ok(evaluator) => {
            evaluator.bootstrap(&input, &BootstrapRequest::few(Level(0), outside)).err().unwrap()
        }
    };
    assert!(matches!(refused, Error::Shape { .. }), "a slot that does not exist: {refused}");
}
