//! Slots to coefficients and back: the canonical embedding by complex FFT in f64.
//!
//! Cheon–Kim–Kim–Song 2017, §3. With ζ = e^{iπ/N} and n = N/2, slot j is the value at ζ^{5^j}. Since 5^j = 4u_j + 1,
//! it is Σ_k (c_k ζ^k) e^{2πi u_j k/n} with c_k = a_k + i·a_{k+n}: one complex DFT of size n on twisted coefficients,
//! its output read in the order of the u_j.
//!
//! The FFT is that of `tfhe-fft`, whose outputs stand in an order of its own: position p holds the exponent −x_p of
//! the DFT with e^{−2πi}. Both orders are one table here. Accurate to about 2^-49 of the largest value; coefficients
//! above 2^52 lose low bits.

use dyn_stack::{PodBuffer, PodStack};
use tfhe_fft::ordered::FftAlgo;
use tfhe_fft::unordered::{Method, Plan};

use crate::contract::{Complex64, Error, Result};

/// Largest size of the ordered FFT that larger ones are made of. Fixed, not measured when the plan is made: results
/// must not depend on the load of the machine.
const BASE_SIZE: usize = 1024;

/// Transforms between S slots and N = 2S real coefficients.
pub struct Encoder {
    slots: usize,
    /// Where the FFT has slot j.
    positions: Vec<u32>,
    /// ζ^k.
    twist: Vec<Complex64>,
    plan: Plan,
}

impl Encoder {
    /// Encoder of a ring of degree 2^`log2_n`, at least 2^5.
    #[must_use]
    pub fn new(log2_n: u32) -> Self {
        let slots = 1usize << (log2_n - 1);
        let base_n = slots.min(BASE_SIZE);
        let plan = Plan::new(slots, Method::UserProvided { base_algo: FftAlgo::Dif4, base_n });
        let step = std::f64::consts::PI / (2 * slots) as f64;
        let twist = (0..slots).map(|k| Complex64::from_polar(1.0, step * k as f64)).collect();
        Self { slots, positions: positions(&plan, slots), twist, plan }
    }

    /// Runs `transform` of the plan on `buffer` with the scratch it needs.
    fn run(
        &self,
        buffer: &mut [Complex64],
        transform: fn(&Plan, &mut [Complex64], &mut PodStack),
    ) -> Result<()> {
        let mut scratch = PodBuffer::try_new(self.plan.fft_scratch())
            .map_err(|error| Error::Internal(format!("scratch of an FFT: {error:?}")))?;
        transform(&self.plan, buffer, PodStack::new(&mut scratch));
        Ok(())
    }

    /// The N coefficients of the polynomial whose slots are `values` (at most S; the rest are zero), times `scale`,
    /// rounded to integers. Coefficient k + S carries the imaginary part of slot sums.
    ///
    /// # Errors
    /// [`Error::TooManyValues`], [`Error::BadValue`] for NaN and infinities.
    pub fn encode(&self, values: &[Complex64], scale: f64) -> Result<Vec<f64>> {
        if values.len() > self.slots {
            return Err(Error::TooManyValues { operation: "encode", given: values.len(), slots: self.slots });
        }
        let mut buffer = vec![Complex64::ZERO; self.slots];
        for (index, (value, position)) in values.iter().zip(&self.positions).enumerate() {
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
        self.run(&mut buffer, Plan::inv)?;
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
        self.run(&mut buffer, Plan::fwd)?;
        Ok(self
            .positions
            .iter()
            .map(|position| buffer.get(*position as usize).copied().unwrap_or_default())
            .collect())
    }
}

/// Where the plan has slot j, that is the exponent u_j of e^{+2πi/n}: u_j = (5^j − 1)/4.
fn positions(plan: &Plan, slots: usize) -> Vec<u32> {
    // The transform of X holds e^{−2πi x_p/n} at position p: the exponents are read off it.
    let mut points = vec![Complex64::ZERO; slots];
    plan.fwd_monomial(1, &mut points);
    let mut position_of = vec![0u32; slots];
    for (position, point) in points.iter().enumerate() {
        let turn = point.arg() / std::f64::consts::TAU * slots as f64;
        let exponent = (turn.round() as i64).rem_euclid(slots as i64);
        if let Some(place) = position_of.get_mut(exponent as usize) {
            *place = position as u32;
        }
    }
    let mut power = 1u64;
    (0..slots)
        .map(|_| {
            let exponent = (power - 1) / 4;
            power = power * 5 % (4 * slots as u64);
            position_of.get(exponent as usize).copied().unwrap_or(0)
        })
        .collect()
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

    /// Σ c_k·ζ^{k·exponent} in twice the precision of f64 but for the powers of ζ, whose angles are reduced exactly.
    fn value_at(coefficients: &[f64], exponent: u64) -> Complex64 {
        let n = coefficients.len() as u64;
        let (mut sum, mut lost) = (Complex64::ZERO, Complex64::ZERO);
        for (k, c) in coefficients.iter().enumerate() {
            let turn = (exponent * k as u64 % (2 * n)) as f64 / (2 * n) as f64;
            let term = Complex64::from_polar(*c, std::f64::consts::TAU * turn);
            let total = sum + term;
            // What the addition rounded away (Knuth's exact sum).
            let from_term = total - sum;
            lost += (sum - (total - from_term)) + (term - from_term);
            sum = total;
        }
        sum + lost
    }

    #[test]
    fn every_size_of_ring_decodes_to_values_at_powers_of_five() {
        for log2_n in 5..=17 {
            let n = 1u64 << log2_n;
            let encoder = Encoder::new(log2_n);
            let coefficients: Vec<f64> = (0..n).map(|k| ((k * k + 7 * k) % 1021) as f64 - 510.0).collect();
            let decoded = encoder.decode(&coefficients, 1.0).unwrap();
            let largest = decoded.iter().map(|z| z.norm()).fold(0.0, f64::max);
            let mut exponent = 1u64;
            for (slot, value) in decoded.iter().enumerate() {
                if slot % (decoded.len() / 16) < 2 {
                    let error = (value - value_at(&coefficients, exponent)).norm() / largest;
                    assert!(error < 2f64.powi(-49), "2^{log2_n}, slot {slot}: 2^{:.1}", error.log2());
                }
                exponent = exponent * 5 % (2 * n);
            }
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
