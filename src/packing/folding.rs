//! One matrix folded in two halves: half the plaintexts of a product (spec section 7; beyond the Cachemir paper).
//!
//! *By columns*: x real, weights W_lo + i·W_hi of the halves of the outputs, and the output is complex, y_lo + i·y_hi.
//! *By rows*: x_lo + i·x_hi in, weights W_lo − i·W_hi of the halves of the inputs, and the output is the real part,
//! which takes one conjugation. A product by columns may feed one by rows, element-wise products with real vectors
//! between them. Two different matrices of one input fold as well: [`super::complex::pair_terms`].

use std::sync::Arc;

use crate::contract::{Complex64, Error, Evaluator, Level, Result};

use super::complex::{join, real_part_terms, twice_real_part};
use super::{
    EncodedProduct, Order, Packed, Prepared, Product, ProductCounts, ProductGeometry, Term, VectorLayout,
    Weights,
};

/// Which side of a matrix is folded in two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Folding {
    /// None: real input, real output.
    Whole,
    /// Halves of the outputs: real input, complex output.
    Columns,
    /// Halves of the inputs: complex input, real output.
    Rows,
}

/// The numbers of a product of `inputs` × `outputs` real features, folded or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldedGeometry {
    folding: Folding,
    inputs: usize,
    outputs: usize,
    product: ProductGeometry,
}

impl FoldedGeometry {
    /// Features `inputs` → `outputs` by `product`, whose folded side holds pairs of features p and p + ⌈n/2⌉.
    ///
    /// # Errors
    /// [`Error::Shape`] for no features, and when the layouts of `product` have no place for them.
    pub fn new(product: ProductGeometry, folding: Folding, inputs: usize, outputs: usize) -> Result<Self> {
        let (wanted_in, wanted_out) = folding.places(inputs, outputs);
        let (places_in, places_out) = (product.input().dimension(), product.output().dimension());
        if inputs == 0 || outputs == 0 || wanted_in > places_in || wanted_out > places_out {
            return Err(Error::Shape {
                operation: "folded product",
                what: format!(
                    "{inputs} to {outputs} features ({folding:?}) take {wanted_in} and {wanted_out} places where \
                     {places_in} and {places_out} are"
                ),
                remedy: "use layouts of at least half the features of the folded side".to_owned(),
            });
        }
        Ok(Self { folding, inputs, outputs, product })
    }

    /// Which side is folded.
    #[must_use]
    pub fn folding(&self) -> Folding {
        self.folding
    }

    /// Input and output features.
    #[must_use]
    pub fn features(&self) -> (usize, usize) {
        (self.inputs, self.outputs)
    }

    /// Geometry of the complex product.
    #[must_use]
    pub fn product(&self) -> &ProductGeometry {
        &self.product
    }

    /// Operations, the conjugation of a product by rows included.
    #[must_use]
    pub fn counts(&self) -> ProductCounts {
        ProductCounts { conjugations: usize::from(self.folding == Folding::Rows), ..self.product.counts() }
    }

    /// Features of the input layout: of the real part, and of the imaginary part when folded by rows.
    #[must_use]
    pub fn input_orders(&self) -> (Order, Option<Order>) {
        orders(&self.product.input(), self.inputs, self.folding == Folding::Rows)
    }

    /// Features of the output layout: of the real part, and of the imaginary part when folded by columns.
    #[must_use]
    pub fn output_orders(&self) -> (Order, Option<Order>) {
        orders(&self.product.output(), self.outputs, self.folding == Folding::Columns)
    }
}

impl Folding {
    /// Places an input and an output take.
    pub(super) fn places(self, inputs: usize, outputs: usize) -> (usize, usize) {
        match self {
            Self::Whole => (inputs, outputs),
            Self::Columns => (inputs, outputs.div_ceil(2)),
            Self::Rows => (inputs.div_ceil(2), outputs),
        }
    }
}

/// Feature p at index p; or p below half of them in the real, the rest in the imaginary part.
fn orders(layout: &VectorLayout, features: usize, folded: bool) -> (Order, Option<Order>) {
    if !folded {
        return (Order::plain(layout, features), None);
    }
    let half = features.div_ceil(2);
    (Order::plain(layout, half), Some(Order::range(layout, half, features)))
}

/// A matrix ready to multiply packed vectors, folded or not.
#[derive(Clone)]
pub struct FoldedProduct {
    geometry: FoldedGeometry,
    product: Product,
}

impl FoldedProduct {
    /// Product of `geometry` by `weights`.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights of another shape.
    pub fn new(geometry: FoldedGeometry, weights: &Arc<dyn Weights>) -> Result<Self> {
        if (weights.inputs(), weights.outputs()) != geometry.features() {
            return Err(Error::Shape {
                operation: "folded product",
                what: format!(
                    "weights of {} inputs and {} outputs for {} and {}",
                    weights.inputs(),
                    weights.outputs(),
                    geometry.inputs,
                    geometry.outputs
                ),
                remedy: "build the geometry for the shape of the weights".to_owned(),
            });
        }
        let term =
            |inputs: &Order, outputs: &Order| Term::new(weights.clone(), inputs.clone(), outputs.clone());
        let terms = match (geometry.input_orders(), geometry.output_orders()) {
            ((inputs, Some(rest)), (outputs, _)) => {
                real_part_terms(term(&inputs, &outputs), term(&rest, &outputs))
            }
            ((inputs, None), (outputs, Some(rest))) => {
                vec![term(&inputs, &outputs), term(&inputs, &rest).times(Complex64::I)]
            }
            ((inputs, None), (outputs, None)) => vec![term(&inputs, &outputs)],
        };
        Ok(Self { geometry, product: Product::new(geometry.product, terms)? })
    }

    /// The numbers of the product.
    #[must_use]
    pub fn geometry(&self) -> &FoldedGeometry {
        &self.geometry
    }

    /// The complex product, up to the real part that one by rows ends with.
    #[must_use]
    pub fn product(&self) -> &Product {
        &self.product
    }

    /// Slot values of an input vector: what a client encrypts.
    ///
    /// # Errors
    /// [`Error::Shape`] for the wrong number of features.
    pub fn input_slots(&self, features: &[f64]) -> Result<Vec<Complex64>> {
        let (layout, (real, imaginary)) = (self.geometry.product.input(), self.geometry.input_orders());
        if features.len() != self.geometry.inputs {
            return Err(Error::Shape {
                operation: "folded product",
                what: format!("{} features, the product takes {}", features.len(), self.geometry.inputs),
                remedy: "give the whole vector".to_owned(),
            });
        }
        let mut slots = real.pack(&layout, features)?;
        if let Some(imaginary) = imaginary {
            for (slot, value) in slots.iter_mut().zip(imaginary.pack(&layout, features)?) {
                *slot += Complex64::I * value;
            }
        }
        Ok(slots)
    }

    /// Input of a product by rows out of its halves, in one layout and at one level. Free.
    ///
    /// # Errors
    /// [`Error::Shape`] for another layout, and of a product that takes a real input; errors of [`join`].
    pub fn join_rows<E: Evaluator>(
        &self,
        evaluator: &E,
        low: &Packed<E::Ciphertext>,
        high: &Packed<E::Ciphertext>,
    ) -> Result<Packed<E::Ciphertext>> {
        if self.geometry.folding != Folding::Rows {
            return Err(Error::Shape {
                operation: "folded product",
                what: format!(
                    "two halves of {} inputs for a product folded as {:?}",
                    self.geometry.inputs, self.geometry.folding
                ),
                remedy: "join the halves only for a product folded by rows".to_owned(),
            });
        }
        low.require(&self.geometry.product.input(), "folded product")?;
        join(evaluator, low, high)
    }

    /// Output features of decrypted slots in the output layout.
    ///
    /// # Errors
    /// [`Error::Shape`] when the order does not fit; never for the layout of this product's own output.
    pub fn output_features(&self, layout: &VectorLayout, slots: &[Complex64]) -> Result<Vec<f64>> {
        let ((real, imaginary), count) = (self.geometry.output_orders(), self.geometry.outputs);
        let mut features: Vec<f64> =
            real.unpack(layout, slots, count)?.into_iter().map(|value| value.re).collect();
        if let Some(imaginary) = imaginary {
            for (feature, value) in features.iter_mut().zip(imaginary.unpack(layout, slots, count)?) {
                *feature += value.im;
            }
        }
        Ok(features)
    }

    /// x·W with plaintexts encoded on the way: one level, canonical scale stays canonical; junk between the values. By
    /// columns the output is complex; by rows it is real, after one conjugation.
    ///
    /// # Errors
    /// [`Error::Shape`] for another layout or one with junk, [`Error::EvaluationKey`] without a conjugation key; errors
    /// of [`Product::apply`].
    pub fn apply<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &Packed<E::Ciphertext>,
    ) -> Result<Packed<E::Ciphertext>> {
        self.apply_prepared(evaluator, &self.product.prepare(evaluator, x)?, None, 0)
    }

    /// x·W of a prepared input, with plaintexts encoded before or on the way, landing at offset `landing` of each
    /// value's gap. One level, canonical scale stays canonical; junk between the values. By columns the output is
    /// complex; by rows it is real, after one conjugation.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input prepared for another geometry or an offset outside the gap,
    /// [`Error::EvaluationKey`] without a conjugation key; errors of [`Product::apply_prepared`].
    pub fn apply_prepared<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &Prepared<E::Ciphertext>,
        encoded: Option<&EncodedProduct<E::Plaintext>>,
        landing: usize,
    ) -> Result<Packed<E::Ciphertext>> {
        let y = self.product.apply_prepared(evaluator, x, encoded, landing)?;
        match self.geometry.folding {
            Folding::Rows => twice_real_part(evaluator, &y),
            Folding::Whole | Folding::Columns => Ok(y),
        }
    }

    /// Encodes all plaintexts for inputs at `level`.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for a level outside the chain; errors of [`Product::encode`].
    pub fn encode<E: Evaluator>(&self, evaluator: &E, level: Level) -> Result<EncodedProduct<E::Plaintext>> {
        self.product.encode(evaluator, level)
    }
}
