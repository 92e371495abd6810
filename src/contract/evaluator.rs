//! The side that computes: evaluation keys only.

use super::checks::no_terms;
use super::ciphertext_info::CiphertextInfo;
use super::{
    BootstrapRequest, BootstrapSummary, Complex64, Level, LevelChain, LinearTransform, Result, Scale,
};

/// A term c·x of a linear combination, the same c in every slot.
#[derive(Debug)]
pub struct LinearTerm<'a, C> {
    /// x, at the level of the combination or above.
    pub ciphertext: &'a C,
    /// c.
    pub constant: Complex64,
    /// Scale at which c is rounded; 1 for an integer, which then costs no precision.
    pub scale: Scale,
}

impl<'a, C: CiphertextInfo> LinearTerm<'a, C> {
    /// k·x at the scale of x.
    pub fn integer(k: i32, ciphertext: &'a C) -> Self {
        Self { ciphertext, constant: Complex64::new(f64::from(k), 0.0), scale: Scale(1.0) }
    }

    /// c·x at `scale`: c is rounded at what `scale` leaves over that of x.
    pub fn at_scale(constant: Complex64, ciphertext: &'a C, scale: Scale) -> Self {
        Self { ciphertext, constant, scale: scale / ciphertext.scale() }
    }
}

/// Operations on ciphertexts under evaluation keys.
///
/// No operation changes its inputs. Every result states level and scale; every error names the operation, the levels
/// and scales it saw, what it wanted, and the remedy. Costs are in rotations (key switches), products and NTTs.
///
/// ```
/// use cachemir::contract::{Evaluator, Result};
///
/// /// (x² + 1/2) rotated left by one slot, on any backend: one level for the product and its rescale.
/// fn circuit<E: Evaluator>(server: &E, x: &E::Ciphertext) -> Result<E::Ciphertext> {
///     let square = server.mul(x, x)?;
///     server.rotate(&server.add_constant(&square, 0.5.into())?, 1)
/// }
/// # use cachemir::backend::clear::{ClearClient, ClearParameters};
/// # use cachemir::contract::{Client, Complex64, Level};
/// # let client = ClearClient::new(ClearParameters::new(8, 2, 40)?);
/// # let x = client.encrypt(&[Complex64::ZERO, Complex64::new(0.5, 0.0)], Level(2))?;
/// // The simulator has every key and records which ones the circuit needs.
/// let dry_run = client.dry_run();
/// circuit(&dry_run, &x)?;
/// let server = client.evaluator(&dry_run.recorded())?;
/// assert!((client.decrypt(&circuit(&server, &x)?)?[0].re - 0.75).abs() < 1e-9);
/// # Ok::<(), cachemir::Error>(())
/// ```
pub trait Evaluator: Send + Sync {
    /// A degree-1 ciphertext.
    type Ciphertext: CiphertextInfo + Clone + Send + Sync;
    /// The degree-2 result of a ciphertext product before relinearization; sums of such products are relinearized once.
    type Tensor: CiphertextInfo + Clone + Send + Sync;
    /// An encoded plaintext.
    type Plaintext: CiphertextInfo + Clone + Send + Sync;

    /// `clear`, `native` or `openfhe`.
    fn name(&self) -> &'static str;
    /// Number of slots S.
    fn slots(&self) -> usize;
    /// Levels, moduli and canonical scales.
    fn chain(&self) -> &LevelChain;
    /// What bootstrapping offers; `None` without it.
    fn bootstrapping(&self) -> Option<BootstrapSummary>;

    /// Encodes at most S values (the rest are zero) for use at `level` with `scale`. No key needed.
    ///
    /// # Errors
    /// [`crate::Error::TooManyValues`], [`crate::Error::BadValue`], [`crate::Error::LevelOutOfRange`],
    /// [`crate::Error::ScaleOutOfRange`].
    fn encode(&self, values: &[Complex64], level: Level, scale: Scale) -> Result<Self::Plaintext>;

    /// a + b; same level, same scale.
    ///
    /// # Errors
    /// [`crate::Error::LevelMismatch`], [`crate::Error::ScaleMismatch`].
    fn add(&self, a: &Self::Ciphertext, b: &Self::Ciphertext) -> Result<Self::Ciphertext>;
    /// a − b; same level, same scale.
    ///
    /// # Errors
    /// [`crate::Error::LevelMismatch`], [`crate::Error::ScaleMismatch`].
    fn sub(&self, a: &Self::Ciphertext, b: &Self::Ciphertext) -> Result<Self::Ciphertext>;
    /// −a.
    ///
    /// # Errors
    /// [`crate::Error::ParameterMismatch`].
    fn negate(&self, a: &Self::Ciphertext) -> Result<Self::Ciphertext>;
    /// a + p; same level, same scale.
    ///
    /// # Errors
    /// [`crate::Error::LevelMismatch`], [`crate::Error::ScaleMismatch`].
    fn add_plain(&self, a: &Self::Ciphertext, p: &Self::Plaintext) -> Result<Self::Ciphertext>;
    /// a + c in every slot. Level and scale unchanged.
    ///
    /// # Errors
    /// [`crate::Error::BadValue`].
    fn add_constant(&self, a: &Self::Ciphertext, c: Complex64) -> Result<Self::Ciphertext>;
    /// a · p slot by slot, not rescaled: level unchanged, scale is the product of both scales.
    ///
    /// # Errors
    /// [`crate::Error::LevelMismatch`], [`crate::Error::ScaleOutOfRange`].
    fn mul_plain(&self, a: &Self::Ciphertext, p: &Self::Plaintext) -> Result<Self::Ciphertext>;
    /// a · c in every slot, not rescaled; c is rounded at `scale`, which multiplies the ciphertext's scale. No NTT.
    ///
    /// # Errors
    /// [`crate::Error::BadValue`], [`crate::Error::ScaleOutOfRange`].
    fn mul_constant(&self, a: &Self::Ciphertext, c: Complex64, scale: Scale) -> Result<Self::Ciphertext>;
    /// a · k for an integer k: level and scale unchanged.
    ///
    /// # Errors
    /// [`crate::Error::ParameterMismatch`].
    fn mul_integer(&self, a: &Self::Ciphertext, k: i64) -> Result<Self::Ciphertext>;
    /// a · i for the imaginary unit: a monomial product, free of level, scale and noise.
    ///
    /// # Errors
    /// [`crate::Error::ParameterMismatch`].
    fn mul_by_i(&self, a: &Self::Ciphertext) -> Result<Self::Ciphertext>;

    /// a · b before relinearization and rescaling; same level, scale is the product.
    ///
    /// # Errors
    /// [`crate::Error::LevelMismatch`], [`crate::Error::ScaleOutOfRange`].
    fn tensor(&self, a: &Self::Ciphertext, b: &Self::Ciphertext) -> Result<Self::Tensor>;
    /// Sum of two unrelinearized products; same level, same scale.
    ///
    /// # Errors
    /// [`crate::Error::LevelMismatch`], [`crate::Error::ScaleMismatch`].
    fn add_tensor(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;
    /// Back to degree 1. One key switch.
    ///
    /// # Errors
    /// [`crate::Error::EvaluationKey`] without a relinearization key at this level.
    fn relinearize(&self, a: &Self::Tensor) -> Result<Self::Ciphertext>;

    /// Divides by q_ℓ: one level less, scale divided by q_ℓ.
    ///
    /// # Errors
    /// [`crate::Error::LevelExhausted`] at level 0.
    fn rescale(&self, a: &Self::Ciphertext) -> Result<Self::Ciphertext>;
    /// Drops limbs down to `level`; the scale stays (so it is in general not the canonical one: see [`Self::lower`]).
    ///
    /// # Errors
    /// [`crate::Error::LevelTooLow`] when the value is already below.
    fn drop_level(&self, a: &Self::Ciphertext, level: Level) -> Result<Self::Ciphertext>;

    /// rot(a, step): left when positive. One key switch; none for step ≡ 0.
    ///
    /// # Errors
    /// [`crate::Error::RotationKey`].
    fn rotate(&self, a: &Self::Ciphertext, step: i64) -> Result<Self::Ciphertext>;
    /// Rotations of one ciphertext by several steps, sharing the decomposition (hoisting).
    ///
    /// # Errors
    /// [`crate::Error::RotationKey`].
    fn rotate_many(&self, a: &Self::Ciphertext, steps: &[i64]) -> Result<Vec<Self::Ciphertext>>;
    /// Σ rot(a_j, step_j); same level and scale. One key switch per nonzero step, one division by P for all.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for an empty sum, [`crate::Error::LevelMismatch`], [`crate::Error::ScaleMismatch`],
    /// [`crate::Error::RotationKey`].
    fn rotate_sum(&self, terms: &[(&Self::Ciphertext, i64)]) -> Result<Self::Ciphertext>;
    /// Complex conjugate of every slot. One key switch.
    ///
    /// # Errors
    /// [`crate::Error::EvaluationKey`].
    fn conjugate(&self, a: &Self::Ciphertext) -> Result<Self::Ciphertext>;

    /// Evaluates `transform`, diagonals encoded at the input's level and at `scale`, not rescaled (see
    /// [`LinearTransform`]).
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for an empty transform, [`crate::Error::RotationKey`], errors of [`Self::encode`].
    fn linear_transform(
        &self,
        a: &Self::Ciphertext,
        transform: &LinearTransform<'_, Self::Plaintext>,
        scale: Scale,
    ) -> Result<Self::Ciphertext>;

    /// Several transforms of one input: what [`Self::linear_transform`] gives for each. Baby steps they have in common
    /// are rotated once, under one decomposition; a backend that cannot share them evaluates one after another.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for an empty transform, [`crate::Error::RotationKey`] for a missing key; errors of
    /// [`Self::encode`].
    fn linear_transforms(
        &self,
        a: &Self::Ciphertext,
        transforms: &[LinearTransform<'_, Self::Plaintext>],
        scale: Scale,
    ) -> Result<Vec<Self::Ciphertext>> {
        transforms.iter().map(|transform| self.linear_transform(a, transform, scale)).collect()
    }

    /// Refreshes what `request` names of `a` (at its level's canonical scale) to `request.level` and its canonical
    /// scale.
    ///
    /// Slots are complex: real and imaginary part are refreshed both, each within the bound, unless the request says
    /// that the values are real. Two real vectors are best refreshed as one complex one (x + i·y), and taken apart by a
    /// conjugation afterwards.
    ///
    /// Few values ([`super::Refreshed::Few`]): all other slots of `a` must be zero, up to noise, and hold *junk*
    /// afterwards, at most [`super::FewSummary::junk`] in magnitude: whatever comes next must have zeros there.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`], [`crate::Error::EvaluationKey`], [`crate::Error::LevelTooLow`],
    /// [`crate::Error::LevelOutOfRange`], [`crate::Error::ScaleMismatch`]; on `clear` also
    /// [`crate::Error::OutOfInterval`], for values beyond the bound, imaginary parts of real values, and slots that
    /// should be zero. Elsewhere values are hidden: [`super::Client::decrypt_bootstrapped`] reports those beyond the
    /// bound.
    fn bootstrap(&self, a: &Self::Ciphertext, request: &BootstrapRequest) -> Result<Self::Ciphertext>;

    /// Serializes a ciphertext into the versioned container of the backend.
    ///
    /// # Errors
    /// [`crate::Error::Foreign`] when a library behind the backend fails.
    fn ciphertext_to_bytes(&self, a: &Self::Ciphertext) -> Result<Vec<u8>>;
    /// Reads what [`Self::ciphertext_to_bytes`] wrote.
    ///
    /// # Errors
    /// [`crate::Error::Format`] for truncated, damaged, oversized or foreign data.
    fn ciphertext_from_bytes(&self, bytes: &[u8]) -> Result<Self::Ciphertext>;

    /// a · b, relinearized, rescaled: one level. At canonical scales the result is at the canonical scale below.
    ///
    /// # Errors
    /// [`crate::Error::LevelMismatch`] and [`crate::Error::ScaleOutOfRange`] for factors that cannot be multiplied,
    /// [`crate::Error::LevelExhausted`] at level 0, [`crate::Error::EvaluationKey`] without a relinearization key at
    /// this level.
    fn mul(&self, a: &Self::Ciphertext, b: &Self::Ciphertext) -> Result<Self::Ciphertext> {
        self.rescale(&self.relinearize(&self.tensor(a, b)?)?)
    }

    /// a², relinearized, rescaled: one level.
    ///
    /// # Errors
    /// [`crate::Error::ScaleOutOfRange`] for a scale too large to square, [`crate::Error::LevelExhausted`] at level 0,
    /// [`crate::Error::EvaluationKey`] without a relinearization key at this level.
    fn square(&self, a: &Self::Ciphertext) -> Result<Self::Ciphertext> {
        self.mul(a, a)
    }

    /// a · `values` slot by slot, rescaled: one level, canonical scale stays canonical. Encodes on the way.
    ///
    /// # Errors
    /// [`crate::Error::TooManyValues`] and [`crate::Error::BadValue`] for values that cannot be encoded
    /// ([`Self::encode`]), [`crate::Error::ScaleOutOfRange`] for a product that does not fit the modulus,
    /// [`crate::Error::LevelExhausted`] at level 0.
    fn mul_values(&self, a: &Self::Ciphertext, values: &[Complex64]) -> Result<Self::Ciphertext> {
        let scale = self.chain().canonical_scale(a.level())?;
        self.rescale(&self.mul_plain(a, &self.encode(values, a.level(), scale)?)?)
    }

    /// a + `values` slot by slot; encodes at the level and scale of `a`.
    ///
    /// # Errors
    /// [`crate::Error::TooManyValues`] and [`crate::Error::BadValue`] for values that cannot be encoded
    /// ([`Self::encode`]).
    fn add_values(&self, a: &Self::Ciphertext, values: &[Complex64]) -> Result<Self::Ciphertext> {
        self.add_plain(a, &self.encode(values, a.level(), a.scale())?)
    }

    /// a · c, rescaled: one level, canonical scale stays canonical.
    ///
    /// # Errors
    /// [`crate::Error::BadValue`] and [`crate::Error::ScaleOutOfRange`] for a constant that is not usable
    /// ([`Self::mul_constant`]), [`crate::Error::LevelExhausted`] at level 0.
    fn mul_scalar(&self, a: &Self::Ciphertext, c: Complex64) -> Result<Self::Ciphertext> {
        let scale = self.chain().canonical_scale(a.level())?;
        self.rescale(&self.mul_constant(a, c, scale)?)
    }

    /// Brings `a` down to `level` and its canonical scale, values unchanged. Free when already there; otherwise limbs
    /// are dropped to one level above, then one constant product and one rescale bring the scale to the canonical one
    /// exactly.
    ///
    /// # Errors
    /// [`crate::Error::LevelTooLow`] when the value is already below; [`crate::Error::ScaleMismatch`] when it is at
    /// `level` with another scale, or at a scale so large (a product that was not rescaled) that the constant would
    /// lose precision.
    fn lower(&self, a: &Self::Ciphertext, level: Level) -> Result<Self::Ciphertext> {
        let Some(factor) = self.chain().lowering_factor(a.level(), a.scale(), level)? else {
            return Ok(a.clone());
        };
        let dropped = self.drop_level(a, Level(level.0 + 1))?;
        self.rescale(&self.mul_constant(&dropped, Complex64::new(1.0, 0.0), factor)?)
    }

    /// Σ c_k·x_k + `addend` at `level`, not rescaled: every x_k is dropped to `level` (see [`Self::drop_level`]), every
    /// product stands at one scale. Cost: one constant product a term, no NTT, no key.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] without terms, [`crate::Error::LevelTooLow`] for an x_k below `level`,
    /// [`crate::Error::ScaleMismatch`] for products of unequal scales, errors of [`Self::mul_constant`].
    fn linear_combination(
        &self,
        terms: &[LinearTerm<'_, Self::Ciphertext>],
        addend: Complex64,
        level: Level,
    ) -> Result<Self::Ciphertext> {
        let mut sum: Option<Self::Ciphertext> = None;
        for term in terms {
            let x = if term.ciphertext.level() == level {
                term.ciphertext.clone()
            } else {
                self.drop_level(term.ciphertext, level)?
            };
            let product = self.mul_constant(&x, term.constant, term.scale)?;
            sum = Some(match sum {
                Some(sum) => self.add(&sum, &product)?,
                None => product,
            });
        }
        let sum = sum.ok_or_else(|| no_terms("linear_combination"))?;
        if addend == Complex64::ZERO { Ok(sum) } else { self.add_constant(&sum, addend) }
    }

    /// rescale(relinearize(product) + Σ c_k·x_k + `addend`), the sum as in [`Self::linear_combination`] at the level
    /// and scale of `product`. One key switch; a backend may divide by P and by q_ℓ at once, which saves the NTTs of a
    /// rescale and one rounding.
    ///
    /// # Errors
    /// [`crate::Error::EvaluationKey`] without a relinearization key at this level, [`crate::Error::LevelExhausted`] at
    /// level 0; errors of the terms ([`Self::linear_combination`]).
    fn relinearize_and_rescale(
        &self,
        product: &Self::Tensor,
        terms: &[LinearTerm<'_, Self::Ciphertext>],
        addend: Complex64,
    ) -> Result<Self::Ciphertext> {
        let mut sum = self.relinearize(product)?;
        if !terms.is_empty() {
            sum = self.add(&sum, &self.linear_combination(terms, Complex64::ZERO, product.level())?)?;
        }
        if addend != Complex64::ZERO {
            sum = self.add_constant(&sum, addend)?;
        }
        self.rescale(&sum)
    }

    /// Both values at the lower of their two levels, at its canonical scale.
    ///
    /// # Errors
    /// [`crate::Error::LevelTooLow`] and [`crate::Error::ScaleMismatch`] when the higher of the two cannot be lowered
    /// to the other ([`Self::lower`]).
    fn align(
        &self,
        a: &Self::Ciphertext,
        b: &Self::Ciphertext,
    ) -> Result<(Self::Ciphertext, Self::Ciphertext)> {
        let level = a.level().min(b.level());
        Ok((self.lower(a, level)?, self.lower(b, level)?))
    }
}
