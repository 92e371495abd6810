//! Counts of matrix products.

use crate::contract::{Error, Result};
use crate::packing::{OutputForm, ProductGeometry, VectorLayout, diagonal_product};
use crate::placement::Work;

/// Work of a product `inputs → outputs` on one vector, with the preprocessing that products of one input share apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProductWork {
    /// Replication of the input.
    pub preprocessing: Work,
    /// The rest.
    pub product: Work,
}

impl ProductWork {
    /// Both.
    #[must_use]
    pub fn total(&self) -> Work {
        self.preprocessing + self.product
    }
}

/// Plain product in interleaved replicated packing.
pub fn replicated(slots: usize, inputs: usize, outputs: usize) -> Result<ProductWork> {
    geometry(slots, inputs, outputs).map(|geometry| work(&geometry))
}

/// Generalised diagonals on one vector, as [`diagonal_product`] packs them.
pub fn diagonal(slots: usize, inputs: usize, outputs: usize) -> Result<ProductWork> {
    diagonal_product(slots, inputs, outputs).map(|geometry| work(&geometry))
}

fn work(geometry: &ProductGeometry) -> ProductWork {
    let counts = geometry.counts();
    let giants = geometry.split().giants as f64;
    let rest = (counts.rotations - counts.preprocessing_rotations) as f64;
    ProductWork {
        preprocessing: Work::rotations(counts.preprocessing_rotations as f64),
        product: Work::plaintext_products(counts.plaintext_products as f64, giants)
            + Work { rotations_hoisted: counts.rotations_hoisted as f64, ..Work::default() }
            + Work::rotations(rest),
    }
}

/// The geometry with fewest plaintexts over every ring of a power of two of blocks, padding included.
fn geometry(slots: usize, inputs: usize, outputs: usize) -> Result<ProductGeometry> {
    let mut best: Option<ProductGeometry> = None;
    let mut ring = 1usize;
    while ring <= slots && ring <= inputs.min(outputs).next_power_of_two() {
        let (values_in, values_out) = (inputs.div_ceil(ring), outputs.div_ceil(ring));
        let compact = VectorLayout::compact(slots, ring, values_in)
            .and_then(|layout| ProductGeometry::new(layout, values_out, OutputForm::Spread));
        let spread = VectorLayout::spread(slots, ring, values_in)
            .and_then(|layout| ProductGeometry::new(layout, values_out, OutputForm::Compact));
        for candidate in [compact, spread].into_iter().flatten() {
            let key = |geometry: &ProductGeometry| (geometry.plaintexts(), geometry.counts().rotations);
            if best.is_none_or(|known| key(&candidate) < key(&known)) {
                best = Some(candidate);
            }
        }
        ring *= 2;
    }
    best.ok_or_else(|| Error::Shape {
        operation: "matrix product",
        what: format!("no layout of {inputs} to {outputs} values in {slots} slots"),
        remedy: "use a larger ring".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintexts_of_products_are_those_of_the_specification() {
        for (inputs, outputs, plaintexts) in [
            (4096, 4096, 512),
            (4096, 16384, 2048),
            (16384, 4096, 2048),
            (2048, 2048, 128),
            (576, 576, 11),
            (576, 1536, 32),
        ] {
            let work = replicated(32768, inputs, outputs).unwrap().total();
            assert_eq!(work.plaintext_products, f64::from(plaintexts), "{inputs} to {outputs}");
        }
        let square = replicated(32768, 4096, 4096).unwrap().total();
        assert!(square.rotations + square.rotations_hoisted <= 52.0, "{square:?}");
        assert_eq!(diagonal(32768, 4096, 16384).unwrap().total().plaintext_products, 4096.0);
    }
}
