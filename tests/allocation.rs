//! Memory of the native backend: once the pool of buffers has filled, no operation allocates anything but short lists,
//! and what it keeps is its result.
//!
//! A counting allocator, one test (nothing else may run beside it) and one thread, so that the pool is the same in
//! every run. Each operation runs twice to fill the pool; the third run is measured. Diagonals that a transform
//! computes lazily are their caller's allocation and not measured here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cachemir::backend::native::{NativeClient, NativeEvaluator, test_levelled};
use cachemir::ckks::Parameters;
use cachemir::contract::{
    Client, Complex64, Diagonal, Evaluator, GiantStep, KeyRequest, Level, LinearTransform,
};
use cachemir::ring::idle_bytes;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

impl Counting {
    fn grow(bytes: usize) {
        let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(live, Ordering::Relaxed);
    }
}

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe to implement; this one counts and passes everything on"
)]
// SAFETY: every call goes to the system's allocator with the arguments given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::grow(layout.size());
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::grow(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new block may exist side by side while it moves.
        Self::grow(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Ring degree 2^12, six levels, three special primes: up to three digits.
const LOG2_N: u32 = 12;
const LEVELS: usize = 6;
const TOP: Level = Level(LEVELS);
/// Bytes an operation may take beside polynomials: lists of limbs and rows, tables of a base conversion, blocks of the
/// scheduler. A polynomial of one limb takes 32 KiB here.
const LISTS: usize = 16 * 1024;

/// Bytes in use: allocated, and not waiting in the pool.
fn in_use() -> usize {
    LIVE.load(Ordering::Relaxed) - idle_bytes()
}

/// Of the third run of `operation`: the bytes it keeps in use, and how far it exceeded at most what was allocated
/// before. The results of the first two were dropped: buffers for a result and for everything between wait in the pool.
fn measure<T>(operation: &dyn Fn() -> T) -> (usize, usize) {
    for _ in 0..2 {
        drop(black_box(operation()));
    }
    let (allocated, used) = (LIVE.load(Ordering::Relaxed), in_use());
    PEAK.store(allocated, Ordering::Relaxed);
    let result = black_box(operation());
    let (kept, peak) = (in_use() - used, PEAK.load(Ordering::Relaxed) - allocated);
    drop(result);
    (kept, peak)
}

struct Setup {
    client: NativeClient,
    evaluator: NativeEvaluator,
    parameters: Arc<Parameters>,
}

fn setup() -> Setup {
    let parameters = Arc::new(Parameters::new(test_levelled(LOG2_N, LEVELS)).unwrap());
    let client = NativeClient::from_insecure_fixed_seed(Arc::clone(&parameters), 1).unwrap();
    let mut request = KeyRequest::new();
    request.relinearization(TOP).conjugation(TOP);
    for step in [1, 2, 3, 4, 8, 12] {
        request.rotation(step, TOP);
    }
    let before = in_use();
    let evaluator = client.evaluator(&request).unwrap();
    let kept = in_use() - before;
    let predicted = usize::try_from(client.predicted_key_bytes(&request).unwrap()).unwrap();
    println!(
        "keys: {kept} bytes allocated, {} held by the keys, {predicted} predicted",
        evaluator.key_bytes()
    );
    assert_eq!(evaluator.key_bytes(), predicted as u64);
    // Beside the keys: the permutation of each automorphism, 4 bytes a coefficient.
    let permutations = 7 * (4 << LOG2_N);
    let most = predicted + permutations + LISTS;
    assert!((predicted..=most).contains(&kept), "{kept} bytes kept, {predicted} predicted, at most {most}");
    Setup { client, evaluator, parameters }
}

#[test]
fn once_the_pool_has_filled_no_operation_allocates_more_than_lists_and_keeps_its_result_alone() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| check(&setup()));
}

fn check(setup: &Setup) {
    let Setup { client, evaluator, parameters } = setup;
    let ring = parameters.ring();
    let values: Vec<Complex64> =
        (0..client.slots()).map(|k| Complex64::new((k as f64).sin(), (k as f64).cos())).collect();
    let a = client.encrypt(&values, TOP).unwrap();
    let b = client.encrypt(&values, TOP).unwrap();
    let scale = evaluator.chain().canonical_scale(TOP).unwrap();
    let plaintext = evaluator.encode(&values, TOP, scale).unwrap();
    let tensor = evaluator.tensor(&a, &b).unwrap();
    let product = evaluator.mul_plain(&a, &plaintext).unwrap();
    let giant =
        |step| GiantStep { step, babies: (0..4).map(|baby| (baby, Diagonal::Encoded(&plaintext))).collect() };
    let transform = LinearTransform { giants: [0, 4, 8, 12].map(giant).into() };
    // Of polynomials over the limbs of a level: two to a ciphertext.
    let limbs = |level| parameters.limbs(level).unwrap();
    let polynomials = |count: usize, level: Level| count * 8 * limbs(level) * ring.degree();
    let (top, below) = (polynomials(2, TOP), polynomials(2, Level(LEVELS - 1)));
    let many = [1, 2, 3];
    type Run<'a> = Box<dyn Fn() -> (usize, usize) + 'a>;
    fn run<'a, T>(operation: impl Fn() -> cachemir::Result<T> + 'a) -> Run<'a> {
        Box::new(move || measure(&|| operation().unwrap()))
    }
    let c = Complex64::new(0.3, 0.4);
    let operations: Vec<(&str, usize, Run<'_>)> = vec![
        ("encode", top / 2, run(|| evaluator.encode(&values, TOP, scale))),
        ("add", top, run(|| evaluator.add(&a, &b))),
        ("sub", top, run(|| evaluator.sub(&a, &b))),
        ("negate", top, run(|| evaluator.negate(&a))),
        ("add_plain", top, run(|| evaluator.add_plain(&a, &plaintext))),
        ("add_constant", top, run(|| evaluator.add_constant(&a, c))),
        ("mul_plain", top, run(|| evaluator.mul_plain(&a, &plaintext))),
        ("mul_constant", top, run(|| evaluator.mul_constant(&a, c, scale))),
        ("mul_by_i", top, run(|| evaluator.mul_by_i(&a))),
        ("tensor", polynomials(3, TOP), run(|| evaluator.tensor(&a, &b))),
        ("relinearize", top, run(|| evaluator.relinearize(&tensor))),
        ("rescale", below, run(|| evaluator.rescale(&product))),
        ("mul", below, run(|| evaluator.mul(&a, &b))),
        ("mul_scalar", below, run(|| evaluator.mul_scalar(&a, c))),
        ("drop_level", below, run(|| evaluator.drop_level(&a, Level(LEVELS - 1)))),
        ("lower", polynomials(2, Level(2)), run(|| evaluator.lower(&a, Level(2)))),
        ("rotate", top, run(|| evaluator.rotate(&a, 1))),
        ("conjugate", top, run(|| evaluator.conjugate(&a))),
        ("rotate_many, 3", 3 * top, run(|| evaluator.rotate_many(&a, &many))),
        ("rotate_sum, 3", top, run(|| evaluator.rotate_sum(&[(&a, 0), (&b, 1), (&a, 2)]))),
        ("linear_transform, 4 by 4", top, run(|| evaluator.linear_transform(&a, &transform, scale))),
    ];
    println!("{:<26} {:>12} {:>12} {:>12} {:>14}", "operation", "result", "kept", "peak", "pool");
    let mut failures = Vec::new();
    for (name, result, run) in &operations {
        let (kept, peak) = run();
        println!("{name:<26} {result:>12} {kept:>12} {peak:>12} {:>14}", idle_bytes());
        // The encoder's f64 are no words of the pool: values, their transform's scratch and coefficients, a row each.
        let floats = if *name == "encode" { 3 * 8 * ring.degree() } else { 0 };
        if kept.abs_diff(*result) > LISTS || peak > floats + LISTS {
            failures.push(format!("{name}: result {result}, kept {kept}, allocated {peak}"));
        }
    }
    assert!(failures.is_empty(), "more than the result, or more than {LISTS} bytes of lists: {failures:#?}");
    // What waits for all of them together. The largest is the transform's: three rotated pairs and four sums of a giant
    // step over l limbs; in the rotation of one of these its decomposition (digits · (l + K) rows and l while it is
    // made), a pair over l + K limbs and their total; in its division K + l rows and a pair over l limbs; the result.
    // As much again for buffers that smaller operations left and that are too small here.
    let (l, k) = (limbs(TOP), ring.special_limbs());
    let digits = parameters.digits(TOP).unwrap();
    let rows = (3 + 4) * 2 * l + digits * (l + k) + l + 2 * 2 * (l + k) + (k + l) + 2 * l + 2 * l;
    let most = 2 * 8 * ring.degree() * rows;
    let idle = idle_bytes();
    println!("pool: {idle} bytes, bound {most}");
    assert!(idle <= most, "{idle} bytes wait in the pool, at most {most} are needed");
}
