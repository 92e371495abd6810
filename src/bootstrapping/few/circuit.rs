//! The steps of a bootstrap of few values around ModRaise, on any evaluator.
//!
//! 1. [`FewCircuit::to_coefficients`]: from the slots of the values into a period, level 1 to level 0.
//! 2. (ModRaise: the modulus q0 becomes Q, and each coefficient of the large ring gains a multiple of q0.)
//! 3. [`FewCircuit::from_coefficients`]: the trace drops the coefficients outside the subring, a dense transform brings
//!    those inside back into the slots, EvalMod reduces once.

use super::plan::{FewPlan, Reduction};
use super::transform::{EncodedTransform, right, rotate_and_add};
use crate::bootstrapping::{BootstrapParameters, EvalMod, TRACED};
use crate::contract::{
    CiphertextInfo, Complex64, Error, Evaluator, FewValues, KeyRequest, Level, LinearTerm, Result, Scale,
};

/// Level at which SlotsToCoeffs takes its input.
const INPUT: Level = Level(1);

/// A bootstrap of few values in one layout, in the clear.
#[derive(Clone, Debug)]
pub struct FewCircuit {
    values: FewValues,
    plan: FewPlan,
    eval_mod: EvalMod,
    total: usize,
    message_ratio: f64,
    interval: f64,
}

/// The diagonals of both transforms, encoded for one evaluator: under `n16_few` 16 MB each towards the slots and 1 MB
/// each towards the coefficients.
pub struct EncodedFew<P> {
    down: EncodedTransform<P>,
    up: EncodedTransform<P>,
}

impl<P> EncodedFew<P> {
    /// All plaintexts it keeps.
    pub fn plaintexts(&self) -> impl Iterator<Item = &P> {
        self.down.plaintexts().chain(self.up.plaintexts())
    }
}

impl FewCircuit {
    /// Circuit for `values`: period, combs and number of reductions are chosen by cost.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for parameters without bootstraps of few values; [`Error::Shape`] for slots that do not
    /// exist and for values so many that their diagonals would not fit in memory; errors of [`EvalMod::on_interval`].
    pub fn new(parameters: &BootstrapParameters, values: &FewValues) -> Result<Self> {
        let total = 1usize << parameters.chain.log2_n.saturating_sub(1);
        let few = parameters.few.as_ref().ok_or_else(|| Error::Unsupported {
            backend: "native",
            operation: format!("bootstrap few values under {}", parameters.chain.name),
            remedy: "use parameters that serve few values, or refresh all slots".to_owned(),
        })?;
        Ok(Self {
            values: values.clone(),
            plan: FewPlan::new(values, total)?,
            eval_mod: EvalMod::on_interval(parameters, few.interval)?,
            total,
            message_ratio: f64::from(parameters.log2_message_ratio).exp2(),
            interval: few.interval,
        })
    }

    /// The values it refreshes.
    #[must_use]
    pub fn values(&self) -> &FewValues {
        &self.values
    }

    /// How EvalMod meets the values.
    #[must_use]
    pub fn reduction(&self) -> Reduction {
        self.plan.reduction
    }

    /// Level of the result on a chain whose highest level is `top`.
    #[must_use]
    pub fn output_level(&self, top: Level) -> Level {
        Level(top.0.saturating_sub(1 + self.eval_mod.levels()))
    }

    /// The keys of one bootstrap on a chain whose highest level is `top`: rotations of SlotsToCoeffs at level 1, of the
    /// trace and CoeffsToSlots at the top, relinearization and conjugation below.
    #[must_use]
    pub fn key_request(&self, top: Level) -> KeyRequest {
        let mut request = KeyRequest::new();
        // In the order of use. SlotsToCoeffs at level 1: combs, steps, and the sum over the repetitions of the period.
        for tooth in &self.plan.down.teeth {
            request.rotation(right(*tooth, self.total), INPUT);
        }
        self.plan.down.request_steps(&mut request, INPUT);
        for repetition in self.repetitions() {
            request.rotation(repetition, INPUT);
        }
        // At the top: the rest of the trace, then steps and combs of CoeffsToSlots.
        for repetition in self.repetitions_left() {
            request.rotation(repetition, top);
        }
        self.plan.up.request_steps(&mut request, top);
        for tooth in &self.plan.up.teeth {
            request.rotation(*tooth, top);
        }
        // After EvalMod: the imaginary parts back onto the real ones.
        if let Reduction::SideBySide(distance) = self.plan.reduction {
            request.rotation(distance, self.output_level(top));
        }
        let below = Level(top.0.saturating_sub(1));
        request.relinearization(below).conjugation(top);
        request
    }

    /// Encodes the diagonals of both transforms.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`] on a chain without levels; errors of the encoder.
    pub fn encode<E: Evaluator>(&self, evaluator: &E) -> Result<EncodedFew<E::Plaintext>> {
        let chain = evaluator.chain();
        let top = chain.max_level();
        let below = top.below("CoeffsToSlots")?;
        let down = self.bottom_scale(evaluator)?.0 * chain.rescale_modulus(INPUT)?;
        let down = Scale(down / chain.canonical_scale(INPUT)?.0);
        let up = chain.canonical_scale(below)?.0 * chain.rescale_modulus(top)?;
        let up = Scale(up / self.raised_scale(evaluator)?.0);
        Ok(EncodedFew {
            down: self.plan.encode_down(evaluator, self.values.slots.slots(), INPUT, down)?,
            up: self.plan.encode_up(evaluator, top, up)?,
        })
    }

    /// The values of `x` (level 1 or above, canonical scale, zero in all other slots) as coefficients, at level 0; a
    /// value of 1 becomes q0/M. Cost: key switches of one digit.
    ///
    /// # Errors
    /// [`Error::LevelTooLow`], [`Error::RotationKey`].
    pub fn to_coefficients<E: Evaluator>(
        &self,
        evaluator: &E,
        encoded: &EncodedFew<E::Plaintext>,
        x: &E::Ciphertext,
    ) -> Result<E::Ciphertext> {
        // Two limbs: the key switches below are the cheapest there are.
        let x = evaluator.lower(x, INPUT)?;
        // Rotate-and-add gives every value a comb of copies, disjoint from all others, without a plaintext.
        let teeth = self.plan.down.teeth.iter().map(|tooth| -signed(*tooth));
        let combs = rotate_and_add(evaluator, x, teeth)?;
        // Every slot takes from each comb it meets the value times an entry of the dense matrix.
        let sum = encoded.down.apply(evaluator, &combs)?;
        // Each repetition of the period has met some of the values; their sum is the same in all of them.
        evaluator.rescale(&rotate_and_add(evaluator, sum, self.repetitions().map(signed))?)
    }

    /// Scale to give to the raised ciphertext (coefficients v·q0/M + q0·I): after the trace, which multiplies the
    /// coefficients it keeps by the repetitions of the period, they are x/K.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`] for a chain without levels.
    pub fn raised_scale<E: Evaluator>(&self, evaluator: &E) -> Result<Scale> {
        let copies = (self.total / self.plan.up.period.max(1)).max(1) as f64;
        Ok(Scale(self.bottom_scale(evaluator)?.0 * self.message_ratio * self.interval * copies))
    }

    /// Rotations, by multiples of S over it, whose sum ModRaise is to give
    /// ([`crate::bootstrapping::ModRaise::raise_traced`]): the first steps of the trace.
    #[must_use]
    pub fn copies_raised(&self) -> usize {
        TRACED.min(self.total / self.plan.up.period.max(1))
    }

    /// What EvalMod reduces of a ciphertext raised with [`Self::copies_raised`] at [`Self::raised_scale`]: x/K in every
    /// slot, real; the imaginary parts apart where they have no room beside the real ones.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`], [`Error::RotationKey`], [`Error::EvaluationKey`].
    pub fn parts<E: Evaluator>(
        &self,
        evaluator: &E,
        encoded: &EncodedFew<E::Plaintext>,
        raised: E::Ciphertext,
    ) -> Result<(E::Ciphertext, Option<E::Ciphertext>)> {
        // The trace: rotations that fix the subring, added up, clear all coefficients outside it. ModRaise has done the
        // first.
        let traced = rotate_and_add(evaluator, raised, self.repetitions_left().map(signed))?;
        // Teeth and conjugate are added before the rescale, which divides their noise away.
        let steps = encoded.up.apply(evaluator, &traced)?;
        drop(traced);
        let y = rotate_and_add(evaluator, steps, self.plan.up.teeth.iter().copied().map(signed))?;
        let conjugate = evaluator.conjugate(&y)?;
        // y + ȳ is the real part, as the diagonals are halved.
        let real_parts = evaluator.rescale(&evaluator.add(&y, &conjugate)?)?;
        if self.plan.reduction != Reduction::Twice {
            return Ok((real_parts, None));
        }
        // i·(ȳ − y) is the imaginary part, halved likewise: a ciphertext of its own, for a second reduction.
        let turned =
            |sign, x| LinearTerm { constant: Complex64::new(0.0, sign), ..LinearTerm::integer(1, x) };
        let difference = [turned(1.0, &conjugate), turned(-1.0, &y)];
        let imaginary_parts = evaluator.linear_combination(&difference, Complex64::ZERO, y.level())?;
        Ok((real_parts, Some(evaluator.rescale(&imaginary_parts)?)))
    }

    /// The values of a ciphertext raised with [`Self::copies_raised`] at [`Self::raised_scale`], back in their slots at
    /// exactly `scale`; junk elsewhere.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`], [`Error::RotationKey`], [`Error::EvaluationKey`].
    pub fn from_coefficients<E: Evaluator>(
        &self,
        evaluator: &E,
        encoded: &EncodedFew<E::Plaintext>,
        raised: E::Ciphertext,
        scale: Scale,
    ) -> Result<E::Ciphertext> {
        let (real_parts, imaginary_parts) = self.parts(evaluator, encoded, raised)?;
        let reduced = self.eval_mod.apply(evaluator, &real_parts, imaginary_parts.as_ref(), scale)?;
        match self.plan.reduction {
            Reduction::SideBySide(distance) => {
                // The imaginary parts were reduced `distance` slots away: rotated back and times i they join the real
                // ones.
                let imaginary = evaluator.mul_by_i(&evaluator.rotate(&reduced, signed(distance))?)?;
                evaluator.add(&reduced, &imaginary)
            }
            Reduction::Real | Reduction::Twice => Ok(reduced),
        }
    }

    /// Scale of the values at level 0: q0/M.
    fn bottom_scale<E: Evaluator>(&self, evaluator: &E) -> Result<Scale> {
        Ok(Scale(evaluator.chain().log2_modulus(Level(0))?.exp2() / self.message_ratio))
    }

    /// Rotations that add up the repetitions of the period: n, 2n, … S/2.
    fn repetitions(&self) -> impl Iterator<Item = usize> {
        let total = self.total;
        std::iter::successors(Some(self.plan.up.period), |step| Some(step * 2))
            .take_while(move |step| *step < total)
    }

    /// Rotations of the trace that are left after ModRaise has added up the first copies: n, 2n, … below S/copies.
    fn repetitions_left(&self) -> impl Iterator<Item = usize> {
        let raised = self.total / self.copies_raised().max(1);
        self.repetitions().take_while(move |step| *step < raised)
    }
}

fn signed(step: usize) -> i64 {
    i64::try_from(step).unwrap_or(i64::MAX)
}
