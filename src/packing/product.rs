//! Matrix products in interleaved replicated packing.
//!
//! y = x·W with K plaintexts (see [`super::geometry`]): the input is replicated by a few rotations, multiplied by the K
//! plaintexts as one linear transform (babies hoisted, giants fused), rescaled, and reduced by a few rotations.
//! One level. The output has junk between its values; where the reduction allows, it lands at any offset for free.

use crate::contract::{
    CiphertextInfo, Complex64, Diagonal, Error, Evaluator, GiantStep, Level, LinearTransform, Result,
};

use super::geometry::Direction;
use super::sums::{shift_right, sum_landing, sum_strided};
use super::{Packed, ProductGeometry, Term, VectorLayout};

/// A matrix ready to multiply packed vectors. Weights stay as they were given and are encoded when used, unless
/// [`Product::encode`] keeps the plaintexts of one level.
#[derive(Clone)]
pub struct Product {
    geometry: ProductGeometry,
    terms: Vec<Term>,
}

/// An input replicated for products of one geometry: what q, k, v share, and up and gate.
#[derive(Clone, Debug)]
pub struct Prepared<C> {
    ciphertext: C,
    input: VectorLayout,
    sums: [(usize, i64); 2],
}

/// The plaintexts of a product, encoded at one level.
pub struct EncodedProduct<P> {
    level: Level,
    plaintexts: Vec<P>,
}

impl<P> EncodedProduct<P> {
    /// Level of use.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }
}

impl Product {
    /// Product of `geometry` with the sum of `terms` as its matrix.
    ///
    /// # Errors
    /// [`Error::Shape`] when an order does not number the places of its layout, names features its weights do not have,
    /// or there is no term.
    pub fn new(geometry: ProductGeometry, terms: Vec<Term>) -> Result<Self> {
        let bad = |what: String| Error::Shape {
            operation: "matrix product",
            what,
            remedy: "give weights of the shape the orders name".to_owned(),
        };
        if terms.is_empty() {
            return Err(bad("no weights".to_owned()));
        }
        for term in &terms {
            term.inputs.check(&geometry.input())?;
            term.outputs.check(&geometry.output())?;
            let (inputs, outputs) = (term.inputs.extent(), term.outputs.extent());
            if inputs > term.weights.inputs() || outputs > term.weights.outputs() {
                return Err(bad(format!(
                    "orders of {inputs} inputs and {outputs} outputs for weights of {} and {}",
                    term.weights.inputs(),
                    term.weights.outputs()
                )));
            }
        }
        Ok(Self { geometry, terms })
    }

    /// The numbers of the product.
    #[must_use]
    pub fn geometry(&self) -> &ProductGeometry {
        &self.geometry
    }

    /// Slot values of plaintext number `number` (baby + giant · babies), right of their giant rotation.
    ///
    /// Value at sub-slot (u, b, q) of block r: W[(q, r + b + baby·n_b), (u, r − giant·babies·n_b)], indices of blocks
    /// modulo R, zero where the diagonal b + number·n_b passes R.
    #[must_use]
    pub fn diagonal(&self, number: usize) -> Vec<Complex64> {
        let geometry = &self.geometry;
        let (input, output, copies) = (geometry.input, geometry.output, geometry.copies);
        let (ring, block) = (input.ring(), input.block());
        let babies = geometry.split.babies;
        let (baby, shift) = (number % babies, (number / babies) * babies * copies);
        let mut slots = vec![Complex64::ZERO; input.slots()];
        for (r, slots) in slots.chunks_exact_mut(block).enumerate() {
            // The giant rotation comes after the product: the column is shifted against it.
            let column = (r + ring - shift % ring) % ring;
            for b in (0..copies).take_while(|b| b + number * copies < ring) {
                // Copy b of the replicated input is b blocks ahead; a baby step moves by all copies at once.
                let row = (r + b + baby * copies) % ring;
                for q in 0..input.values() {
                    for u in 0..output.values() {
                        let slot = match geometry.direction {
                            Direction::Spreading => u * output.gap() + b * input.values() + q,
                            Direction::Gathering => q * input.gap() + b * output.values() + u,
                        };
                        if let Some(entry) = slots.get_mut(slot) {
                            *entry = self
                                .terms
                                .iter()
                                .map(|term| term.entry(q * ring + row, u * ring + column))
                                .sum();
                        }
                    }
                }
            }
        }
        slots
    }

    /// Encodes all plaintexts for inputs at `level`, to trade memory (K plaintexts) for time.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for a level outside the chain, [`Error::BadValue`] for a weight that is not finite
    /// ([`Evaluator::encode`]).
    pub fn encode<E: Evaluator>(&self, evaluator: &E, level: Level) -> Result<EncodedProduct<E::Plaintext>> {
        let scale = evaluator.chain().canonical_scale(level)?;
        let plaintexts = (0..self.geometry.plaintexts)
            .map(|number| evaluator.encode(&self.diagonal(number), level, scale))
            .collect::<Result<_>>()?;
        Ok(EncodedProduct { level, plaintexts })
    }

    /// Replicates `x` (clean, at the input layout) for this product and all others of its geometry. Rotations only:
    /// level and scale stay.
    ///
    /// # Errors
    /// [`Error::Shape`] for another layout or one with junk; errors of [`Evaluator::rotate`].
    pub fn prepare<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &Packed<E::Ciphertext>,
    ) -> Result<Prepared<E::Ciphertext>> {
        x.require(&self.geometry.input, "matrix product")?;
        let sums = self.geometry.preprocessing();
        let mut ciphertext = x.ciphertext.clone();
        for (count, step) in sums {
            ciphertext = sum_strided(evaluator, &ciphertext, count, step)?;
        }
        Ok(Prepared { ciphertext, input: self.geometry.input, sums })
    }

    /// x·W with plaintexts encoded on the way: one level, canonical scale stays canonical; junk between the values.
    ///
    /// # Errors
    /// [`Error::Shape`] for another layout or one with junk; errors of [`Product::prepare`] and
    /// [`Product::apply_prepared`].
    pub fn apply<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &Packed<E::Ciphertext>,
    ) -> Result<Packed<E::Ciphertext>> {
        self.apply_prepared(evaluator, &self.prepare(evaluator, x)?, None, 0)
    }

    /// x·W of a prepared input, landing at offset `landing` of each value's gap. With `encoded` plaintexts the input is
    /// first lowered to their level.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input prepared for another geometry or an offset outside the gap; those of the
    /// evaluator.
    pub fn apply_prepared<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &Prepared<E::Ciphertext>,
        encoded: Option<&EncodedProduct<E::Plaintext>>,
        landing: usize,
    ) -> Result<Packed<E::Ciphertext>> {
        self.reduce(evaluator, &self.inner(evaluator, x, encoded)?, landing)
    }

    /// x·W for several products of one prepared input, each landing at its own offset: what [`Product::apply_prepared`]
    /// gives for each, with the hoisted baby rotations shared (spec section 1: q, k, v; up, gate).
    ///
    /// # Errors
    /// [`Error::Shape`] for an input prepared for another geometry; errors of [`Product::apply_prepared`].
    pub fn apply_shared<E: Evaluator>(
        evaluator: &E,
        x: &Prepared<E::Ciphertext>,
        products: &[(&Product, usize)],
    ) -> Result<Vec<Packed<E::Ciphertext>>> {
        let mut transforms = Vec::with_capacity(products.len());
        for (product, _) in products {
            product.require_prepared(x)?;
            transforms.push(product.transform(None));
        }
        let scale = evaluator.chain().canonical_scale(x.ciphertext.level())?;
        // Baby rotations are made once for all products; then each is rescaled and reduced alone.
        let sums = evaluator.linear_transforms(&x.ciphertext, &transforms, scale)?;
        products
            .iter()
            .zip(&sums)
            .map(|((product, landing), sum)| product.reduce(evaluator, &evaluator.rescale(sum)?, *landing))
            .collect()
    }

    /// That `x` was prepared for this geometry.
    fn require_prepared<C>(&self, x: &Prepared<C>) -> Result<()> {
        let wanted = self.geometry.preprocessing();
        if x.input == self.geometry.input && x.sums == wanted {
            return Ok(());
        }
        Err(Error::Shape {
            operation: "matrix product",
            what: format!("an input replicated by {:?}, wanted {wanted:?}", x.sums),
            remedy: "share a prepared input only between products of equal shape".to_owned(),
        })
    }

    /// The rescaled sum of plaintext products before its reduction. Several of one geometry may be added and reduced at
    /// once.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input prepared for another geometry; errors of [`Evaluator::linear_transform`].
    pub fn inner<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &Prepared<E::Ciphertext>,
        encoded: Option<&EncodedProduct<E::Plaintext>>,
    ) -> Result<E::Ciphertext> {
        self.require_prepared(x)?;
        let input = match encoded {
            Some(encoded) => evaluator.lower(&x.ciphertext, encoded.level)?,
            None => x.ciphertext.clone(),
        };
        let scale = evaluator.chain().canonical_scale(input.level())?;
        // Weights at the canonical scale of the input: after the rescale the product is canonical, one level below.
        let transform = self.transform(encoded);
        evaluator.rescale(&evaluator.linear_transform(&input, &transform, scale)?)
    }

    /// Reduces the sum of plaintext products to the values of the output, at offset `landing`. Rotations only.
    ///
    /// # Errors
    /// [`Error::Shape`] for an offset outside the gap; errors of [`Evaluator::rotate`].
    pub fn reduce<E: Evaluator>(
        &self,
        evaluator: &E,
        inner: &E::Ciphertext,
        landing: usize,
    ) -> Result<Packed<E::Ciphertext>> {
        let output = self.geometry.output.at_offset(landing)?;
        let [first, second] = self.geometry.reduction();
        let window = self.geometry.free_landing();
        // The sum can end at any offset inside the window for nothing; the rest of the way is one more rotation.
        let (free, rest) = (landing % window, landing - landing % window);
        let mut sum = if window > 1 {
            sum_landing(evaluator, inner, window, free)?
        } else {
            sum_strided(evaluator, inner, first.0, first.1)?
        };
        sum = sum_strided(evaluator, &sum, second.0, second.1)?;
        Ok(Packed::new(shift_right(evaluator, &sum, rest)?, output))
    }

    fn transform<'a, P>(&'a self, encoded: Option<&'a EncodedProduct<P>>) -> LinearTransform<'a, P> {
        let split = self.geometry.split;
        let giants = (0..split.giants).map(|giant| {
            let babies = (0..split.babies)
                .map(|baby| (baby, baby + giant * split.babies))
                .filter(|(_, number)| *number < self.geometry.plaintexts)
                .map(|(baby, number)| {
                    let diagonal = match encoded.and_then(|encoded| encoded.plaintexts.get(number)) {
                        Some(plaintext) => Diagonal::Encoded(plaintext),
                        None => Diagonal::Lazy(Box::new(move || self.diagonal(number))),
                    };
                    (self.geometry.baby_step(baby), diagonal)
                });
            GiantStep { step: self.geometry.giant_step(giant), babies: babies.collect() }
        });
        LinearTransform { giants: giants.collect() }
    }
}
