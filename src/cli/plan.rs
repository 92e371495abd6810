//! `cachemir plan`: where to bootstrap in a model, and what a token will cost.

use std::path::PathBuf;
use std::time::Instant;

use crate::contract::Level;
use crate::placement::{
    BootstrapCosts, CostFile, LevelGraph, OperationCosts, Plan, PlanStep, PlanTarget, Prices, Search,
    Solution, html_page, place, place_greedily, states_kept, text_table,
};
use crate::related_work::PublishedTable;
use crate::related_work::formulas::{CachedPackings, Functions, ModelShape, cached_layer};
use crate::related_work::own_layer;
use anyhow::bail;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::costs::{CostArguments, Costs};
use super::head::Head;
use super::plan_decoder::{DecoderPlanRequest, plan_decoder};
use super::report::{Report, write_atomically};

/// Shape without `--model`, `--shape` and modules of a model.
const DEFAULT_SHAPE: &str = "llama-3-8b";

/// Flags of `plan`.
#[derive(Args)]
pub struct PlanVerb {
    /// Model directory in Hugging Face layout: the plan that its encrypted decoder runs by (`generate --plan`), of the
    /// decoder's own modules and for its calibration.
    #[arg(long, value_name = "DIR", conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Shape instead of a model: gpt2, smollm2-135m, tinyllama or llama-3-8b. Without either: the layer whose modules the
    /// cost file measured, or else llama-3-8b.
    #[arg(long)]
    shape: Option<String>,
    #[command(flatten)]
    costs: CostArguments,
    /// Seconds of a bootstrap, for a table, which has none.
    #[arg(long, default_value_t = 24.0)]
    bootstrap_seconds: f64,
    /// Highest level; what bootstraps reach (13 for a table) by default.
    #[arg(long, value_name = "LEVELS")]
    max_level: Option<usize>,
    /// How to search: every useful state, or the paper's pruning, refused where it could miss the optimum.
    #[arg(long, value_enum, default_value_t = SearchFlag::Exact)]
    search: SearchFlag,
    /// Parameter preset the costs belong to.
    #[arg(long, visible_alias = "params", default_value = "n16")]
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
    /// Which side applies the output head of the model.
    #[arg(long, value_enum, default_value = "client")]
    head: Head,
    /// Weights stay encoded in memory instead of being encoded at every use.
    #[arg(long)]
    kept_encoded: bool,
    /// Write the plan as JSON.
    #[arg(long, short = 'o', visible_alias = "output", value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the plan as an HTML page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum SearchFlag {
    Exact,
    Pruned,
}

/// A step of the whole model, with the layer it belongs to.
#[derive(Serialize)]
pub(super) struct LayerStep<'a> {
    layer: usize,
    #[serde(flatten)]
    step: &'a PlanStep,
}

impl<'a> LayerStep<'a> {
    /// All steps of `plan`, in order.
    pub(super) fn all(plan: &'a Plan) -> Vec<Self> {
        let layers = plan.layers.iter().enumerate();
        layers
            .flat_map(|(layer, of_layer)| of_layer.steps.iter().map(move |step| Self { layer, step }))
            .collect()
    }
}

#[derive(Serialize)]
struct Body<'a> {
    layers: usize,
    bootstraps: usize,
    bootstraps_greedy: usize,
    seconds_predicted: f64,
    seconds_greedy: f64,
    /// Seconds a layer in the steady state by the paper's composition of modules; of a table only.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_per_layer_composed: Option<f64>,
    /// Placed and greedy in the paper's setting; of a shape only.
    #[serde(skip_serializing_if = "Option::is_none")]
    paper_setting: Option<Comparison>,
    planning_seconds: f64,
    states: usize,
    search: Search,
    costs: &'a str,
    steps: Vec<LayerStep<'a>>,
    plan: &'a Plan,
}

/// The solver beside greedy placement: bootstrap a value only when it is out of levels, alone, and to the top.
#[derive(Clone, Copy, Serialize)]
struct Comparison {
    bootstraps: usize,
    bootstraps_greedy: usize,
    seconds: f64,
    seconds_greedy: f64,
}

impl Comparison {
    fn new(solutions: &[Solution], greedy: &[Solution]) -> Self {
        let bootstraps = |all: &[Solution]| all.iter().map(Solution::bootstraps).sum();
        let seconds = |all: &[Solution]| all.iter().map(|one| one.seconds).sum();
        Self {
            bootstraps: bootstraps(solutions),
            bootstraps_greedy: bootstraps(greedy),
            seconds: seconds(solutions),
            seconds_greedy: seconds(greedy),
        }
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bootstraps, bootstraps_greedy, seconds, seconds_greedy } = self;
        write!(
            formatter,
            "{bootstraps_greedy} bootstraps ({:.2} times as many), {seconds_greedy:.1} s ({:.2} times as long)",
            *bootstraps_greedy as f64 / (*bootstraps).max(1) as f64,
            seconds_greedy / seconds.max(f64::MIN_POSITIVE)
        )
    }
}

/// What is to be placed.
struct Problem {
    name: String,
    layers: usize,
    graph: LevelGraph,
    bootstraps: BootstrapCosts,
    top: Level,
    provenance: String,
    seconds_per_layer_composed: Option<f64>,
    paper_setting: Option<Comparison>,
}

impl PlanVerb {
    /// Solves, prints and writes the plan.
    pub fn run(self) -> anyhow::Result<()> {
        if let Some(model) = &self.model {
            return plan_decoder(&DecoderPlanRequest {
                model,
                costs: &self.costs.read_measured()?,
                preset: &self.preset,
                backend: &self.backend,
                context: self.context,
                head: self.head,
                json: self.json.as_deref(),
                html: self.html.as_deref(),
            });
        }
        let shape = self.shape.as_deref().map(ModelShape::named).transpose()?;
        let problem = match self.costs.read()? {
            Costs::Measured(file) => self.measured(shape, &file)?,
            Costs::Table(table) => self.table(shape, &table)?,
        };
        let Problem {
            name,
            layers,
            graph,
            bootstraps,
            top,
            provenance,
            seconds_per_layer_composed,
            paper_setting,
        } = problem;
        let search = match self.search {
            SearchFlag::Exact => Search::Exact,
            SearchFlag::Pruned => Search::Pruned,
        };
        let layers: Vec<&LevelGraph> = vec![&graph; layers];
        let start = Instant::now();
        let solutions = place(&layers, &bootstraps, top, search)?;
        let planning_seconds = start.elapsed().as_secs_f64();
        let states = states_kept(&graph, &bootstraps, &[top], search)?;
        let free = graph.without_restrictions();
        let greedy = place_greedily(&vec![&free; layers.len()], &bootstraps, top)?;
        let target = PlanTarget { model: name, preset: self.preset.clone(), backend: self.backend.clone() };
        let plan = Plan::new(target, &layers, &solutions)?;
        let against_greedy = Comparison::new(&solutions, &greedy);
        let Comparison { bootstraps_greedy, seconds_greedy, .. } = against_greedy;
        print!("{}", text_table(&plan, 2));
        println!(
            "{}: {} layers, {} bootstraps, {:.1} s a token predicted",
            plan.target.model,
            plan.layers.len(),
            plan.bootstraps(),
            plan.seconds
        );
        println!("planned in {planning_seconds:.3} s, {states} states a layer");
        println!(
            "greedy (a value is bootstrapped when it is out of levels, alone, to the top): {against_greedy}"
        );
        if let Some(paper) = &paper_setting {
            println!(
                "in the paper's setting (its packings and functions, no shared bootstraps; placed for the fewest seconds): {} placed, greedy {paper}",
                paper.bootstraps
            );
        }
        if let Some(seconds) = seconds_per_layer_composed {
            println!("the paper's composition of the same table: {seconds:.2} s a layer in the steady state");
        }
        println!("costs: {provenance}");
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
                seconds_per_layer_composed,
                paper_setting,
                planning_seconds,
                states,
                search,
                costs: &provenance,
                steps: LayerStep::all(&plan),
                plan: &plan,
            };
            Report::new("plan", &self.backend, &self.preset, self.preset == "test", body).write(path)?;
        }
        Ok(())
    }

    fn measured(&self, shape: Option<ModelShape>, file: &CostFile) -> anyhow::Result<Problem> {
        let mut bootstraps = file.bootstrap_costs()?;
        let operations = file.operation_costs()?;
        let reached = bootstraps.output_level()?;
        let top = self.max_level.map_or(reached, Level);
        if top > reached {
            bail!("--max-level {top}: bootstraps of these costs end at level {reached} at most");
        }
        bootstraps.seconds.truncate(top.0 + 1);
        // The layer the modules were measured from, unless another model or a shape is asked for.
        let own = file.layer.as_ref().filter(|layer| {
            shape.as_ref().is_none_or(|shape| shape.name == layer.model) && self.shape.is_none()
        });
        let mut paper_setting = None;
        let (name, layers, layer) = match own {
            Some(own) => (own.model.clone(), own.layers, own.template.clone()),
            None => {
                let shape = shape.map_or_else(|| ModelShape::named(DEFAULT_SHAPE), Ok)?;
                paper_setting = Some(self.in_the_papers_setting(&shape, &operations, &bootstraps, top)?);
                let layer = own_layer(&shape, self.slots, self.context, self.kept_encoded, &bootstraps)?;
                // The decoder bootstraps every value alone.
                bootstraps.pairing_seconds = None;
                (shape.name, shape.num_hidden_layers, layer)
            }
        };
        // Modules of one model say nothing about those of another, whatever their names.
        let file_of_layer = if file.layer.is_some() && own.is_none() { None } else { Some(file) };
        let prices = Prices { operations: &operations, file: file_of_layer };
        let graph = layer.graph(&prices, top)?;
        Ok(Problem {
            name,
            layers,
            graph,
            bootstraps,
            top,
            provenance: file.provenance.clone(),
            seconds_per_layer_composed: None,
            paper_setting,
        })
    }

    /// The paper's packings and functions on the same costs, every value bootstrapped alone.
    fn in_the_papers_setting(
        &self,
        shape: &ModelShape,
        operations: &OperationCosts,
        bootstraps: &BootstrapCosts,
        top: Level,
    ) -> anyhow::Result<Comparison> {
        let layer = cached_layer(
            shape,
            CachedPackings::Cachemir,
            &Functions::paper(),
            self.slots,
            self.context,
            self.kept_encoded,
        )?;
        let graph = layer.graph(&Prices { operations, file: None }, top)?;
        let alone = BootstrapCosts { pairing_seconds: None, real_share: 1.0, ..bootstraps.clone() };
        let layers = vec![&graph; shape.num_hidden_layers];
        let solutions = place(&layers, &alone, top, Search::Exact)?;
        Ok(Comparison::new(&solutions, &place_greedily(&layers, &alone, top)?))
    }

    fn table(&self, shape: Option<ModelShape>, table: &PublishedTable) -> anyhow::Result<Problem> {
        let top = Level(self.max_level.unwrap_or(13));
        if top.0 > LevelGraph::MAX_LEVEL {
            bail!("--max-level {top}: levels go up to {}", LevelGraph::MAX_LEVEL);
        }
        let alone = BootstrapCosts::constant(self.bootstrap_seconds, top);
        alone.check()?;
        let composed = table.composed_seconds(top, &alone)?;
        let shape = shape.map_or_else(|| ModelShape::named(DEFAULT_SHAPE), Ok)?;
        Ok(Problem {
            name: shape.name,
            layers: shape.num_hidden_layers,
            graph: table.layer_graph(top)?,
            bootstraps: alone.with_pairing(0.0),
            top,
            provenance: format!(
                "table of modules, {} s a bootstrap, shared by two real values; the shape gives the number of layers only",
                self.bootstrap_seconds
            ),
            seconds_per_layer_composed: Some(composed),
            paper_setting: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::costs::CostArguments;
    use super::*;

    fn verb(costs: Option<PathBuf>, search: SearchFlag, json: PathBuf) -> PlanVerb {
        PlanVerb {
            model: None,
            shape: Some("tinyllama".to_owned()),
            costs: CostArguments::of(costs),
            bootstrap_seconds: 24.0,
            max_level: None,
            search,
            preset: "n16".to_owned(),
            backend: "native".to_owned(),
            context: 128,
            slots: 32768,
            head: Head::Client,
            kept_encoded: false,
            json: Some(json),
            html: None,
        }
    }

    #[test]
    fn a_report_has_the_steps_of_every_layer_and_is_itself_a_plan() {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("plan.json");
        verb(None, SearchFlag::Exact, json.clone()).run().unwrap();
        let text = std::fs::read_to_string(&json).unwrap();
        let plan = Plan::from_json(&text).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let steps = report["steps"].as_array().unwrap();
        assert_eq!(steps.len(), plan.layers.iter().map(|layer| layer.steps.len()).sum::<usize>());
        assert_eq!((report["layers"].as_u64(), report["layers"].is_u64()), (Some(22), true));
        assert_eq!(steps[steps.len() - 1]["layer"], 21);
        assert!(steps[0]["operation"].is_string() && steps[0]["level"].is_u64(), "{}", steps[0]);
        assert_eq!(report["bootstraps"].as_u64().unwrap() as usize, plan.bootstraps());
        assert!(report["seconds_predicted"].as_f64() <= report["seconds_greedy"].as_f64(), "{text}");
    }

    #[test]
    fn a_published_table_is_planned_with_its_composition_beside_and_pruning_is_refused_where_it_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("table.tsv");
        std::fs::write(&table, include_str!("../related_work/published_latency.tsv")).unwrap();
        let json = folder.path().join("plan.json");
        verb(Some(table.clone()), SearchFlag::Exact, json.clone()).run().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        let seconds = report["seconds_per_layer_composed"].as_f64().unwrap();
        assert!((seconds - 339.44).abs() < 0.005, "{seconds}");
        // Costs of the table fall with the level here and there.
        let error = verb(Some(table), SearchFlag::Pruned, json).run().unwrap_err().to_string();
        assert!(error.contains("prun"), "{error}");
    }
}
