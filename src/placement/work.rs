//! How many elementary operations a piece of work takes, level by level.

use std::ops::{Add, AddAssign, Mul};

use crate::contract::LevelCounts;

/// Elementary operations at one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Work {
    /// Products with an encoded plaintext.
    pub plaintext_products: f64,
    /// Products with one constant for all slots.
    pub constant_products: f64,
    /// Products of two ciphertexts, before relinearization.
    pub ciphertext_products: f64,
    /// Relinearizations.
    pub relinearizations: f64,
    /// Rescales.
    pub rescales: f64,
    /// Rotations that decompose their own input.
    pub rotations: f64,
    /// Rotations that share a decomposition.
    pub rotations_hoisted: f64,
    /// Conjugations.
    pub conjugations: f64,
    /// Additions.
    pub additions: f64,
    /// Plaintexts encoded while it runs, when weights are not kept encoded.
    pub encodings: f64,
}

impl Work {
    /// `count` products of two ciphertexts, each relinearized and rescaled.
    #[must_use]
    pub fn products(count: f64) -> Self {
        Self { ciphertext_products: count, relinearizations: count, rescales: count, ..Self::default() }
    }

    /// `count` products with plaintexts and one rescale for each of `rescales` sums of them.
    #[must_use]
    pub fn plaintext_products(count: f64, rescales: f64) -> Self {
        Self { plaintext_products: count, rescales, additions: count - rescales, ..Self::default() }
    }

    /// `count` rotations that decompose their own input, each added to something.
    #[must_use]
    pub fn rotations(count: f64) -> Self {
        Self { rotations: count, additions: count, ..Self::default() }
    }

    /// Every field with `other`'s.
    fn zip(self, other: Self, join: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            plaintext_products: join(self.plaintext_products, other.plaintext_products),
            constant_products: join(self.constant_products, other.constant_products),
            ciphertext_products: join(self.ciphertext_products, other.ciphertext_products),
            relinearizations: join(self.relinearizations, other.relinearizations),
            rescales: join(self.rescales, other.rescales),
            rotations: join(self.rotations, other.rotations),
            rotations_hoisted: join(self.rotations_hoisted, other.rotations_hoisted),
            conjugations: join(self.conjugations, other.conjugations),
            additions: join(self.additions, other.additions),
            encodings: join(self.encodings, other.encodings),
        }
    }
}

impl From<LevelCounts> for Work {
    fn from(counts: LevelCounts) -> Self {
        Self {
            plaintext_products: counts.plaintext_products as f64,
            constant_products: counts.constant_products as f64,
            ciphertext_products: counts.ciphertext_products as f64,
            relinearizations: counts.relinearizations as f64,
            rescales: counts.rescales as f64,
            rotations: counts.rotations as f64,
            rotations_hoisted: counts.rotations_hoisted as f64,
            conjugations: counts.conjugations as f64,
            additions: counts.additions as f64,
            encodings: 0.0,
        }
    }
}

impl Add for Work {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<f64> for Work {
    type Output = Self;
    fn mul(self, times: f64) -> Self {
        self.zip(self, |a, _| a * times)
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Self>>(works: I) -> Self {
        works.fold(Self::default(), Add::add)
    }
}
