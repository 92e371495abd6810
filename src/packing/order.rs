//! Which feature stands at which index of a layout. Orders are folded in the weights offline and cost nothing.

use crate::contract::{Complex64, Error, Result};

use super::VectorLayout;

/// Feature of every index p = q·R + r of a layout; `None` where a place is padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    features: Vec<Option<usize>>,
}

impl Order {
    /// Order given by a function of (block, value).
    #[must_use]
    pub fn from_fn(layout: &VectorLayout, feature: impl Fn(usize, usize) -> Option<usize>) -> Self {
        let features = (0..layout.values())
            .flat_map(|q| (0..layout.ring()).map(move |r| (r, q)))
            .map(|(r, q)| feature(r, q));
        Self { features: features.collect() }
    }

    /// Index p holds feature p, for the first `features` of them.
    #[must_use]
    pub fn plain(layout: &VectorLayout, features: usize) -> Self {
        Self::range(layout, 0, features)
    }

    /// Index p holds feature `first` + p, below `end`: a chunk of a larger output, such as logits.
    #[must_use]
    pub fn range(layout: &VectorLayout, first: usize, end: usize) -> Self {
        Self { features: (0..layout.dimension()).map(|p| Some(first + p).filter(|f| *f < end)).collect() }
    }

    /// The order of [`VectorLayout::coarse`]: `fine` belongs to a layout with one value per block.
    #[must_use]
    pub fn coarse(fine: &Order, coarse_layout: &VectorLayout) -> Self {
        let values = coarse_layout.values();
        Self::from_fn(coarse_layout, |r, q| fine.feature(r * values + q))
    }

    /// Number of indices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Whether there are no indices at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// Feature at index p.
    #[must_use]
    pub fn feature(&self, index: usize) -> Option<usize> {
        self.features.get(index).copied().flatten()
    }

    /// One more than the largest feature, 0 without any.
    #[must_use]
    pub fn extent(&self) -> usize {
        self.features.iter().flatten().max().map_or(0, |largest| largest + 1)
    }

    /// Slot vector of a feature vector in `layout`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the order names features beyond `features`, or belongs to another layout.
    pub fn pack(&self, layout: &VectorLayout, features: &[f64]) -> Result<Vec<Complex64>> {
        self.check(layout)?;
        if self.extent() > features.len() {
            return Err(Error::Shape {
                operation: "pack",
                what: format!("{} features given, the order names {}", features.len(), self.extent()),
                remedy: "give the whole vector".to_owned(),
            });
        }
        let values: Vec<Complex64> = self
            .features
            .iter()
            .map(|feature| {
                let value = feature.and_then(|feature| features.get(feature)).copied().unwrap_or(0.0);
                Complex64::new(value, 0.0)
            })
            .collect();
        layout.scatter(&values)
    }

    /// The first `count` features of a slot vector in `layout`; features the order does not name are zero.
    ///
    /// # Errors
    /// [`Error::Shape`] when the order belongs to another layout.
    pub fn unpack(&self, layout: &VectorLayout, slots: &[Complex64], count: usize) -> Result<Vec<Complex64>> {
        self.check(layout)?;
        let mut features = vec![Complex64::ZERO; count];
        for (feature, value) in self.features.iter().zip(layout.gather(slots)) {
            if let Some(entry) = feature.and_then(|feature| features.get_mut(feature)) {
                *entry = value;
            }
        }
        Ok(features)
    }

    /// That this order numbers the places of `layout`.
    ///
    /// # Errors
    /// [`Error::Shape`] naming both sizes.
    pub fn check(&self, layout: &VectorLayout) -> Result<()> {
        if self.features.len() == layout.dimension() {
            return Ok(());
        }
        Err(Error::Shape {
            operation: "order",
            what: format!(
                "an order of {} indices for a layout of {}",
                self.features.len(),
                layout.dimension()
            ),
            remedy: "build the order from the layout it is used with".to_owned(),
        })
    }
}
