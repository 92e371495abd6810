//! How the plaintexts of a product divide into baby and giant steps.

/// Cost of a giant step measured in baby steps: a giant decomposes its own inner sum, a baby shares one decomposition.
const GIANT_IN_BABIES: usize = 2;

/// `babies`·`giants` ≥ number of plaintexts; plaintext (i, j) has number i + j·`babies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Split {
    /// Baby steps, 0 included.
    pub babies: usize,
    /// Giant steps, 0 included.
    pub giants: usize,
}

impl Split {
    /// The cheapest split of `plaintexts`; among equals the one with fewer keys, then with fewer babies (memory of the
    /// hoisted rotations).
    #[must_use]
    pub fn cheapest(plaintexts: usize) -> Self {
        let plaintexts = plaintexts.max(1);
        (1..=plaintexts)
            .map(|babies| Self::with_babies(plaintexts, babies))
            .min_by_key(|split| {
                let (babies, giants) = (split.babies - 1, split.giants - 1);
                (babies + GIANT_IN_BABIES * giants, babies + giants, babies)
            })
            .unwrap_or(Self { babies: 1, giants: plaintexts })
    }

    /// The split with a given number of babies.
    #[must_use]
    pub fn with_babies(plaintexts: usize, babies: usize) -> Self {
        let babies = babies.clamp(1, plaintexts.max(1));
        Self { babies, giants: plaintexts.max(1).div_ceil(babies) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_covers_its_plaintexts_and_the_large_square_product_needs_46_steps() {
        for plaintexts in 1..200 {
            let split = Split::cheapest(plaintexts);
            assert!(split.babies * split.giants >= plaintexts, "{plaintexts}: {split:?}");
            assert!(
                split.babies * (split.giants - 1) < plaintexts,
                "{plaintexts}: an empty giant in {split:?}"
            );
        }
        assert_eq!(Split::cheapest(512), Split { babies: 32, giants: 16 });
    }
}
