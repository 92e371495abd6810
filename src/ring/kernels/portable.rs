//! Portable kernels: 128-bit integer products. The oracle of the SIMD forms.

use super::super::Prime;
use super::ConversionColumn;

pub(super) fn multiply(prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = prime.mul(*a, *b);
    }
}

pub(super) fn multiply_accumulate(prime: &Prime, accumulator: &mut [u64], a: &[u64], b: &[u64]) {
    for ((accumulator, a), b) in accumulator.iter_mut().zip(a).zip(b) {
        *accumulator = prime.add(*accumulator, prime.mul(*a, *b));
    }
}

pub(super) fn inner_product(
    prime: &Prime,
    out: (&mut [u64], &mut [u64]),
    digits: &[&[u64]],
    keys: &[(&[u64], &[u64])],
) {
    out.0.fill(0);
    out.1.fill(0);
    for (digit, key) in digits.iter().zip(keys) {
        multiply_accumulate(prime, out.0, digit, key.0);
        multiply_accumulate(prime, out.1, digit, key.1);
    }
}

pub(super) fn multiply_scalar(prime: &Prime, out: &mut [u64], a: &[u64], c: u64) {
    for (out, a) in out.iter_mut().zip(a) {
        *out = prime.mul(*a, c);
    }
}

pub(super) fn subtract_multiply(prime: &Prime, row: &mut [u64], a: &[u64], c: u64) {
    for (x, a) in row.iter_mut().zip(a) {
        *x = prime.mul(prime.sub(*a, *x), c);
    }
}

pub(super) fn multiply_scalar_accumulate(prime: &Prime, accumulator: &mut [u64], a: &[u64], c: u64) {
    for (accumulator, a) in accumulator.iter_mut().zip(a) {
        *accumulator = prime.add(*accumulator, prime.mul(*a, c));
    }
}

pub(super) fn reduce_floats(prime: &Prime, out: &mut [u64], values: &[f64]) {
    for (out, value) in out.iter_mut().zip(values) {
        *out = prime.reduce_signed(*value as i64);
    }
}

pub(super) fn add(prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = add_one(prime.value(), *a, *b);
    }
}

pub(super) fn add_assign(prime: &Prime, accumulator: &mut [u64], a: &[u64]) {
    for (accumulator, a) in accumulator.iter_mut().zip(a) {
        *accumulator = add_one(prime.value(), *accumulator, *a);
    }
}

pub(super) fn sub(prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = sub_one(prime.value(), *a, *b);
    }
}

pub(super) fn negate(prime: &Prime, row: &mut [u64]) {
    for x in row {
        *x = sub_one(prime.value(), 0, *x);
    }
}

/// Branch-free: a wrapped difference is huge, so the minimum picks the reduced sum.
#[inline(always)]
pub(super) fn add_one(p: u64, a: u64, b: u64) -> u64 {
    let sum = a + b;
    sum.min(sum.wrapping_sub(p))
}

#[inline(always)]
pub(super) fn sub_one(p: u64, a: u64, b: u64) -> u64 {
    let difference = a.wrapping_sub(b);
    difference.min(difference.wrapping_add(p))
}

pub(super) fn convert_base(
    sources: &[(&Prime, u64, &[u64])],
    targets: &mut [(&Prime, &ConversionColumn, &mut [u64])],
) {
    let length = sources.first().map_or(0, |source| source.2.len());
    // Centred, weighted source residues, coefficient-major.
    let mut weighted: Vec<i64> = Vec::with_capacity(length * sources.len());
    for k in 0..length {
        for (prime, weight, row) in sources {
            weighted.push(prime.centred(prime.mul(row.get(k).copied().unwrap_or(0), *weight)));
        }
    }
    for (prime, column, row) in targets {
        for (out, residues) in row.iter_mut().zip(weighted.chunks_exact(sources.len().max(1))) {
            let sum: i128 =
                residues.iter().zip(&column.factors).map(|(y, f)| i128::from(*y) * i128::from(*f)).sum();
            *out = prime.reduce_wide(sum);
        }
    }
}

pub(super) fn conversion_quotients(sources: &[(&Prime, u64, &[u64])], out: &mut [u64]) {
    let Some((first, _, _)) = sources.first() else { return };
    for (k, out) in out.iter_mut().enumerate() {
        let mut sum = 0.0;
        for (prime, weight, row) in sources {
            let y = prime.centred(prime.mul(row.get(k).copied().unwrap_or(0), *weight));
            sum += y as f64 * prime.inverse;
        }
        *out = first.reduce_signed(sum.round_ties_even() as i64);
    }
}
