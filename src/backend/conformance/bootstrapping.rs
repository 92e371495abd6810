//! Bootstrapping: values, levels, and requests that cannot be met.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fixture::{assert_close, assert_state};
use super::{Backend, EvaluatorOf};
use crate::contract::{
    BootstrapRequest, Client, Complex64, Error, Evaluator, KeyRequest, Level, Refreshed, Scale,
};

/// Values whose slot s equals slot s mod `period`.
fn periodic(random: &mut ChaCha8Rng, slots: usize, period: usize) -> Vec<Complex64> {
    let few: Vec<Complex64> = (0..period)
        .map(|_| Complex64::new(random.random_range(-0.7..0.7), random.random_range(-0.7..0.7)))
        .collect();
    few.iter().copied().cycle().take(slots).collect()
}

fn period(request: &BootstrapRequest) -> usize {
    match &request.refreshed {
        Refreshed::All { period, .. } => *period,
        Refreshed::Few(few) => panic!("{few:?} among requests for all slots"),
    }
}

fn keys_for(requests: &[BootstrapRequest]) -> KeyRequest {
    let mut keys = KeyRequest::new();
    for request in requests {
        keys.bootstrapping_of(request);
    }
    keys
}

pub(crate) fn bootstrapping_keeps_values_and_reaches_the_level<B: Backend>() {
    let under_test = B::bootstrapping().expect("Backend::bootstrapping is given");
    let client = under_test.client;
    let evaluator: EvaluatorOf<B> = client.evaluator(&keys_for(&under_test.requests)).unwrap();
    let summary = evaluator.bootstrapping().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let requests = under_test.requests.iter();
    for request in requests.flat_map(|request| [request.clone(), request.clone().real(true)]) {
        let mut values = periodic(&mut random, evaluator.slots(), period(&request));
        if request.refreshed.is_real() {
            values.iter_mut().for_each(|value| value.im = 0.0);
        }
        for level in [summary.minimum_input_level, Level(summary.minimum_input_level.0 + 1)] {
            let input = client.encrypt(&values, level).unwrap();
            let before = evaluator.ciphertext_to_bytes(&input).unwrap();
            let output = evaluator.bootstrap(&input, &request).unwrap();
            let scale = evaluator.chain().canonical_scale(request.level).unwrap();
            let what = format!("{request:?} from level {level}");
            assert_state(&what, &output, request.level, scale);
            let bound = (-under_test.precision_bits).exp2();
            assert_close(&what, &client.decrypt(&output).unwrap(), &values, bound);
            assert!(before == evaluator.ciphertext_to_bytes(&input).unwrap(), "{what}: the input changed");
        }
    }
}

pub(crate) fn bootstrapping_requests_that_cannot_be_met_are_refused<B: Backend>() {
    let under_test = B::bootstrapping().expect("Backend::bootstrapping is given");
    let client = under_test.client;
    let request = under_test.requests.first().expect("at least one request").clone();
    let evaluator: EvaluatorOf<B> = client.evaluator(&keys_for(std::slice::from_ref(&request))).unwrap();
    let summary = evaluator.bootstrapping().unwrap();
    let input = client.encrypt(&[Complex64::new(0.5, 0.0)], summary.minimum_input_level).unwrap();

    let keyless: EvaluatorOf<B> = client.evaluator(&KeyRequest::new()).unwrap();
    let result = keyless.bootstrap(&input, &request);
    assert!(matches!(result, Err(Error::EvaluationKey { key: "bootstrapping", .. })), "without keys");

    let level = Level(summary.output_level.0 + 1);
    let result = evaluator.bootstrap(&input, &request.clone().to(level));
    assert!(matches!(result, Err(Error::LevelOutOfRange { .. })), "to level {level}");

    if summary.minimum_input_level > Level(0) {
        let low = client.encrypt(&[], Level(summary.minimum_input_level.0 - 1)).unwrap();
        let result = evaluator.bootstrap(&low, &request);
        assert!(matches!(result, Err(Error::LevelTooLow { .. })), "from below the lowest input level");
    }

    let high = client.encrypt(&[], Level(summary.minimum_input_level.0 + 1)).unwrap();
    let off = evaluator.mul_constant(&high, Complex64::new(1.0, 0.0), Scale(1024.0)).unwrap();
    let result = evaluator.bootstrap(&off, &request);
    assert!(matches!(result, Err(Error::ScaleMismatch { .. })), "from a scale that is not canonical");
}
