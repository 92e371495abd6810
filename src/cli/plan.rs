//! `cachemir plan`: where to bootstrap in a model, and what a token will cost.

use std::path::PathBuf;

use anyhow::Context;
use cachemir::contract::Level;
use cachemir::placement::decoder::{CachedPackings, Functions, ModelShape, cached_layer};
use cachemir::placement::{
    CostFile, LevelGraph, Plan, PlanTarget, Prices, Search, Solution, html_page, place, place_greedily,
    text_table,
};
use clap::Args;
use serde::Serialize;

use super::report::{Report, write_atomically};

/// Flags of `plan`.
#[derive(Args)]
pub struct PlanVerb {
    /// Shape: gpt2, smollm2-135m, tinyllama or llama-3-8b.
    #[arg(long)]
    shape: String,
    /// Cost file (of `bench modules`), or report of `bench ops` when `--bootstrap-costs` is given.
    #[arg(long, value_name = "FILE")]
    costs: PathBuf,
    /// Report of `bench bootstrap`.
    #[arg(long, value_name = "FILE")]
    bootstrap_costs: Option<PathBuf>,
    /// Parameter preset the costs belong to.
    #[arg(long, default_value = "n16")]
    preset: String,
    /// Backend the costs belong to.
    #[arg(long, default_value = "native")]
    backend: String,
    /// Tokens in the cache.
    #[arg(long, default_value_t = 512)]
    context: usize,
    /// Slots of a ciphertext.
    #[arg(long, default_value_t = 32768)]
    slots: usize,
    /// Weights stay encoded in memory instead of being encoded at every use.
    #[arg(long)]
    kept_encoded: bool,
    /// Write the plan as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the plan as an HTML page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Serialize)]
struct Body<'a> {
    layers: usize,
    bootstraps: usize,
    bootstraps_greedy: usize,
    seconds_predicted: f64,
    seconds_greedy: f64,
    planning_seconds: f64,
    costs: &'a str,
    plan: &'a Plan,
}

impl PlanVerb {
    /// Solves, prints and writes the plan.
    pub fn run(self) -> anyhow::Result<()> {
        let file = self.cost_file()?;
        let costs = file.bootstrap_costs()?;
        let operations = file.operation_costs()?;
        let shape = ModelShape::named(&self.shape)?;
        let prices = Prices { operations: &operations, file: Some(&file) };
        let top = costs.output_level()?;
        let layer = cached_layer(
            &shape,
            CachedPackings::Ours,
            &Functions::calibrated(),
            self.slots,
            self.context,
            self.kept_encoded,
        )?;
        let graph = layer.graph(&prices, top)?;
        let layers: Vec<&LevelGraph> = vec![&graph; shape.num_hidden_layers];
        let start = std::time::Instant::now();
        let solutions = place(&layers, &costs, top, Search::Exact)?;
        let planning_seconds = start.elapsed().as_secs_f64();
        let greedy = place_greedily(&layers, &costs, Level(top.0))?;
        let target = PlanTarget {
            model: shape.name.clone(),
            preset: self.preset.clone(),
            backend: self.backend.clone(),
        };
        let plan = Plan::new(target, &layers, &solutions)?;
        let seconds_greedy: f64 = greedy.iter().map(|one| one.seconds).sum();
        let bootstraps_greedy: usize = greedy.iter().map(Solution::bootstraps).sum();
        print!("{}", text_table(&plan, 2));
        println!(
            "{}: {} layers, {} bootstraps, {:.1} s a token predicted (composed from measured operations and counts)",
            shape.name,
            plan.layers.len(),
            plan.bootstraps(),
            plan.seconds
        );
        println!(
            "greedy: {bootstraps_greedy} bootstraps, {seconds_greedy:.1} s; planned in {planning_seconds:.3} s"
        );
        println!("costs: {}", file.provenance);
        if let Some(path) = &self.html {
            write_atomically(path, html_page(&plan).as_bytes())?;
        }
        if let Some(path) = &self.json {
            let body = Body {
                layers: plan.layers.len(),
                bootstraps: plan.bootstraps(),
                bootstraps_greedy,
                seconds_predicted: plan.seconds,
                seconds_greedy,
                planning_seconds,
                costs: &file.provenance,
                plan: &plan,
            };
            Report::new("plan", &self.backend, &self.preset, self.preset == "test", body).write(path)?;
        }
        Ok(())
    }

    fn cost_file(&self) -> anyhow::Result<CostFile> {
        read_costs(&self.costs, self.bootstrap_costs.as_deref())
    }
}

/// A cost file, or the two bench reports it is made from.
pub fn read_costs(costs: &std::path::Path, bootstraps: Option<&std::path::Path>) -> anyhow::Result<CostFile> {
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let text = read(costs)?;
    Ok(match bootstraps {
        Some(path) => CostFile::from_bench(&text, &read(path)?)?,
        None => CostFile::parse(&text)?,
    })
}
