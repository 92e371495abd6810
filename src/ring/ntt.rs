//! Negacyclic NTT of one prime: `tfhe-ntt`, or our f64 kernel where AVX2 and FMA exist but AVX512-IFMA does not.
//!
//! Forward takes coefficients in natural order to evaluations in bit-reversed order: index i is the value at
//! ψ^{2·brv(i)+1}. Both implementations use the root that `tfhe-ntt` chooses and give the same bits. Every plan is
//! tested when it is made, because `tfhe-ntt` 0.7.1 computes wrong products for some primes near 2^51 (larger than
//! any here).

use super::Prime;
use super::kernels::{FmaNtt, Kernels};
use crate::contract::{Error, Result};

enum Implementation {
    TfheNtt(Box<tfhe_ntt::prime64::Plan>),
    Fma(Box<FmaNtt>),
}

/// Transform of one prime and size.
pub struct NttPlan {
    implementation: Implementation,
    root: u64,
}

impl NttPlan {
    /// Plan for polynomials of degree below `size` modulo `prime`, with the kernels given.
    ///
    /// # Errors
    /// [`Error::Parameters`] when the prime has no 2N-th root of unity; [`Error::Internal`] when the self-test fails.
    pub fn new(prime: &Prime, size: usize, kernels: Kernels) -> Result<Self> {
        let plan =
            tfhe_ntt::prime64::Plan::try_new(size, prime.value()).ok_or_else(|| Error::Parameters {
                what: format!("no NTT of size {size} modulo {}", prime.value()),
                remedy: "use primes that are 1 modulo 2N".to_owned(),
            })?;
        // The transform of X holds the evaluation points; the first is ψ itself.
        let mut points = vec![0u64; size];
        if let Some(x) = points.get_mut(1) {
            *x = 1;
        }
        plan.fwd(&mut points);
        let root = points.first().copied().unwrap_or(0);
        let log2 = size.trailing_zeros();
        let ordered = points.iter().enumerate().all(|(index, point)| {
            let exponent = 2 * (index.reverse_bits() >> (usize::BITS - log2)) as u64 + 1;
            prime.pow(root, exponent) == *point
        });
        if !ordered {
            return Err(Error::Internal(format!(
                "NTT modulo {} is not in bit-reversed order",
                prime.value()
            )));
        }
        let tables = if plan.use_ifma() { None } else { kernels.ntt_tables(prime, root, size) };
        let implementation = match tables {
            Some(tables) => Implementation::Fma(Box::new(tables)),
            None => Implementation::TfheNtt(Box::new(plan)),
        };
        let plan = Self { implementation, root };
        plan.self_test(prime, size)?;
        Ok(plan)
    }

    /// ψ, the primitive 2N-th root of unity of the transform.
    #[must_use]
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Coefficients (natural order) to evaluations (bit-reversed order), in place; `row` has the plan's size.
    pub fn forward(&self, row: &mut [u64]) {
        match &self.implementation {
            Implementation::TfheNtt(plan) => plan.fwd(row),
            Implementation::Fma(tables) => tables.forward(row),
        }
    }

    /// Evaluations to coefficients, in place.
    pub fn inverse(&self, row: &mut [u64]) {
        match &self.implementation {
            Implementation::TfheNtt(plan) => {
                plan.inv(row);
                plan.normalize(row);
            }
            Implementation::Fma(tables) => tables.inverse(row),
        }
    }

    /// (c + X) · (c' + X^{N−1}) with full-size coefficients against the schoolbook product, and the round trip.
    fn self_test(&self, prime: &Prime, size: usize) -> Result<()> {
        let failed = || Error::Internal(format!("NTT modulo {} fails its self-test", prime.value()));
        let pseudo = |k: u64| prime.reduce(k.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29));
        let a: Vec<u64> = (0..size as u64).map(pseudo).collect();
        // Times (q − 1) X + pseudo(7): coefficient k is pseudo(7) a_k − a_{k−1}, with a_{−1} = −a_{N−1}.
        let mut product = a.clone();
        let mut factor = vec![0u64; size];
        if let [constant, linear, ..] = factor.as_mut_slice() {
            *constant = pseudo(7);
            *linear = prime.value() - 1;
        }
        self.forward(&mut product);
        self.forward(&mut factor);
        for (x, y) in product.iter_mut().zip(&factor) {
            *x = prime.mul(*x, *y);
        }
        self.inverse(&mut product);
        let before = a.last().map(|x| prime.sub(0, *x)).into_iter().chain(a.iter().copied());
        let expected = a.iter().zip(before).map(|(x, y)| prime.sub(prime.mul(*x, pseudo(7)), y));
        if product.iter().copied().eq(expected) { Ok(()) } else { Err(failed()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::primes_near;
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn simd_and_portable_transforms_have_equal_bits(log2_n in 5u32..14, bits in 25i32..=50, seed: u64) {
            let size = 1usize << log2_n;
            let prime = Prime::new(primes_near(2f64.powi(bits), log2_n, 1, &[]).unwrap()[0]).unwrap();
            let plan = NttPlan::new(&prime, size, Kernels::Portable).unwrap();
            // Extremes and pseudo-random values.
            let row: Vec<u64> = (0..size as u64)
                .map(|k| match k % 5 { 0 => prime.value() - 1, 1 => 0, 2 => prime.value() / 2,
                    _ => prime.reduce((k ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15)) })
                .collect();
            let mut transformed = row.clone();
            plan.forward(&mut transformed);
            let mut back = transformed.clone();
            plan.inverse(&mut back);
            prop_assert!(back == row, "no round trip at N = 2^{log2_n}, p = {}", prime.value());
            // The tables themselves: a plan on IFMA leaves them to `tfhe-ntt`.
            for kernels in Kernels::available() {
                let Some(tables) = kernels.ntt_tables(&prime, plan.root(), size) else { continue };
                let mut found = row.clone();
                tables.forward(&mut found);
                prop_assert!(found == transformed, "forward transforms differ at N = 2^{log2_n}, p = {}", prime.value());
                tables.inverse(&mut found);
                prop_assert!(found == row, "inverse transforms differ at N = 2^{log2_n}, p = {}", prime.value());
            }
            let fast = NttPlan::new(&prime, size, Kernels::detect()).unwrap();
            fast.forward(&mut back);
            prop_assert!(back == transformed, "the plan chosen differs at N = 2^{log2_n}, p = {}", prime.value());
        }
    }
}
