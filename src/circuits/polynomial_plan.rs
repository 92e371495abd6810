//! How a Chebyshev series is cut into products: a Paterson–Stockmeyer tree of least depth.
//!
//! A series of degree below 2^k stands k levels below x. It is cut at m = 2^(k−1) into q·T_m + r. The quotient q has
//! degree below 2^(k−1) and again takes the least depth; the remainder r has one level to spare, so it is a sum of
//! blocks Σ_j r_j·T_{jg} with baby polynomials r_j of degree below g. All products of one cut are added before *one*
//! relinearization and one rescale (lazy relinearization); linear terms join at the scale of the products. The baby
//! count g is the power of two with the least cost. Paterson–Stockmeyer 1973; for CKKS Chen–Chillotti–Song 2019, §5,
//! Bossuat et al. 2021, §5 (scale-exact, least depth).

use std::collections::BTreeSet;

use super::polynomial_basis::close;
use super::polynomial_coefficient::Coefficient;

/// Levels a series of `degree` consumes: ⌈log2(degree + 1)⌉, and 1 for a constant.
#[must_use]
pub fn depth(degree: usize) -> usize {
    (usize::BITS - degree.max(1).leading_zeros()) as usize
}

/// Operations a plan costs, T_k included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PolynomialCost {
    /// Products of two ciphertexts.
    pub products: usize,
    /// Relinearizations: the key switches.
    pub relinearizations: usize,
    /// Rescales.
    pub rescales: usize,
    /// Products with a coefficient.
    pub coefficient_products: usize,
}

impl PolynomialCost {
    /// Relative time: a product is about a fifth of a relinearization, a rescale about a seventh (native, N = 2^16).
    fn weight(self) -> usize {
        20 * self.relinearizations + 4 * self.products + 3 * self.rescales + self.coefficient_products
    }
}

/// Σ factor_i·T_{power_i} + Σ linear + constant, then one relinearization and one rescale; `depth` levels below x.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) depth: usize,
    pub(super) products: Vec<(Node, usize)>,
    pub(super) linear: Vec<(usize, Coefficient)>,
    pub(super) constant: Coefficient,
}

/// A series cut into products, ready to be evaluated at any ciphertext.
#[derive(Clone, Debug)]
pub struct PolynomialPlan {
    pub(super) root: Node,
    pub(super) powers: BTreeSet<usize>,
    cost: PolynomialCost,
}

impl PolynomialPlan {
    /// Plan of least cost for Σ coefficients\[k\]·T_k. Coefficients that are exactly zero cost nothing; none at all
    /// means the constant 0.
    #[must_use]
    pub fn new(coefficients: &[Coefficient]) -> Self {
        let degree = degree_of(coefficients);
        let used: Vec<Coefficient> = coefficients.iter().take(degree + 1).cloned().collect();
        let depth = depth(degree);
        let mut best = Self::with_babies(used.clone(), depth, 2);
        for log2_babies in 2..depth.max(2) {
            let candidate = Self::with_babies(used.clone(), depth, 1 << log2_babies);
            if candidate.cost.weight() < best.cost.weight() {
                best = candidate;
            }
        }
        best
    }

    /// The plan for coefficients that are one number each.
    #[must_use]
    pub fn of_constants(coefficients: &[crate::contract::Complex64]) -> Self {
        let coefficients: Vec<Coefficient> = coefficients.iter().map(|c| Coefficient::Same(*c)).collect();
        Self::new(&coefficients)
    }

    /// Levels between x and the value.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.root.depth
    }

    /// Operations it costs when no T_k exists yet.
    #[must_use]
    pub fn cost(&self) -> PolynomialCost {
        self.cost
    }

    fn with_babies(coefficients: Vec<Coefficient>, depth: usize, babies: usize) -> Self {
        let root = Node::cut(coefficients, depth, babies);
        let mut powers = BTreeSet::new();
        let mut cost = PolynomialCost::default();
        root.collect(&mut powers, &mut cost);
        let computed = powers.iter().filter(|k| **k > 1).count();
        cost.products += computed;
        cost.relinearizations += computed;
        cost.rescales += computed;
        Self { root, powers, cost }
    }
}

impl Node {
    /// Cuts a series into a node `depth` levels below x with baby polynomials of degree below `babies`.
    fn cut(coefficients: Vec<Coefficient>, depth: usize, babies: usize) -> Node {
        let degree = degree_of(&coefficients);
        // T_k may be used here when it stands at most depth − 1 levels below x.
        let reach = 1usize << (depth - 1);
        if degree <= reach && degree <= babies {
            return Node::leaf(coefficients, depth);
        }
        let mut node =
            Node { depth, products: Vec::new(), linear: Vec::new(), constant: Coefficient::zero() };
        let mut rest = coefficients;
        // The quotient by T_reach, unless blocks reach that far anyway (their babies need depth − 2 levels).
        if degree > reach && (degree >= reach + babies || babies > reach / 2) {
            let quotient = divide(&mut rest, reach);
            node.multiply(quotient, reach, babies);
        }
        let mut block = degree_of(&rest) / babies;
        while block >= 1 && degree_of(&rest) > babies {
            let quotient = divide(&mut rest, block * babies);
            node.multiply(quotient, block * babies, babies);
            block -= 1;
        }
        let leaf = Node::leaf(rest, depth);
        node.linear.extend(leaf.linear);
        node.constant = leaf.constant;
        node
    }

    /// Adds quotient·T_power: a product, or a linear term when the quotient is a constant.
    fn multiply(&mut self, quotient: Vec<Coefficient>, power: usize, babies: usize) {
        if quotient.iter().skip(1).all(Coefficient::is_zero) {
            self.linear.extend(
                quotient.into_iter().next().filter(|constant| !constant.is_zero()).map(|c| (power, c)),
            );
        } else {
            self.products.push((Node::cut(quotient, self.depth - 1, babies), power));
        }
    }

    fn leaf(coefficients: Vec<Coefficient>, depth: usize) -> Node {
        let mut entries = coefficients.into_iter().enumerate();
        let constant = entries.next().map_or_else(Coefficient::zero, |(_, c)| c);
        Node {
            depth,
            products: Vec::new(),
            linear: entries.filter(|(_, c)| !c.is_zero()).collect(),
            constant,
        }
    }

    fn collect(&self, powers: &mut BTreeSet<usize>, cost: &mut PolynomialCost) {
        cost.rescales += 1;
        cost.coefficient_products += self.linear.len();
        cost.relinearizations += usize::from(!self.products.is_empty());
        cost.products += self.products.len();
        for (power, _) in &self.linear {
            close(powers, *power);
        }
        for (factor, power) in &self.products {
            close(powers, *power);
            factor.collect(powers, cost);
        }
    }
}

/// Index of the last coefficient that is not zero; 0 when there is none.
fn degree_of(coefficients: &[Coefficient]) -> usize {
    coefficients.iter().rposition(|c| !c.is_zero()).unwrap_or(0)
}

/// Divides by T_m in place, for a degree below 2m: leaves the remainder, returns the quotient.
/// T_i = 2·T_{i−m}·T_m − T_{2m−i} for m < i < 2m.
fn divide(coefficients: &mut Vec<Coefficient>, m: usize) -> Vec<Coefficient> {
    let mut quotient: Vec<Coefficient> = coefficients.drain(m.min(coefficients.len())..).collect();
    for (offset, c) in quotient.iter_mut().enumerate().skip(1) {
        if c.is_zero() {
            continue;
        }
        if let Some(folded) = coefficients.get_mut(m - offset) {
            *folded = folded.plus(&c.scaled(-1.0));
        }
        *c = c.scaled(2.0);
    }
    quotient
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Complex64;

    fn cost_of_degree(degree: usize) -> PolynomialCost {
        let coefficients: Vec<Complex64> =
            (0..=degree).map(|k| Complex64::new(1.0 / (k as f64 + 1.5), 0.0)).collect();
        PolynomialPlan::of_constants(&coefficients).cost()
    }

    #[test]
    fn depth_is_the_ceiling_of_log2_of_degree_plus_one() {
        for (degree, expected) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (31, 5), (32, 6)] {
            assert_eq!(depth(degree), expected, "degree {degree}");
        }
    }

    #[test]
    fn relinearizations_stay_few() {
        for (degree, most) in [(3, 2), (7, 4), (15, 7), (31, 10), (63, 15), (127, 22)] {
            let cost = cost_of_degree(degree);
            assert!(cost.relinearizations <= most, "degree {degree}: {cost:?}, wanted at most {most}");
        }
    }
}
