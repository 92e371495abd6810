//! Calibrating a model and checking the result: record, fit, widen by held-out texts, simulate.

use crate::contract::Result;

use super::block_functions::ExactFunctions;
use super::calibration::{CalibrationTable, CalibrationTargets};
use super::calibration_fit::{fit_sites, widen_for};
use super::calibration_record::RangeRecorder;
use super::fidelity::{Fidelity, FidelitySummary};
use super::simulation::{BootstrapNoise, SimulatedFunctions, SiteHeadroom};
use super::texts::PreparedModel;

/// What a calibration found.
pub struct CalibrationOutcome {
    /// The table.
    pub table: CalibrationTable,
    /// Sites that held-out texts left, as first fitted; they were widened.
    pub widened: Vec<String>,
    /// The simulated model against the exact one on the held-out texts.
    pub held_out: SimulationOutcome,
}

/// The simulated model against the exact one.
pub struct SimulationOutcome {
    /// The figures.
    pub fidelity: FidelitySummary,
    /// What every site met.
    pub headroom: Vec<SiteHeadroom>,
}

impl SimulationOutcome {
    /// Sites that met an argument outside their interval.
    pub fn outside(&self) -> Vec<&SiteHeadroom> {
        self.headroom.iter().filter(|site| site.outside > 0).collect()
    }
}

/// Calibrates on `calibration` and checks on `held_out` (token sequences behind the public prefix). `progress` is told
/// what was done of how much.
///
/// # Errors
/// Those of the forward pass and of [`fit_sites`].
pub fn calibrate(
    prepared: &PreparedModel,
    calibration: &[Vec<u32>],
    held_out: &[Vec<u32>],
    targets: &CalibrationTargets,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<CalibrationOutcome> {
    let recorded = record(prepared, calibration, "recording", progress)?;
    let model = prepared.model.fingerprint();
    let mut table = fit_sites(&recorded, targets, &model, &prepared.frame.prefix)?;
    let checked = record(prepared, held_out, "held-out", progress)?;
    let widened = widen_for(&mut table, &checked)?;
    let held_out = simulate(prepared, &table, held_out, None, progress)?;
    Ok(CalibrationOutcome { table, widened, held_out })
}

/// Runs the exact model over `sequences` and records every site.
///
/// # Errors
/// Those of the forward pass.
pub fn record(
    prepared: &PreparedModel,
    sequences: &[Vec<u32>],
    what: &str,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<RangeRecorder> {
    let mut recorder = RangeRecorder::new(prepared.model.config());
    for (index, tokens) in sequences.iter().enumerate() {
        progress(what, index, sequences.len());
        for token in tokens {
            let embedding = prepared.model.embedding(*token)?;
            recorder.embedding = embedding
                .iter()
                .fold(recorder.embedding, |largest, value| largest.max(f64::from(value.abs())));
        }
        prepared.model.forward(tokens, &mut prepared.prefix_cache.clone(), &mut recorder)?;
        recorder.next_text();
    }
    Ok(recorder)
}

/// Compares the simulated model with the exact one, teacher-forced, over all positions of `sequences`.
///
/// # Errors
/// Those of the forward pass.
pub fn simulate(
    prepared: &PreparedModel,
    table: &CalibrationTable,
    sequences: &[Vec<u32>],
    noise: Option<BootstrapNoise>,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<SimulationOutcome> {
    let mut functions = SimulatedFunctions::new(table, noise)?;
    let mut fidelity = Fidelity::default();
    let model = &prepared.model;
    for (index, tokens) in sequences.iter().enumerate() {
        progress("simulating", index, sequences.len());
        let exact = model.forward(tokens, &mut prepared.prefix_cache.clone(), &mut ExactFunctions)?;
        let simulated = model.forward(tokens, &mut prepared.prefix_cache.clone(), &mut functions)?;
        let (exact, simulated) = (model.logits(&exact), model.logits(&simulated));
        for (position, (exact, simulated)) in exact.rows().into_iter().zip(simulated.rows()).enumerate() {
            fidelity.add(exact, simulated, tokens.get(position + 1).copied());
        }
    }
    Ok(SimulationOutcome { fidelity: fidelity.summary(), headroom: functions.headroom().cloned().collect() })
}
