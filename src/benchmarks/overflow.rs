//! How often the modulus wraps after ModRaise, beside what theory says.
//!
//! ModRaise leaves m + I·q0 in the coefficients. I is a sum of h + 1 numbers uniform in [−1/2, 1/2) for an ephemeral
//! secret of weight h, so |I| ≥ k has the probability of the Irwin–Hall distribution ([`expected_at_least`]).

use serde::Serialize;

use super::bootstrap::BootstrapBench;
use super::values::Input;
use crate::bootstrapping::{expected_at_least, integer_parts};
use crate::contract::{Client, Error, Level, Result};

/// Largest |I| that has a row.
const LARGEST_ROW: u32 = 10;

/// Coefficients whose integer part is large.
#[derive(Clone, Debug, Serialize)]
pub struct OverflowCount {
    /// |I| at least this.
    pub at_least: u32,
    /// Coefficients found.
    pub measured: usize,
    /// Coefficients expected.
    pub expected: f64,
}

/// Integer parts of one ciphertext after ModRaise.
#[derive(Clone, Debug, Serialize)]
pub struct Overflow {
    /// Counts by size.
    #[serde(rename = "overflow")]
    pub rows: Vec<OverflowCount>,
    /// Largest |I|.
    pub largest_integer_part: i64,
    /// What the interval of EvalMod has beyond it.
    pub margin_to_interval: f64,
}

impl BootstrapBench {
    /// Raises one ciphertext of uniform values and counts the integer parts, which only the client can see.
    ///
    /// # Errors
    /// What ModRaise and decryption return.
    pub fn overflow(&self, seed: u64) -> Result<Overflow> {
        let wanted = Input::Uniform.values(self.slots, self.client.slots(), seed);
        let ciphertext = self.client.encrypt(&wanted, self.summary.minimum_input_level)?;
        let bootstrapper = self
            .evaluator
            .bootstrapper()
            .ok_or(Error::EvaluationKey { key: "bootstrapping", level: Level(0) })?;
        let raised = bootstrapper.raised(self.evaluator.levelled(), &ciphertext, self.slots)?;
        let counts = integer_parts(self.client.ckks(), &raised)?;
        let coefficients = counts.values().sum();
        let largest = counts.keys().map(|part| part.abs()).max().unwrap_or(0);
        let measured = |at_least: u32| {
            let large = counts.iter().filter(|(part, _)| part.unsigned_abs() >= u64::from(at_least));
            large.map(|(_, count)| count).sum()
        };
        let rows = (0..=LARGEST_ROW).map(|at_least| OverflowCount {
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
}
