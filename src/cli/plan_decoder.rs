//! `cachemir plan --model DIR`: the plan that the encrypted decoder of that model runs by.

use std::path::Path;

use crate::decoder::placement::{DecoderPlacement, TokenCost};
use crate::model::prepared::PreparedModel;
use crate::placement::{CostFile, Plan, html_page, text_table};
use anyhow::bail;
use serde::Serialize;

use super::decoder_setup::DecoderSetup;
use super::head::Head;
use super::model_directory::calibration;
use super::plan::LayerStep;
use super::report::{Report, write_atomically};
use super::scheme::{Preset, Scheme};

/// What is asked for.
pub struct DecoderPlanRequest<'a> {
    /// Model directory.
    pub model: &'a Path,
    /// Costs.
    pub costs: &'a CostFile,
    /// Preset.
    pub preset: &'a str,
    /// Backend.
    pub backend: &'a str,
    /// Tokens of the context.
    pub context: usize,
    /// Which side applies the output head.
    pub head: Head,
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
pub fn plan_decoder(request: &DecoderPlanRequest<'_>) -> anyhow::Result<()> {
    let preset = match request.preset {
        "n16" => Preset::N16,
        "test" => Preset::Test,
        other => bail!("no preset `{other}`: use n16 or test"),
    };
    let scheme = match request.backend {
        "native" => Scheme::native(preset, None)?.0,
        "clear" => Scheme::clear(preset.slots(), None, 0)?.0,
        other => bail!("a decoder is planned for backend native or clear, not `{other}`"),
    };
    let prepared = PreparedModel::read(request.model)?;
    let config = prepared.model.config();
    let table = calibration(&prepared, request.model)?;
    let setup = DecoderSetup {
        prepared: &prepared,
        calibration: &table,
        scheme: &scheme,
        preset: preset.name(),
        context: request.context.min(config.max_position_embeddings),
        head: request.head.side(),
    };
    let functions = setup.functions()?;
    let placement = setup.place(&functions, request.costs)?;
    let DecoderPlacement { plan, by_hand, greedy, search_seconds } = &placement;
    print!("{}", text_table(plan, 2));
    println!(
        "{} layers and the final norm, {} bootstraps, {:.1} s a token predicted; planned in {search_seconds:.3} s",
        config.num_hidden_layers,
        plan.bootstraps(),
        plan.seconds
    );
    println!("by hand: {} bootstraps, {:.1} s", by_hand.bootstraps, by_hand.seconds);
    println!(
        "greedy (a value is bootstrapped when it is out of levels, alone, to the top): {} bootstraps ({:.2} times as many), {:.1} s",
        greedy.bootstraps,
        greedy.bootstraps as f64 / plan.bootstraps().max(1) as f64,
        greedy.seconds
    );
    println!("costs: {}", request.costs.provenance);
    if let Some(path) = request.html {
        write_atomically(path, html_page(plan).as_bytes())?;
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
            costs: &request.costs.provenance,
            steps: LayerStep::all(plan),
            plan,
        };
        let insecure = preset == Preset::Test || request.backend == "clear";
        Report::new("plan", request.backend, preset.name(), insecure, body).write(path)?;
    }
    Ok(())
}
