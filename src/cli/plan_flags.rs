//! Flags of `cachemir plan`.

use std::path::PathBuf;

use crate::decoder::head_side::HeadSide;
use crate::setup::{Backend, Preset};
use clap::{Args, ValueEnum};

use super::costs::CostArguments;

/// Flags of `plan`.
#[derive(Args)]
pub struct PlanVerb {
    /// Model directory in Hugging Face layout: the plan that its encrypted decoder runs by (`generate --plan`), of the
    /// decoder's own modules and for its calibration.
    #[arg(long, value_name = "DIR", conflicts_with = "shape")]
    pub(super) model: Option<PathBuf>,
    /// Shape instead of a model: gpt2, smollm2-135m, tinyllama or llama-3-8b. Without either: the layer whose modules
    /// the cost file measured, or else llama-3-8b.
    #[arg(long)]
    pub(super) shape: Option<String>,
    #[command(flatten)]
    pub(super) costs: CostArguments,
    /// Seconds of a bootstrap, for a table, which has none.
    #[arg(long, default_value_t = 24.0)]
    pub(super) bootstrap_seconds: f64,
    /// Highest level; what bootstraps reach (13 for a table) by default.
    #[arg(long, value_name = "LEVELS")]
    pub(super) max_level: Option<usize>,
    /// How to search: every useful state, or the paper's pruning, refused where it could miss the optimum.
    #[arg(long, value_enum, default_value_t = SearchFlag::Exact)]
    pub(super) search: SearchFlag,
    /// Parameter preset the costs belong to.
    #[arg(long, visible_alias = "params", value_enum, default_value = "n16")]
    pub(super) preset: Preset,
    /// Backend the costs belong to.
    #[arg(long, value_enum, default_value = "native")]
    pub(super) backend: Backend,
    /// Tokens in the cache.
    #[arg(long, default_value_t = 512)]
    pub(super) context: usize,
    /// Slots of a ciphertext.
    #[arg(long, default_value_t = 32768)]
    pub(super) slots: usize,
    /// Which side applies the output head of the model.
    #[arg(long, value_enum, default_value = "client")]
    pub(super) head: HeadSide,
    /// Weights stay encoded in memory instead of being encoded at every use.
    #[arg(long)]
    pub(super) kept_encoded: bool,
    /// Write the plan as JSON.
    #[arg(long, short = 'o', visible_alias = "output", value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write the plan as an HTML page.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

/// How to search.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum SearchFlag {
    Exact,
    Pruned,
}
