//! The steps of a bootstrap around ModRaise, on any evaluator.
//!
//! 1. [`BootstrapCircuit::to_coefficients`]: SlotsToCoeffs down to level 0; coefficients hold the values, bit-reversed.
//! 2. (ModRaise: the modulus q0 becomes Q, and each coefficient gains a multiple of q0.)
//! 3. [`BootstrapCircuit::from_coefficients`]: sum over the copies of sparse slots, CoeffsToSlots, EvalMod.

use std::borrow::Cow;

use super::{BootstrapParameters, EvalMod};
use crate::circuits::{DftDirection, EncodedDft, HomomorphicDft};
use crate::contract::{CiphertextInfo, Complex64, Evaluator, KeyRequest, Level, LinearTerm, Result, Scale};

/// Everything a bootstrap of one slot count needs, in the clear.
#[derive(Clone, Debug)]
pub struct BootstrapCircuit {
    slots_to_coeffs: HomomorphicDft,
    coeffs_to_slots: HomomorphicDft,
    eval_mod: EvalMod,
    slots: usize,
    message_ratio: f64,
    interval: f64,
}

/// Both transforms with their diagonals encoded for one evaluator: 1.8 GB under `n16` at full slots, and a fifth of the
/// time of a bootstrap saved each time.
pub struct EncodedTransforms<P> {
    slots_to_coeffs: EncodedDft<P>,
    coeffs_to_slots: EncodedDft<P>,
}

impl<P> EncodedTransforms<P> {
    /// All plaintexts it keeps.
    pub fn plaintexts(&self) -> impl Iterator<Item = &P> {
        self.slots_to_coeffs.plaintexts().chain(self.coeffs_to_slots.plaintexts())
    }
}

impl BootstrapCircuit {
    /// Circuit for data of period `slots`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for a slot count that is no power of two ≥ 2 or exceeds N/2; errors of [`EvalMod::new`].
    pub fn new(parameters: &BootstrapParameters, slots: usize) -> Result<Self> {
        let total = 1usize << parameters.chain.log2_n.saturating_sub(1);
        if slots > total {
            return Err(crate::Error::Shape {
                operation: "bootstrap",
                what: format!("{slots} slots of {total}"),
                remedy: "bootstrap at most N/2 slots".to_owned(),
            });
        }
        // Fewer slots have fewer layers over the same levels: levels must not depend on the slot count.
        let layers = |full: &Vec<usize>| -> Vec<usize> {
            if slots == total {
                return full.clone();
            }
            HomomorphicDft::spread_layers(slots.max(1).trailing_zeros() as usize, full.len())
        };
        Ok(Self {
            slots_to_coeffs: HomomorphicDft::new(
                DftDirection::SlotsToCoeffs,
                slots,
                &layers(&parameters.slots_to_coeffs),
                1.0,
            )?,
            // Half, for the sums with the conjugate.
            coeffs_to_slots: HomomorphicDft::new(
                DftDirection::CoeffsToSlots,
                slots,
                &layers(&parameters.coeffs_to_slots),
                0.5,
            )?,
            eval_mod: EvalMod::new(parameters)?,
            slots,
            message_ratio: f64::from(parameters.log2_message_ratio).exp2(),
            interval: parameters.interval,
        })
    }

    /// Period of the data.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The keys both halves need on a chain whose highest level is `top`, in a ring of `total_slots` slots.
    #[must_use]
    pub fn key_request(&self, total_slots: usize, top: Level) -> KeyRequest {
        let mut request = KeyRequest::new();
        self.slots_to_coeffs.request_keys(&mut request, total_slots, Level(self.slots_to_coeffs.levels()));
        self.coeffs_to_slots.request_keys(&mut request, total_slots, top);
        for step in self.copies(total_slots) {
            request.rotation(step, top);
        }
        let below = Level(top.0.saturating_sub(self.coeffs_to_slots.levels()));
        request.relinearization(below).conjugation(Level(below.0 + 1));
        request
    }

    /// Encodes the diagonals of both transforms.
    ///
    /// # Errors
    /// [`crate::Error::LevelExhausted`] on a chain that is too short; errors of the encoder.
    pub fn encode<E: Evaluator>(&self, evaluator: &E) -> Result<EncodedTransforms<E::Plaintext>> {
        let chain = evaluator.chain();
        let (input, top) = (Level(self.slots_to_coeffs.levels()), chain.max_level());
        let below = top.minus(self.coeffs_to_slots.levels(), "CoeffsToSlots")?;
        Ok(EncodedTransforms {
            slots_to_coeffs: self.slots_to_coeffs.encode(
                evaluator,
                input,
                chain.canonical_scale(input)?,
                self.bottom_scale(evaluator)?,
            )?,
            coeffs_to_slots: self.coeffs_to_slots.encode(
                evaluator,
                top,
                self.raised_scale(evaluator)?,
                chain.canonical_scale(below)?,
            )?,
        })
    }

    /// SlotsToCoeffs of `x` (period n, canonical scale, level at least 3 under `n16`), at level 0; a value of 1 becomes
    /// q0/M. Cost: a [`Evaluator::lower`] unless at level 3, then key switches at few limbs.
    ///
    /// # Errors
    /// [`crate::Error::LevelTooLow`], [`crate::Error::RotationKey`].
    pub fn to_coefficients<E: Evaluator>(
        &self,
        evaluator: &E,
        encoded: &EncodedTransforms<E::Plaintext>,
        x: &E::Ciphertext,
    ) -> Result<E::Ciphertext> {
        let x = evaluator.lower(x, Level(self.slots_to_coeffs.levels()))?;
        evaluator.rescale(&encoded.slots_to_coeffs.apply_unrescaled(evaluator, &x)?)
    }

    /// Scale of the values at level 0: q0/M.
    ///
    /// # Errors
    /// [`crate::Error::LevelOutOfRange`] for a chain without levels.
    pub fn bottom_scale<E: Evaluator>(&self, evaluator: &E) -> Result<Scale> {
        Ok(Scale(evaluator.chain().log2_modulus(Level(0))?.exp2() / self.message_ratio))
    }

    /// Scale to give to the raised ciphertext (coefficients v·q0/M + q0·I): values become x/K, and the copies of sparse
    /// slots that [`Self::from_coefficients`] adds up average out.
    ///
    /// # Errors
    /// [`crate::Error::LevelOutOfRange`] for a chain without levels.
    pub fn raised_scale<E: Evaluator>(&self, evaluator: &E) -> Result<Scale> {
        let copies = (evaluator.slots() / self.slots).max(1) as f64;
        Ok(Scale(self.bottom_scale(evaluator)?.0 * self.message_ratio * self.interval * copies))
    }

    /// The values of a raised ciphertext at [`Self::raised_scale`], back in the slots, at exactly `scale`; of `real`
    /// ones the real parts alone, with one reduction instead of two.
    ///
    /// # Errors
    /// [`crate::Error::LevelExhausted`], [`crate::Error::RotationKey`], [`crate::Error::EvaluationKey`].
    pub fn from_coefficients<E: Evaluator>(
        &self,
        evaluator: &E,
        encoded: &EncodedTransforms<E::Plaintext>,
        raised: &E::Ciphertext,
        scale: Scale,
        real: bool,
    ) -> Result<E::Ciphertext> {
        let mut x = Cow::Borrowed(raised);
        for step in self.copies(evaluator.slots()) {
            let rotated = evaluator.rotate(&x, i64::try_from(step).unwrap_or(0))?;
            x = Cow::Owned(evaluator.add(&x, &rotated)?);
        }
        // The conjugate is taken before the last rescale, where its noise is divided away.
        let y = encoded.coeffs_to_slots.apply_unrescaled(evaluator, &x)?;
        drop(x);
        let conjugate = evaluator.conjugate(&y)?;
        let real_parts = evaluator.rescale(&evaluator.add(&y, &conjugate)?)?;
        if real {
            drop((y, conjugate));
            return self.eval_mod.apply(evaluator, &real_parts, None, scale);
        }
        let i_times =
            |sign: f64, x| LinearTerm { constant: Complex64::new(0.0, sign), ..LinearTerm::integer(1, x) };
        let difference = [i_times(1.0, &conjugate), i_times(-1.0, &y)];
        let imaginary_parts =
            evaluator.rescale(&evaluator.linear_combination(&difference, Complex64::ZERO, y.level())?)?;
        drop((y, conjugate));
        self.eval_mod.apply(evaluator, &real_parts, Some(&imaginary_parts), scale)
    }

    /// Rotations that add up the copies of sparse slots: n, 2n, … S/2.
    fn copies(&self, total_slots: usize) -> Vec<usize> {
        std::iter::successors(Some(self.slots), |step| Some(step * 2))
            .take_while(|step| *step < total_slots)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::clear::{ClearCiphertext, ClearClient, ClearParameters};
    use crate::contract::{CiphertextInfo, Client, Complex64, CountingEvaluator, LevelChain};

    /// The chain of the native backend under these parameters.
    fn clear_chain(parameters: &BootstrapParameters) -> LevelChain {
        crate::ckks::Parameters::new(parameters.chain.clone()).unwrap().chain().clone()
    }

    /// Slots of the polynomial with complex coefficients w_k.
    fn slots_of(coefficients: &[Complex64]) -> Vec<Complex64> {
        let n = coefficients.len();
        let roots: Vec<Complex64> = (0..4 * n)
            .map(|k| Complex64::from_polar(1.0, std::f64::consts::TAU * k as f64 / (4 * n) as f64))
            .collect();
        let mut power = 1;
        (0..n)
            .map(|_| {
                let z = coefficients.iter().enumerate().map(|(k, w)| w * roots[k * power % (4 * n)]).sum();
                power = power * 5 % (4 * n);
                z
            })
            .collect()
    }

    /// What ModRaise does, in the clear: adds q0·I to every coefficient.
    fn raise(
        client: &ClearClient,
        circuit: &BootstrapCircuit,
        bottom: &ClearCiphertext,
        parameters: &BootstrapParameters,
        top: Level,
    ) -> ClearCiphertext {
        let total = bottom.values().len();
        let integer = |k: usize| ((k * 13 + 5) % 27) as f64 - 13.0;
        let integers: Vec<Complex64> =
            (0..total).map(|k| Complex64::new(integer(k), integer(k + 31))).collect();
        let factor = 1.0 / (parameters.interval * (total / circuit.slots()) as f64);
        let values: Vec<Complex64> = bottom
            .values()
            .iter()
            .zip(slots_of(&integers))
            .map(|(v, i)| (v / circuit.message_ratio + i) * factor)
            .collect();
        ClearCiphertext::new(values, top, circuit.raised_scale(&client.dry_run()).unwrap())
    }

    #[test]
    fn full_and_sparse_complex_slots_come_back_on_the_canonical_scale() {
        let parameters = BootstrapParameters::test(9, 2);
        let chain = clear_chain(&parameters);
        let (top, total) = (chain.max_level(), 256);
        let client =
            ClearClient::new(ClearParameters { slots: total, chain, bootstrapping: None, noise: None });
        for slots in [256, 64, 4] {
            let counting = CountingEvaluator::new(client.dry_run());
            let circuit = BootstrapCircuit::new(&parameters, slots).unwrap();
            let values: Vec<Complex64> = (0..total)
                .map(|s| s % slots)
                .map(|s| {
                    Complex64::new(((s * 29) % 64) as f64 / 32.0 - 1.0, ((s * 43) % 50) as f64 / 25.0 - 1.0)
                })
                .collect();
            let input = client.encrypt(&values, Level(3)).unwrap();
            let encoded = circuit.encode(&counting).unwrap();
            let bottom = circuit.to_coefficients(&counting, &encoded, &input).unwrap();
            assert_eq!(bottom.level(), Level(0));
            let raised = raise(&client, &circuit, &bottom, &parameters, top);
            let output = Level(parameters.output_level());
            let scale = counting.chain().canonical_scale(output).unwrap();
            let mut products = Vec::new();
            for real in [false, true] {
                counting.take_counts();
                let result = circuit.from_coefficients(&counting, &encoded, &raised, scale, real).unwrap();
                products.push(counting.take_counts().total().relinearizations);
                assert_eq!(result.level(), output);
                assert!(result.scale().agrees_with(scale));
                for (s, (value, wanted)) in client.decrypt(&result).unwrap().iter().zip(&values).enumerate() {
                    let wanted = if real { Complex64::new(wanted.re, 0.0) } else { *wanted };
                    let error = (value - wanted).norm();
                    assert!(error < 2f64.powi(-20), "{slots} slots, slot {s}: error 2^{:.1}", error.log2());
                }
            }
            assert_eq!(products[0], 2 * products[1], "half for real slots");
            let request = circuit.key_request(total, top);
            assert_eq!(request, counting.inner().recorded(), "{slots} slots");
        }
    }
}
