//! SIMD kernels against portable ones, and portable ones against 128-bit arithmetic.

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
            _ => prime.reduce((k + 1).wrapping_mul(seed | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_kernel_gives_the_same_bits_on_simd(bits in 20i32..=50, seed: u64, c: u64, digits in 1usize..12) {
        let (fast, slow) = (Kernels::detect(), Kernels::Portable);
        let p = prime(bits, 0);
        let n = 64;
        let (a, b, c) = (row(&p, n, seed), row(&p, n, !seed), p.reduce(c));
        let both = |run: &dyn Fn(Kernels, &mut Vec<u64>)| {
            let (mut x, mut y) = (a.clone(), a.clone());
            run(fast, &mut x);
            run(slow, &mut y);
            x == y
        };
        prop_assert!(both(&|k, out| k.multiply(&p, out, &a, &b)), "multiply");
        prop_assert!(both(&|k, out| k.multiply_accumulate(&p, out, &a, &b)), "multiply_accumulate");
        prop_assert!(both(&|k, out| k.multiply_scalar(&p, out, &b, c)), "multiply_scalar");
        prop_assert!(both(&|k, out| k.multiply_scalar_accumulate(&p, out, &b, c)), "multiply_scalar_accumulate");
        prop_assert!(both(&|k, out| k.subtract_multiply(&p, out, &a, &b, c)), "subtract_multiply");
        prop_assert!(both(&|k, out| k.add(&p, out, &a, &b)), "add");
        prop_assert!(both(&|k, out| k.add_assign(&p, out, &b)), "add_assign");
        prop_assert!(both(&|k, out| k.sub(&p, out, &a, &b)), "sub");
        let floats: Vec<f64> = a.iter().zip(&b).map(|(x, y)| (*x as f64 - *y as f64) * 3.0).collect();
        prop_assert!(both(&|k, out| k.reduce_floats(&p, out, &floats)), "reduce_floats");
        let rows: Vec<Vec<u64>> = (0..3 * digits).map(|i| row(&p, n, seed.wrapping_add(i as u64))).collect();
        let digit_rows: Vec<&[u64]> = rows[..digits].iter().map(Vec::as_slice).collect();
        let keys: Vec<(&[u64], &[u64])> =
            (0..digits).map(|i| (rows[digits + i].as_slice(), rows[2 * digits + i].as_slice())).collect();
        let inner = |k: Kernels| {
            let (mut x, mut y) = (vec![0; n], vec![0; n]);
            k.inner_product(&p, (&mut x, &mut y), &digit_rows, &keys);
            (x, y)
        };
        prop_assert!(inner(fast) == inner(slow), "inner_product");
    }

    #[test]
    fn base_conversion_gives_the_same_bits_on_simd(bits in 25i32..=50, target_bits in 25i32..=50, seed: u64, count in 1usize..18) {
        let n = 256;
        let primes: Vec<Prime> = (0..count).map(|i| prime(bits, i)).collect();
        let rows: Vec<Vec<u64>> = primes.iter().map(|p| row(p, n, seed)).collect();
        let sources: Vec<(&Prime, u64, &[u64])> =
            primes.iter().zip(&rows).map(|(p, r)| (p, p.reduce(seed | 3), r.as_slice())).collect();
        let target = prime(target_bits, 20);
        let column = ConversionColumn { factors: (0..count as u64).map(|i| target.reduce(seed.rotate_left(i as u32))).collect() };
        let run = |kernels: Kernels| {
            let mut out = vec![0u64; n];
            kernels.convert_base(&sources, &mut [(&target, &column, &mut out)]);
            out
        };
        let (fast, slow) = (run(Kernels::detect()), run(Kernels::Portable));
        prop_assert!(fast == slow, "{count} sources of {bits} bits to {target_bits}");
        let quotients = |kernels: Kernels| {
            let mut out = vec![0u64; n];
            kernels.conversion_quotients(&sources, &mut out);
            out
        };
        prop_assert!(quotients(Kernels::detect()) == quotients(Kernels::Portable), "quotients of {count} sources");
        prop_assert!(slow.iter().all(|x| *x < target.value()));
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
