//! `cachemir plan` without a model: a shape whose layer is priced by its formulas, or a layer that a cost file
//! measured.

use crate::contract::Level;
use crate::placement::{
    BootstrapCosts, CostFile, LevelGraph, OperationCosts, Prices, Search, Solution, place, place_greedily,
};
use crate::related_work::PublishedTable;
use crate::related_work::formulas::{CachedPackings, Functions, ModelShape, cached_layer};
use crate::related_work::own_layer;
use anyhow::bail;
use serde::Serialize;

use super::costs::Costs;
use super::plan_flags::PlanVerb;

/// Shape without `--model`, `--shape` and modules of a model.
const DEFAULT_SHAPE: &str = "llama-3-8b";

/// The solver beside greedy placement: bootstrap a value only when it is out of levels, alone, and to the top.
#[derive(Clone, Copy, Serialize)]
pub struct Comparison {
    pub bootstraps: usize,
    pub bootstraps_greedy: usize,
    pub seconds: f64,
    pub seconds_greedy: f64,
}

impl Comparison {
    /// The sums over all layers.
    pub fn new(solutions: &[Solution], greedy: &[Solution]) -> Self {
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
pub struct Problem {
    pub name: String,
    pub layers: usize,
    pub graph: LevelGraph,
    pub bootstraps: BootstrapCosts,
    pub top: Level,
    pub provenance: String,
    pub seconds_per_layer_composed: Option<f64>,
    pub paper_setting: Option<Comparison>,
}

impl Problem {
    /// Prints what stands beside the plan.
    pub fn print(&self) {
        if let Some(paper) = &self.paper_setting {
            println!(
                "in the paper's setting (its packings and functions, no shared bootstraps; placed for the fewest \
                 seconds): {} placed, greedy {paper}",
                paper.bootstraps
            );
        }
        if let Some(seconds) = self.seconds_per_layer_composed {
            println!("the paper's composition of the same table: {seconds:.2} s a layer in the steady state");
        }
        println!("costs: {}", self.provenance);
    }
}

impl PlanVerb {
    /// What the flags ask to place.
    pub(super) fn problem(&self) -> anyhow::Result<Problem> {
        let shape = self.shape.as_deref().map(ModelShape::named).transpose()?;
        match self.costs.read()? {
            Costs::Measured(file) => self.measured(shape, &file),
            Costs::Table(table) => self.table(shape, &table),
        }
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
