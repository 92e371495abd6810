//! Geometries of one matrix product by method, to choose from and to compare.

use crate::contract::{Error, Result};

use super::{AttentionShape, FoldedGeometry, Folding, OutputForm, ProductGeometry, VectorLayout};

/// The paper's product: both dimensions padded to powers of two, the smaller one is the ring.
///
/// # Errors
/// [`Error::Shape`] when the larger padded dimension exceeds the slots.
pub fn padded_product(slots: usize, inputs: usize, outputs: usize) -> Result<ProductGeometry> {
    let (inputs, outputs) = (inputs.max(1).next_power_of_two(), outputs.max(1).next_power_of_two());
    if inputs <= outputs {
        let input = VectorLayout::interleaved(slots, inputs)?;
        ProductGeometry::new(input, outputs / inputs, OutputForm::Spread)
    } else {
        let input = VectorLayout::spread(slots, outputs, inputs / outputs)?;
        ProductGeometry::new(input, 1, OutputForm::Compact)
    }
}

/// The mixed-radix product with the fewest plaintexts, then the fewest rotations, over all rings.
///
/// # Errors
/// [`Error::Shape`] when no ring packs the dimensions.
pub fn mixed_radix_product(slots: usize, inputs: usize, outputs: usize) -> Result<ProductGeometry> {
    let largest = inputs.min(outputs).max(1).next_power_of_two().min(slots).ilog2();
    (0..=largest)
        .filter_map(|log_ring| {
            let ring = 1usize << log_ring;
            let (m_in, m_out) = (inputs.div_ceil(ring), outputs.div_ceil(ring));
            let (input, form) = if inputs <= outputs {
                (VectorLayout::compact(slots, ring, m_in), OutputForm::Spread)
            } else {
                (VectorLayout::spread(slots, ring, m_in), OutputForm::Compact)
            };
            ProductGeometry::new(input.ok()?, m_out, form).ok()
        })
        .min_by_key(|geometry| {
            let counts = geometry.counts();
            (counts.plaintext_products, counts.rotations + counts.rotations_hoisted)
        })
        .ok_or_else(|| Error::Shape {
            operation: "matrix product",
            what: format!("{inputs} to {outputs} features in {slots} slots"),
            remedy: "use parameters with more slots".to_owned(),
        })
}

/// The mixed-radix product of a matrix folded by `folding`: about half the plaintexts, and a conjugation by rows.
///
/// # Errors
/// [`Error::Shape`] for no features, or when no ring packs the dimensions ([`mixed_radix_product`]).
pub fn folded_product(
    slots: usize,
    inputs: usize,
    outputs: usize,
    folding: Folding,
) -> Result<FoldedGeometry> {
    let (places_in, places_out) = folding.places(inputs, outputs);
    FoldedGeometry::new(mixed_radix_product(slots, places_in, places_out)?, folding, inputs, outputs)
}

/// The product with the fewest plaintexts, then the fewest key switches, among the `foldings` that the vectors around
/// it allow: columns where a complex output is of use, rows where the input is complex.
///
/// # Errors
/// [`Error::Shape`] without foldings, or when none of them packs.
pub fn cheapest_product(
    slots: usize,
    inputs: usize,
    outputs: usize,
    foldings: &[Folding],
) -> Result<FoldedGeometry> {
    let mut last = None;
    let mut best: Option<((usize, usize), FoldedGeometry)> = None;
    for folding in foldings {
        match folded_product(slots, inputs, outputs, *folding) {
            Ok(geometry) => {
                let counts = geometry.counts();
                let switches = counts.rotations + counts.rotations_hoisted + counts.conjugations;
                let cost = (counts.plaintext_products, switches);
                if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                    best = Some((cost, geometry));
                }
            }
            Err(error) => last = Some(error),
        }
    }
    best.map(|(_, geometry)| geometry).ok_or_else(|| {
        last.unwrap_or_else(|| Error::Shape {
            operation: "matrix product",
            what: format!("{inputs} to {outputs} features in 0 ways"),
            remedy: "allow at least one folding".to_owned(),
        })
    })
}

/// Plain diagonals with baby and giant steps: one plaintext per block diagonal of the padded product, no replication.
///
/// # Errors
/// [`Error::Shape`] when the larger padded dimension exceeds the slots ([`padded_product`]).
pub fn diagonal_product(slots: usize, inputs: usize, outputs: usize) -> Result<ProductGeometry> {
    Ok(padded_product(slots, inputs, outputs)?.without_replication())
}

/// Dimensions of a decoder block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BlockShape {
    /// Features of the residual stream.
    pub hidden: usize,
    /// Features inside the feed-forward layer.
    pub intermediate: usize,
    /// Heads.
    pub attention: AttentionShape,
}

/// Names [`named_shape`] knows.
pub const SHAPE_NAMES: [&str; 4] = ["gpt2", "smollm2-135m", "tinyllama", "llama-3-8b"];

/// Dimensions of a decoder block by the name of its model.
#[must_use]
pub fn named_shape(name: &str) -> Option<BlockShape> {
    let (hidden, intermediate, heads, kv_heads, head_dim) = match name {
        "gpt2" => (768, 3072, 12, 12, 64),
        "smollm2-135m" => (576, 1536, 9, 3, 64),
        "tinyllama" => (2048, 5632, 32, 4, 64),
        "llama-3-8b" => (4096, 14336, 32, 8, 128),
        _ => return None,
    };
    Some(BlockShape { hidden, intermediate, attention: AttentionShape { heads, kv_heads, head_dim } })
}
