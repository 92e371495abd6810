//! What the non-linear functions of the paper's layer cost in levels and products.

use crate::placement::Work;

/// Levels and work of one function on one ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FunctionWork {
    /// Levels it takes.
    pub depth: usize,
    /// Products of two ciphertexts.
    pub products: usize,
    /// Products with constants.
    pub constants: usize,
}

impl FunctionWork {
    /// A polynomial of `degree` by Paterson–Stockmeyer: ⌈log₂(degree + 1)⌉ levels and `affine` more for the map of its
    /// interval, about √(2·degree) + log₂ degree products, one constant a coefficient.
    #[must_use]
    pub fn polynomial(degree: usize, affine: usize) -> Self {
        let levels = (degree + 1).next_power_of_two().trailing_zeros() as usize;
        // Baby powers up to 2^l, then one product for each of the 2^(levels − l) − 1 inner nodes of the tree.
        let products = (1..=levels.max(1))
            .map(|babies| {
                (1usize << babies) - 2 + levels.saturating_sub(babies) + (1 << (levels - babies)) - 1
            })
            .min()
            .unwrap_or(0);
        Self { depth: levels + affine, products, constants: degree }
    }

    /// `products` products in sequence, one level each.
    #[must_use]
    pub fn sequence(depth: usize, products: usize) -> Self {
        Self { depth, products, constants: 0 }
    }

    /// The work of this function on `ciphertexts` ciphertexts.
    #[must_use]
    pub fn work(&self, ciphertexts: usize) -> Work {
        let times = ciphertexts as f64;
        let constants = self.constants as f64 * times;
        Work::products(self.products as f64 * times)
            + Work { constant_products: constants, additions: constants, ..Work::default() }
    }
}

/// The functions of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Functions {
    /// 1/√x of the first norm.
    pub input_norm: FunctionWork,
    /// 1/√x of the second norm.
    pub post_attention_norm: FunctionWork,
    /// exp.
    pub exponential: FunctionWork,
    /// 1/x of the denominators, by which the weights are divided before they meet the values.
    pub division: FunctionWork,
    /// SiLU or GELU.
    pub activation: FunctionWork,
}

impl Functions {
    /// The paper's: Newton and Goldschmidt for the norms, (1 + x/2⁸)^2⁸, Goldschmidt division of the weights, degree
    /// 127 for SiLU, a mask after each projection (spec sections 5, 6, 10b).
    #[must_use]
    pub fn paper() -> Self {
        let norm = FunctionWork { depth: 13, products: 19, constants: 8 };
        Self {
            input_norm: norm,
            post_attention_norm: norm,
            exponential: FunctionWork::sequence(8, 8),
            division: FunctionWork::sequence(11, 18),
            activation: FunctionWork::polynomial(127, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_take_the_levels_of_their_degree_and_few_products() {
        for (degree, depth, most) in [(7, 3, 5), (15, 4, 8), (31, 5, 11), (63, 6, 16), (127, 7, 24)] {
            let work = FunctionWork::polynomial(degree, 0);
            assert_eq!(work.depth, depth, "degree {degree}");
            assert!(work.products <= most, "degree {degree}: {} products", work.products);
        }
    }
}
