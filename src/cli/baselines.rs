//! `cachemir baselines`: one generated token by Cachemir, by ours, by plain diagonals, MOAI and THOR, on the same
//! costs.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::costs::CostArguments;
use crate::measure::{Report, write_atomically};
use crate::pages::{baselines_chart, baselines_table};
use crate::related_work::baselines::{
    ASSUMPTIONS, BaselineCase, BaselineRow, Headline, baselines, headlines,
};
use crate::related_work::formulas::ModelShape;

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
struct Body {
    shape: String,
    context: usize,
    costs: String,
    assumptions: &'static [&'static str],
    headline: Vec<Headline>,
    rows: Vec<BaselineRow>,
}

impl Baselines {
    /// Counts, prices, places and prints every method.
    pub fn run(self) -> anyhow::Result<()> {
        let file = self.costs.read_measured()?;
        let shape = ModelShape::named(&self.shape)?;
        let case =
            BaselineCase { shape, context: self.context, slots: self.slots, kept_encoded: self.kept_encoded };
        let rows = baselines(&case, &file)?;
        print!("{}", baselines_table(&rows));
        println!("costs: {}", file.provenance);
        for assumption in ASSUMPTIONS {
            println!("- {assumption}");
        }
        let headline = headlines(&rows);
        for Headline { what, ratio, wanted, reached } in &headline {
            println!("{what}: {ratio:.2} ({} {wanted})", if *reached { "at least" } else { "NOT reached:" });
        }
        if let Some(moai) = rows.iter().find(|row| row.method == "moai") {
            let alone = moai.speedup * moai.seconds_single_user / moai.seconds;
            println!("cachemir over moai for a single user: {alone:.2}");
        }
        if let Some(path) = &self.svg {
            let chart = baselines_chart(&rows, &case.shape.name, self.context)?;
            write_atomically(path, chart.as_bytes())?;
        }
        if let Some(path) = &self.json {
            let body = Body {
                shape: case.shape.name,
                context: self.context,
                costs: file.provenance,
                assumptions: &ASSUMPTIONS,
                headline,
                rows,
            };
            Report::new("baselines", "composed", "composed", body).write(path)?;
        }
        Ok(())
    }
}
