//! The numbers of one matrix product in interleaved replicated packing (Cachemir, arXiv 2602.11470; the mixed-radix
//! form for dimensions m·2^k goes beyond it).
//!
//! Both sides share a ring of R blocks of T slots, with m_in and m_out values per block. A block has room for
//! n_b = ⌊T/(m_in·m_out)⌋ shifted copies of its input, so one plaintext covers n_b of the R block diagonals and
//! K = ⌈R/n_b⌉ plaintexts make the product; the paper's d²/S is the case of powers of two with m = 1 on the smaller
//! side.

use crate::contract::{Error, Result};

use super::sums::{signed, sum_rotations, sum_steps};
use super::{Split, VectorLayout};

/// How the values of the output lie in their block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub enum OutputForm {
    /// The values of a block side by side.
    Compact,
    /// The values of a block spread evenly over it, as far apart as they go.
    Spread,
}

/// Which side is compact. With one value per block a side is both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    /// Compact input, spread output (the paper's square and wide products).
    Spreading,
    /// Spread input, compact output (the paper's tall products).
    Gathering,
}

/// Operations of one product, predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ProductCounts {
    /// Plaintext products K.
    pub plaintext_products: usize,
    /// Rotations that decompose their own input: preprocessing, giants, reduction.
    pub rotations: usize,
    /// Hoisted rotations: babies.
    pub rotations_hoisted: usize,
    /// Of `rotations`, those of the preprocessing, which products of one input share.
    pub preprocessing_rotations: usize,
    /// Conjugations that take folded results apart.
    pub conjugations: usize,
}

/// Geometry of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductGeometry {
    pub(super) input: VectorLayout,
    pub(super) output: VectorLayout,
    pub(super) direction: Direction,
    /// Shifted copies per block n_b.
    pub(super) copies: usize,
    pub(super) plaintexts: usize,
    pub(super) split: Split,
}

impl ProductGeometry {
    /// Geometry from a clean `input` layout to `output_values` values per block of the same ring.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input with junk or an offset, and when m_in·m_out exceeds the block.
    pub fn new(input: VectorLayout, output_values: usize, form: OutputForm) -> Result<Self> {
        let (slots, ring) = (input.slots(), input.ring());
        let output = match form {
            OutputForm::Compact => VectorLayout::compact(slots, ring, output_values)?,
            OutputForm::Spread => VectorLayout::spread(slots, ring, output_values)?,
        };
        Self::between(input, output)
    }

    /// Geometry from a clean `input` layout to a given `output` layout of the same ring, one of them compact.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input with junk, offsets, different rings, and when m_in·m_out exceeds the block.
    pub fn between(input: VectorLayout, output: VectorLayout) -> Result<Self> {
        input.require_clean("matrix product")?;
        if input.offset() != 0 || output.offset() != 0 {
            return Err(Error::Shape {
                operation: "matrix product",
                what: format!("layouts at offsets {} and {}", input.offset(), output.offset()),
                remedy: "build products between layouts at offset 0".to_owned(),
            });
        }
        if (input.slots(), input.ring()) != (output.slots(), output.ring()) {
            return Err(Error::Shape {
                operation: "matrix product",
                what: format!(
                    "rings of {} of {} and {} of {} slots",
                    input.ring(),
                    input.slots(),
                    output.ring(),
                    output.slots()
                ),
                remedy: "use one ring on both sides (VectorLayout::coarse)".to_owned(),
            });
        }
        let spreading = input.is_compact().then(|| Self::directed(input, output, Direction::Spreading));
        let gathering = output.is_compact().then(|| Self::directed(input, output, Direction::Gathering));
        [spreading, gathering]
            .into_iter()
            .flatten()
            .flatten()
            .min_by_key(|geometry| (geometry.plaintexts, geometry.counts().rotations))
            .ok_or_else(|| Error::Shape {
                operation: "matrix product",
                what: format!(
                    "{} values per block (gap {}) to {} (gap {}) in blocks of {} slots",
                    input.values(),
                    input.gap(),
                    output.values(),
                    output.gap(),
                    input.block()
                ),
                remedy: "m_in·m_out must not exceed the block, and one side must be compact: pad the smaller dimension \
                         to a power of two, split the outputs over several products, or use more slots"
                    .to_owned(),
            })
    }

    /// This geometry with `babies` baby steps.
    #[must_use]
    pub fn with_babies(self, babies: usize) -> Self {
        Self { split: Split::with_babies(self.plaintexts, babies), ..self }
    }

    /// This product without replication, one plaintext per block diagonal: what plain diagonals cost.
    #[must_use]
    pub fn without_replication(self) -> Self {
        let plaintexts = self.input.ring();
        Self { copies: 1, plaintexts, split: Split::cheapest(plaintexts), ..self }
    }

    fn directed(input: VectorLayout, output: VectorLayout, direction: Direction) -> Option<Self> {
        let ring = input.ring();
        let room = match direction {
            Direction::Spreading => output.gap() / input.values(),
            Direction::Gathering => input.gap() / output.values(),
        };
        let most = room.min(ring);
        if most == 0 {
            return None;
        }
        let plaintexts = ring.div_ceil(most);
        // Fewer copies may give as many plaintexts with fewer rotations: 16 instead of 18, say.
        let fewest = ring.div_ceil(plaintexts);
        (fewest..=most)
            .map(|copies| Self {
                input,
                output: output.junk(),
                direction,
                copies,
                plaintexts,
                split: Split::cheapest(plaintexts),
            })
            .min_by_key(|geometry| (geometry.counts().rotations, std::cmp::Reverse(geometry.copies)))
    }

    /// Layout of the input: clean.
    #[must_use]
    pub fn input(&self) -> VectorLayout {
        self.input
    }

    /// Layout of the output at offset 0: with junk.
    #[must_use]
    pub fn output(&self) -> VectorLayout {
        self.output
    }

    /// Plaintexts K.
    #[must_use]
    pub fn plaintexts(&self) -> usize {
        self.plaintexts
    }

    /// Baby and giant steps.
    #[must_use]
    pub fn split(&self) -> Split {
        self.split
    }

    /// The sums of rotations (count, step) that replicate the input.
    pub(super) fn preprocessing(&self) -> [(usize, i64); 2] {
        let block = signed(self.input.block());
        match self.direction {
            Direction::Spreading => [
                (self.copies, block - signed(self.input.values())),
                (self.output.values(), -signed(self.output.gap())),
            ],
            Direction::Gathering => {
                [(self.copies, block - signed(self.output.values())), (self.output.values(), -1)]
            }
        }
    }

    /// The sums of rotations (count, step) that reduce the product.
    pub(super) fn reduction(&self) -> [(usize, i64); 2] {
        match self.direction {
            Direction::Spreading => [(self.copies * self.input.values(), 1), (1, 0)],
            Direction::Gathering => {
                [(self.copies, signed(self.output.values())), (self.input.values(), signed(self.input.gap()))]
            }
        }
    }

    /// Slots of the window the first reduction sums over when any landing inside it is free; 1 when none is.
    #[must_use]
    pub fn free_landing(&self) -> usize {
        match self.reduction() {
            [(count, 1), _] if count.is_power_of_two() => count,
            _ => 1,
        }
    }

    /// Step of baby `baby`.
    pub(super) fn baby_step(&self, baby: usize) -> i64 {
        signed(baby * self.copies * self.input.block())
    }

    /// Step of giant `giant`.
    pub(super) fn giant_step(&self, giant: usize) -> i64 {
        self.baby_step(giant * self.split.babies)
    }

    /// Operations of one product at landing 0.
    #[must_use]
    pub fn counts(&self) -> ProductCounts {
        let rotations = |sums: [(usize, i64); 2]| sums.iter().map(|(count, _)| sum_rotations(*count)).sum();
        let preprocessing_rotations: usize = rotations(self.preprocessing());
        let reduction: usize = rotations(self.reduction());
        ProductCounts {
            plaintext_products: self.plaintexts,
            rotations: preprocessing_rotations + self.split.giants - 1 + reduction,
            rotations_hoisted: self.split.babies - 1,
            preprocessing_rotations,
            conjugations: 0,
        }
    }

    /// All rotation steps of the product at landing 0.
    #[must_use]
    pub fn rotation_steps(&self) -> Vec<i64> {
        let ladders = self.preprocessing().into_iter().chain(self.reduction());
        let mut steps: Vec<i64> = ladders.flat_map(|(count, step)| sum_steps(count, step)).collect();
        steps.extend((1..self.split.babies).map(|baby| self.baby_step(baby)));
        steps.extend((1..self.split.giants).map(|giant| self.giant_step(giant)));
        steps
    }
}
