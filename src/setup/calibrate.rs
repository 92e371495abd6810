//! Calibrating a model and checking the result: record, fit, widen by held-out texts, simulate.

use crate::contract::Result;

use crate::calibration::fit::{fit_sites, widen_for};
use crate::calibration::record::RangeRecorder;
use crate::calibration::table::{CalibrationTable, CalibrationTargets};
use crate::fidelity::agreement::{Fidelity, FidelitySummary};
use crate::fidelity::approximated_model::{BootstrapNoise, SimulatedFunctions, SiteHeadroom};
use crate::model::block_functions::ExactFunctions;
use crate::model::prepared::PreparedModel;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::prepared::{TextPart, built_in};

    fn tiny() -> PreparedModel {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-shakespeare-llama");
        PreparedModel::read(std::path::Path::new(path)).unwrap()
    }

    fn tokens(prepared: &PreparedModel, part: TextPart) -> Vec<Vec<u32>> {
        prepared.private_tokens(&built_in(part, false), 128, 0).unwrap()
    }

    #[test]
    fn the_calibrated_tiny_model_keeps_its_tokens_on_texts_it_never_saw() {
        let prepared = tiny();
        let (calibration, held_out) =
            (tokens(&prepared, TextPart::Calibration), tokens(&prepared, TextPart::HeldOut));
        let targets = CalibrationTargets::default();
        let outcome = calibrate(&prepared, &calibration, &held_out, &targets, &mut |_, _, _| {}).unwrap();

        let text = outcome.table.to_json().unwrap();
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("calibration.json");
        std::fs::write(&path, text).unwrap();
        let config = prepared.model.config();
        let table = CalibrationTable::read(&path, config, &prepared.model.fingerprint()).unwrap();
        for (read, written) in table.layers.iter().zip(&outcome.table.layers) {
            for (read, written) in read.softmax.heads.iter().zip(&written.softmax.heads) {
                let change = (read.shift_constant - written.shift_constant).abs();
                assert!(change < 1e-12 * written.shift_constant.abs().max(1.0), "{change:e}");
            }
        }
        let refusal = CalibrationTable::read(&path, config, "another").unwrap_err().to_string();
        assert!(refusal.contains("made for model"), "{refusal}");

        let evaluation = tokens(&prepared, TextPart::Evaluation);
        let result = simulate(&prepared, &table, &evaluation, None, &mut |_, _, _| {}).unwrap();
        let fidelity = &result.fidelity;
        assert!(fidelity.positions >= 2000, "{fidelity:?}");
        assert!(fidelity.top1 >= 0.995 && fidelity.kl_mean <= 1e-3, "{fidelity:?}");
        assert!(result.outside().is_empty(), "{:?}", result.outside());
    }

    #[test]
    fn a_gate_beyond_its_interval_is_reported_by_layer_and_name() {
        let prepared = tiny();
        let sequences = tokens(&prepared, TextPart::HeldOut);
        let recorded = record(&prepared, &sequences, "", &mut |_, _, _| {}).unwrap();
        let targets = CalibrationTargets { silu_margin: 0.5, ..CalibrationTargets::default() };
        let model = prepared.model.fingerprint();
        let table = fit_sites(&recorded, &targets, &model, &prepared.frame.prefix).unwrap();
        let result = simulate(&prepared, &table, &sequences, None, &mut |_, _, _| {}).unwrap();
        let names: Vec<&str> = result.outside().iter().map(|site| site.site.as_str()).collect();
        assert!(names.contains(&"layer 0 SiLU") && names.contains(&"layer 1 SiLU"), "{names:?}");
    }
}
