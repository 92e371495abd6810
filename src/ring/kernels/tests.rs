//! Every kernel set of this machine against the portable one, and the portable one against 128-bit arithmetic.

use proptest::prelude::*;

use super::super::{Prime, primes_near};
use super::*;

fn prime(bits: i32, index: usize) -> Prime {
    Prime::new(primes_near(2f64.powi(bits), 10, index + 1, &[]).unwrap()[index]).unwrap()
}

/// Pseudo-random residues with the extremes among them.
fn row(prime: &Prime, length: usize, seed: u64) -> Vec<u64> {
    (0..length as u64)
        .map(|k| match (k ^ seed) % 7 {
            0 => prime.value() - 1,
            1 => 0,
            2 => prime.value() / 2 + 1,
            3 => prime.value() / 2,
            _ => prime.reduce((k + 1).wrapping_mul(seed | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        })
        .collect()
}

/// The SIMD kernel sets of this machine, each with the row length nearest to `length` that it takes; only the one that
/// `CACHEMIR_KERNELS` names, if it is set.
fn simd_sets(length: usize) -> Vec<(Kernels, usize)> {
    let wanted = std::env::var("CACHEMIR_KERNELS").ok();
    Kernels::available()
        .into_iter()
        .filter(|kernels| *kernels != Kernels::Portable)
        .filter(|kernels| wanted.as_ref().is_none_or(|wanted| wanted == kernels.name()))
        .map(|kernels| {
            let whole = kernels.name() == "avx2+fma";
            (kernels, if whole { length.next_multiple_of(4) } else { length })
        })
        .collect()
}

/// The kernels that take rows to one row, on given operands; panics with the name of the first that differs.
fn compare_rows(kernels: Kernels, p: &Prime, a: &[u64], b: &[u64], c: u64) {
    let same = |what: &str, run: &dyn Fn(Kernels, &mut [u64])| {
        let (mut fast, mut slow) = (a.to_vec(), a.to_vec());
        run(kernels, &mut fast);
        run(Kernels::Portable, &mut slow);
        let place = fast.iter().zip(&slow).position(|(x, y)| x != y);
        let name = kernels.name();
        assert!(place.is_none(), "{what} on {name} differs modulo {} at {place:?} of {}", p.value(), a.len());
        assert!(slow.iter().all(|x| *x < p.value()), "{what} is not canonical");
    };
    same("multiply", &|k, out| k.multiply(p, out, a, b));
    same("multiply_accumulate", &|k, out| k.multiply_accumulate(p, out, a, b));
    same("multiply_scalar", &|k, out| k.multiply_scalar(p, out, b, c));
    same("multiply_scalar_accumulate", &|k, out| k.multiply_scalar_accumulate(p, out, b, c));
    same("subtract_multiply", &|k, out| k.subtract_multiply(p, out, b, c));
    same("add", &|k, out| k.add(p, out, a, b));
    same("add_assign", &|k, out| k.add_assign(p, out, b));
    same("sub", &|k, out| k.sub(p, out, a, b));
    same("negate", &|k, out| k.negate(p, out));
    // Magnitudes up to 3 p, and the largest that are allowed.
    let largest = (1u64 << 52) - 1;
    let floats: Vec<f64> = a
        .iter()
        .zip(b)
        .enumerate()
        .map(|(k, (x, y))| match k % 4 {
            0 => (largest - x) as f64,
            1 => -((largest - y) as f64),
            _ => (*x as f64 - *y as f64) * 3.0,
        })
        .collect();
    same("reduce_floats", &|k, out| k.reduce_floats(p, out, &floats));
}

/// The inner product of given rows: digits, then keys of the first output, then of the second.
fn compare_inner_products(kernels: Kernels, p: &Prime, rows: &[Vec<u64>]) {
    let digits = rows.len() / 3;
    let length = rows[0].len();
    let digit_rows: Vec<&[u64]> = rows[..digits].iter().map(Vec::as_slice).collect();
    let keys: Vec<(&[u64], &[u64])> =
        (0..digits).map(|i| (rows[digits + i].as_slice(), rows[2 * digits + i].as_slice())).collect();
    let run = |k: Kernels| {
        // What the outputs held before must not matter.
        let (mut x, mut y) = (vec![p.value() - 1; length], vec![p.value() / 2; length]);
        k.inner_product(p, (&mut x, &mut y), &digit_rows, &keys);
        (x, y)
    };
    let name = kernels.name();
    assert!(
        run(kernels) == run(Kernels::Portable),
        "{digits} digits of {length} words modulo {} on {name}",
        p.value()
    );
}

/// The base conversion of given rows to two targets with given factors, and its quotients.
fn compare_conversions(
    kernels: Kernels,
    sources: &[(&Prime, u64, &[u64])],
    targets: [(&Prime, Vec<u64>); 2],
) {
    let length = sources[0].2.len();
    let [(first, first_factors), (second, second_factors)] = targets;
    let columns = [ConversionColumn { factors: first_factors }, ConversionColumn { factors: second_factors }];
    let run = |k: Kernels| {
        let (mut x, mut y) = (vec![0u64; length], vec![0u64; length]);
        k.convert_base(sources, &mut [(first, &columns[0], &mut x), (second, &columns[1], &mut y)]);
        (x, y)
    };
    let (fast, slow, name) = (run(kernels), run(Kernels::Portable), kernels.name());
    assert!(fast == slow, "{} sources of {length} words to {} on {name}", sources.len(), first.value());
    let quotients = |k: Kernels| {
        let mut out = vec![0u64; length];
        k.conversion_quotients(sources, &mut out);
        out
    };
    let count = sources.len();
    assert!(
        quotients(kernels) == quotients(Kernels::Portable),
        "quotients of {count} sources of {length} words on {name}"
    );
    assert!(slow.0.iter().all(|x| *x < first.value()) && slow.1.iter().all(|x| *x < second.value()));
}

/// Run with `CACHEMIR_KERNELS` set, this fails on a machine (or an emulator) that lacks the kernels named.
#[test]
fn kernel_sets_are_listed_fastest_first_and_contain_the_expected_one() {
    let names: Vec<&str> = Kernels::available().into_iter().map(Kernels::name).collect();
    println!("kernel sets of this machine: {}", names.join(" "));
    assert_eq!(names.last(), Some(&"portable"));
    assert_eq!(names.first(), Some(&Kernels::detect().name()));
    if let Ok(expected) = std::env::var("CACHEMIR_KERNELS") {
        assert!(names.contains(&expected.as_str()), "{expected} is not among {names:?}");
    }
}

#[test]
fn extreme_rows_of_any_length_give_the_same_bits() {
    // The largest prime, and the smallest ones: the bounds of quotients are tightest there.
    for p in [prime(50, 0), prime(49, 0), prime(26, 0), prime(20, 0), prime(12, 0)] {
        let top = p.value() - 1;
        let extremes = [0, 1, top / 2, top / 2 + 1, top - 1, top];
        for length in [1, 4, 7, 8, 12, 33, 60] {
            for (kernels, length) in simd_sets(length) {
                for a in extremes {
                    let row = vec![a; length];
                    // Every pair of extremes stands somewhere in these rows.
                    for shift in 0..extremes.len() {
                        let other: Vec<u64> =
                            (0..length).map(|k| extremes[(k + shift) % extremes.len()]).collect();
                        compare_rows(kernels, &p, &row, &other, extremes[shift]);
                    }
                }
            }
        }
    }
}

#[test]
fn the_largest_sums_of_products_give_the_same_bits() {
    let p = prime(50, 0);
    let top = p.value() - 1;
    for count in 1..=34 {
        for (kernels, length) in simd_sets(9) {
            compare_inner_products(kernels, &p, &vec![vec![top; length]; 3 * count]);
        }
        // Centred residues of both largest magnitudes, and factors on both sides of the middle.
        for (kernels, length) in simd_sets(133) {
            let rows = [vec![top / 2; length], vec![top / 2 + 1; length]];
            for row in &rows {
                let sources = vec![(&p, 1, row.as_slice()); count];
                let target = prime(50, 1);
                let largest = target.value() - 1;
                let factors = [(&target, vec![largest; count]), (&target, vec![largest / 2; count])];
                compare_conversions(kernels, &sources, factors);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_kernel_gives_the_same_bits_on_simd(
        bits in 12i32..=50, seed: u64, c: u64, digits in 1usize..20, length in 1usize..100,
    ) {
        let p = prime(bits, 0);
        for (kernels, n) in simd_sets(length) {
            compare_rows(kernels, &p, &row(&p, n, seed), &row(&p, n, !seed), p.reduce(c));
            let rows: Vec<Vec<u64>> = (0..3 * digits).map(|i| row(&p, n, seed.wrapping_add(i as u64))).collect();
            compare_inner_products(kernels, &p, &rows);
        }
    }

    #[test]
    fn base_conversion_gives_the_same_bits_on_simd(
        bits in 25i32..=50, target_bits in 25i32..=50, seed: u64, count in 1usize..18, length in 1usize..300,
    ) {
        let values = primes_near(2f64.powi(bits), 10, count, &[]).unwrap();
        let primes: Vec<Prime> = values.into_iter().map(|p| Prime::new(p).unwrap()).collect();
        let targets = [prime(target_bits, 0), prime(target_bits, 1)];
        for (kernels, n) in simd_sets(length) {
            let rows: Vec<Vec<u64>> = primes.iter().map(|p| row(p, n, seed)).collect();
            let sources: Vec<(&Prime, u64, &[u64])> =
                primes.iter().zip(&rows).map(|(p, r)| (p, p.reduce(seed | 3), r.as_slice())).collect();
            let factors = targets.each_ref().map(|target| {
                (target, (0..count as u64).map(|i| target.reduce(seed.rotate_left(i as u32))).collect())
            });
            compare_conversions(kernels, &sources, factors);
        }
    }

    #[test]
    fn portable_products_are_exact(bits in 20i32..=50, seed: u64) {
        let p = prime(bits, 0);
        let (a, b) = (row(&p, 16, seed), row(&p, 16, !seed));
        let mut out = vec![0; 16];
        Kernels::Portable.multiply(&p, &mut out, &a, &b);
        for ((x, a), b) in out.iter().zip(&a).zip(&b) {
            prop_assert_eq!(u128::from(*x), u128::from(*a) * u128::from(*b) % u128::from(p.value()));
        }
    }
}
