//! Single operations of the native backend at N = 2^14, 12 limbs of 50 bits, 3 digits (a bare ring, no security
//! claimed).
//!
//! `cargo bench --bench operations`. For N = 2^16, levels and threads: `cachemir bench ops`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "bench code: what fails, fails the test"
)]

use std::hint::black_box;
use std::sync::Arc;

use cachemir::backend::native::NativeClient;
use cachemir::ckks::{Parameters, ParametersLiteral, Security, Stretch};
use cachemir::contract::{Client, Complex64, Evaluator, KeyRequest};
use cachemir::ring::Limb;
use criterion::{Criterion, criterion_group, criterion_main};

fn operations(criterion: &mut Criterion) {
    let parameters = Arc::new(
        Parameters::new(ParametersLiteral {
            name: "bare-ring",
            log2_n: 14,
            base_bits: vec![49.9],
            stretches: vec![Stretch { levels: 11, log2_scale: 49.9, primes_per_level: 1 }],
            special_primes: 4,
            special_bits: 49.9,
            security: Security::InsecureForTests,
        })
        .unwrap(),
    );
    let client = NativeClient::from_insecure_fixed_seed(Arc::clone(&parameters), 1).unwrap();
    let top = parameters.chain().max_level();
    let mut keys = KeyRequest::new();
    keys.relinearization(top).rotations(&[1, 2, 3, 4], parameters.slots(), top);
    let evaluator = client.evaluator(&keys).unwrap();
    let values: Vec<Complex64> =
        (0..parameters.slots()).map(|s| Complex64::new((s as f64).sin(), 0.1)).collect();
    let scale = parameters.chain().canonical_scale(top).unwrap();
    let a = client.encrypt(&values, top).unwrap();
    let p = evaluator.encode(&values, top, scale).unwrap();
    let product = evaluator.mul_plain(&a, &p).unwrap();

    let ring = parameters.ring();
    let plan = ring.plan(Limb::Chain(0)).unwrap();
    let mut row = vec![1u64; ring.degree()];
    let mut group = criterion.benchmark_group("native, N = 2^14, 12 limbs, 3 digits");
    group.sample_size(20);
    group.bench_function("ntt", |b| b.iter(|| plan.forward(black_box(&mut row))));
    group.bench_function("encode", |b| b.iter(|| evaluator.encode(black_box(&values), top, scale).unwrap()));
    group.bench_function("add", |b| b.iter(|| evaluator.add(black_box(&a), &a).unwrap()));
    group.bench_function("mult_plain", |b| b.iter(|| evaluator.mul_plain(black_box(&a), &p).unwrap()));
    group.bench_function("mult", |b| {
        b.iter(|| evaluator.relinearize(&evaluator.tensor(black_box(&a), &a).unwrap()).unwrap());
    });
    group.bench_function("rescale", |b| b.iter(|| evaluator.rescale(black_box(&product)).unwrap()));
    group.bench_function("rotate", |b| b.iter(|| evaluator.rotate(black_box(&a), 1).unwrap()));
    group.bench_function("rotate_hoisted, 4 steps", |b| {
        b.iter(|| evaluator.rotate_many(black_box(&a), &[1, 2, 3, 4]).unwrap());
    });
    group.finish();
}

criterion_group!(benches, operations);
criterion_main!(benches);
