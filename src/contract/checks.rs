//! What every backend checks before it computes: values, levels, scales, room below the modulus, keys, bootstraps.
//!
//! One definition each, so that all backends refuse the same misuse with the same error and the same numbers. A
//! backend calls these at the entry of an operation; what is checked here is not checked again further down.

use super::{CiphertextInfo, Complex64, Error, KeyRequest, Level, LevelChain, Result, Scale};

/// log2 of the largest coefficient that encoders make: they pass through signed integers of 128 bits on their way to
/// residues, with room for the sum of a real and an imaginary part.
const LOG2_LARGEST_COEFFICIENT: f64 = 125.0;

/// That two operands are at one level.
///
/// # Errors
/// [`Error::LevelMismatch`].
pub fn check_levels(operation: &'static str, left: Level, right: Level) -> Result<()> {
    if left == right { Ok(()) } else { Err(Error::LevelMismatch { operation, left, right }) }
}

/// That two operands have one scale, up to [`Scale::RELATIVE_TOLERANCE`].
///
/// # Errors
/// [`Error::ScaleMismatch`].
pub fn check_scales(operation: &'static str, left: Scale, right: Scale) -> Result<()> {
    if left.agrees_with(right) { Ok(()) } else { Err(Error::ScaleMismatch { operation, left, right }) }
}

/// That two operands can be added: one level and one scale.
///
/// # Errors
/// [`Error::LevelMismatch`], [`Error::ScaleMismatch`].
pub fn check_sum(operation: &'static str, a: &impl CiphertextInfo, b: &impl CiphertextInfo) -> Result<()> {
    check_levels(operation, a.level(), b.level())?;
    check_scales(operation, a.scale(), b.scale())
}

/// That a value at `scale` leaves room below the modulus at `level`.
///
/// # Errors
/// [`Error::ScaleOutOfRange`]; [`Error::LevelOutOfRange`] for a level outside the chain.
pub fn check_room(operation: &'static str, chain: &LevelChain, scale: Scale, level: Level) -> Result<()> {
    let log2_modulus = chain.log2_modulus(level)?;
    if scale.log2() < log2_modulus {
        return Ok(());
    }
    Err(Error::ScaleOutOfRange { operation, scale, log2_modulus, level })
}

/// The scale of a product of two operands at one level, when it leaves room there.
///
/// # Errors
/// [`Error::LevelMismatch`], [`Error::ScaleOutOfRange`].
pub fn product_scale(
    operation: &'static str,
    chain: &LevelChain,
    a: &impl CiphertextInfo,
    b: &impl CiphertextInfo,
) -> Result<Scale> {
    check_levels(operation, a.level(), b.level())?;
    let scale = a.scale() * b.scale();
    check_room(operation, chain, scale, a.level())?;
    Ok(scale)
}

/// That at most `slots` finite values can be encoded at `level` and `scale`: each part times the scale must lie below
/// half the modulus, and below the largest coefficient an encoder makes.
///
/// # Errors
/// [`Error::TooManyValues`]; [`Error::ScaleOutOfRange`] for a scale below 1 or not below the modulus;
/// [`Error::BadValue`] with the index of the first value that is NaN, infinite or too large;
/// [`Error::LevelOutOfRange`].
pub fn check_values(
    operation: &'static str,
    chain: &LevelChain,
    slots: usize,
    values: &[Complex64],
    level: Level,
    scale: Scale,
) -> Result<()> {
    let log2_modulus = chain.log2_modulus(level)?;
    if values.len() > slots {
        return Err(Error::TooManyValues { operation, given: values.len(), slots });
    }
    if !(scale.0.is_finite() && scale.0 >= 1.0) || scale.log2() >= log2_modulus {
        return Err(Error::ScaleOutOfRange { operation, scale, log2_modulus, level });
    }
    let bound = ((log2_modulus - 1.0).min(LOG2_LARGEST_COEFFICIENT) - scale.log2()).exp2();
    // Written so that NaN fails.
    let fits = |value: &Complex64| value.re.abs() <= bound && value.im.abs() <= bound;
    match values.iter().enumerate().find(|(_, value)| !fits(value)) {
        None => Ok(()),
        Some((index, value)) => Err(Error::BadValue { operation, index, value: value.to_string(), bound }),
    }
}

/// That the constant `c` can be rounded at `scale`, and that its product with a value of scale `given` leaves room at
/// `level`.
///
/// # Errors
/// [`Error::BadValue`], [`Error::ScaleOutOfRange`].
pub fn check_constant_product(
    chain: &LevelChain,
    given: Scale,
    c: Complex64,
    scale: Scale,
    level: Level,
) -> Result<()> {
    const OPERATION: &str = "mul_constant";
    check_values(OPERATION, chain, 1, &[c], level, scale)?;
    check_room(OPERATION, chain, given * scale, level)
}

/// That a value may be dropped to `level`: not above its own, with room for its scale there.
///
/// # Errors
/// [`Error::LevelTooLow`], [`Error::ScaleOutOfRange`].
pub fn check_drop(chain: &LevelChain, a: &impl CiphertextInfo, level: Level) -> Result<()> {
    const OPERATION: &str = "drop_level";
    if level > a.level() {
        return Err(Error::LevelTooLow { operation: OPERATION, level: a.level(), wanted: level });
    }
    check_room(OPERATION, chain, a.scale(), level)
}

/// The error of a sum of no terms: it has neither level nor scale.
#[must_use]
pub fn no_terms(operation: &'static str) -> Error {
    Error::Shape { operation, what: "0 terms".to_owned(), remedy: "give at least one".to_owned() }
}

/// That the rotation key of the normalized `step` reaches `level`; `available` is the highest level of the one that
/// exists. Step 0 needs none.
///
/// # Errors
/// [`Error::RotationKey`].
pub fn check_rotation_key(step: usize, level: Level, available: Option<Level>) -> Result<()> {
    if step == 0 || available.is_some_and(|top| top >= level) {
        return Ok(());
    }
    Err(Error::RotationKey { step, level, available })
}

/// That the key named `key` (`relinearization` or `conjugation`) reaches `level`; `available` is the highest level of
/// the one that exists.
///
/// # Errors
/// [`Error::EvaluationKey`].
pub fn check_evaluation_key(key: &'static str, level: Level, available: Option<Level>) -> Result<()> {
    if available.is_some_and(|top| top >= level) { Ok(()) } else { Err(Error::EvaluationKey { key, level }) }
}

/// That every key of `request` ends at a level of the chain, and that bootstrapping is asked for only where there is
/// one.
///
/// # Errors
/// [`Error::LevelOutOfRange`], [`Error::Unsupported`].
pub fn check_key_request(
    backend: &'static str,
    chain: &LevelChain,
    bootstrapping: bool,
    request: &KeyRequest,
) -> Result<()> {
    for level in request.rotations.values().chain(&request.relinearization).chain(&request.conjugation) {
        chain.check(*level, "key generation")?;
    }
    if request.bootstrapping.is_some() && !bootstrapping {
        return Err(no_bootstrapping(backend));
    }
    Ok(())
}

/// The error of bootstrapping under parameters without it.
#[must_use]
pub fn no_bootstrapping(backend: &'static str) -> Error {
    Error::Unsupported {
        backend,
        operation: "bootstrap under levelled parameters".to_owned(),
        remedy: "use parameters with bootstrapping".to_owned(),
    }
}

/// The levels a bootstrap may run between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootstrapLevels {
    /// Lowest level of its input.
    pub lowest_input: Level,
    /// Highest level of its output, after all its iterations.
    pub highest_output: Level,
}

impl BootstrapLevels {
    /// That `a`, at its level's canonical scale, can be bootstrapped to `wanted`.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] above the highest output, [`Error::LevelTooLow`] below the lowest input,
    /// [`Error::ScaleMismatch`] at a scale that is not the canonical one.
    pub fn check(self, chain: &LevelChain, a: &impl CiphertextInfo, wanted: Level) -> Result<()> {
        const OPERATION: &str = "bootstrap";
        if wanted > self.highest_output {
            return Err(Error::LevelOutOfRange {
                operation: OPERATION,
                level: wanted,
                max: self.highest_output,
            });
        }
        if a.level() < self.lowest_input {
            return Err(Error::LevelTooLow {
                operation: OPERATION,
                level: a.level(),
                wanted: self.lowest_input,
            });
        }
        check_scales(OPERATION, a.scale(), chain.canonical_scale(a.level())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Value(Level, Scale);

    impl CiphertextInfo for Value {
        fn level(&self) -> Level {
            self.0
        }
        fn scale(&self) -> Scale {
            self.1
        }
    }

    fn chain() -> LevelChain {
        LevelChain::new(2f64.powi(50), vec![2f64.powi(40); 4], Scale(2f64.powi(40)))
    }

    fn values(value: f64, level: usize, log2_scale: i32) -> Result<()> {
        let values = [Complex64::ZERO, Complex64::new(0.0, value)];
        check_values("encode", &chain(), 2, &values, Level(level), Scale(2f64.powi(log2_scale)))
    }

    #[test]
    fn values_must_fit_half_the_modulus_and_the_integers_of_an_encoder() {
        // 2^50 at level 0: at scale 2^40 up to 2^9.
        values(512.0, 0, 40).unwrap();
        assert!(
            matches!(values(513.0, 0, 40), Err(Error::BadValue { index: 1, bound, .. }) if bound == 512.0)
        );
        // 2^210 at level 4, of which integers of 128 bits hold 2^125.
        values(2f64.powi(85), 4, 40).unwrap();
        assert!(matches!(values(2f64.powi(86), 4, 40), Err(Error::BadValue { .. })));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(matches!(values(bad, 0, 40), Err(Error::BadValue { .. })), "{bad}");
        }
        for log2_scale in [-1, 50, 51] {
            assert!(matches!(values(0.0, 0, log2_scale), Err(Error::ScaleOutOfRange { .. })), "{log2_scale}");
        }
        assert!(matches!(values(0.0, 5, 40), Err(Error::LevelOutOfRange { .. })));
    }

    #[test]
    fn products_need_room_and_sums_one_scale() {
        let value = |level, log2| Value(Level(level), Scale(2f64.powi(log2)));
        let scale = product_scale("tensor", &chain(), &value(1, 40), &value(1, 45)).unwrap();
        assert_eq!(scale, Scale(2f64.powi(85)));
        let crowded = product_scale("tensor", &chain(), &value(1, 45), &value(1, 45));
        assert!(matches!(crowded, Err(Error::ScaleOutOfRange { log2_modulus, .. }) if log2_modulus == 90.0));
        check_sum("add", &value(1, 40), &value(1, 40)).unwrap();
        assert!(matches!(check_sum("add", &value(1, 40), &value(2, 40)), Err(Error::LevelMismatch { .. })));
        assert!(matches!(check_sum("add", &value(1, 40), &value(1, 41)), Err(Error::ScaleMismatch { .. })));
        check_drop(&chain(), &value(3, 45), Level(0)).unwrap();
        assert!(matches!(check_drop(&chain(), &value(3, 50), Level(0)), Err(Error::ScaleOutOfRange { .. })));
        assert!(matches!(check_drop(&chain(), &value(3, 40), Level(4)), Err(Error::LevelTooLow { .. })));
    }

    #[test]
    fn bootstraps_run_between_their_levels_at_the_canonical_scale() {
        let levels = BootstrapLevels { lowest_input: Level(1), highest_output: Level(3) };
        let at = |level: usize, scale: f64| Value(Level(level), Scale(scale));
        let canonical = chain().canonical_scale(Level(1)).unwrap().0;
        levels.check(&chain(), &at(1, canonical), Level(3)).unwrap();
        let error = levels.check(&chain(), &at(1, canonical), Level(4));
        assert!(matches!(error, Err(Error::LevelOutOfRange { max: Level(3), .. })));
        let error = levels.check(&chain(), &at(0, canonical), Level(3));
        assert!(matches!(error, Err(Error::LevelTooLow { wanted: Level(1), .. })));
        let error = levels.check(&chain(), &at(1, 2.0 * canonical), Level(3));
        assert!(matches!(error, Err(Error::ScaleMismatch { .. })));
    }
}
