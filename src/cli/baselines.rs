//! `cachemir baselines`: one generated token by Cachemir, by ours, by plain diagonals, MOAI and THOR, on the same costs.

use std::path::PathBuf;

use cachemir::placement::decoder::{
    CachedPackings, Functions, ModelShape, Recompute, cached_layer, recompute_layer,
};
use cachemir::placement::{BootstrapCosts, LayerTemplate, OperationCosts, Prices, Search, Solution, place};
use clap::Args;
use serde::Serialize;

use super::plan::read_costs;
use super::report::{Report, write_atomically};

/// Flags of `baselines`.
#[derive(Args)]
pub struct Baselines {
    /// Shape: gpt2, smollm2-135m, tinyllama or llama-3-8b.
    #[arg(long)]
    shape: String,
    /// Tokens of context.
    #[arg(long, default_value_t = 512)]
    context: usize,
    /// Cost file (of `bench modules`), or report of `bench ops` when `--bootstrap-costs` is given.
    #[arg(long, value_name = "FILE")]
    costs: PathBuf,
    /// Report of `bench bootstrap`.
    #[arg(long, value_name = "FILE")]
    bootstrap_costs: Option<PathBuf>,
    /// Slots of a ciphertext.
    #[arg(long, default_value_t = 32768)]
    slots: usize,
    /// Weights stay encoded in memory instead of being encoded at every use.
    #[arg(long)]
    kept_encoded: bool,
    /// Write the rows as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a bar chart (logarithmic) as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    method: &'static str,
    plaintext_products: f64,
    rotations: f64,
    ciphertext_products: f64,
    bootstraps: usize,
    seconds: f64,
    /// Seconds of this row over seconds of `cachemir`.
    speedup: f64,
}

#[derive(Serialize)]
struct Body {
    shape: String,
    context: usize,
    costs: String,
    assumptions: [&'static str; 4],
    rows: Vec<Row>,
}

const ASSUMPTIONS: [&str; 4] = [
    "nothing was run as a whole: operations are counted by formulas, their seconds composed from measured ones",
    "bootstraps of every method are placed by the same exact solver; only ours and THOR share one between two real values",
    "MOAI and THOR recompute the whole prefix for every token; MOAI is amortised over the sequences that fill its slots",
    "rotations of MOAI and THOR are estimates",
];

impl Baselines {
    /// Counts, prices, places and prints every method.
    pub fn run(self) -> anyhow::Result<()> {
        let file = read_costs(&self.costs, self.bootstrap_costs.as_deref())?;
        let operations = file.operation_costs()?;
        let shared = file.bootstrap_costs()?;
        let alone = BootstrapCosts { pairing_seconds: None, ..shared.clone() };
        let shape = ModelShape::named(&self.shape)?;
        let cached = |packings, functions: &Functions| {
            cached_layer(&shape, packings, functions, self.slots, self.context, self.kept_encoded)
        };
        let recomputed =
            |packing| recompute_layer(&shape, packing, self.slots, self.context, self.kept_encoded);
        let methods = [
            ("cachemir", cached(CachedPackings::Cachemir, &Functions::paper())?, &alone),
            ("ours", cached(CachedPackings::Ours, &Functions::calibrated())?, &shared),
            ("diagonal_kv", cached(CachedPackings::Diagonal, &Functions::paper())?, &alone),
            ("moai", recomputed(Recompute::Moai)?, &alone),
            ("thor", recomputed(Recompute::Thor)?, &shared),
        ];
        let mut rows = Vec::new();
        let mut reference = None;
        for (method, layer, costs) in methods {
            let solutions = placed(&layer, &operations, costs, shape.num_hidden_layers)?;
            let seconds: f64 = solutions.iter().map(|one| one.seconds).sum();
            let reference = *reference.get_or_insert(seconds);
            let work = layer.work() * shape.num_hidden_layers as f64;
            rows.push(Row {
                method,
                plaintext_products: work.plaintext_products + work.constant_products,
                rotations: work.rotations + work.rotations_hoisted + work.conjugations,
                ciphertext_products: work.ciphertext_products,
                bootstraps: solutions.iter().map(Solution::bootstraps).sum(),
                seconds,
                speedup: seconds / reference,
            });
        }
        println!(
            "{:<12} {:>12} {:>11} {:>11} {:>10} {:>13} {:>9}",
            "method", "plain", "rotations", "products", "bootstraps", "seconds", "ratio"
        );
        for row in &rows {
            println!(
                "{:<12} {:>12.0} {:>11.0} {:>11.0} {:>10} {:>13.1} {:>9.2}",
                row.method,
                row.plaintext_products,
                row.rotations,
                row.ciphertext_products,
                row.bootstraps,
                row.seconds,
                row.speedup
            );
        }
        println!("costs: {}", file.provenance);
        for assumption in ASSUMPTIONS {
            println!("- {assumption}");
        }
        if let Some(path) = &self.svg {
            write_atomically(path, bars(&rows, &shape.name, self.context).as_bytes())?;
        }
        if let Some(path) = &self.json {
            let body = Body {
                shape: shape.name.clone(),
                context: self.context,
                costs: file.provenance.clone(),
                assumptions: ASSUMPTIONS,
                rows,
            };
            Report::new("baselines", "composed", "composed", false, body).write(path)?;
        }
        Ok(())
    }
}

fn placed(
    layer: &LayerTemplate,
    operations: &OperationCosts,
    costs: &BootstrapCosts,
    layers: usize,
) -> anyhow::Result<Vec<Solution>> {
    let top = costs.output_level()?;
    let graph = layer.graph(&Prices { operations, file: None }, top)?;
    Ok(place(&vec![&graph; layers], costs, top, Search::Exact)?)
}

/// Horizontal bars of log₁₀ seconds.
fn bars(rows: &[Row], shape: &str, context: usize) -> String {
    let log = |seconds: f64| seconds.max(1.0).log10();
    let most = rows.iter().map(|row| log(row.seconds)).fold(1.0, f64::max);
    let height = 50 + 34 * rows.len();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\
         <text x=\"10\" y=\"22\">One token of {shape}, context {context}: seconds, composed (logarithmic)</text>"
    );
    for (index, row) in rows.iter().enumerate() {
        let y = 40 + 34 * index;
        let width = log(row.seconds) / most * 440.0;
        svg.push_str(&format!(
            "<text x=\"10\" y=\"{}\">{}</text><rect x=\"110\" y=\"{y}\" width=\"{width:.1}\" height=\"22\" fill=\"#2868b0\"/>\
             <text x=\"{:.1}\" y=\"{}\">{:.0} s ({:.2}×)</text>",
            y + 16, row.method, 116.0 + width, y + 16, row.seconds, row.speedup
        ));
    }
    svg.push_str("</svg>\n");
    svg
}
