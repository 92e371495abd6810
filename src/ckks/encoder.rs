//! Slots to coefficients and back: the canonical embedding by complex FFT in f64.
//!
//! Cheon–Kim–Kim–Song 2017, §3. With ζ = e^{iπ/N} and n = N/2, slot j is the value at ζ^{5^j}. Since 5^j = 4u_j + 1, it is
//! Σ_k (c_k ζ^k) e^{2πi u_j k/n} with c_k = a_k + i·a_{k+n}: one complex DFT of size n on twisted coefficients, its output
//! read in the order of the u_j. Accurate to about 2^-49 of the largest value; coefficients above 2^52 lose low bits.

use std::sync::Arc;

use rustfft::{Fft, FftPlanner};

use crate::contract::{Complex64, Error, Result};

/// Transforms between S slots and N = 2S real coefficients.
pub struct Encoder {
    slots: usize,
    /// u_j for every slot.
    order: Vec<u32>,
    /// ζ^k.
    twist: Vec<Complex64>,
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
}

impl Encoder {
    /// Encoder of a ring of degree 2^`log2_n`.
    #[must_use]
    pub fn new(log2_n: u32) -> Self {
        let slots = 1usize << (log2_n - 1);
        let modulus = 4 * slots as u64;
        let mut order = Vec::with_capacity(slots);
        let mut power = 1u64;
        for _ in 0..slots {
            order.push(((power - 1) / 4) as u32);
            power = power * 5 % modulus;
        }
        let step = std::f64::consts::PI / (2 * slots) as f64;
        let twist = (0..slots).map(|k| Complex64::from_polar(1.0, step * k as f64)).collect();
        let mut planner = FftPlanner::new();
        Self {
            slots,
            order,
            twist,
            forward: planner.plan_fft_forward(slots),
            inverse: planner.plan_fft_inverse(slots),
        }
    }

    /// The N coefficients of the polynomial whose slots are `values` (at most S; the rest are zero), times `scale`, rounded
    /// to integers. Coefficient k + S carries the imaginary part of slot sums.
    ///
    /// # Errors
    /// [`Error::TooManyValues`], [`Error::BadValue`] for NaN and infinities.
    pub fn encode(&self, values: &[Complex64], scale: f64) -> Result<Vec<f64>> {
        if values.len() > self.slots {
            return Err(Error::TooManyValues { operation: "encode", given: values.len(), slots: self.slots });
        }
        let mut buffer = vec![Complex64::ZERO; self.slots];
        for (index, (value, position)) in values.iter().zip(&self.order).enumerate() {
            if !(value.re.is_finite() && value.im.is_finite()) {
                return Err(Error::BadValue {
                    operation: "encode",
                    index,
                    value: value.to_string(),
                    bound: f64::MAX,
                });
            }
            if let Some(place) = buffer.get_mut(*position as usize) {
                *place = *value;
            }
        }
        self.forward.process(&mut buffer);
        let factor = scale / self.slots as f64;
        let mut coefficients = vec![0.0; 2 * self.slots];
        let (real, imaginary) = coefficients.split_at_mut(self.slots);
        for (((value, twist), real), imaginary) in buffer.iter().zip(&self.twist).zip(real).zip(imaginary) {
            let c = value * twist.conj() * factor;
            *real = c.re.round_ties_even();
            *imaginary = c.im.round_ties_even();
        }
        Ok(coefficients)
    }

    /// The S slot values of a polynomial of N coefficients divided by `scale`.
    ///
    /// # Errors
    /// [`Error::Internal`] when there are not N coefficients.
    pub fn decode(&self, coefficients: &[f64], scale: f64) -> Result<Vec<Complex64>> {
        if coefficients.len() != 2 * self.slots {
            return Err(Error::Internal(format!(
                "{} coefficients for {} slots",
                coefficients.len(),
                self.slots
            )));
        }
        let (real, imaginary) = coefficients.split_at(self.slots);
        let mut buffer: Vec<Complex64> = real
            .iter()
            .zip(imaginary)
            .zip(&self.twist)
            .map(|((re, im), twist)| Complex64::new(*re, *im) * twist / scale)
            .collect();
        self.inverse.process(&mut buffer);
        Ok(self
            .order
            .iter()
            .map(|position| buffer.get(*position as usize).copied().unwrap_or_default())
            .collect())
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("slots", &self.slots).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pseudo_values(count: usize) -> Vec<Complex64> {
        (0..count).map(|k| Complex64::new((k as f64 * 1.7).sin(), (k as f64 * 0.3 + 1.0).cos())).collect()
    }

    #[test]
    fn slots_are_values_at_powers_of_five() {
        let log2_n = 6;
        let encoder = Encoder::new(log2_n);
        let values = pseudo_values(32);
        let coefficients = encoder.encode(&values, 2f64.powi(40)).unwrap();
        let mut exponent = 1u64;
        for (slot, value) in values.iter().enumerate() {
            let direct: Complex64 = coefficients
                .iter()
                .enumerate()
                .map(|(k, c)| {
                    let turn = (exponent * k as u64 % 128) as f64 / 128.0;
                    Complex64::from_polar(*c, std::f64::consts::TAU * turn)
                })
                .sum::<Complex64>()
                / 2f64.powi(40);
            assert!((direct - value).norm() < 1e-10, "slot {slot}: {direct} for {value}");
            exponent = exponent * 5 % 128;
        }
    }

    #[test]
    fn rounding_is_the_only_error_of_a_round_trip() {
        let encoder = Encoder::new(13);
        let values = pseudo_values(4096);
        for log2_scale in [30, 41, 50] {
            let scale = 2f64.powi(log2_scale);
            let decoded = encoder.decode(&encoder.encode(&values, scale).unwrap(), scale).unwrap();
            let worst = values.iter().zip(&decoded).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max);
            // N coefficients rounded by at most 1/2: deviation sqrt(N/12), six of them, or f64 itself.
            let bound = 6.0 * (8192.0f64 / 12.0).sqrt() / scale + 2f64.powi(-44);
            assert!(
                worst < bound,
                "scale 2^{log2_scale}: error 2^{:.1}, bound 2^{:.1}",
                worst.log2(),
                bound.log2()
            );
        }
    }
}
