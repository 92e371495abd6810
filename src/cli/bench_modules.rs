//! `cachemir bench modules`: seconds of every operation, bootstrap and module of a decoder layer, by level: the costs
//! that `plan` and `baselines` read; and a decode step beside what they predict for it.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::flags::open_model;
use super::progress::Progress;
use crate::benchmarks::layer_times::LayerCheck;
use crate::benchmarks::modules::{MeasuredModel, ModuleBench, ModuleCase, ModuleCosts};
use crate::bootstrapping::BootstrapParameters;
use crate::measure::{Report, is_insecure, peak_memory_bytes};
use crate::placement::ModuleRow;
use crate::related_work::formulas::ModelShape;
use crate::setup::Preset;

/// Flags of `bench modules`.
#[derive(Args)]
pub struct Modules {
    /// Model directory in Hugging Face layout; the bundled tiny model without it.
    #[arg(long, value_name = "DIR", conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Shape instead of a model: its modules are composed from measured operations and counts, none is run.
    #[arg(long)]
    shape: Option<String>,
    /// n16, or test (N = 2^12, insecure).
    #[arg(long, value_enum, visible_alias = "params", default_value = "n16")]
    preset: Preset,
    /// Tokens in the cache before the new one.
    #[arg(long, default_value_t = 15)]
    cached: usize,
    /// Tokens the cache is laid out for.
    #[arg(long, default_value_t = 32)]
    context: usize,
    /// Times everything is run; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Every how many levels operations and modules are measured; between them costs are interpolated.
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Do not run a decode step beside the prediction.
    #[arg(long)]
    skip_layer: bool,
    /// Write the costs here.
    #[arg(long, short = 'o', visible_alias = "output", value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Body {
    #[serde(flatten)]
    case: ModuleCase,
    threads: usize,
    peak_bytes: Option<u64>,
    #[serde(flatten)]
    costs: ModuleCosts,
}

impl Modules {
    /// Measures, prints, writes.
    pub fn run(self) -> anyhow::Result<()> {
        let name = self.preset.name();
        let parameters = match self.preset {
            Preset::N16 => BootstrapParameters::n16(),
            Preset::Test => BootstrapParameters::test(12, 13),
        };
        if is_insecure("native", name) {
            eprintln!("warning: preset `{name}` is insecure");
        }
        let case =
            ModuleCase { cached: self.cached, context: self.context, rounds: self.rounds, every: self.every };
        let mut progress = Progress::default();
        let mut observer = |what: &str, done, all| progress.show(what, done, all);
        let costs = match &self.shape {
            Some(shape) => {
                let shape = ModelShape::named(shape)?;
                let bench = ModuleBench::new(parameters, name, case, None)?;
                let mut costs = bench.costs(true, &mut observer)?;
                costs.costs.modules = bench.composed(&shape, &costs.costs)?;
                costs
            }
            None => {
                let opened = open_model(self.model.as_deref(), &mut |_, _, _| {})?;
                let model = MeasuredModel {
                    prepared: opened.prepared(),
                    calibration: opened.calibration(),
                    weights: opened.weights(),
                };
                ModuleBench::new(parameters, name, case, Some(&model))?
                    .costs(self.skip_layer, &mut observer)?
            }
        };
        progress.clear();
        print_modules(&costs.costs.modules);
        if let Some(check) = &costs.layer_check {
            print_check(check);
        }
        if let Some(path) = &self.json {
            let (threads, peak_bytes) = (rayon::current_num_threads(), peak_memory_bytes());
            let body = Body { case, threads, peak_bytes, costs };
            Report::new("bench modules", "native", name, body).write(path)?;
        }
        Ok(())
    }
}

/// Seconds by level, a line a module.
fn print_modules(rows: &[ModuleRow]) {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.module.as_str()) {
            names.push(&row.module);
        }
    }
    println!("seconds of a module by the level at which it runs:");
    for name in names {
        let mut of_module: Vec<&ModuleRow> = rows.iter().filter(|row| row.module == name).collect();
        of_module.sort_by_key(|row| row.level);
        let text: Vec<String> =
            of_module.iter().map(|row| format!("{}: {:.3}", row.level, row.seconds)).collect();
        println!("{name:28} {}", text.join("  "));
    }
}

fn print_check(check: &LayerCheck) {
    println!("one layer of a decode step, by stretches that begin with a bootstrap:");
    for stretch in &check.stretches {
        println!(
            "  to {:18} measured {:8.3} s, predicted {:8.3} s",
            stretch.ends_at, stretch.measured_s, stretch.predicted_s
        );
    }
    println!(
        "layer: measured {:.3} s, predicted {:.3} s ({:.1} % of it{}); {} bootstraps by hand",
        check.measured_s,
        check.predicted_s,
        100.0 * check.ratio,
        if check.within_20_percent { "" } else { ", NOT within 20 %" },
        check.decoder_bootstraps
    );
    println!(
        "the solver's placement from the same costs: {:.3} s and {:.2} bootstraps a layer",
        check.solver_s, check.solver_bootstraps
    );
}
