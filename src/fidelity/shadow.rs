//! Precision of an encrypted run, measured on the client's side while it runs: every bootstrap against its own input,
//! and every stage against the simulator, which runs the same decoder on the same tokens without encryption.
//!
//! What the simulator has in a slot and what the decrypted one has differ by all errors of encryption so far; what a
//! bootstrap returns and what it was given differ by its own error.

use std::collections::VecDeque;

use crate::backend::clear::{ClearClient, ClearEvaluator};
use crate::contract::{self, BootstrapSummary, Complex64, Error, Result};

use crate::decoder::Progress;
use crate::generation::client::{CiphertextOf, Client};
use crate::generation::protocol::EncryptedTokens;
use crate::generation::server::Server;

/// Errors at one bootstrap of one token; values lie within ±1, so that −log2 of an error is a number of bits.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct StagePrecision {
    /// Where.
    #[serde(flatten)]
    pub progress: Progress,
    /// Largest magnitude of a real or imaginary part that entered the bootstrap.
    pub largest: f64,
    /// Largest error that the bootstrap made, over all slots.
    pub bootstrap_error: f64,
    /// Root mean square of the bootstrap's errors.
    pub bootstrap_deviation: f64,
    /// Largest difference from the simulator before the bootstrap.
    pub drift: f64,
}

/// The simulator beside an encrypted run.
pub struct Shadow {
    client: Client<ClearClient>,
    server: Server<ClearEvaluator>,
    /// Waves of tokens that the encrypted run is about to take.
    pending: VecDeque<Vec<u32>>,
    /// What the simulator had at the stages of the current token, those not compared yet.
    expected: VecDeque<(Progress, Vec<Complex64>)>,
    /// Slots that entered the bootstrap under way.
    entered: Vec<Complex64>,
    /// What the bootstraps of the encrypted run were made for.
    bootstrap: Option<BootstrapSummary>,
    drift: f64,
    stages: Vec<StagePrecision>,
}

impl Shadow {
    /// Simulator at the position of the encrypted run, whose bootstraps are those of `bootstrap`.
    pub fn new(
        client: Client<ClearClient>,
        server: Server<ClearEvaluator>,
        bootstrap: Option<BootstrapSummary>,
    ) -> Self {
        Self {
            bootstrap,
            client,
            server,
            pending: VecDeque::new(),
            expected: VecDeque::new(),
            entered: Vec::new(),
            drift: f64::INFINITY,
            stages: Vec::new(),
        }
    }

    /// Announces the tokens of the next answer, `wave` at a time.
    pub fn expect(&mut self, tokens: &[u32], wave: usize) {
        self.pending = tokens.chunks(wave.max(1)).map(<[u32]>::to_vec).collect();
        self.expected.clear();
    }

    /// Compares one stage of the encrypted run.
    ///
    /// # Errors
    /// [`Error::OutOfInterval`] for values beyond the bound of the bootstrap they entered; [`Error::Internal`] when the
    /// two runs do not walk alike; errors of decryption and of the simulator.
    pub fn compare<K: contract::Client>(
        &mut self,
        client: &Client<K>,
        progress: Progress,
        value: &CiphertextOf<K>,
    ) -> Result<()> {
        let slots = client.slots(value)?;
        if progress.refreshed {
            let (bootstrap_error, square) = differences(&slots, &self.entered);
            self.stages.push(StagePrecision {
                progress,
                largest: self.entered.iter().map(|z| z.re.abs().max(z.im.abs())).fold(0.0, f64::max),
                bootstrap_error,
                bootstrap_deviation: (square / (2 * slots.len().max(1)) as f64).sqrt(),
                drift: self.drift,
            });
            return Ok(());
        }
        if let Some(bootstrap) = self.bootstrap {
            bootstrap.check(&slots).map_err(|error| at(progress, error))?;
        }
        if self.expected.is_empty() {
            self.run_next()?;
        }
        let (_, simulated) = self
            .expected
            .pop_front()
            .filter(|(stage, _)| *stage == progress)
            .ok_or_else(|| Error::Internal(format!("the simulator is not at {progress:?}")))?;
        self.drift = differences(&slots, &simulated).0;
        self.entered = slots;
        Ok(())
    }

    /// The simulator's next wave: all its stages before bootstraps.
    fn run_next(&mut self) -> Result<()> {
        let tokens = self
            .pending
            .pop_front()
            .ok_or_else(|| Error::Internal("a stage without a token to compare with".to_owned()))?;
        let message = EncryptedTokens {
            ciphertext: self.client.encrypt_tokens(&tokens)?,
            tokens: tokens.len(),
            position: self.server.position(),
            wants_answer: self.pending.is_empty(),
        };
        let (client, expected) = (&self.client, &mut self.expected);
        let mut failure = None;
        self.server.answer_observed(&message, &mut |progress, value| {
            if !progress.refreshed {
                match client.slots(value) {
                    Ok(slots) => expected.push_back((progress, slots)),
                    Err(error) => failure = Some(error),
                }
            }
        })?;
        failure.map_or(Ok(()), Err)
    }

    /// Every bootstrap so far, in order.
    pub fn stages(&self) -> &[StagePrecision] {
        &self.stages
    }
}

/// `error` with the place where it happened.
fn at(progress: Progress, error: Error) -> Error {
    match error {
        Error::OutOfInterval { magnitude, bound, .. } => {
            let site = format!("layer {} {}", progress.layer, progress.stage);
            Error::OutOfInterval { site, magnitude, bound }
        }
        other => other,
    }
}

/// Largest difference of a real or imaginary part, and the sum of the squares of all.
fn differences(left: &[Complex64], right: &[Complex64]) -> (f64, f64) {
    left.iter().zip(right).flat_map(|(a, b)| [(a.re - b.re).abs(), (a.im - b.im).abs()]).fold(
        (0.0, 0.0),
        // A NaN must not vanish in a maximum.
        |(largest, square): (f64, f64), error| {
            (if error.is_nan() { f64::INFINITY } else { largest.max(error) }, error.mul_add(error, square))
        },
    )
}
