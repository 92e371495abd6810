//! One kind of bootstrap under measurement: what it refreshes, under which keys, and what it is timed and judged by.

use std::time::Instant;

use crate::backend::native::{NativeClient, NativeEvaluator};
use crate::bootstrapping::{BootstrapParameters, expected_at_least, integer_parts};
use crate::contract::{
    BootstrapRequest, BootstrapSummary, Client, Complex64, Evaluator, FewValues, KeyRequest, Level,
    OccupiedSlots, Refreshed,
};
use anyhow::{Context, ensure};
use serde::Serialize;

use super::inputs::{REAL, values};
use crate::measure::{available_memory_bytes, peak_memory_bytes};

/// Limbs of the rotation a bootstrap is compared with.
const REFERENCE_LIMBS: usize = 24;

/// What is refreshed, by a name for reports.
pub struct Kind {
    /// `all` or `few`.
    pub name: &'static str,
    /// Layout, for people.
    pub layout: &'static str,
    pub refreshed: Refreshed,
}

impl Kind {
    /// All slots, of period `period`.
    pub fn all(period: usize) -> Self {
        Self { name: "all", layout: "all slots", refreshed: Refreshed::All { period, real: false } }
    }

    /// The layouts of a decode step of SmolLM2 in a ring of `total` slots: the residual stream, and complex pairs far apart.
    pub fn few(total: usize) -> anyhow::Result<Vec<Self>> {
        let (block, apart) = (total / 64, total / 512);
        let residual = (0..64).flat_map(|b| (0..9).map(move |value| b * block + value)).collect();
        let pairs = (0..total / apart.max(64)).map(|pair| pair * apart.max(64)).collect();
        let kind = |layout, slots: Vec<usize>, real| -> anyhow::Result<Self> {
            let few = FewValues { slots: OccupiedSlots::new(slots)?, real };
            Ok(Self { name: "few", layout, refreshed: Refreshed::Few(few) })
        };
        Ok(vec![
            kind("64 blocks of 9 real values", residual, true)?,
            kind("complex values far apart", pairs, false)?,
        ])
    }

    /// Number of values in a ring of `total` slots.
    pub fn values(&self) -> usize {
        match &self.refreshed {
            Refreshed::All { period, .. } => *period,
            Refreshed::Few(few) => few.slots.len(),
        }
    }

    /// Whether what is refreshed for `input` is real: always, or because the input is.
    fn real(&self, input: &str) -> bool {
        match &self.refreshed {
            Refreshed::All { .. } => input == REAL,
            Refreshed::Few(few) => few.real,
        }
    }
}

/// A kind of bootstrap with its keys.
pub struct Subject {
    pub client: NativeClient,
    pub evaluator: NativeEvaluator,
    pub summary: BootstrapSummary,
    pub parameters: BootstrapParameters,
    pub kind: Kind,
    pub key_generation_s: f64,
    pub reference_ms: f64,
    pub seed: u64,
}

/// One measured bootstrap.
#[derive(Serialize)]
pub struct Row {
    pub kind: &'static str,
    pub layout: &'static str,
    pub input: String,
    pub slots: usize,
    pub values: usize,
    pub threads: usize,
    pub iterations: usize,
    pub real: bool,
    pub median_s: f64,
    pub min_s: f64,
    pub reference_rotate_ms: f64,
    pub rotations: f64,
    pub precision_min_bits: f64,
    pub precision_mean_bits: f64,
    pub levels_after: usize,
    pub minimum_input_level: usize,
    pub key_bytes: u64,
    pub plaintext_bytes: u64,
    pub peak_bytes: u64,
    pub log2_failure: f64,
}

#[derive(Serialize)]
pub struct ChainRow {
    pub kind: &'static str,
    pub values: usize,
    pub bootstraps: usize,
    pub precision_min_bits: f64,
    pub precision_mean_bits: f64,
    pub rms_error: f64,
}

#[derive(Serialize)]
pub struct OverflowRow {
    pub kind: &'static str,
    pub at_least: u32,
    pub measured: usize,
    pub expected: f64,
}

impl Subject {
    /// Keys for `kind` alone; refused when they would not fit in memory.
    pub fn new(parameters: &BootstrapParameters, kind: Kind, seed: u64) -> anyhow::Result<Self> {
        let client = NativeClient::with_bootstrapping(parameters.clone(), None)?;
        let mut request = KeyRequest::new();
        request.bootstrapping_of(&BootstrapRequest {
            level: Level(0),
            iterations: 1,
            refreshed: kind.refreshed.clone(),
        });
        // One rotation to compare with, at 24 limbs where the chain has them.
        let top = client.ckks().parameters().chain().max_level();
        let reference_level = Level((REFERENCE_LIMBS - 1).min(top.0));
        request.rotation(1, reference_level);
        let predicted = client.predicted_key_bytes(&request)?;
        println!("{}, {}: evaluation keys {:.2} GB", kind.name, kind.layout, predicted as f64 / 1e9);
        if let Some(available) = available_memory_bytes() {
            ensure!(
                predicted + predicted / 2 < available,
                "keys and working memory need about {} bytes, {available} are available",
                predicted + predicted / 2
            );
        }
        let start = Instant::now();
        let evaluator = client.evaluator(&request)?;
        let key_generation_s = start.elapsed().as_secs_f64();
        let summary = evaluator.bootstrapping().context("the preset does not bootstrap")?;
        let mut subject = Self {
            client,
            evaluator,
            summary,
            parameters: parameters.clone(),
            kind,
            key_generation_s,
            reference_ms: 0.0,
            seed,
        };
        subject.reference_ms = subject.reference_rotation(reference_level)?;
        println!(
            "key generation {key_generation_s:.1} s; one rotation at {} limbs: {:.1} ms",
            reference_level.0 + 1,
            subject.reference_ms
        );
        Ok(subject)
    }

    /// log2 of the probability that one bootstrap of this kind fails.
    pub fn log2_failure(&self) -> f64 {
        match &self.kind.refreshed {
            Refreshed::All { .. } => self.parameters.log2_failure(),
            Refreshed::Few(_) => self.parameters.log2_failure_few().unwrap_or(0.0),
        }
    }

    /// The request for `input` to the highest level.
    fn request(&self, input: &str, iterations: usize) -> anyhow::Result<BootstrapRequest> {
        let refreshed = self.kind.refreshed.clone();
        let request = BootstrapRequest { level: Level(0), iterations, refreshed }.real(self.kind.real(input));
        let (_, highest) = self.summary.levels(&request, "native")?;
        Ok(request.to(highest))
    }

    /// All slots of an input of one kind.
    fn slots(&self, input: &str) -> Vec<Complex64> {
        let mut values = values(input, self.kind.values(), self.seed);
        if self.kind.real(input) {
            values.iter_mut().for_each(|value| value.im = 0.0);
        }
        let total = self.client.slots();
        match &self.kind.refreshed {
            Refreshed::All { .. } => values.into_iter().cycle().take(total).collect(),
            Refreshed::Few(few) => {
                let mut slots = vec![Complex64::ZERO; total];
                for (slot, value) in few.slots.slots().iter().zip(values) {
                    if let Some(place) = slots.get_mut(*slot) {
                        *place = value;
                    }
                }
                slots
            }
        }
    }

    /// What a decrypted result holds of `wanted`: pairs of found and wanted, junk left out.
    fn compared(
        &self,
        found: &[Complex64],
        wanted: &[Complex64],
    ) -> anyhow::Result<Vec<(Complex64, Complex64)>> {
        Ok(match &self.kind.refreshed {
            Refreshed::All { .. } => {
                self.summary.check(found)?;
                found.iter().copied().zip(wanted.iter().copied()).collect()
            }
            Refreshed::Few(few) => {
                let found = self.summary.few_values(found, &few.slots)?;
                found.into_iter().zip(self.summary.few_values(wanted, &few.slots)?).collect()
            }
        })
    }

    /// Median time of one rotation at `level` in milliseconds.
    fn reference_rotation(&self, level: Level) -> anyhow::Result<f64> {
        let values = vec![Complex64::new(0.5, 0.0); self.client.slots()];
        let ciphertext = self.client.encrypt(&values, level)?;
        let mut milliseconds = Vec::new();
        for _ in 0..7 {
            let start = Instant::now();
            self.evaluator.rotate(&ciphertext, 1)?;
            milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        }
        milliseconds.sort_by(f64::total_cmp);
        milliseconds.get(milliseconds.len() / 2).copied().context("no rotation was timed")
    }

    /// `repeat` bootstraps of one kind of input.
    pub fn row(&self, input: &str, iterations: usize, repeat: usize) -> anyhow::Result<Row> {
        let wanted = self.slots(input);
        let request = self.request(input, iterations)?;
        let (lowest, highest) = self.summary.levels(&request, "native")?;
        let ciphertext = self.client.encrypt(&wanted, lowest)?;
        let real = request.refreshed.is_real();
        let (mut seconds, mut errors) = (Vec::new(), Vec::new());
        for _ in 0..repeat.max(1) {
            let start = Instant::now();
            let result = self.evaluator.bootstrap(&ciphertext, &request)?;
            seconds.push(start.elapsed().as_secs_f64());
            errors.extend(error_bits(&self.compared(&self.client.decrypt(&result)?, &wanted)?, real));
        }
        seconds.sort_by(f64::total_cmp);
        let min_s = seconds.first().copied().context("no bootstrap was timed")?;
        let median_s = seconds.get(seconds.len() / 2).copied().context("no bootstrap was timed")?;
        let (precision_min_bits, precision_mean_bits) = summarize(&errors);
        Ok(Row {
            kind: self.kind.name,
            layout: self.kind.layout,
            input: input.to_owned(),
            slots: self.client.slots(),
            values: self.kind.values(),
            threads: rayon::current_num_threads(),
            iterations,
            real,
            median_s,
            min_s,
            reference_rotate_ms: self.reference_ms,
            rotations: min_s * 1e3 / self.reference_ms,
            precision_min_bits,
            precision_mean_bits,
            levels_after: highest.0,
            minimum_input_level: lowest.0,
            key_bytes: self.evaluator.key_bytes(),
            plaintext_bytes: self.evaluator.bootstrapper().map_or(0, |b| b.encoded_bytes()),
            peak_bytes: peak_memory_bytes().context("no peak memory on this system")?,
            log2_failure: self.log2_failure(),
        })
    }

    /// `length` bootstraps, each of the result of the one before; junk is masked in between, as a circuit would.
    pub fn chain(&self, length: usize) -> anyhow::Result<Vec<ChainRow>> {
        let wanted = self.slots("uniform");
        let request = self.request("uniform", 1)?;
        let mut ciphertext = self.client.encrypt(&wanted, self.summary.levels(&request, "native")?.0)?;
        let mut rows = Vec::new();
        for bootstraps in 1..=length {
            ciphertext = self.evaluator.bootstrap(&ciphertext, &request)?;
            let pairs = self.compared(&self.client.decrypt(&ciphertext)?, &wanted)?;
            let (precision_min_bits, precision_mean_bits) =
                summarize(&error_bits(&pairs, request.refreshed.is_real()));
            let parts = if request.refreshed.is_real() { 1 } else { 2 };
            let squares: f64 = pairs
                .iter()
                .map(|(x, y)| if parts == 1 { (x.re - y.re).powi(2) } else { (x - y).norm_sqr() })
                .sum();
            let rms_error = (squares / (parts * pairs.len()) as f64).sqrt();
            println!(
                "{} chain of {bootstraps:2}: worst {precision_min_bits:.2}, mean {precision_mean_bits:.2} bits, rms error {rms_error:.3e}, over √k {:.3e}",
                self.kind.name,
                rms_error / (bootstraps as f64).sqrt()
            );
            let (kind, values) = (self.kind.name, self.kind.values());
            rows.push(ChainRow {
                kind,
                values,
                bootstraps,
                precision_min_bits,
                precision_mean_bits,
                rms_error,
            });
            if let Refreshed::Few(few) = &self.kind.refreshed {
                let low = self.evaluator.lower(&ciphertext, Level(2))?;
                ciphertext = self.evaluator.mul_values(&low, &few.slots.mask(self.client.slots()))?;
            }
        }
        Ok(rows)
    }

    /// Integer parts of one raised ciphertext, beside the law, and the largest of them.
    pub fn overflow(&self) -> anyhow::Result<(Vec<OverflowRow>, i64)> {
        let request = self.request("uniform", 1)?;
        let (lowest, _) = self.summary.levels(&request, "native")?;
        let ciphertext = self.client.encrypt(&self.slots("uniform"), lowest)?;
        let bootstrapper = self.evaluator.bootstrapper().context("no bootstrapping keys")?;
        let raised = bootstrapper.raised(self.evaluator.levelled(), &ciphertext, &request.refreshed)?;
        let counts = integer_parts(self.client.ckks(), &raised)?;
        let coefficients = counts.values().sum();
        let largest = counts.keys().map(|i| i.abs()).max().unwrap_or(0);
        let at_least = |k: u32| -> usize {
            counts.iter().filter(|(i, _)| i.unsigned_abs() >= u64::from(k)).map(|(_, count)| count).sum()
        };
        let rows = (0..=10u32)
            .map(|k| OverflowRow {
                kind: self.kind.name,
                at_least: k,
                measured: at_least(k),
                expected: expected_at_least(self.parameters.ephemeral_weight, k, coefficients),
            })
            .collect();
        Ok((rows, largest))
    }

    /// Junk before EvalMod of one bootstrap of few values, beside its bound; nothing for all slots.
    pub fn junk(&self) -> anyhow::Result<Vec<OverflowRow>> {
        let Refreshed::Few(few) = &self.kind.refreshed else { return Ok(Vec::new()) };
        let interval = self.parameters.few.as_ref().context("no few values")?.interval;
        let ciphertext = self.client.encrypt(&self.slots("uniform"), Level(1))?;
        let bootstrapper = self.evaluator.bootstrapper().context("no bootstrapping keys")?;
        let seen = bootstrapper.before_reduction(self.evaluator.levelled(), &ciphertext, few)?;
        let clean = few.slots.mask(self.client.slots());
        let seen = self.client.decrypt(&seen)?;
        let junk: Vec<f64> = seen
            .iter()
            .zip(&clean)
            .filter(|(_, clean)| clean.re == 0.0)
            .map(|(x, _)| x.re.abs() * interval)
            .collect();
        let bound = |k: f64| {
            let weight = self.parameters.ephemeral_weight;
            crate::bootstrapping::few::log2_junk_beyond(k, weight, junk.len() as f64).exp2()
        };
        Ok((0..=10u32)
            .map(|k| OverflowRow {
                kind: "junk",
                at_least: k,
                measured: junk.iter().filter(|x| **x >= f64::from(k)).count(),
                expected: bound(f64::from(k)).min(junk.len() as f64),
            })
            .collect())
    }
}

/// −log2 of the error of every real part, and unless values are real of every imaginary part, at most 60.
fn error_bits(pairs: &[(Complex64, Complex64)], real: bool) -> Vec<f64> {
    let parts = if real { 1 } else { 2 };
    pairs
        .iter()
        .flat_map(|(x, y)| [x.re - y.re, x.im - y.im].into_iter().take(parts))
        .map(|error| -error.abs().max((-60f64).exp2()).log2())
        .collect()
}

/// Smallest and mean.
fn summarize(bits: &[f64]) -> (f64, f64) {
    let smallest = bits.iter().copied().fold(f64::INFINITY, f64::min);
    (smallest, bits.iter().sum::<f64>() / bits.len().max(1) as f64)
}
