//! Flags of `cachemir generate`.

use std::path::PathBuf;

use crate::decoder::head_side::HeadSide;
use crate::setup::{Backend, Preset};
use clap::Args;

/// Generate text while prompt, activations and KV cache stay encrypted.
#[derive(Args)]
pub struct Generate {
    /// Model directory in Hugging Face layout; the bundled tiny model without it.
    #[arg(long)]
    pub(super) model: Option<PathBuf>,
    /// Text to continue.
    #[arg(long, default_value = "ROMEO:")]
    pub(super) prompt: String,
    /// New tokens at most.
    #[arg(long, default_value_t = 8)]
    pub(super) max_new_tokens: usize,
    /// 0 for greedy; larger is more random.
    #[arg(long, default_value_t = 0.0)]
    pub(super) temperature: f64,
    /// Pick among the likeliest so many only; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub(super) top_k: usize,
    /// Pick among the likeliest that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    pub(super) top_p: f64,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Implementation.
    #[arg(long, value_enum, default_value = "native")]
    pub(super) backend: Backend,
    /// Parameters.
    #[arg(long, visible_alias = "params", value_enum, default_value = "n16")]
    pub(super) preset: Preset,
    /// For the simulator: noise as N = 2^16 has it, and bootstraps that are wrong by 2^-BITS (standard deviation).
    #[arg(long, value_name = "BITS")]
    pub(super) noise_bits: Option<f64>,
    /// Tokens the caches are laid out for; prompt and new tokens without it.
    #[arg(long)]
    pub(super) context: Option<usize>,
    /// Where to bootstrap and to which level, as `cachemir plan --model` writes it; solved at the start without it.
    #[arg(long, value_name = "FILE")]
    pub(super) plan: Option<PathBuf>,
    /// Prompt tokens that go through the model together, sharing bootstraps, as far as they fit; 1 for one by one.
    /// More of them need more rotation keys.
    #[arg(long, default_value_t = 8, value_name = "TOKENS")]
    pub(super) wave: usize,
    /// Also run the exact f32 model on the same tokens and compare; fails when a token is not the exact model's where
    /// that one is sure, a logit is wrong by more than 0.05 (of another model: than 0.05 of the range of its logits),
    /// or a bootstrap lost too many bits.
    #[arg(long)]
    pub(super) verify: bool,
    /// Keep the state of the run, and the client's secret key, in this directory, and go on from there: a run that
    /// was killed makes new evaluation keys and continues after its last token.
    #[arg(long)]
    pub(super) checkpoint: Option<PathBuf>,
    /// Which side applies the output head.
    #[arg(long, value_enum, default_value = "client")]
    pub(super) head: HeadSide,
    /// Write a report.
    #[arg(long)]
    pub(super) json: Option<PathBuf>,
    /// Write the report as one HTML page with plots; it shows the prompt.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}
