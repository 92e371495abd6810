//! Element-wise AVX512-IFMA kernels in 52-bit integers.
//!
//! Every row is handled eight words at a time, the rest of at most seven words in a padded register. What a register of
//! residues may hold between steps is in [`super::ifma_lanes`].

#![allow(unsafe_code)] // calls under the witness of detection

use std::arch::x86_64::*;

use super::super::Prime;
use super::IfmaToken;
use super::ifma_lanes::{LANES, Lanes, load, padded, store, store_first};

/// Calls a function that needs AVX-512 under the witness that it was found.
macro_rules! detected {
    ($token:ident, $call:expr) => {{
        let IfmaToken(()) = $token;
        // SAFETY: a token exists only when AVX-512 F, DQ and IFMA were detected.
        unsafe { $call }
    }};
}
pub(super) use detected;

/// Panics unless all rows have the length of the first: the contract of every kernel here.
#[inline]
pub(super) fn check(length: usize, others: &[usize]) {
    assert!(others.iter().all(|other| *other == length), "rows of unequal length");
}

/// out = f(a).
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn map<T: Copy + Default>(out: &mut [u64], a: &[T], f: impl Fn(&[T; LANES]) -> __m512i) {
    check(out.len(), &[a.len()]);
    let ((out, out_rest), (a, a_rest)) = (out.as_chunks_mut(), a.as_chunks());
    for (out, a) in out.iter_mut().zip(a) {
        store(out, f(a));
    }
    if !out_rest.is_empty() {
        store_first(out_rest, f(&padded(a_rest)));
    }
}

/// out = f(a, b).
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn zip(out: &mut [u64], a: &[u64], b: &[u64], f: impl Fn(__m512i, __m512i) -> __m512i) {
    check(out.len(), &[a.len(), b.len()]);
    let ((out, out_rest), (a, a_rest), (b, b_rest)) = (out.as_chunks_mut(), a.as_chunks(), b.as_chunks());
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        store(out, f(load(a), load(b)));
    }
    if !out_rest.is_empty() {
        store_first(out_rest, f(load(&padded(a_rest)), load(&padded(b_rest))));
    }
}

/// accumulator = f(accumulator, a).
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn fold(accumulator: &mut [u64], a: &[u64], f: impl Fn(__m512i, __m512i) -> __m512i) {
    check(accumulator.len(), &[a.len()]);
    let ((sums, sums_rest), (a, a_rest)) = (accumulator.as_chunks_mut(), a.as_chunks());
    for (sum, a) in sums.iter_mut().zip(a) {
        let result = f(load(sum), load(a));
        store(sum, result);
    }
    if !sums_rest.is_empty() {
        let result = f(load(&padded(sums_rest)), load(&padded(a_rest)));
        store_first(sums_rest, result);
    }
}

/// accumulator = f(accumulator, a, b).
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn fold_two(accumulator: &mut [u64], a: &[u64], b: &[u64], f: impl Fn(__m512i, __m512i, __m512i) -> __m512i) {
    check(accumulator.len(), &[a.len(), b.len()]);
    let ((sums, sums_rest), (a, a_rest), (b, b_rest)) =
        (accumulator.as_chunks_mut(), a.as_chunks(), b.as_chunks());
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        let result = f(load(sum), load(a), load(b));
        store(sum, result);
    }
    if !sums_rest.is_empty() {
        let result = f(load(&padded(sums_rest)), load(&padded(a_rest)), load(&padded(b_rest)));
        store_first(sums_rest, result);
    }
}

pub(super) fn multiply(token: IfmaToken, prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn run(prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
        let lanes = Lanes::new(prime);
        zip(out, a, b, |a, b| lanes.canonical(lanes.multiply(a, b)));
    }
    detected!(token, run(prime, out, a, b));
}

pub(super) fn multiply_accumulate(
    token: IfmaToken,
    prime: &Prime,
    accumulator: &mut [u64],
    a: &[u64],
    b: &[u64],
) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn run(prime: &Prime, accumulator: &mut [u64], a: &[u64], b: &[u64]) {
        let lanes = Lanes::new(prime);
        // The product is below 3 p.
        fold_two(accumulator, a, b, |sum, a, b| lanes.canonical(_mm512_add_epi64(sum, lanes.multiply(a, b))));
    }
    detected!(token, run(prime, accumulator, a, b));
}

pub(super) fn multiply_scalar(token: IfmaToken, prime: &Prime, out: &mut [u64], a: &[u64], c: u64) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn run(prime: &Prime, out: &mut [u64], a: &[u64], c: u64) {
        let (lanes, c) = (Lanes::new(prime), Lanes::factor(prime, c));
        map(out, a, |a| lanes.below_p(lanes.multiply_by(load(a), c)));
    }
    detected!(token, run(prime, out, a, c));
}

pub(super) fn multiply_scalar_accumulate(
    token: IfmaToken,
    prime: &Prime,
    accumulator: &mut [u64],
    a: &[u64],
    c: u64,
) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn run(prime: &Prime, accumulator: &mut [u64], a: &[u64], c: u64) {
        let (lanes, c) = (Lanes::new(prime), Lanes::factor(prime, c));
        // The product is below 2 p.
        fold(accumulator, a, |sum, a| lanes.canonical(_mm512_add_epi64(sum, lanes.multiply_by(a, c))));
    }
    detected!(token, run(prime, accumulator, a, c));
}

pub(super) fn subtract_multiply(token: IfmaToken, prime: &Prime, row: &mut [u64], a: &[u64], c: u64) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn run(prime: &Prime, row: &mut [u64], a: &[u64], c: u64) {
        let (lanes, c) = (Lanes::new(prime), Lanes::factor(prime, c));
        fold(row, a, |x, a| lanes.below_p(lanes.multiply_by(lanes.sub(a, x), c)));
    }
    detected!(token, run(prime, row, a, c));
}

pub(super) fn reduce_floats(token: IfmaToken, prime: &Prime, out: &mut [u64], values: &[f64]) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn run(prime: &Prime, out: &mut [u64], values: &[f64]) {
        let lanes = Lanes::new(prime);
        map(out, values, |values| lanes.reduce_floats(values));
    }
    detected!(token, run(prime, out, values));
}

pub(super) fn add(token: IfmaToken, prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn run(prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
        let lanes = Lanes::new(prime);
        zip(out, a, b, |a, b| lanes.add(a, b));
    }
    detected!(token, run(prime, out, a, b));
}

pub(super) fn add_assign(token: IfmaToken, prime: &Prime, accumulator: &mut [u64], a: &[u64]) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn run(prime: &Prime, accumulator: &mut [u64], a: &[u64]) {
        let lanes = Lanes::new(prime);
        fold(accumulator, a, |sum, a| lanes.add(sum, a));
    }
    detected!(token, run(prime, accumulator, a));
}

pub(super) fn sub(token: IfmaToken, prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn run(prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
        let lanes = Lanes::new(prime);
        zip(out, a, b, |a, b| lanes.sub(a, b));
    }
    detected!(token, run(prime, out, a, b));
}

pub(super) fn negate(token: IfmaToken, prime: &Prime, row: &mut [u64]) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn run(prime: &Prime, row: &mut [u64]) {
        let lanes = Lanes::new(prime);
        let negative = |x| lanes.sub(_mm512_setzero_si512(), x);
        let (row, rest) = row.as_chunks_mut();
        for x in row {
            let result = negative(load(x));
            store(x, result);
        }
        if !rest.is_empty() {
            let result = negative(load(&padded(rest)));
            store_first(rest, result);
        }
    }
    detected!(token, run(prime, row));
}
