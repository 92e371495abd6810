//! Cost files: what `cachemir bench modules` writes and `plan` and `baselines` read, and the reports of `bench ops`
//! and `bench bootstrap` they are made from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bootstrap::BootstrapCosts;
use super::operation_costs::{OperationCosts, OperationRow, Primitive, Source};
use super::template::LayerTemplate;
use crate::contract::{Error, Level, Result};

/// Seconds of one bootstrap to one level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BootstrapRow {
    /// Level afterwards.
    pub level: Level,
    /// Seconds.
    pub seconds: f64,
    /// Seconds when all slots are real; not known in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_seconds: Option<f64>,
    /// Where they come from.
    pub source: Source,
}

/// Seconds of one operation of a decoder layer at one level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleRow {
    /// Name of the operation in its layer.
    pub module: String,
    /// Level at which it runs.
    pub level: Level,
    /// Seconds.
    pub seconds: f64,
    /// Where they come from.
    pub source: Source,
}

/// A layer as the encrypted decoder runs it, taken apart into steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredLayer {
    /// Fingerprint of the model.
    pub model: String,
    /// Decoder layers of the model.
    pub layers: usize,
    /// Operations, values and counted work of one of them.
    pub template: LayerTemplate,
}

/// Costs of one backend under one preset on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostFile {
    /// Elementary operations.
    pub operations: Vec<OperationRow>,
    /// Bootstraps.
    pub bootstraps: Vec<BootstrapRow>,
    /// Lowest level at which a ciphertext may enter a bootstrap.
    pub minimum_input_level: Level,
    /// Operations of a decoder layer that were measured or composed; a measured one replaces the composition.
    #[serde(default)]
    pub modules: Vec<ModuleRow>,
    /// The layer whose operations `modules` are, when it is a model's own and not built from a shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<MeasuredLayer>,
    /// Where the figures come from: machine, commands, threads.
    #[serde(default)]
    pub provenance: String,
}

/// The rows that `bench ops` and `bench bootstrap` report, as far as costs need them.
#[derive(Deserialize)]
struct BenchOps {
    #[serde(default)]
    backend: String,
    #[serde(default)]
    preset: String,
    rows: Vec<BenchOpsRow>,
}

#[derive(Deserialize)]
struct BenchOpsRow {
    op: String,
    level: usize,
    #[serde(default = "one")]
    threads: usize,
    median_ms: f64,
}

#[derive(Deserialize)]
struct BenchBootstrap {
    #[serde(default)]
    backend: String,
    #[serde(default)]
    preset: String,
    levels_between_bootstraps: Option<usize>,
    rows: Vec<BenchBootstrapRow>,
}

#[derive(Deserialize)]
struct BenchBootstrapRow {
    #[serde(default)]
    slots: usize,
    #[serde(default = "one")]
    threads: usize,
    #[serde(default = "one")]
    iterations: usize,
    #[serde(default)]
    real: bool,
    median_s: f64,
    levels_after: usize,
}

fn one() -> usize {
    1
}

fn parse<'a, T: Deserialize<'a>>(what: &str, text: &'a str, remedy: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Format {
        what: what.to_owned(),
        why: error.to_string(),
        remedy: remedy.to_owned(),
    })
}

/// That a bootstrap may end at level `top`: nothing is allocated on the word of a file.
fn check_top(top: usize) -> Result<()> {
    let most = super::LevelGraph::MAX_LEVEL;
    if top <= most {
        return Ok(());
    }
    Err(Error::Format {
        what: "cost file".to_owned(),
        why: format!("a bootstrap is said to end at level {top}"),
        remedy: format!("levels go up to {most}"),
    })
}

impl CostFile {
    /// Reads a cost file (or the report of `cachemir bench modules` that contains its keys).
    ///
    /// # Errors
    /// [`Error::Format`] when it is not one.
    pub fn parse(text: &str) -> Result<Self> {
        parse("cost file", text, "measure the costs again")
    }

    /// Costs from the reports of `cachemir bench ops --json` and `cachemir bench bootstrap --json`: medians of the runs
    /// with most threads; of the bootstraps the one of most slots, in one iteration, for every level it was measured
    /// to.
    ///
    /// A bootstrap is measured to its highest level only; ending lower saves little, so it costs the same for every
    /// lower one, marked as substituted.
    ///
    /// # Errors
    /// [`Error::Format`] when a report is not what it should be; [`Error::Plan`] when the two are of different
    /// backends or presets.
    pub fn from_bench(operations: &str, bootstraps: &str) -> Result<Self> {
        let ops: BenchOps = parse("operation report", operations, "measure the operations again")?;
        let boots: BenchBootstrap = parse("bootstrap report", bootstraps, "measure the bootstraps again")?;
        // The chain without bootstrapping has the same ring, special primes and limbs at each level, so the same costs.
        let family = |preset: &str| preset.trim_end_matches("-levelled").to_owned();
        if (&ops.backend, family(&ops.preset)) != (&boots.backend, family(&boots.preset)) {
            return Err(Error::Plan {
                why: format!(
                    "operations were measured on {} under {}, bootstraps on {} under {}",
                    ops.backend, ops.preset, boots.backend, boots.preset
                ),
                remedy: "measure both on one backend under one preset".to_owned(),
            });
        }
        let mut chosen: BTreeMap<(Primitive, usize), (usize, f64)> = BTreeMap::new();
        for row in &ops.rows {
            let Some(primitive) = Primitive::from_name(&row.op) else { continue };
            let slot = chosen.entry((primitive, row.level)).or_insert((row.threads, row.median_ms));
            if row.threads > slot.0 {
                *slot = (row.threads, row.median_ms);
            }
        }
        let threads = chosen.values().map(|(threads, _)| *threads).max().unwrap_or(1);
        let operations = chosen
            .into_iter()
            .map(|((primitive, level), (_, milliseconds))| OperationRow {
                op: primitive.name().to_owned(),
                level: Level(level),
                seconds: milliseconds / 1e3,
                source: Source::Measured,
            })
            .collect();
        let best = boots
            .rows
            .iter()
            .filter(|row| row.iterations == 1 && !row.real)
            .max_by(|a, b| {
                (a.slots, a.threads, a.levels_after)
                    .cmp(&(b.slots, b.threads, b.levels_after))
                    .then_with(|| b.median_s.total_cmp(&a.median_s))
            })
            .ok_or_else(|| Error::Format {
                what: "bootstrap report".to_owned(),
                why: "there is no row of one iteration".to_owned(),
                remedy: "measure the bootstraps again".to_owned(),
            })?;
        check_top(best.levels_after)?;
        let alike = |row: &&BenchBootstrapRow| {
            let run = |row: &BenchBootstrapRow| (row.slots, row.threads, row.iterations, row.levels_after);
            row.real && run(row) == run(best)
        };
        let real_seconds = boots.rows.iter().find(alike).map(|row| row.median_s);
        let bootstraps = (0..=best.levels_after)
            .map(|level| BootstrapRow {
                level: Level(level),
                seconds: best.median_s,
                real_seconds,
                source: if level == best.levels_after { Source::Measured } else { Source::Substituted },
            })
            .collect();
        Ok(Self {
            operations,
            bootstraps,
            minimum_input_level: Level(
                best.levels_after
                    .saturating_sub(boots.levels_between_bootstraps.unwrap_or(best.levels_after)),
            ),
            modules: Vec::new(),
            layer: None,
            provenance: format!(
                "medians of `bench ops` ({threads} threads) and `bench bootstrap` ({} threads, {} slots) on {} under {}",
                best.threads, best.slots, ops.backend, ops.preset
            ),
        })
    }

    /// The elementary costs.
    ///
    /// # Errors
    /// [`Error::Format`] for an operation that is not known or was measured badly, or when one that cannot be done
    /// without is missing ([`OperationCosts::new`]).
    pub fn operation_costs(&self) -> Result<OperationCosts> {
        OperationCosts::new(&self.operations)
    }

    /// The bootstrap costs: two real values may share one for a conjugation more, and one alone takes the share that
    /// was measured at the highest level.
    ///
    /// # Errors
    /// [`Error::Format`] for a level beyond what any preset has; errors of [`BootstrapCosts::check`].
    pub fn bootstrap_costs(&self) -> Result<BootstrapCosts> {
        let highest = self.bootstraps.iter().max_by_key(|row| row.level);
        let top = highest.map_or(0, |row| row.level.0);
        check_top(top)?;
        let mut seconds = vec![None; top + 1];
        for row in &self.bootstraps {
            if let Some(slot) = seconds.get_mut(row.level.0) {
                *slot = Some(row.seconds);
            }
        }
        let split = self.operation_costs()?.price(Primitive::Conjugate, Level(top))?;
        let costs = BootstrapCosts {
            seconds,
            minimum_input_level: self.minimum_input_level,
            pairing_seconds: Some(split.seconds),
            lanes: None,
            real_share: highest
                .and_then(|row| Some(row.real_seconds? / row.seconds))
                .filter(|share| share.is_finite() && *share > 0.0)
                .map_or(1.0, |share| share.min(1.0)),
        };
        costs.check()?;
        Ok(costs)
    }

    /// Seconds of a step by level, measured or between measured levels.
    pub fn measured(&self, module: &str) -> BTreeMap<Level, f64> {
        self.modules
            .iter()
            .filter(|row| row.module == module && row.source <= Source::Interpolated)
            .map(|row| (row.level, row.seconds))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPS: &str = r#"{"backend": "native", "preset": "n16-levelled", "rows": [
        {"op": "ntt", "level": 13, "limbs": 14, "digits": 3, "threads": 2, "median_ms": 1.0, "min_ms": 1.0},
        {"op": "rotate", "level": 13, "limbs": 14, "digits": 3, "threads": 1, "median_ms": 80.0, "min_ms": 70.0},
        {"op": "rotate", "level": 13, "limbs": 14, "digits": 3, "threads": 2, "median_ms": 40.0, "min_ms": 35.0},
        {"op": "mult", "level": 13, "threads": 2, "median_ms": 50.0},
        {"op": "mult_plain", "level": 13, "threads": 2, "median_ms": 5.0},
        {"op": "rescale", "level": 13, "threads": 2, "median_ms": 6.0}]}"#;
    const BOOTSTRAP: &str = r#"{"backend": "native", "preset": "n16", "levels_between_bootstraps": 11, "rows": [
        {"input": "uniform", "slots": 32768, "threads": 2, "iterations": 1, "median_s": 20.0, "levels_after": 13},
        {"input": "real", "slots": 32768, "threads": 2, "iterations": 1, "real": true, "median_s": 12.0, "levels_after": 13},
        {"input": "uniform", "slots": 32768, "threads": 2, "iterations": 2, "median_s": 40.0, "levels_after": 10},
        {"input": "uniform", "slots": 1024, "threads": 2, "iterations": 1, "median_s": 9.0, "levels_after": 13}]}"#;

    #[test]
    fn bench_reports_become_costs_of_the_most_threads_and_slots() {
        let file = CostFile::from_bench(OPS, BOOTSTRAP).unwrap();
        let rotate = file.operation_costs().unwrap().price(Primitive::Rotate, Level(13)).unwrap();
        assert!((rotate.seconds - 0.04).abs() < 1e-12 && rotate.source == Source::Measured, "{rotate:?}");
        let costs = file.bootstrap_costs().unwrap();
        assert_eq!(costs.output_level().unwrap(), Level(13));
        assert_eq!(costs.minimum_input_level, Level(2), "13 after a bootstrap, 11 of them between two");
        assert_eq!(costs.seconds[5], Some(20.0));
        assert_eq!((costs.pairing_seconds, costs.real_share), (Some(0.04), 0.6));
        let again = CostFile::parse(&serde_json::to_string(&file).unwrap()).unwrap();
        assert_eq!(again, file);
    }

    #[test]
    fn reports_of_two_presets_do_not_mix() {
        let other = BOOTSTRAP.replace("n16", "test");
        let error = CostFile::from_bench(OPS, &other).unwrap_err().to_string();
        assert!(error.contains("under n16-levelled") && error.contains("under test"), "{error}");
    }

    #[test]
    fn files_that_are_no_costs_are_refused() {
        assert!(CostFile::parse("{}").is_err());
        assert!(CostFile::from_bench("[1]", BOOTSTRAP).is_err());
        let mut file = CostFile::from_bench(OPS, BOOTSTRAP).unwrap();
        file.bootstraps.push(BootstrapRow {
            level: Level(1 << 40),
            seconds: 1.0,
            real_seconds: None,
            source: Source::Measured,
        });
        assert!(file.bootstrap_costs().unwrap_err().to_string().contains("1099511627776"));
        let endless = BOOTSTRAP.replacen("\"levels_after\": 13", "\"levels_after\": 1099511627776", 1);
        assert!(CostFile::from_bench(OPS, &endless).unwrap_err().to_string().contains("1099511627776"));
    }
}
