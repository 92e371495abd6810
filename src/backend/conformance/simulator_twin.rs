//! Random programs run on the backend and on the simulator side by side.
//!
//! The simulator gets the backend's chain and key request. Every operation, sensible or not, must succeed on both or
//! fail on both with the same kind of error; values, levels and scales must agree. This is what allows circuits to be
//! developed, and rotation keys collected, on the simulator.

use rand::Rng;

use super::fixture::{Fixture, assert_close};
use super::{Backend, CiphertextOf, EvaluatorOf};
use crate::backend::clear::{ClearCiphertext, ClearClient, ClearEvaluator, ClearParameters};
use crate::contract::{
    CiphertextInfo, Client, Complex64, Error, Evaluator, KeyRequest, Level, Result, Scale,
};

/// One operation of a random program; operands are indices into the values so far.
#[derive(Clone, Debug)]
enum Operation {
    Encrypt(Vec<Complex64>, Level),
    Add(usize, usize),
    Sub(usize, usize),
    Mul(usize, usize),
    AddConstant(usize, Complex64),
    MulConstant(usize, Complex64, f64),
    MulValues(usize, Vec<Complex64>),
    MulInteger(usize, i64),
    MulByI(usize),
    Rescale(usize),
    DropLevel(usize, Level),
    Lower(usize, Level),
    Rotate(usize, i64),
    RotateSum(Vec<(usize, i64)>),
    Conjugate(usize),
}

fn run<C>(
    client: &C,
    evaluator: &C::Evaluator,
    values: &[<C::Evaluator as Evaluator>::Ciphertext],
    operation: &Operation,
) -> Result<<C::Evaluator as Evaluator>::Ciphertext>
where
    C: Client,
{
    let e = evaluator;
    match operation {
        Operation::Encrypt(x, level) => client.encrypt(x, *level),
        Operation::Add(a, b) => e.add(&values[*a], &values[*b]),
        Operation::Sub(a, b) => e.sub(&values[*a], &values[*b]),
        Operation::Mul(a, b) => e.mul(&values[*a], &values[*b]),
        Operation::AddConstant(a, c) => e.add_constant(&values[*a], *c),
        Operation::MulConstant(a, c, log2_scale) => e.mul_constant(&values[*a], *c, Scale(log2_scale.exp2())),
        Operation::MulValues(a, x) => e.mul_values(&values[*a], x),
        Operation::MulInteger(a, k) => e.mul_integer(&values[*a], *k),
        Operation::MulByI(a) => e.mul_by_i(&values[*a]),
        Operation::Rescale(a) => e.rescale(&values[*a]),
        Operation::DropLevel(a, level) => e.drop_level(&values[*a], *level),
        Operation::Lower(a, level) => e.lower(&values[*a], *level),
        Operation::Rotate(a, step) => e.rotate(&values[*a], *step),
        Operation::RotateSum(terms) => {
            let terms: Vec<_> = terms.iter().map(|(a, step)| (&values[*a], *step)).collect();
            e.rotate_sum(&terms)
        }
        Operation::Conjugate(a) => e.conjugate(&values[*a]),
    }
}

fn random_operation<B: Backend>(f: &mut Fixture<B>, count: usize) -> Operation {
    let a = f.random.random_range(0..count);
    let b = f.random.random_range(0..count);
    // One above the top now and then, to see it refused.
    let level = Level(f.random.random_range(0..=f.top.0 + 1));
    let constant = Complex64::new(f.random.random_range(-1.0..1.0), f.random.random_range(-1.0..1.0));
    let step = [0, 1, -1, 2, 9][f.random.random_range(0..5)];
    match f.random.random_range(0..16) {
        0 | 1 => Operation::Encrypt(f.values(), level),
        2 => Operation::Add(a, b),
        3 => Operation::Sub(a, b),
        4 => Operation::Mul(a, b),
        5 => Operation::AddConstant(a, constant),
        6 => Operation::MulConstant(a, constant, f.random.random_range(28.0..45.0)),
        7 => Operation::MulValues(a, f.values()),
        8 => Operation::MulInteger(a, f.random.random_range(-2..=2)),
        9 => Operation::MulByI(a),
        10 => Operation::Rescale(a),
        11 => Operation::DropLevel(a, level),
        12 => Operation::Lower(a, level),
        13 => Operation::Rotate(a, step),
        14 => Operation::RotateSum(vec![(a, step), (b, 1)]),
        _ => Operation::Conjugate(a),
    }
}

/// The largest noise a value may carry at its scale: a small scale leaves few bits.
fn allowance(scale: Scale, canonical: Scale, precision_bits: f64, magnitude: f64, depth: usize) -> f64 {
    let lost = (canonical.log2() - scale.log2()).max(0.0);
    (lost - precision_bits).exp2() * magnitude.max(1.0) * (depth as f64).exp2()
}

struct Twins<'a, B: Backend> {
    f: &'a mut Fixture<B>,
    client: &'a ClearClient,
    evaluator: &'a ClearEvaluator,
    real: Vec<CiphertextOf<B>>,
    simulated: Vec<ClearCiphertext>,
    depths: Vec<usize>,
}

impl<B: Backend> Twins<'_, B> {
    fn step(&mut self, operation: &Operation) {
        let real = run::<B::Client>(&self.f.client, &self.f.evaluator, &self.real, operation);
        let simulated = run::<ClearClient>(self.client, self.evaluator, &self.simulated, operation);
        match (real, simulated) {
            (Ok(real), Ok(simulated)) => self.keep(operation, real, simulated),
            (Err(real), Err(simulated)) => assert_eq!(
                std::mem::discriminant::<Error>(&real),
                std::mem::discriminant::<Error>(&simulated),
                "{operation:?}: the backend says `{real}`, the simulator says `{simulated}`"
            ),
            (Ok(_), Err(error)) => panic!("{operation:?}: only the simulator refuses: {error}"),
            (Err(error), Ok(_)) => panic!("{operation:?}: only the backend refuses: {error}"),
        }
    }

    fn keep(&mut self, operation: &Operation, real: CiphertextOf<B>, simulated: ClearCiphertext) {
        assert_eq!(real.level(), simulated.level(), "{operation:?}: levels differ");
        assert!(
            real.scale().agrees_with(simulated.scale()),
            "{operation:?}: scales {} and {}",
            real.scale(),
            simulated.scale()
        );
        let canonical = self.f.canonical(real.level());
        let magnitude = simulated.values().iter().map(|z| z.norm()).fold(0.0, f64::max);
        // Values that grow, or whose scale sinks below what noise allows, end their line here.
        if magnitude > 4.0 || real.scale().log2() < canonical.log2() - 8.0 {
            return;
        }
        let depth = match operation {
            Operation::Encrypt(..) => 1,
            Operation::Add(a, b) | Operation::Sub(a, b) | Operation::Mul(a, b) => {
                self.depths[*a].max(self.depths[*b]) + 3
            }
            Operation::RotateSum(terms) => terms.iter().map(|(a, _)| self.depths[*a]).max().unwrap_or(0) + 3,
            Operation::AddConstant(a, _)
            | Operation::MulConstant(a, ..)
            | Operation::MulValues(a, _)
            | Operation::MulInteger(a, _)
            | Operation::MulByI(a)
            | Operation::Rescale(a)
            | Operation::DropLevel(a, _)
            | Operation::Lower(a, _)
            | Operation::Rotate(a, _)
            | Operation::Conjugate(a) => self.depths[*a] + 3,
        };
        if depth > 13 {
            return;
        }
        let bound = allowance(real.scale(), canonical, B::PRECISION_BITS, magnitude, depth);
        let decrypted = self.f.client.decrypt(&real).unwrap();
        assert_close(&format!("{operation:?}"), &decrypted, simulated.values(), bound);
        self.real.push(real);
        self.simulated.push(simulated);
        self.depths.push(depth);
    }
}

pub(crate) fn random_programs_behave_as_on_the_simulator<B: Backend>() {
    let ask = |request: &mut KeyRequest, top: Level, slots: usize| {
        request.rotations(&[1], slots, top).rotations(&[2], slots, Level(1));
        request.rotations(&[-1], slots, Level(top.0 - 1)).relinearization(top).conjugation(Level(2));
    };
    let mut f = Fixture::<B>::new(ask);
    let mut request = KeyRequest::new();
    ask(&mut request, f.top, f.slots);
    let parameters = ClearParameters {
        slots: f.slots,
        chain: EvaluatorOf::<B>::chain(&f.evaluator).clone(),
        bootstrapping: None,
        noise: None,
    };
    let client = ClearClient::new(parameters);
    let evaluator = client.evaluator(&request).unwrap();
    for _ in 0..6 {
        let start: Vec<Vec<Complex64>> = (0..3).map(|_| f.values()).collect();
        let top = f.top;
        let mut twins = Twins {
            f: &mut f,
            client: &client,
            evaluator: &evaluator,
            real: Vec::new(),
            simulated: Vec::new(),
            depths: Vec::new(),
        };
        for (index, values) in start.into_iter().enumerate() {
            twins.step(&Operation::Encrypt(values, Level(top.0.saturating_sub(index))));
        }
        for _ in 0..40 {
            let count = twins.real.len();
            let operation = random_operation(twins.f, count);
            twins.step(&operation);
        }
    }
}
