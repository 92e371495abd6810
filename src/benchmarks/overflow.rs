//! How often the modulus wraps after ModRaise, and how large junk is before EvalMod, beside what theory says.
//!
//! ModRaise leaves m + I·q0 in the coefficients. I is a sum of h + 1 numbers uniform in [−1/2, 1/2) for an ephemeral
//! secret of weight h, so |I| ≥ k has the probability of the Irwin–Hall distribution ([`expected_at_least`]).

use serde::Serialize;

use super::bootstrap::BootstrapBench;
use super::values::Input;
use crate::bootstrapping::few::log2_junk_beyond;
use crate::bootstrapping::{Bootstrapper, expected_at_least, integer_parts};
use crate::contract::{Client, Error, Level, Refreshed, Result};

/// Largest size that has a row.
const LARGEST_ROW: u32 = 10;

/// Values of a size or above it.
#[derive(Clone, Debug, Serialize)]
pub struct OverflowCount {
    /// `all` or `few` for integer parts of coefficients, `junk` for slots beside few values.
    pub kind: &'static str,
    /// Magnitude at least this.
    pub at_least: u32,
    /// How many were found.
    pub measured: usize,
    /// How many are expected; of junk at most.
    pub expected: f64,
}

/// Integer parts of one ciphertext after ModRaise.
#[derive(Clone, Debug)]
pub struct Overflow {
    /// Counts by size.
    pub rows: Vec<OverflowCount>,
    /// Largest |I|.
    pub largest_integer_part: i64,
    /// What the interval of EvalMod has beyond it.
    pub margin_to_interval: f64,
}

impl BootstrapBench {
    fn bootstrapper(&self) -> Result<&Bootstrapper> {
        let missing = Error::EvaluationKey { key: "bootstrapping", level: Level(0) };
        self.evaluator.bootstrapper().ok_or(missing)
    }

    /// Raises one ciphertext of uniform values and counts the integer parts, which only the client can see.
    ///
    /// # Errors
    /// What ModRaise and decryption return.
    pub fn overflow(&self) -> Result<Overflow> {
        let request = self.request(Input::Uniform, 1)?;
        let (lowest, _) = self.summary.levels(&request, "native")?;
        let ciphertext = self.client.encrypt(&self.slots(Input::Uniform), lowest)?;
        let raised =
            self.bootstrapper()?.raised(self.evaluator.levelled(), &ciphertext, &request.refreshed)?;
        let counts = integer_parts(self.client.ckks(), &raised)?;
        let coefficients = counts.values().sum();
        let largest = counts.keys().map(|part| part.abs()).max().unwrap_or(0);
        let measured = |at_least: u32| {
            let large = counts.iter().filter(|(part, _)| part.unsigned_abs() >= u64::from(at_least));
            large.map(|(_, count)| count).sum()
        };
        let rows = (0..=LARGEST_ROW).map(|at_least| OverflowCount {
            kind: self.kind.name,
            at_least,
            measured: measured(at_least),
            expected: expected_at_least(self.parameters.ephemeral_weight, at_least, coefficients),
        });
        Ok(Overflow {
            rows: rows.collect(),
            largest_integer_part: largest,
            margin_to_interval: self.parameters.interval - largest as f64,
        })
    }

    /// Junk before EvalMod of one bootstrap of few values, beside its bound; no rows for all slots.
    ///
    /// # Errors
    /// What the bootstrap returns.
    pub fn junk(&self) -> Result<Vec<OverflowCount>> {
        let (Refreshed::Few(few), Some(parameters)) = (&self.kind.refreshed, &self.parameters.few) else {
            return Ok(Vec::new());
        };
        let ciphertext = self.client.encrypt(&self.slots(Input::Uniform), Level(1))?;
        let seen = self.bootstrapper()?.before_reduction(self.evaluator.levelled(), &ciphertext, few)?;
        let (seen, clean) = (self.client.decrypt(&seen)?, few.slots.mask(self.client.slots()));
        let outside = seen.iter().zip(&clean).filter(|(_, clean)| clean.re == 0.0);
        let junk: Vec<f64> = outside.map(|(value, _)| value.re.abs() * parameters.interval).collect();
        let (weight, count) = (self.parameters.ephemeral_weight, junk.len() as f64);
        let rows = (0..=LARGEST_ROW).map(|at_least| OverflowCount {
            kind: "junk",
            at_least,
            measured: junk.iter().filter(|junk| **junk >= f64::from(at_least)).count(),
            expected: log2_junk_beyond(f64::from(at_least), weight, count).exp2().min(count),
        });
        Ok(rows.collect())
    }
}
