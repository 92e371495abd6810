//! The functions of a decoder block on `native`, in small rings: their errors are at most the error of the
//! approximation plus the noise that is predicted.
//!
//! A function runs twice on ciphertexts: on the simulator with the chain of the native parameters and the noise of
//! [`noise_model`] at every operation, and on `native`. Against what the circuit computes in f64, native errors must
//! have the size of the simulated ones; against the exact function they may exceed them by the approximation's own
//! error, which each fit states and which is measured here again.

use std::sync::Arc;

use super::approximation::{Approximation, Interval};
use super::evaluate_series;
use super::exp::Exponential;
use super::inverse_sqrt::InverseSquareRoot;
use super::silu::{fit_silu, silu};
use super::softmax::{DeferredSoftmax, Denominators, join_complex, split_complex};
use crate::backend::clear::{ClearClient, ClearEvaluator, ClearParameters, NoiseModel};
use crate::backend::native::{NativeClient, noise_model, test_levelled};
use crate::bootstrapping::BootstrapParameters;
use crate::ckks::Parameters;
use crate::contract::{BootstrapRequest, CiphertextInfo, Client, Complex64, Evaluator, Level};

/// Between the root mean square of native and of simulated noise.
const TOLERANCE_BITS: f64 = 1.0;

/// A function to evaluate on any backend, at one value a slot.
trait Function {
    /// Slots, from unit variables or whatever the circuit takes.
    fn inputs(&self) -> Vec<Vec<f64>>;
    /// What the circuit computes, without noise.
    fn circuit(&self) -> Vec<f64>;
    /// What it stands for.
    fn exact(&self) -> Vec<f64>;
    /// Largest difference of the two that the fit states.
    fn stated_error(&self) -> f64;
    /// The circuit, from ciphertexts at the highest level.
    fn run<E: Evaluator>(&self, evaluator: &E, inputs: &[E::Ciphertext]) -> E::Ciphertext;

    /// Slots on a backend, real parts.
    fn slots_on<C: Client>(&self, client: &C, evaluator: &C::Evaluator, level: Level) -> Vec<f64> {
        let encrypt = |values: &Vec<f64>| {
            let values: Vec<Complex64> = values.iter().map(|x| Complex64::new(*x, 0.0)).collect();
            client.encrypt(&values, level).unwrap()
        };
        let inputs: Vec<_> = self.inputs().iter().map(encrypt).collect();
        let result = self.run(evaluator, &inputs);
        let count = self.exact().len();
        client.decrypt(&result).unwrap().iter().take(count).map(|z| z.re).collect()
    }
}

fn largest(left: &[f64], right: &[f64]) -> f64 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

fn root_mean_square(left: &[f64], right: &[f64]) -> f64 {
    let sum: f64 = left.iter().zip(right).map(|(x, y)| (x - y) * (x - y)).sum();
    (sum / left.len() as f64).sqrt()
}

/// That the fit is as good as it states, and returns its error.
fn approximation_error(what: &str, function: &impl Function) -> f64 {
    let error = largest(&function.circuit(), &function.exact());
    let stated = function.stated_error();
    // The fit looks at a finite grid.
    assert!(error <= stated * 1.01 + 1e-12, "{what}: the circuit errs by {error:e}, stated {stated:e}");
    error
}

/// Runs `function` over `levels` levels in a ring of degree 2^11.
fn check_levelled(what: &str, levels: usize, function: &impl Function) {
    let approximation = approximation_error(what, function);
    let parameters = Arc::new(Parameters::new(test_levelled(11, levels)).unwrap());
    let noise = noise_model(&parameters, 5).unwrap();
    let chain = parameters.chain().clone();
    let top = chain.max_level();
    let simulated =
        ClearParameters { slots: parameters.slots(), chain, bootstrapping: None, noise: Some(noise) };
    let dry_run = ClearEvaluator::dry_run(simulated.clone());
    let predicted = function.slots_on(&ClearClient::new(simulated), &dry_run, top);
    let client = NativeClient::from_insecure_fixed_seed(parameters, 9).unwrap();
    let evaluator = client.evaluator(&dry_run.recorded()).unwrap();
    let measured = function.slots_on(&client, &evaluator, top);

    let circuit = function.circuit();
    let (found, wanted) = (root_mean_square(&measured, &circuit), root_mean_square(&predicted, &circuit));
    let worst = largest(&measured, &function.exact());
    let noise = largest(&predicted, &circuit);
    println!(
        "{what}: approximation 2^{:.1}; noise 2^{:.1}, predicted 2^{:.1}; in all at most 2^{:.1}",
        approximation.log2(),
        found.log2(),
        wanted.log2(),
        worst.log2()
    );
    assert!(
        (found.log2() - wanted.log2()).abs() <= TOLERANCE_BITS,
        "{what}: noise 2^{:.2}, predicted 2^{:.2}",
        found.log2(),
        wanted.log2()
    );
    // The largest of a thousand: twice the largest of the simulated ones is far out.
    assert!(worst <= approximation + 2.0 * noise, "{what}: {worst:e} > {approximation:e} + 2 · {noise:e}");
}

/// `count` values over an interval, ends included.
fn grid(interval: Interval, count: usize) -> Vec<f64> {
    let share = |index: usize| index as f64 / (count - 1) as f64;
    (0..count).map(|index| interval.low + (interval.high - interval.low) * share(index)).collect()
}

fn units(interval: Interval, xs: &[f64]) -> Vec<f64> {
    xs.iter().map(|x| interval.to_unit(*x)).collect()
}

/// The gate: one polynomial.
struct Gate {
    fit: Approximation,
    normaliser: f64,
}

impl Function for Gate {
    fn inputs(&self) -> Vec<Vec<f64>> {
        vec![units(self.fit.interval, &grid(self.fit.interval, 1024))]
    }
    fn circuit(&self) -> Vec<f64> {
        grid(self.fit.interval, 1024).into_iter().map(|x| self.fit.value(x)).collect()
    }
    fn exact(&self) -> Vec<f64> {
        grid(self.fit.interval, 1024).into_iter().map(|x| silu(x) / self.normaliser).collect()
    }
    fn stated_error(&self) -> f64 {
        self.fit.worst_error
    }
    fn run<E: Evaluator>(&self, evaluator: &E, inputs: &[E::Ciphertext]) -> E::Ciphertext {
        evaluate_series(evaluator, &inputs[0], &self.fit.complex_coefficients(), None).unwrap()
    }
}

#[test]
fn silu_on_native_errs_by_its_approximation_and_the_predicted_noise() {
    for (low, high) in [(-4.0, 5.0), (-9.0, 12.0)] {
        let fit = fit_silu(Interval::new(low, high).unwrap(), 3e-3, high).unwrap();
        let (levels, degree) = (fit.levels(), fit.degree());
        check_levelled(
            &format!("SiLU on {low} .. {high}, degree {degree}"),
            levels,
            &Gate { fit, normaliser: high },
        );
    }
}

/// RMSNorm of rows of `dimension` values at stride 1: squares, their sum within each row, 1/√, and the product.
struct Norm {
    root: InverseSquareRoot,
    dimension: usize,
}

impl Norm {
    fn values(&self) -> Vec<f64> {
        let interval = self.root.interval();
        (0..1024)
            .map(|slot| {
                let row = slot / self.dimension;
                let rows = 1024 / self.dimension;
                let mean = interval.low * (interval.high / interval.low).powf(row as f64 / rows as f64);
                // Signs and sizes vary; the mean square of every row is within the interval.
                let angle = std::f64::consts::TAU * (slot % self.dimension) as f64 / self.dimension as f64;
                (2.0 * mean).sqrt() * (angle + 0.3).cos()
            })
            .collect()
    }

    fn mean_square(&self, slot: usize) -> f64 {
        let start = slot / self.dimension * self.dimension;
        let row = &self.values()[start..start + self.dimension];
        row.iter().map(|x| x * x).sum::<f64>() / self.dimension as f64
    }

    fn normalised(&self, inverse: impl Fn(f64) -> f64) -> Vec<f64> {
        let values = self.values();
        (0..values.len())
            .map(|slot| if slot % self.dimension == 0 { inverse(self.mean_square(slot)) } else { 0.0 })
            .collect::<Vec<_>>()
            .chunks(self.dimension)
            .zip(values.chunks(self.dimension))
            .flat_map(|(inverse, row)| row.iter().map(|x| x * inverse[0]).collect::<Vec<_>>())
            .collect()
    }
}

impl Function for Norm {
    fn inputs(&self) -> Vec<Vec<f64>> {
        vec![self.values()]
    }
    fn circuit(&self) -> Vec<f64> {
        self.normalised(|x| self.root.value(x))
    }
    fn exact(&self) -> Vec<f64> {
        let low = self.root.interval().low;
        self.normalised(|x| (low / x).sqrt())
    }
    fn stated_error(&self) -> f64 {
        // Relative to a result of at most √(2·low).
        self.root.worst_error * (2.0 * self.root.interval().low).sqrt()
    }
    fn run<E: Evaluator>(&self, evaluator: &E, inputs: &[E::Ciphertext]) -> E::Ciphertext {
        let x = &inputs[0];
        let interval = self.root.interval();
        let mut sums = evaluator.square(x).unwrap();
        let mut step = 1;
        while step < self.dimension {
            let rotated = evaluator.rotate(&sums, step as i64).unwrap();
            sums = evaluator.add(&sums, &rotated).unwrap();
            step *= 2;
        }
        // The sum of a row lands at its first slot; a mask scales it to the unit variable and spreads it again.
        let mask: Vec<Complex64> =
            (0..1024)
                .map(|slot| {
                    if slot % self.dimension == 0 {
                        interval.unit_slope() / self.dimension as f64
                    } else {
                        0.0
                    }
                })
                .map(|factor| Complex64::new(factor, 0.0))
                .collect();
        let mut unit = evaluator.mul_values(&sums, &mask).unwrap();
        let mut step = 1;
        while step < self.dimension {
            let rotated = evaluator.rotate(&unit, -(step as i64)).unwrap();
            unit = evaluator.add(&unit, &rotated).unwrap();
            step *= 2;
        }
        let unit = evaluator.add_constant(&unit, Complex64::new(interval.unit_offset(), 0.0)).unwrap();
        let start = evaluate_series(evaluator, &unit, &self.root.start.complex_coefficients(), None).unwrap();
        let inverse = self.root.refine(evaluator, &unit, &start).unwrap();
        let x = evaluator.lower(x, inverse.level()).unwrap();
        evaluator.mul(&x, &inverse).unwrap()
    }
}

#[test]
fn rmsnorm_on_native_errs_by_its_approximation_and_the_predicted_noise() {
    for (ratio, newton) in [(20.0, false), (300.0, true)] {
        let interval = Interval::new(0.5 / ratio, 0.5).unwrap();
        let mut root = InverseSquareRoot::polynomial(interval, 2e-3).unwrap();
        if newton {
            // A start of a few per cent and one step.
            let start = InverseSquareRoot::polynomial(interval, 3e-2).unwrap();
            let worst_error = 1.5 * start.worst_error.powi(2) + 0.5 * start.worst_error.powi(3);
            root = InverseSquareRoot { newton_steps: 1, worst_error, ..start };
        }
        let what = format!("RMSNorm over a ratio of {ratio}, {} Newton steps", root.newton_steps);
        // A square, the mask, the root, the product.
        check_levelled(&what, root.levels() + 3, &Norm { root, dimension: 16 });
    }
}

/// exp of scores, as the softmax takes it.
struct Weights(Exponential);

impl Function for Weights {
    fn inputs(&self) -> Vec<Vec<f64>> {
        vec![units(self.0.root.interval, &grid(self.0.root.interval, 1024))]
    }
    fn circuit(&self) -> Vec<f64> {
        grid(self.0.root.interval, 1024).into_iter().map(|x| self.0.value(x)).collect()
    }
    fn exact(&self) -> Vec<f64> {
        let high = self.0.root.interval.high;
        grid(self.0.root.interval, 1024).into_iter().map(|x| (x - high).exp()).collect()
    }
    fn stated_error(&self) -> f64 {
        // ε of the root becomes 2^s·ε at the top, where all squares are 1.
        let error = self.0.root.worst_error;
        (1.0 + error).powi(1 << self.0.squarings) - 1.0
    }
    fn run<E: Evaluator>(&self, evaluator: &E, inputs: &[E::Ciphertext]) -> E::Ciphertext {
        let root = evaluate_series(evaluator, &inputs[0], &self.0.root.complex_coefficients(), None).unwrap();
        self.0.square_up(evaluator, &root).unwrap()
    }
}

#[test]
fn exp_on_native_errs_by_its_approximation_and_the_predicted_noise() {
    for (low, squarings) in [(-12.0, 2), (-20.0, 3)] {
        let exponential = Exponential::fit(Interval::new(low, 0.0).unwrap(), squarings, 1e-4).unwrap();
        let what = format!("exp on {low} .. 0, {squarings} squarings");
        check_levelled(&what, exponential.levels(), &Weights(exponential));
    }
}

/// Softmax of rows of `keys` scores: exp, its sums, the numerator Σ p·v of one value a key, the division with its
/// refresh.
struct Softmax {
    softmax: DeferredSoftmax,
    keys: usize,
    slots: usize,
    refresh: Level,
}

impl Softmax {
    /// Scores of each row below the upper end: the rows' sums spread over the interval of the division.
    fn score(&self, slot: usize) -> f64 {
        let interval = self.softmax.exponential.root.interval;
        let rows = self.slots / self.keys;
        let top = 0.6 * interval.low * (slot / self.keys) as f64 / rows as f64;
        (interval.high + top - 0.35 * ((slot * 7) % self.keys) as f64).max(interval.low)
    }

    fn value(&self, slot: usize) -> f64 {
        ((slot * 13) % 32) as f64 / 16.0 - 1.0
    }

    /// Σ p·v / Σ p of every row under `p`, at its first slot.
    fn quotients(&self, p: impl Fn(f64) -> f64, inverse: impl Fn(f64) -> f64) -> Vec<f64> {
        let row = |start: usize| {
            let slots = start..start + self.keys;
            let sum: f64 = slots.clone().map(|slot| p(self.score(slot))).sum::<f64>() / self.keys as f64;
            let numerator: f64 = slots.map(|slot| p(self.score(slot)) * self.value(slot)).sum();
            numerator / self.keys as f64 * inverse(sum)
        };
        (0..self.slots).map(|slot| if slot % self.keys == 0 { row(slot) } else { 0.0 }).collect()
    }

    fn places(&self) -> Vec<Complex64> {
        let at = |slot: usize| if slot.is_multiple_of(self.keys) { 1.0 } else { 0.0 };
        (0..self.slots).map(|slot| Complex64::new(at(slot), 0.0)).collect()
    }
}

impl Function for Softmax {
    fn inputs(&self) -> Vec<Vec<f64>> {
        let interval = self.softmax.exponential.root.interval;
        let scores: Vec<f64> = (0..self.slots).map(|slot| self.score(slot)).collect();
        vec![units(interval, &scores), (0..self.slots).map(|slot| self.value(slot)).collect()]
    }
    fn circuit(&self) -> Vec<f64> {
        let (before, after) = (&self.softmax.before, &self.softmax.after);
        self.quotients(
            |x| self.softmax.exponential.value(x),
            |sum| before.value(sum) * after.value(sum * before.value(sum)),
        )
    }
    fn exact(&self) -> Vec<f64> {
        self.quotients(f64::exp, f64::recip)
    }
    fn stated_error(&self) -> f64 {
        // Of a quotient of at most 1: that of the division, and twice the relative one of exp where scores are lowest.
        let exponential = &self.softmax.exponential;
        let interval = exponential.root.interval;
        let lowest = (0..self.slots).map(|slot| self.score(slot)).fold(interval.high, f64::min);
        let halving = f64::from(1u32 << exponential.squarings);
        let relative = halving * exponential.root.worst_error * ((interval.high - lowest) / halving).exp();
        self.softmax.after.worst_error + 2.0 * relative
    }
    fn run<E: Evaluator>(&self, evaluator: &E, inputs: &[E::Ciphertext]) -> E::Ciphertext {
        let softmax = &self.softmax;
        let p = softmax.weights(evaluator, &inputs[0]).unwrap();
        let v = evaluator.lower(&inputs[1], p.level()).unwrap();
        let mut numerator = evaluator.mul(&p, &v).unwrap();
        let mut sums = p;
        let mut step = 1;
        while step < self.keys {
            let add =
                |x: &E::Ciphertext| evaluator.add(x, &evaluator.rotate(x, step as i64).unwrap()).unwrap();
            (sums, numerator) = (add(&sums), add(&numerator));
            step *= 2;
        }
        let scaled = |factor: f64| -> Vec<Complex64> {
            self.places().iter().map(|place| place * factor / self.keys as f64).collect()
        };
        let [quarter, magnified] = softmax.denominator_factors(1.0);
        let offset: Vec<Complex64> =
            self.places().iter().map(|place| place * softmax.quarter_offset()).collect();
        let quarter = evaluator.mul_values(&sums, &scaled(quarter)).unwrap();
        let denominators = Denominators {
            quarter: evaluator.add_values(&quarter, &offset).unwrap(),
            magnified: evaluator.mul_values(&sums, &scaled(magnified)).unwrap(),
        };
        let o = evaluator.mul_values(&numerator, &scaled(softmax.first_gain())).unwrap();
        let (f, o) = softmax.before_refresh(evaluator, denominators, o, &self.places()).unwrap();
        let z = join_complex(evaluator, &f, &o).unwrap();
        let request = BootstrapRequest::all(self.refresh, evaluator.slots());
        let refreshed = evaluator.bootstrap(&z, &request).unwrap();
        let (f, o) = split_complex(evaluator, &refreshed).unwrap();
        let o = softmax.after_refresh(evaluator, f, o, &self.places()).unwrap();
        let gain = softmax.gain() / softmax.first_gain();
        evaluator.mul_scalar(&o, Complex64::new(gain, 0.0)).unwrap()
    }
}

#[test]
fn softmax_with_a_refresh_on_native_errs_by_its_approximation_and_the_predicted_noise() {
    let bootstrapping = BootstrapParameters::test(10, 12);
    let exponential = Exponential::fit(Interval::new(-8.0, 0.0).unwrap(), 2, 1e-4).unwrap();
    let refresh = Level(bootstrapping.output_level());
    let softmax = DeferredSoftmax::new(exponential, 1e-3, 4, 6).unwrap();
    let function = Softmax { softmax, keys: 16, slots: 512, refresh };
    let approximation = approximation_error("softmax", &function);

    let client = NativeClient::with_bootstrapping(bootstrapping.clone(), Some(4)).unwrap();
    let parameters = client.ckks().parameters();
    // The preset promises means of 20 bits.
    let noise = NoiseModel { bootstrap_absolute: (-20f64).exp2(), ..noise_model(parameters, 5).unwrap() };
    let summary = bootstrapping.summary();
    let simulated = ClearParameters {
        slots: parameters.slots(),
        chain: parameters.chain().clone(),
        bootstrapping: Some(summary),
        noise: Some(noise),
    };
    let dry_run = ClearEvaluator::dry_run(simulated.clone());
    let predicted = function.slots_on(&ClearClient::new(simulated), &dry_run, refresh);
    let evaluator = client.evaluator(&dry_run.recorded()).unwrap();
    let measured = function.slots_on(&client, &evaluator, refresh);

    let circuit = function.circuit();
    let (found, wanted) = (root_mean_square(&measured, &circuit), root_mean_square(&predicted, &circuit));
    let worst = largest(&measured, &function.exact());
    println!(
        "softmax: approximation 2^{:.1}; noise 2^{:.1}, predicted 2^{:.1}; in all at most 2^{:.1}",
        approximation.log2(),
        found.log2(),
        wanted.log2(),
        worst.log2()
    );
    assert!(found <= 2.0 * wanted, "noise 2^{:.2}, predicted 2^{:.2}", found.log2(), wanted.log2());
    let noise = largest(&predicted, &circuit);
    assert!(worst <= approximation + 2.0 * noise, "{worst:e} > {approximation:e} + 2 · {noise:e}");
}
