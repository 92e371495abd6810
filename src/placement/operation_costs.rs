//! Seconds of elementary operations at each level: measured where they were, interpolated between, scaled beyond.

use std::collections::BTreeMap;

use super::work::Work;
use crate::contract::{Error, Level, Result};

/// Where a figure comes from, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Timed as it is.
    Measured,
    /// Between measured levels, or beyond them in proportion to the limbs.
    Interpolated,
    /// Counted operations times their measured seconds.
    Composed,
    /// Set equal to another operation's figure for want of its own.
    Substituted,
    /// Not measured on this machine: a value from elsewhere, named in the file.
    Assumed,
}

/// An elementary operation of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Primitive {
    /// Product with an encoded plaintext.
    MultPlain,
    /// Product with one constant.
    MultConstant,
    /// Product of two ciphertexts with relinearization.
    Mult,
    /// Relinearization alone.
    Relinearize,
    /// Rescale.
    Rescale,
    /// Rotation that decomposes its own input.
    Rotate,
    /// Rotation that shares a decomposition.
    RotateHoisted,
    /// Conjugation.
    Conjugate,
    /// Addition.
    Add,
    /// Encoding of a plaintext.
    Encode,
}

impl Primitive {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::MultPlain,
        Self::MultConstant,
        Self::Mult,
        Self::Relinearize,
        Self::Rescale,
        Self::Rotate,
        Self::RotateHoisted,
        Self::Conjugate,
        Self::Add,
        Self::Encode,
    ];

    /// Name of the operation in the rows of `bench ops`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MultPlain => "mult_plain",
            Self::MultConstant => "mult_constant",
            Self::Mult => "mult",
            Self::Relinearize => "relinearize",
            Self::Rescale => "rescale",
            Self::Rotate => "rotate",
            Self::RotateHoisted => "rotate_hoisted",
            Self::Conjugate => "conjugate",
            Self::Add => "add",
            Self::Encode => "encode",
        }
    }

    /// The operation with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|primitive| primitive.name() == name)
    }

    /// What stands in for it when it was not measured; never cheaper in kind.
    fn substitute(self) -> Option<Self> {
        match self {
            Self::MultConstant | Self::Add => Some(Self::MultPlain),
            Self::Relinearize | Self::Conjugate | Self::RotateHoisted => Some(Self::Rotate),
            _ => None,
        }
    }
}

/// A figure and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Priced {
    /// Seconds.
    pub seconds: f64,
    /// Where they come from.
    pub source: Source,
}

/// One measured figure, as cost files hold it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OperationRow {
    /// Name of the operation.
    pub op: String,
    /// Level of its input.
    pub level: Level,
    /// Seconds.
    pub seconds: f64,
    /// Where they come from.
    pub source: Source,
}

/// Seconds of every elementary operation by level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OperationCosts {
    points: BTreeMap<Primitive, BTreeMap<Level, Priced>>,
}

impl OperationCosts {
    /// Costs from rows; of two rows for one operation and level the later counts.
    ///
    /// # Errors
    /// [`Error::Format`] for an operation that is not known here, a cost that is not positive and finite, or when
    /// rotations, products with plaintexts, products of ciphertexts or rescales are missing altogether.
    pub fn new(rows: &[OperationRow]) -> Result<Self> {
        let bad = |why: String| Error::Format {
            what: "operation costs".to_owned(),
            why,
            remedy: "measure the operations".to_owned(),
        };
        let mut points: BTreeMap<Primitive, BTreeMap<Level, Priced>> = BTreeMap::new();
        for row in rows {
            let primitive = Primitive::from_name(&row.op)
                .ok_or_else(|| bad(format!("`{}` is no operation known here", row.op)))?;
            if !(row.seconds.is_finite() && row.seconds > 0.0) {
                return Err(bad(format!("`{}` at level {} takes {} s", row.op, row.level, row.seconds)));
            }
            let priced = Priced { seconds: row.seconds, source: row.source };
            points.entry(primitive).or_default().insert(row.level, priced);
        }
        for needed in [Primitive::Rotate, Primitive::MultPlain, Primitive::Mult, Primitive::Rescale] {
            if !points.contains_key(&needed) {
                return Err(bad(format!("there is no row for `{}`", needed.name())));
            }
        }
        Ok(Self { points })
    }

    /// Seconds of one operation at `level`: the measured figure, or the straight line between its neighbours, or
    /// beyond them in proportion to the number of limbs (level + 1), which is exact for work done limb by limb and low
    /// for key switching above the highest measured level.
    ///
    /// # Errors
    /// [`Error::Format`] when neither the operation nor a substitute for it was measured.
    pub fn price(&self, primitive: Primitive, level: Level) -> Result<Priced> {
        if let Some(points) = self.points.get(&primitive) {
            return interpolate(points, level)
                .ok_or_else(|| Error::Internal(format!("no figure at all for `{}`", primitive.name())));
        }
        let stand_in = primitive.substitute().ok_or_else(|| Error::Format {
            what: "operation costs".to_owned(),
            why: format!("there is no row for `{}` nor a substitute", primitive.name()),
            remedy: "measure the operations".to_owned(),
        })?;
        let priced = self.price(stand_in, level)?;
        Ok(Priced { source: Source::Substituted.max(priced.source), ..priced })
    }

    /// Seconds of `work` at `level`, composed.
    ///
    /// A product of two ciphertexts is priced with its relinearization; products relinearized together save the
    /// difference.
    ///
    /// # Errors
    /// [`Error::Format`] when neither the operation nor a substitute for it was measured ([`OperationCosts::price`]).
    pub fn seconds(&self, work: &Work, level: Level) -> Result<f64> {
        let relinearizations = work.relinearizations - work.ciphertext_products;
        let parts = [
            (Primitive::MultPlain, work.plaintext_products),
            (Primitive::MultConstant, work.constant_products),
            (Primitive::Mult, work.ciphertext_products),
            (Primitive::Relinearize, relinearizations),
            (Primitive::Rescale, work.rescales),
            (Primitive::Rotate, work.rotations),
            (Primitive::RotateHoisted, work.rotations_hoisted),
            (Primitive::Conjugate, work.conjugations),
            (Primitive::Add, work.additions),
            (Primitive::Encode, work.encodings),
        ];
        let mut seconds = 0.0;
        for (primitive, count) in parts {
            if count != 0.0 {
                seconds += count * self.price(primitive, level)?.seconds;
            }
        }
        Ok(seconds.max(0.0))
    }

    /// All figures from level 0 to `max_level`, as rows.
    ///
    /// # Errors
    /// [`Error::Format`] when neither the operation nor a substitute for it was measured ([`OperationCosts::price`]).
    pub fn rows(&self, max_level: Level) -> Result<Vec<OperationRow>> {
        let mut rows = Vec::new();
        for primitive in Primitive::ALL {
            if primitive == Primitive::Encode && !self.points.contains_key(&primitive) {
                continue;
            }
            for level in 0..=max_level.0 {
                let Priced { seconds, source } = self.price(primitive, Level(level))?;
                rows.push(OperationRow {
                    op: primitive.name().to_owned(),
                    level: Level(level),
                    seconds,
                    source,
                });
            }
        }
        Ok(rows)
    }
}

fn interpolate(points: &BTreeMap<Level, Priced>, level: Level) -> Option<Priced> {
    if let Some(exact) = points.get(&level) {
        return Some(*exact);
    }
    let below = points.range(..level).next_back();
    let above = points.range(level..).next();
    let limbs = |level: Level| (level.0 + 1) as f64;
    let (seconds, source) = match (below, above) {
        (Some((low, first)), Some((high, last))) => {
            let along = (limbs(level) - limbs(*low)) / (limbs(*high) - limbs(*low));
            (first.seconds + along * (last.seconds - first.seconds), first.source.max(last.source))
        }
        (Some((known, priced)), None) | (None, Some((known, priced))) => {
            (priced.seconds * limbs(level) / limbs(*known), priced.source)
        }
        (None, None) => return None,
    };
    Some(Priced { seconds, source: source.max(Source::Interpolated) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(op: &str, level: usize, seconds: f64) -> OperationRow {
        OperationRow { op: op.to_owned(), level: Level(level), seconds, source: Source::Measured }
    }

    fn costs() -> OperationCosts {
        OperationCosts::new(&[
            row("rotate", 3, 1.0),
            row("rotate", 7, 3.0),
            row("mult", 7, 4.0),
            row("mult_plain", 7, 0.5),
            row("rescale", 7, 0.25),
        ])
        .unwrap()
    }

    #[test]
    fn figures_between_levels_lie_on_a_line_and_beyond_them_follow_the_limbs() {
        let at = |level| costs().price(Primitive::Rotate, Level(level)).unwrap();
        assert_eq!(at(3), Priced { seconds: 1.0, source: Source::Measured });
        assert_eq!(at(5), Priced { seconds: 2.0, source: Source::Interpolated });
        assert_eq!(at(1), Priced { seconds: 0.5, source: Source::Interpolated });
        assert_eq!(at(15), Priced { seconds: 6.0, source: Source::Interpolated });
        let conjugate = costs().price(Primitive::Conjugate, Level(7)).unwrap();
        assert_eq!(conjugate, Priced { seconds: 3.0, source: Source::Substituted });
        assert!(costs().price(Primitive::Encode, Level(7)).is_err());
    }

    #[test]
    fn composed_seconds_add_up() {
        let work = Work::products(2.0) + Work::rotations(3.0);
        let seconds = costs().seconds(&work, Level(7)).unwrap();
        assert!((seconds - (2.0 * 4.25 + 3.0 * 3.5)).abs() < 1e-12, "{seconds}");
        let lazily = Work { relinearizations: 1.0, ..Work::products(2.0) };
        let saved = costs().seconds(&Work::products(2.0), Level(7)).unwrap()
            - costs().seconds(&lazily, Level(7)).unwrap();
        assert!((saved - 3.0).abs() < 1e-12, "{saved}");
    }

    #[test]
    fn rows_that_make_no_sense_are_refused() {
        for (row, expected) in [
            (row("fly", 1, 1.0), "`fly`"),
            (row("rotate", 1, f64::NAN), "NaN"),
            (row("rotate", 1, 0.0), "takes 0 s"),
            (row("rotate", 1, 1.0), "no row for `mult_plain`"),
        ] {
            let error = OperationCosts::new(&[row]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
