//! Automorphisms X → X^g of the ring, on evaluations: a permutation of each row.

/// The Galois element of a rotation left by `step` of S = N/2 slots: 5^step modulo 2N.
#[must_use]
pub fn rotation_element(step: usize, log2_n: u32) -> u64 {
    power(5, step as u64, log2_n)
}

/// The inverse of an odd Galois element modulo 2N: that of the automorphism that undoes it.
#[must_use]
pub fn inverse_element(element: u64, log2_n: u32) -> u64 {
    // The group of odd residues modulo 2N has exponent N/2.
    power(element, (1 << (log2_n - 1)) - 1, log2_n)
}

/// base^exponent modulo 2N, by squaring.
fn power(base: u64, mut exponent: u64, log2_n: u32) -> u64 {
    let modulus = 2u64 << log2_n;
    let (mut result, mut square) = (1u64, base % modulus);
    while exponent > 0 {
        if exponent % 2 == 1 {
            result = result * square % modulus;
        }
        square = square * square % modulus;
        exponent /= 2;
    }
    result
}

/// The Galois element of complex conjugation: 2N − 1.
#[must_use]
pub fn conjugation_element(log2_n: u32) -> u64 {
    (2u64 << log2_n) - 1
}

/// X → X^g for an odd g, as a gather on rows of evaluations in bit-reversed order.
#[derive(Clone, Debug)]
pub struct Automorphism {
    element: u64,
    /// `out[i] = in[source[i]]`.
    source: Vec<u32>,
}

impl Automorphism {
    /// The automorphism of the odd `element`.
    #[must_use]
    pub fn new(element: u64, log2_n: u32) -> Self {
        let size = 1u64 << log2_n;
        let reverse = |index: u64| index.reverse_bits() >> (64 - log2_n);
        // Row index i is the value at ψ^e, e = 2·brv(i) + 1; the image polynomial takes there the value at ψ^{e·g}.
        let source = (0..size)
            .map(|index| {
                let exponent = (2 * reverse(index) + 1).wrapping_mul(element) % (2 * size);
                reverse(exponent / 2) as u32
            })
            .collect();
        Self { element, source }
    }

    /// The Galois element.
    #[must_use]
    pub fn element(&self) -> u64 {
        self.element
    }

    /// `out` = the image of `row`, both of N words.
    pub fn apply(&self, out: &mut [u64], row: &[u64]) {
        for (out, source) in out.iter_mut().zip(&self.source) {
            // Always in range for rows of N words: the table is a permutation of 0 .. N.
            *out = row.get(*source as usize).copied().unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernels::Kernels;
    use super::super::{NttPlan, Prime, primes_near};
    use super::*;

    #[test]
    fn inverse_elements_undo_their_automorphism() {
        for log2_n in [5, 10, 16] {
            let modulus = 2u64 << log2_n;
            for element in [1, 5, rotation_element(7, log2_n), conjugation_element(log2_n), modulus / 2 + 1] {
                let inverse = inverse_element(element, log2_n);
                assert_eq!(element * inverse % modulus, 1, "{element} modulo 2^{}", log2_n + 1);
            }
        }
    }

    #[test]
    fn permuting_evaluations_is_the_automorphism_of_coefficients() {
        let log2_n = 6;
        let n = 64u64;
        let prime = Prime::new(primes_near(2f64.powi(45), log2_n, 1, &[]).unwrap()[0]).unwrap();
        let plan = NttPlan::new(&prime, 64, Kernels::Portable).unwrap();
        let row: Vec<u64> = (0..n).map(|k| prime.reduce(k * k * 77_777 + 5)).collect();
        for element in
            [rotation_element(1, log2_n), rotation_element(11, log2_n), conjugation_element(log2_n)]
        {
            let mut image = vec![0u64; 64];
            for (k, x) in row.iter().enumerate() {
                let exponent = k as u64 * element % (2 * n);
                let sign_flips = exponent >= n;
                image[(exponent % n) as usize] = if sign_flips { prime.sub(0, *x) } else { *x };
            }
            plan.forward(&mut image);
            let mut evaluations = row.clone();
            plan.forward(&mut evaluations);
            let mut permuted = vec![0u64; 64];
            Automorphism::new(element, log2_n).apply(&mut permuted, &evaluations);
            assert_eq!(permuted, image, "element {element}");
        }
    }
}
