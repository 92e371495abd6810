//! What a bootstrap is asked to refresh, and what it offers.
//!
//! Two kinds. *All slots*: a period of the slots, up to all of them. *Few values*: a list of slots that hold values,
//! all other slots zero; a decode step refreshes some 600 numbers, and a bootstrap of these takes fewer levels and less
//! time. After the second kind the other slots hold **junk**, which the next step must multiply by zero.

use super::{Complex64, Error, Level, OccupiedSlots, Result};

/// Few values to refresh: where they stand, and whether they are real. Keys are planned for one of these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct FewValues {
    /// Slots that hold values; all others are zero, up to noise.
    pub slots: OccupiedSlots,
    /// Whether all values are real, noise aside.
    pub real: bool,
}

/// What a bootstrap refreshes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Refreshed {
    /// Every slot.
    All {
        /// Period of the data: S for a full ciphertext, a smaller power of two n when slot s equals slot s mod n.
        period: usize,
        /// Whether all slots are real, noise aside: a backend may then drop the imaginary parts, and do with less work.
        real: bool,
    },
    /// Few values in slots that are otherwise zero; these others hold junk afterwards.
    Few(FewValues),
}

impl Refreshed {
    /// Whether what is refreshed is real.
    #[must_use]
    pub fn is_real(&self) -> bool {
        match self {
            Self::All { real, .. } => *real,
            Self::Few(few) => few.real,
        }
    }
}

/// How a ciphertext is to be bootstrapped: made by [`BootstrapRequest::all`] or [`BootstrapRequest::few`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BootstrapRequest {
    /// Level wanted afterwards; at most the output level of its kind.
    pub level: Level,
    /// 1, or 2 for the precise mode that bootstraps the rounding error again and takes one level.
    pub iterations: usize,
    /// What is refreshed.
    pub refreshed: Refreshed,
}

impl BootstrapRequest {
    /// Refreshes every slot, complex values of period `period`, to `level` in one iteration.
    #[must_use]
    pub fn all(level: Level, period: usize) -> Self {
        Self { level, iterations: 1, refreshed: Refreshed::All { period, real: false } }
    }

    /// Refreshes the complex values in `slots` to `level` in one iteration.
    #[must_use]
    pub fn few(level: Level, slots: OccupiedSlots) -> Self {
        Self { level, iterations: 1, refreshed: Refreshed::Few(FewValues { slots, real: false }) }
    }

    /// This request, for values that are real or not.
    #[must_use]
    pub fn real(mut self, real: bool) -> Self {
        match &mut self.refreshed {
            Refreshed::All { real: place, .. } => *place = real,
            Refreshed::Few(few) => few.real = real,
        }
        self
    }

    /// This request in 1 or 2 iterations.
    #[must_use]
    pub fn iterations(mut self, iterations: usize) -> Self {
        self.iterations = iterations;
        self
    }

    /// This request for another level.
    #[must_use]
    pub fn to(mut self, level: Level) -> Self {
        self.level = level;
        self
    }
}

/// What bootstrapping offers under the parameters of an evaluator: all slots, and few values where there is such a
/// kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BootstrapSummary {
    /// Highest level of a ciphertext all of whose slots were bootstrapped.
    pub output_level: Level,
    /// Lowest level of an input all of whose slots are bootstrapped.
    pub minimum_input_level: Level,
    /// Largest magnitude of a real or imaginary part that survives, of either kind.
    pub bound: f64,
    /// Bootstraps of few values; `None` where the parameters do not serve them.
    pub few: Option<FewSummary>,
}

/// What bootstraps of few values offer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FewSummary {
    /// Highest level of the result.
    pub output_level: Level,
    /// Lowest level of the input.
    pub minimum_input_level: Level,
    /// Largest magnitude of a real or imaginary part of a slot that holds no value, in the result.
    pub junk: f64,
}

/// How far beyond its bound a value must lie to be reported after decryption: more than any bootstrap errs by.
const BOUND_TOLERANCE: f64 = 1.0 / 1024.0;

impl BootstrapSummary {
    /// Lowest input level and highest output level of the kind that `request` asks for, its iterations allowed for: the
    /// correction of a second one takes a level.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for few values where there are none, and for other iterations than 1 and 2; `backend` is
    /// the name of the one that was asked.
    pub fn levels(&self, request: &BootstrapRequest, backend: &'static str) -> Result<(Level, Level)> {
        let (lowest, highest) = match (&request.refreshed, &self.few) {
            (Refreshed::All { .. }, _) => (self.minimum_input_level, self.output_level),
            (Refreshed::Few(_), Some(few)) => (few.minimum_input_level, few.output_level),
            (Refreshed::Few(few), None) => {
                return Err(Error::Unsupported {
                    backend,
                    operation: format!("bootstrap few values ({:?}) under these parameters", few.slots),
                    remedy: "use parameters that serve few values, or refresh all slots".to_owned(),
                });
            }
        };
        match request.iterations {
            1 => Ok((lowest, highest)),
            2 => Ok((lowest, Level(highest.0.saturating_sub(1)))),
            iterations => Err(Error::Unsupported {
                backend,
                operation: format!("bootstrap in {iterations} iterations"),
                remedy: "use 1 or 2".to_owned(),
            }),
        }
    }

    /// That `values`, decrypted as they enter or leave a bootstrap, lie within its bound, give or take 1/1024 of it.
    ///
    /// No false alarms: a bootstrap of values within the bound errs by far less than the tolerance. What a result shows
    /// of values beyond it, on the native backend: its modular reduction returns v with an error that grows, never more
    /// than 0.22·M for the message ratio M (M = 128 and the bound is 1.125), and repeats with period M, in every slot
    /// by itself. So every |v| from the bound to M/2 − bound shows; a larger one shows unless it lies within the bound
    /// of a multiple of M, or within 0.6 times the bound of an odd multiple of M/2. Values computed from a refreshed
    /// one may rightly exceed the bound: they are not to be checked. Nor is the junk that a bootstrap of few values
    /// leaves.
    ///
    /// # Errors
    /// [`Error::OutOfInterval`] with the largest magnitude of a real or imaginary part, infinite for NaN.
    pub fn check(&self, values: &[Complex64]) -> Result<()> {
        let parts = values.iter().flat_map(|z| [z.re.abs(), z.im.abs()]);
        // A NaN must not vanish in a maximum.
        let magnitude =
            parts.map(|part| if part.is_nan() { f64::INFINITY } else { part }).fold(0.0, f64::max);
        if magnitude <= self.bound * (1.0 + BOUND_TOLERANCE) {
            return Ok(());
        }
        Err(Error::OutOfInterval { site: "bootstrap".to_owned(), magnitude, bound: self.bound })
    }

    /// The values that `slots` hold among all slots, checked as by [`Self::check`]: what is left of the result of a
    /// bootstrap of few values without its junk, in the order of the slots.
    ///
    /// # Errors
    /// [`Error::OutOfInterval`]; [`Error::Shape`] for a slot that does not exist.
    pub fn few_values(&self, all: &[Complex64], slots: &OccupiedSlots) -> Result<Vec<Complex64>> {
        slots.check(all.len())?;
        let values: Vec<Complex64> =
            slots.slots().iter().filter_map(|slot| all.get(*slot).copied()).collect();
        self.check(&values)?;
        Ok(values)
    }
}
