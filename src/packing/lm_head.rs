//! The language-model head on the server: logits of the whole vocabulary from an encrypted hidden vector.
//!
//! Wide products with as many values per block as fit, so that hardly any reduction is left, and two chunks of the
//! vocabulary in each as real and imaginary part: about vocabulary·hidden/(2S) plaintexts. The slots between the logits
//! hold partial sums, which the client (who decrypts) ignores; mask them when the weights are private.
//! The alternative is to send the hidden vector back and let the client apply the head.

use std::sync::Arc;

use crate::contract::{Complex64, Error, Evaluator, Result};

use super::{Order, Packed, Product, ProductGeometry, Term, VectorLayout, Weights};

/// The products of a language-model head.
#[derive(Clone)]
pub struct LmHead {
    products: Vec<Product>,
    /// Orders of the real and the imaginary part of each product.
    orders: Vec<(Order, Order)>,
    output: VectorLayout,
    vocabulary: usize,
}

impl LmHead {
    /// Head from a clean compact layout of the hidden vector to `weights.outputs()` logits.
    ///
    /// # Errors
    /// [`Error::Shape`] when a block cannot hold the products, or the weights do not fit the order.
    pub fn new(hidden: VectorLayout, order: &Order, weights: &Arc<dyn Weights>) -> Result<Self> {
        let vocabulary = weights.outputs();
        let capacity = hidden.block() / hidden.values();
        let per_block = vocabulary.div_ceil(hidden.ring());
        if vocabulary == 0 || capacity == 0 {
            return Err(Error::Shape {
                operation: "language-model head",
                what: format!("{vocabulary} logits from blocks of {} slots", hidden.block()),
                remedy: "give a vocabulary, and a hidden layout that leaves room in its blocks".to_owned(),
            });
        }
        let parts = 2 * per_block.div_ceil(2 * capacity);
        let output = VectorLayout::spread(hidden.slots(), hidden.ring(), per_block.div_ceil(parts))?;
        let geometry = ProductGeometry::between(hidden, output)?;
        let chunk = output.dimension();
        let mut orders = Vec::with_capacity(parts / 2);
        let mut products = Vec::with_capacity(parts / 2);
        for first in (0..vocabulary).step_by(2 * chunk) {
            let real = Order::range(&output, first, vocabulary);
            let imaginary = Order::range(&output, first + chunk, vocabulary);
            let term = |outputs: &Order| Term::new(weights.clone(), order.clone(), outputs.clone());
            products.push(Product::new(geometry, vec![term(&real), term(&imaginary).times(Complex64::I)])?);
            orders.push((real, imaginary));
        }
        Ok(Self { products, orders, output, vocabulary })
    }

    /// The products: one ciphertext of logits each.
    #[must_use]
    pub fn products(&self) -> &[Product] {
        &self.products
    }

    /// Encrypted logits, one ciphertext per product, replication and baby rotations shared; one level.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input in another layout; errors of [`Product::apply_shared`].
    pub fn apply<E: Evaluator>(
        &self,
        evaluator: &E,
        hidden: &Packed<E::Ciphertext>,
    ) -> Result<Vec<E::Ciphertext>> {
        let Some(first) = self.products.first() else { return Ok(Vec::new()) };
        let prepared = first.prepare(evaluator, hidden)?;
        let products: Vec<(&Product, usize)> = self.products.iter().map(|product| (product, 0)).collect();
        let logits = Product::apply_shared(evaluator, &prepared, &products)?;
        Ok(logits.into_iter().map(|packed| packed.ciphertext).collect())
    }

    /// The client's side: logits out of the decrypted ciphertexts of [`LmHead::apply`].
    ///
    /// # Errors
    /// [`Error::Shape`] for the wrong number of ciphertexts.
    pub fn logits(&self, decrypted: &[Vec<Complex64>]) -> Result<Vec<f64>> {
        if decrypted.len() != self.products.len() {
            return Err(Error::Shape {
                operation: "logits",
                what: format!("{} ciphertexts, the head makes {}", decrypted.len(), self.products.len()),
                remedy: "pass all of them, in order".to_owned(),
            });
        }
        let mut logits = vec![0.0; self.vocabulary];
        for (slots, (real, imaginary)) in decrypted.iter().zip(&self.orders) {
            for (p, value) in self.output.gather(slots).into_iter().enumerate() {
                for (feature, part) in [(real.feature(p), value.re), (imaginary.feature(p), value.im)] {
                    if let Some(logit) = feature.and_then(|feature| logits.get_mut(feature)) {
                        *logit = part;
                    }
                }
            }
        }
        Ok(logits)
    }
}
