//! `cachemir baselines`: one generated token by Cachemir, by ours, by plain diagonals, MOAI and THOR, on the same costs.

use std::path::PathBuf;

use crate::placement::{BootstrapCosts, LayerTemplate, OperationCosts, Prices, Search, Solution, place};
use crate::related_work::formulas::{
    CachedPackings, Functions, ModelShape, Recompute, cached_layer, recompute_layer,
};
use crate::related_work::own_layer;
use crate::related_work::recompute_counts::SimulatedCounts;
use clap::Args;
use serde::Serialize;

use super::costs::CostArguments;
use super::report::{Report, write_atomically};

/// Flags of `baselines`.
#[derive(Args)]
pub struct Baselines {
    /// Shape: gpt2, smollm2-135m, tinyllama or llama-3-8b.
    #[arg(long, default_value = "llama-3-8b")]
    shape: String,
    /// Tokens of context.
    #[arg(long, default_value_t = 512)]
    context: usize,
    #[command(flatten)]
    costs: CostArguments,
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
    /// Seconds one user alone waits, where `seconds` are amortised over several.
    seconds_single_user: f64,
    /// Seconds of this row over seconds of `cachemir`.
    speedup: f64,
}

#[derive(Serialize)]
struct Body {
    shape: String,
    context: usize,
    costs: String,
    assumptions: [&'static str; 9],
    headline: Vec<Headline>,
    rows: Vec<Row>,
}

const ASSUMPTIONS: [&str; 9] = [
    "nothing was run as a whole: operations are counted, their seconds composed from those measured one by one",
    "ours is the layer that `generate` runs, counted step by step on the simulator, with the functions of a middle layer of SmolLM2",
    "products of cachemir and diagonal_kv are counted by the geometry their code runs by; appending to and reading the cache by formulas",
    "products, QK^T and PV of moai and thor are counted by running their packings on the simulator, at sizes that count the same; norms, exp, division and activation by formulas, alike for both",
    "bootstraps of every method are placed by the same exact solver; only thor shares one between two real values, and only ours leaves out the imaginary parts of one that is real",
    "moai and thor recompute the whole prefix for every token, padded to a power of two; their tensors take as many ciphertexts as their data fill",
    "moai is amortised over the S/n sequences that fill its slots: a single user waits S/n times longer (seconds_single_user)",
    "thor runs without its complex folding of QK^T and PV; a head wider than S/n diagonals lies in several ciphertexts",
    "cachemir and diagonal_kv use the paper's approximations (7 bootstraps a layer or more)",
];

/// What the paper reports for Llama-3-8B on CPUs, and what is asked of ours over it.
const PAPER: [(&str, &str, f64); 3] = [
    ("cachemir over moai (amortised)", "moai", 48.83),
    ("cachemir over thor", "thor", 67.16),
    ("ours over cachemir", "ours", 1.5),
];

/// A ratio beside the one to compare it with.
#[derive(Serialize)]
struct Headline {
    what: &'static str,
    ratio: f64,
    wanted: f64,
    reached: bool,
}

/// The ratios whose both sides are among `rows`.
fn headlines(rows: &[Row]) -> Vec<Headline> {
    let seconds = |method: &str| rows.iter().find(|row| row.method == method).map(|row| row.seconds);
    PAPER
        .into_iter()
        .filter_map(|(what, other, wanted)| {
            let (cachemir, other_seconds) = (seconds("cachemir")?, seconds(other)?);
            let ratio = if other == "ours" { cachemir / other_seconds } else { other_seconds / cachemir };
            Some(Headline { what, ratio, wanted, reached: ratio >= wanted })
        })
        .collect()
}

impl Baselines {
    /// Counts, prices, places and prints every method.
    pub fn run(self) -> anyhow::Result<()> {
        let file = self.costs.read_measured()?;
        let operations = file.operation_costs()?;
        let costs = file.bootstrap_costs()?;
        // The papers have no bootstrap of real slots; the decoder shares none between two values.
        let paired = BootstrapCosts { real_share: 1.0, ..costs.clone() };
        let alone = BootstrapCosts { pairing_seconds: None, ..paired.clone() };
        let ours = BootstrapCosts { pairing_seconds: None, ..costs };
        let shape = ModelShape::named(&self.shape)?;
        let cached = |packings, functions: &Functions| {
            cached_layer(&shape, packings, functions, self.slots, self.context, self.kept_encoded)
        };
        let recomputed = |packing| {
            recompute_layer(&shape, packing, &SimulatedCounts, self.slots, self.context, self.kept_encoded)
        };
        let mut methods = vec![
            ("cachemir", cached(CachedPackings::Cachemir, &Functions::paper())?, &alone),
            ("diagonal_kv", cached(CachedPackings::Diagonal, &Functions::paper())?, &alone),
            ("moai", recomputed(Recompute::Moai)?, &alone),
            ("thor", recomputed(Recompute::Thor)?, &paired),
        ];
        match own_layer(&shape, self.slots, self.context, self.kept_encoded, &ours) {
            Ok(layer) => methods.insert(1, ("ours", layer, &ours)),
            Err(error) => println!("without ours: {error}"),
        }
        // Sequences side by side in a column of MOAI.
        let padded = self.context.max(16).next_power_of_two().min(self.slots);
        let sequences = (self.slots / padded) as f64;
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
                seconds_single_user: if method == "moai" { seconds * sequences } else { seconds },
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
        let headline = headlines(&rows);
        for Headline { what, ratio, wanted, reached } in &headline {
            println!("{what}: {ratio:.2} ({} {wanted})", if *reached { "at least" } else { "NOT reached:" });
        }
        if let Some(moai) = rows.iter().find(|row| row.method == "moai") {
            println!(
                "cachemir over moai for a single user: {:.2}",
                moai.speedup * moai.seconds_single_user / moai.seconds
            );
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
                headline,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(method: &'static str, seconds: f64) -> Row {
        Row {
            method,
            plaintext_products: 1.0,
            rotations: 1.0,
            ciphertext_products: 1.0,
            bootstraps: 1,
            seconds,
            seconds_single_user: seconds,
            speedup: seconds / 10.0,
        }
    }

    #[test]
    fn headlines_divide_the_right_way_round_and_say_when_they_miss() {
        let rows = [row("cachemir", 10.0), row("ours", 8.0), row("moai", 500.0), row("thor", 20.0)];
        let found: Vec<(f64, bool)> =
            headlines(&rows).into_iter().map(|line| (line.ratio, line.reached)).collect();
        assert_eq!(found, [(50.0, true), (2.0, false), (1.25, false)]);
    }

    #[test]
    fn the_chart_has_one_bar_a_method_and_is_well_formed() {
        let svg = bars(&[row("cachemir", 10.0), row("ours", 0.1)], "llama-3-8b", 512);
        assert_eq!(svg.matches("<rect").count(), 2, "{svg}");
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
    }
}
