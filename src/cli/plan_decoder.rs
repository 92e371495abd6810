//! `cachemir plan --model DIR`: the plan that the encrypted decoder of that model runs by.

use std::path::Path;

use crate::decoder::head_side::HeadSide;
use crate::decoder::placement::{DecoderPlacement, TokenCost};
use crate::measure::{Report, write_atomically};
use crate::pages::{plan_page, plan_table};
use crate::placement::{CostFile, Plan};
use crate::setup::costs::built_in_for;
use crate::setup::{Backend, Model, Preset, Scheme, SetupOptions};
use anyhow::bail;
use serde::Serialize;

use super::functions_table::print_functions;
use super::plan_steps::{GREEDY, LayerStep};

/// What is asked for.
pub struct DecoderPlanRequest<'a> {
    /// Model directory.
    pub model: &'a Path,
    /// Costs; those built in without them.
    pub costs: Option<CostFile>,
    /// Preset.
    pub preset: Preset,
    /// Backend.
    pub backend: Backend,
    /// Tokens of the context.
    pub context: usize,
    /// Which side applies the output head.
    pub head: HeadSide,
    /// Where the report goes.
    pub json: Option<&'a Path>,
    /// Where the page goes.
    pub html: Option<&'a Path>,
}

#[derive(Serialize)]
struct Body<'a> {
    layers: usize,
    bootstraps: usize,
    bootstraps_greedy: usize,
    seconds_predicted: f64,
    seconds_greedy: f64,
    by_hand: TokenCost,
    planning_seconds: f64,
    costs: &'a str,
    steps: Vec<LayerStep<'a>>,
    plan: &'a Plan,
}

/// Solves, prints and writes.
pub fn plan_decoder(request: DecoderPlanRequest<'_>) -> anyhow::Result<()> {
    let DecoderPlanRequest { preset, backend, .. } = request;
    let scheme = match backend {
        Backend::Native => Scheme::native(preset)?,
        Backend::Clear => Scheme::clear(preset, preset.slots(), None)?,
        Backend::Openfhe => bail!("a decoder is planned for backend native or clear, not openfhe"),
    };
    let costs = request.costs.map_or_else(|| built_in_for(backend, preset), Ok)?;
    let model = Model::open(request.model)?;
    let config = model.config();
    let options = SetupOptions::new(preset)
        .context(request.context.min(config.max_position_embeddings))
        .head(request.head)
        .costs(costs.clone());
    let placement = options.placement(&scheme, &model)?;
    let DecoderPlacement { plan, by_hand, greedy, search_seconds } = &placement;
    print_functions(&options.functions(&scheme, &model)?);
    print!("{}", plan_table(plan, 2));
    println!(
        "{} layers and the final norm, {} bootstraps, {:.1} s a token predicted; planned in {search_seconds:.3} s",
        config.num_hidden_layers,
        plan.bootstraps(),
        plan.seconds
    );
    println!("by hand: {} bootstraps, {:.1} s", by_hand.bootstraps, by_hand.seconds);
    println!(
        "{GREEDY}: {} bootstraps ({:.2} times as many), {:.1} s",
        greedy.bootstraps,
        greedy.bootstraps as f64 / plan.bootstraps().max(1) as f64,
        greedy.seconds
    );
    println!("costs: {}", costs.provenance);
    if let Some(path) = request.html {
        write_atomically(path, plan_page(plan)?.as_bytes())?;
    }
    if let Some(path) = request.json {
        let body = Body {
            layers: config.num_hidden_layers,
            bootstraps: plan.bootstraps(),
            bootstraps_greedy: greedy.bootstraps,
            seconds_predicted: plan.seconds,
            seconds_greedy: greedy.seconds,
            by_hand: *by_hand,
            planning_seconds: *search_seconds,
            costs: &costs.provenance,
            steps: LayerStep::all(plan),
            plan,
        };
        Report::new("plan", backend.name(), preset.name(), body).write(path)?;
    }
    Ok(())
}
