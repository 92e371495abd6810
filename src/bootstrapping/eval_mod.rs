//! EvalMod: x ↦ x mod 1 in every slot, near the integers.
//!
//! Input: x/K in [−1, 1] with x = I + v/M, I an integer, M the message ratio, |v| ≤ bound. Output: v. E = exp(2πi·x)
//! comes from a Chebyshev series of exp(2πi·x/2^r) and r squarings; then v ≈ M/2π·(a_1·Im E + a_2·Im E²), two sines
//! whose cubic terms cancel (a_1 ≈ 4/3, a_2 ≈ −1/6). Squaring E doubles its error, where the double angle of a cosine
//! multiplies it by up to 4 (the exponential goes back to Cheon et al. 2018; the scaled argument to Han–Ki 2020).
//!
//! Complex slots: two such E, one of the real and one of the imaginary parts, share the conjugation that takes Im.
//! Scales are handed down from the output, as in [`crate::circuits::evaluate_series`]: everything lands exactly.

use super::{BootstrapParameters, few};
use crate::circuits::{ChebyshevBasis, ChebyshevSeries, PolynomialPlan, evaluate_with_basis};
use crate::contract::{CiphertextInfo, Complex64, Error, Evaluator, Level, LinearTerm, Result, Scale};

/// The modular reduction of one set of parameters, in the clear until it is applied.
#[derive(Clone, Debug)]
pub struct EvalMod {
    /// Series of κ^(1/2^r)·exp(2πi·K·t/2^r).
    plan: PolynomialPlan,
    squarings: usize,
    /// κ² = |a_2|·M/4π, so that the square of κE needs no constant.
    kappa: f64,
    /// a_1·M/4π.
    first: f64,
    /// a_1, a_2.
    harmonics: [f64; 2],
    message_ratio: f64,
    /// Coefficients of the series, and its half-width K.
    series: Vec<Complex64>,
    interval: f64,
}

impl EvalMod {
    /// Fits series and harmonics to `parameters`, on their interval for all slots.
    ///
    /// # Errors
    /// [`Error::Parameters`] for an interval, ratio or bound that make no sense.
    pub fn new(parameters: &BootstrapParameters) -> Result<Self> {
        Self::on_interval(parameters, parameters.interval)
    }

    /// Fits series and harmonics to `parameters` on ±`interval`.
    ///
    /// # Errors
    /// [`Error::Parameters`] for an interval, ratio or bound that make no sense.
    pub fn on_interval(parameters: &BootstrapParameters, interval: f64) -> Result<Self> {
        let message_ratio = f64::from(parameters.log2_message_ratio).exp2();
        let widest = parameters.bound / message_ratio;
        if !(interval >= 1.0 && widest > 0.0 && widest < 0.2) || parameters.squarings > 8 {
            return Err(Error::Parameters {
                what: format!(
                    "EvalMod on ±{} with {} squarings, bound {} at message ratio {message_ratio}",
                    interval, parameters.squarings, parameters.bound
                ),
                remedy: "use an interval of at least 1, at most 8 squarings, and a bound below a fifth of the message ratio"
                    .to_owned(),
            });
        }
        let harmonics = fit_harmonics(std::f64::consts::TAU * widest * FITTED_SHARE);
        let kappa = (harmonics[1].abs() * message_ratio / (4.0 * std::f64::consts::PI)).sqrt();
        let squared = f64::from(1u32 << parameters.squarings);
        let (start, speed) = (kappa.powf(1.0 / squared), std::f64::consts::TAU * interval / squared);
        let cosine = ChebyshevSeries::fit(|t| start * (speed * t).cos(), -1.0, 1.0, parameters.degree)?;
        let sine = ChebyshevSeries::fit(|t| start * (speed * t).sin(), -1.0, 1.0, parameters.degree)?;
        // Even and odd parts: what projection leaves of the wrong parity is rounding and would cost products.
        let coefficients: Vec<Complex64> = cosine
            .coefficients()
            .iter()
            .zip(sine.coefficients())
            .enumerate()
            .map(
                |(k, (even, odd))| {
                    if k % 2 == 0 { Complex64::new(*even, 0.0) } else { Complex64::new(0.0, *odd) }
                },
            )
            .collect();
        Ok(Self {
            plan: PolynomialPlan::of_constants(&coefficients),
            squarings: parameters.squarings,
            kappa,
            first: harmonics[0] * message_ratio / (4.0 * std::f64::consts::PI),
            harmonics,
            message_ratio,
            series: coefficients,
            interval,
        })
    }

    /// What it makes of x, in the clear, within and beyond its interval: what series, squarings and harmonics give.
    #[must_use]
    pub fn value_at(&self, x: f64) -> f64 {
        // Clenshaw's recurrence, which holds outside [−1, 1] as well.
        let t = x / self.interval;
        let (mut next, mut after) = (Complex64::ZERO, Complex64::ZERO);
        for coefficient in self.series.iter().skip(1).rev() {
            (next, after) = (coefficient + next * (2.0 * t) - after, next);
        }
        let start = self.series.first().copied().unwrap_or_default() + next * t - after;
        let exponential = (0..self.squarings).fold(start, |power, _| power * power);
        2.0 * (exponential * (self.first / self.kappa) - exponential * exponential).im
    }

    /// Levels it consumes.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.plan.depth() + self.squarings + 1
    }

    /// Error of the two sines alone at `v` (exact exponential).
    #[must_use]
    pub fn sine_error(&self, v: f64) -> f64 {
        let angle = std::f64::consts::TAU * v / self.message_ratio;
        let sines = self.harmonics[0] * angle.sin() + self.harmonics[1] * (2.0 * angle).sin();
        sines * self.message_ratio / std::f64::consts::TAU - v
    }

    /// v_re + i·v_im from `real` and `imaginary` (both x/K, same level and scale; real slots without the second), at
    /// exactly `scale`, [`Self::levels`] below.
    ///
    /// Cost: for each input one series (10 relinearizations at degree 31) and r + 1 squares; one conjugation.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`]; [`Error::EvaluationKey`] without relinearization or conjugation.
    pub fn apply<E: Evaluator>(
        &self,
        evaluator: &E,
        real: &E::Ciphertext,
        imaginary: Option<&E::Ciphertext>,
        scale: Scale,
    ) -> Result<E::Ciphertext> {
        let last = real.level().minus(self.levels() - 1, "EvalMod")?;
        let product_scale = Scale(scale.0 * evaluator.chain().rescale_modulus(last)?);
        let first = self.two_harmonics(evaluator, real, last, product_scale)?;
        let second = imaginary.map(|x| self.two_harmonics(evaluator, x, last, product_scale)).transpose()?;
        // With G = c_1·E + c_2·E², Im G_1 + i·Im G_2 = (G_2 − i·G_1) + conj(−G_2 − i·G_1), c_1 and c_2 halved.
        let combine = |sign: i32| {
            let turned = LinearTerm { constant: Complex64::new(0.0, -1.0), ..LinearTerm::integer(1, &first) };
            let terms: Vec<_> = std::iter::once(turned)
                .chain(second.as_ref().map(|g| LinearTerm::integer(sign, g)))
                .collect();
            evaluator.linear_combination(&terms, Complex64::ZERO, last)
        };
        evaluator.rescale(&evaluator.add(&combine(1)?, &evaluator.conjugate(&combine(-1)?)?)?)
    }

    /// (a_1·E + a_2·E²)·M/4π of one input at level `last`, not rescaled, at `product_scale`.
    fn two_harmonics<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &E::Ciphertext,
        last: Level,
        product_scale: Scale,
    ) -> Result<E::Ciphertext> {
        let scale = Scale(product_scale.0.sqrt());
        let exponential = self.exponential(evaluator, x, last, scale)?;
        let square = evaluator.relinearize(&evaluator.tensor(&exponential, &exponential)?)?;
        let first = Complex64::new(self.first / self.kappa, 0.0);
        let terms =
            [LinearTerm::at_scale(first, &exponential, product_scale), LinearTerm::integer(-1, &square)];
        evaluator.linear_combination(&terms, Complex64::ZERO, last)
    }

    /// κ·exp(2πi·x) at level `last` and exactly `scale`.
    fn exponential<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &E::Ciphertext,
        last: Level,
        scale: Scale,
    ) -> Result<E::Ciphertext> {
        // Upwards: what squares to scale s after dividing by q is √(s·q).
        let mut start = scale;
        for above in 1..=self.squarings {
            start = Scale((start.0 * evaluator.chain().rescale_modulus(Level(last.0 + above))?).sqrt());
        }
        let mut basis = ChebyshevBasis::new(evaluator, x.clone());
        let mut power = evaluate_with_basis(&mut basis, &self.plan, Some(start))?;
        drop(basis);
        for _ in 0..self.squarings {
            power = evaluator.square(&power)?;
        }
        Ok(power)
    }
}

impl BootstrapParameters {
    /// log2 of the probability that a bootstrap of few values fails, where there is one; see [`super::few`].
    #[must_use]
    pub fn log2_failure_few(&self) -> Option<f64> {
        let slots = f64::from(self.chain.log2_n.saturating_sub(1)).exp2();
        let eval_mod = EvalMod::on_interval(self, self.few.as_ref()?.interval).ok()?;
        Some(few::log2_failure(|x| eval_mod.value_at(x).abs(), self.ephemeral_weight, slots))
    }
}

/// Share of the bound that the sines are fitted to; up to the bound itself their error grows fourfold.
const FITTED_SHARE: f64 = 8.0 / 9.0;

/// (a_1, a_2) with a_1·sin θ + a_2·sin 2θ ≈ θ on |θ| ≤ `widest`: exact at the positive zeros of the Legendre polynomial
/// P_5, where the error of order θ⁵ has the least mean square. This error is the same whenever a value comes back, so
/// that it adds up linearly over a chain of bootstraps; its mean square counts, not its maximum far below that of the
/// noise.
fn fit_harmonics(widest: f64) -> [f64; 2] {
    let (outer, inner) = (0.906_179_845_938_664 * widest, 0.538_469_310_105_683 * widest);
    // θ/sin θ = p − q·(1 − cos θ) with p = a_1 + 2a_2 and q = 2a_2.
    let ratio = |angle: f64| angle / angle.sin();
    let versine = |angle: f64| 2.0 * (angle / 2.0).sin().powi(2);
    let q = -(ratio(outer) - ratio(inner)) / (versine(outer) - versine(inner));
    let p = ratio(outer) + q * versine(outer);
    [p - q, q / 2.0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::clear::{ClearClient, ClearParameters};
    use crate::contract::{Client, CountingEvaluator};

    #[test]
    fn two_sines_leave_an_error_of_fifth_order() {
        // Bits of the mean square and of the worst error where it is fitted, and of the worst up to the bound.
        for (bound, mean, fitted, whole) in [(1.125, 26.8, 25.1, 23.2), (2.0, 22.7, 21.0, 19.0)] {
            let parameters = BootstrapParameters { bound, ..BootstrapParameters::test(12, 2) };
            let eval_mod = EvalMod::new(&parameters).unwrap();
            let errors = |up_to: f64| (0..=1000).map(move |i| up_to * f64::from(i) / 1000.0);
            let worst = |up_to: f64| errors(up_to).map(|v| eval_mod.sine_error(v).abs()).fold(0.0, f64::max);
            let square: f64 = errors(FITTED_SHARE * bound).map(|v| eval_mod.sine_error(v).powi(2)).sum();
            let found = [(square / 1001.0).sqrt(), worst(FITTED_SHARE * bound), worst(bound)];
            for (error, bits) in found.iter().zip([mean, fitted, whole]) {
                assert!(*error < 2f64.powf(-bits), "bound {bound}: 2^{:.2}, wanted 2^-{bits}", error.log2());
            }
        }
    }

    #[test]
    fn every_integer_part_is_removed_from_complex_and_real_slots() {
        let parameters = BootstrapParameters::test(12, 2);
        let eval_mod = EvalMod::new(&parameters).unwrap();
        let levels = eval_mod.levels();
        let slots = 32;
        let client = ClearClient::new(ClearParameters::new(slots, levels, 48).unwrap());
        let counting = CountingEvaluator::new(client.dry_run());
        let v = |s: usize, turn: usize| ((s * 37 + turn * 11) % 64) as f64 / 32.0 - 1.0;
        let integer = |s: usize, turn: usize| ((s + 7 * turn) % 31) as f64 - 15.0;
        let x = |turn: usize| -> Vec<Complex64> {
            (0..slots)
                .map(|s| Complex64::new((integer(s, turn) + v(s, turn) / 128.0) / parameters.interval, 0.0))
                .collect()
        };
        let encrypt = |turn: usize| client.encrypt(&x(turn), Level(levels)).unwrap();
        let scale = Scale(2f64.powi(42));
        for imaginary in [true, false] {
            let second = encrypt(1);
            let y = eval_mod.apply(&counting, &encrypt(0), imaginary.then_some(&second), scale).unwrap();
            assert_eq!(y.level(), Level(0));
            assert!(y.scale().agrees_with(scale));
            for (s, value) in client.decrypt(&y).unwrap().into_iter().enumerate() {
                let wanted = Complex64::new(v(s, 0), if imaginary { v(s, 1) } else { 0.0 });
                let error = (value - wanted).norm();
                assert!(
                    error < 2f64.powi(-20), // the fit for magnitudes up to 2 leaves about 2^-21 on each part
                    "slot {s}, I = {}: error 2^{:.1}",
                    integer(s, 0),
                    error.log2()
                );
            }
            let total = counting.take_counts().total();
            let inputs = if imaginary { 2 } else { 1 };
            assert!(total.relinearizations <= 14 * inputs, "{total:?}");
            assert_eq!(total.conjugations, 1);
        }
    }
}
