//! Packings of a decoder block that the decoder does not run, to measure beside those it does: grouped and complex
//! heads, and products folded in pairs. Which ring, which layouts, and the products between them.
//!
//! The residual stream is compact in a ring of head_dim · 2^e blocks; attention and the feed-forward layer work in
//! spread layouts of the same ring, so that every product goes from a compact to a spread layout or back and the
//! residual never moves. Dimensions that are no power of two are padded only to the next multiple of the ring; the ring
//! that needs the fewest plaintexts is chosen.

use std::sync::Arc;

use crate::contract::{Complex64, Error, Result};

use crate::packing::complex::{pair_terms, real_part_terms};
use crate::packing::{
    AttentionPlan, BlockShape, CacheBounds, Grouping, HeadForm, Order, Packed, Product, ProductCounts,
    ProductGeometry, Term, VectorLayout, Weights,
};

/// Layouts and products of a decoder block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlan {
    shape: BlockShape,
    residual: VectorLayout,
    feed_forward: VectorLayout,
    attention: AttentionPlan,
}

impl BlockPlan {
    /// The plan with the fewest plaintexts, then the fewest rotations, over all rings.
    ///
    /// # Errors
    /// [`Error::Shape`] when no ring packs the shape in `slots` slots; errors of [`AttentionPlan::new`].
    pub fn new(slots: usize, shape: BlockShape, grouping: Grouping, bounds: CacheBounds) -> Result<Self> {
        let mut last = None;
        let mut best: Option<(usize, usize, Self)> = None;
        let largest = shape.attention.heads.max(1).next_power_of_two().ilog2();
        let half = (shape.attention.head_dim / 2).max(1);
        let halved = (grouping.form() == HeadForm::Complex).then_some(half);
        let whole = (0..=largest).map(|low_bits| shape.attention.head_dim << low_bits);
        for ring in halved.into_iter().chain(whole) {
            let candidate = Self::in_ring(slots, ring, shape, grouping, bounds)
                .and_then(|plan| plan.counts().map(|counts| (plan, counts)));
            match candidate {
                Ok((plan, counts)) => {
                    let cost = (counts.plaintext_products, counts.rotations + counts.rotations_hoisted);
                    if best.as_ref().is_none_or(|(plaintexts, rotations, _)| cost < (*plaintexts, *rotations))
                    {
                        best = Some((cost.0, cost.1, plan));
                    }
                }
                Err(error) => last = Some(error),
            }
        }
        best.map(|(_, _, plan)| plan).ok_or_else(|| {
            last.unwrap_or_else(|| Error::Internal("no ring was tried for a decoder block".to_owned()))
        })
    }

    /// The plan in a given ring, head_dim (or its half in the complex form) times a power of two.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shape does not pack there.
    pub fn in_ring(
        slots: usize,
        ring: usize,
        shape: BlockShape,
        grouping: Grouping,
        bounds: CacheBounds,
    ) -> Result<Self> {
        let heads = shape.attention;
        if shape.hidden == 0 || shape.intermediate == 0 || ring == 0 || heads.kv_heads == 0 {
            return Err(Error::Shape {
                operation: "decoder block",
                what: format!("{shape:?} in a ring of {ring} blocks"),
                remedy: "every dimension is at least 1".to_owned(),
            });
        }
        let residual = VectorLayout::compact(slots, ring, shape.hidden.div_ceil(ring))?;
        let feed_forward = VectorLayout::spread(slots, ring, shape.intermediate.div_ceil(ring))?;
        // With one value per block the stored heads may live in a smaller ring of their own, fully used.
        let stored_heads = if grouping.is_compact() { heads.kv_heads } else { heads.heads };
        let (group, pair) = match grouping.form() {
            HeadForm::Real => (heads.heads / stored_heads, 1),
            HeadForm::Complex => (heads.heads / stored_heads, 2),
        };
        let stored_ring = (heads.head_dim / pair).max(1) * stored_heads.next_power_of_two();
        let smaller = grouping != Grouping::Duplicated
            && residual.values() == 1
            && group.is_power_of_two()
            && stored_ring * group * pair == ring;
        let attention_ring = if smaller { stored_ring } else { ring };
        let attention = AttentionPlan::new(slots, attention_ring, heads, grouping, bounds)?;
        Ok(Self { shape, residual, feed_forward, attention })
    }

    /// Layout of the residual stream: compact.
    #[must_use]
    pub fn residual(&self) -> VectorLayout {
        self.residual
    }

    /// Features of the residual stream.
    #[must_use]
    pub fn residual_order(&self) -> Order {
        Order::plain(&self.residual, self.shape.hidden)
    }

    /// Layout inside the feed-forward layer: spread.
    #[must_use]
    pub fn feed_forward(&self) -> VectorLayout {
        self.feed_forward
    }

    /// Features inside the feed-forward layer.
    #[must_use]
    pub fn feed_forward_order(&self) -> Order {
        Order::plain(&self.feed_forward, self.shape.intermediate)
    }

    /// The attention part.
    #[must_use]
    pub fn attention(&self) -> &AttentionPlan {
        &self.attention
    }

    /// Layout and order the projections of attention read: the residual, seen in the ring of the stored heads.
    fn attention_side(&self) -> Result<(VectorLayout, Order)> {
        let ring = self.attention.stored().vector().ring();
        if ring == self.residual.ring() {
            return Ok((self.residual, self.residual_order()));
        }
        let layout = self.residual.coarse(ring)?;
        let order = Order::coarse(&self.residual_order(), &layout);
        Ok((layout, order))
    }

    /// The residual vector as the projections of attention read it: only the name of the layout changes.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is not in the residual layout, or has junk.
    pub fn attention_input<C: Clone>(&self, x: &Packed<C>) -> Result<Packed<C>> {
        x.require(&self.residual, "attention input")?;
        Ok(Packed::new(x.ciphertext.clone(), self.attention_side()?.0))
    }

    fn geometry_to_heads(&self) -> Result<ProductGeometry> {
        ProductGeometry::between(self.attention_side()?.0, self.attention.stored().vector())
    }

    fn geometry_from_heads(&self) -> Result<ProductGeometry> {
        let output = self.attention.output_layout()?;
        ProductGeometry::between(output, self.attention_side()?.0).or_else(|error| {
            // Values that stand evenly are one value per block of a larger ring as well.
            if output.values() * output.gap() != output.block() {
                return Err(error);
            }
            let fine = VectorLayout::interleaved(output.slots(), output.dimension())?;
            ProductGeometry::between(fine, self.residual.coarse(fine.ring())?)
        })
    }

    /// Query projections, one product per query vector; complex where two heads, or two dimensions of a head, share a
    /// slot.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights of another shape.
    pub fn query(&self, weights: &Arc<dyn Weights>) -> Result<Vec<Product>> {
        (0..self.attention.queries())
            .map(|query| self.projection(weights, self.attention.query_orders(query), Complex64::I))
            .collect()
    }

    /// Key projection alone, to go through [`crate::packing::Rope::apply_key`]: of the complex form the conjugate,
    /// which costs nothing because the residual is real.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights of another shape.
    pub fn key(&self, weights: &Arc<dyn Weights>) -> Result<Product> {
        self.projection(weights, self.attention.kv_orders(), -Complex64::I)
    }

    /// Value projection alone.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights of another shape.
    pub fn value(&self, weights: &Arc<dyn Weights>) -> Result<Product> {
        self.projection(weights, self.attention.kv_orders(), Complex64::I)
    }

    /// Product from the residual into the heads; `factor` on the imaginary part where there is one.
    fn projection(
        &self,
        weights: &Arc<dyn Weights>,
        (real, imaginary): (Order, Option<Order>),
        factor: Complex64,
    ) -> Result<Product> {
        let input = self.attention_side()?.1;
        let mut terms = vec![Term::new(weights.clone(), input.clone(), real)];
        if let Some(imaginary) = imaginary {
            terms.push(Term::new(weights.clone(), input, imaginary).times(factor));
        }
        Product::new(self.geometry_to_heads()?, terms)
    }

    /// Key or value projection alone, of real heads.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights of another shape, and in the complex form ([`BlockPlan::key`],
    /// [`BlockPlan::value`]).
    pub fn key_or_value(&self, weights: &Arc<dyn Weights>) -> Result<Product> {
        Product::new(self.geometry_to_heads()?, vec![self.key_value_term(weights)?])
    }

    /// Key and value projections of real heads in one product; its output goes through
    /// [`crate::packing::complex::split`].
    ///
    /// # Errors
    /// [`Error::Shape`] for weights of another shape, and in the complex form ([`BlockPlan::key`],
    /// [`BlockPlan::value`]).
    pub fn key_and_value(&self, key: &Arc<dyn Weights>, value: &Arc<dyn Weights>) -> Result<Product> {
        let terms = pair_terms(self.key_value_term(key)?, self.key_value_term(value)?);
        Product::new(self.geometry_to_heads()?, terms)
    }

    fn key_value_term(&self, weights: &Arc<dyn Weights>) -> Result<Term> {
        match self.attention.kv_orders() {
            (real, None) => Ok(Term::new(weights.clone(), self.attention_side()?.1, real)),
            (_, Some(_)) => Err(Error::Shape {
                operation: "key and value projection",
                what: format!(
                    "{} dimensions of a head stand in {} complex values already",
                    self.shape.attention.head_dim,
                    self.attention.stored().head_blocks()
                ),
                remedy: "project with BlockPlan::key and BlockPlan::value".to_owned(),
            }),
        }
    }

    /// Output projection: from [`AttentionPlan::weighted_values`] (through [`BlockPlan::output_input`]) to the residual
    /// layout. In the complex form it folds by row halves: half the plaintexts, and its output goes through
    /// [`crate::packing::complex::twice_real_part`].
    ///
    /// # Errors
    /// [`Error::Shape`] for weights of another shape.
    pub fn output(&self, weights: &Arc<dyn Weights>) -> Result<Product> {
        let geometry = self.geometry_from_heads()?;
        let (order, imaginary) = self.attention.output_orders()?;
        let coarse = self.attention.output_layout()?;
        let inputs = |order: Order| {
            if geometry.input() == coarse {
                return order;
            }
            // Value q of block r stands in block r·m + q of the larger ring.
            Order::from_fn(&geometry.input(), |r, _| {
                order.feature(r % coarse.values() * coarse.ring() + r / coarse.values())
            })
        };
        let outputs = if geometry.output().ring() == self.residual.ring() {
            self.residual_order()
        } else {
            Order::coarse(&self.residual_order(), &geometry.output())
        };
        let term = |order| Term::new(weights.clone(), inputs(order), outputs.clone());
        let terms = match imaginary {
            None => vec![term(order)],
            Some(imaginary) => real_part_terms(term(order), term(imaginary)),
        };
        Product::new(geometry, terms)
    }

    /// The weighted values as the output projection reads them: only the name of the layout changes.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is not in the output layout of attention, or has junk.
    pub fn output_input<C: Clone>(&self, x: &Packed<C>) -> Result<Packed<C>> {
        x.require(&self.attention.output_layout()?, "output projection")?;
        Ok(Packed::new(x.ciphertext.clone(), self.geometry_from_heads()?.input()))
    }

    /// Up and gate projections in one product; its output goes through [`crate::packing::complex::split`].
    ///
    /// # Errors
    /// [`Error::Shape`] for weights of another shape.
    pub fn up_and_gate(&self, up: &Arc<dyn Weights>, gate: &Arc<dyn Weights>) -> Result<Product> {
        let geometry = ProductGeometry::between(self.residual, self.feed_forward)?;
        Product::new(geometry, pair_terms(self.up_term(up), self.up_term(gate)))
    }

    /// Up or gate projection alone.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights of another shape.
    pub fn up_or_gate(&self, weights: &Arc<dyn Weights>) -> Result<Product> {
        let geometry = ProductGeometry::between(self.residual, self.feed_forward)?;
        Product::new(geometry, vec![self.up_term(weights)])
    }

    fn up_term(&self, weights: &Arc<dyn Weights>) -> Term {
        Term::new(weights.clone(), self.residual_order(), self.feed_forward_order())
    }

    /// Down projection, back to the residual layout.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights of another shape.
    pub fn down(&self, weights: &Arc<dyn Weights>) -> Result<Product> {
        let geometry = ProductGeometry::between(self.feed_forward, self.residual)?;
        Product::new(
            geometry,
            vec![Term::new(weights.clone(), self.feed_forward_order(), self.residual_order())],
        )
    }

    /// Operations of all seven projections, up with gate folded, key with value in the real form, preprocessing and
    /// baby rotations shared by q, k and v ([`Product::apply_shared`]).
    ///
    /// # Errors
    /// [`Error::Shape`] when a product does not pack.
    pub fn counts(&self) -> Result<ProductCounts> {
        let heads = self.geometry_to_heads()?.counts();
        let up = ProductGeometry::between(self.residual, self.feed_forward)?.counts();
        let down = ProductGeometry::between(self.feed_forward, self.residual)?.counts();
        let output = self.geometry_from_heads()?.counts();
        // Key with value, or key and value; the conjugation takes key and value apart, or ends the output projection.
        let projections = match self.attention.stored().form() {
            HeadForm::Real => self.attention.queries() + 1,
            HeadForm::Complex => self.attention.queries() + 2,
        };
        Ok(ProductCounts {
            plaintext_products: projections * heads.plaintext_products
                + up.plaintext_products
                + down.plaintext_products
                + output.plaintext_products,
            rotations: projections * (heads.rotations - heads.preprocessing_rotations)
                + heads.preprocessing_rotations
                + up.rotations
                + down.rotations
                + output.rotations,
            rotations_hoisted: heads.rotations_hoisted
                + up.rotations_hoisted
                + down.rotations_hoisted
                + output.rotations_hoisted,
            preprocessing_rotations: heads.preprocessing_rotations
                + up.preprocessing_rotations
                + down.preprocessing_rotations
                + output.preprocessing_rotations,
            conjugations: 2,
        })
    }
}
