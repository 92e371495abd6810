//! What `cachemir eval` prints and writes.

use crate::fidelity::agreement::FidelitySummary;
use crate::fidelity::headroom::SiteHeadroom;
use crate::fidelity::teacher_forcing::{BUCKET, Bucket, TeacherForced};
use crate::fidelity::twin::TwinOutcome;
use serde::Serialize;

/// What `eval` writes of the twin.
#[derive(Serialize)]
pub struct TwinFigures<'a> {
    /// Agreement, divergence, perplexities.
    #[serde(flatten)]
    pub fidelity: &'a FidelitySummary,
    /// Bits of the noise at bootstraps, if any.
    pub noise_bits: Option<f64>,
    /// Sites that met an argument outside their interval.
    pub out_of_interval: Vec<&'a SiteHeadroom>,
    /// What every site met, in the order of the model.
    pub headroom: &'a [SiteHeadroom],
}

/// What `eval` writes of the decoder.
#[derive(Serialize)]
pub struct DecoderFigures<'a> {
    /// Agreement, divergence, perplexities.
    #[serde(flatten)]
    pub fidelity: &'a FidelitySummary,
    /// Bits of the noise at bootstraps, if any.
    pub noise_bits: Option<f64>,
    /// Positions that the caches were laid out for.
    pub context: usize,
    /// Tokens at a time; compared behind the last of them.
    pub wave: usize,
    /// Where a value left its interval, which ended the comparison early; none where none did.
    pub out_of_interval: Vec<&'a str>,
    /// Why it ended early, if it did.
    pub stopped: Option<&'a str>,
    /// Mean KL and positions of each sixteen positions behind the public prefix.
    pub kl_by_position: &'a [Bucket],
}

/// Prints the figures of a comparison under noise of 2^−`noise_bits`, if any.
pub fn print_fidelity(fidelity: &FidelitySummary, noise_bits: Option<f64>, seed: u64) {
    println!("positions        {}", fidelity.positions);
    if let Some(bits) = noise_bits {
        println!("noise at every bootstrap: 2^-{bits} of what each tensor is divided by, seed {seed}");
    }
    println!("top-1 agreement  {:.2} %", 100.0 * fidelity.top1);
    println!("KL (nats)        mean {:.2e}, max {:.2e}", fidelity.kl_mean, fidelity.kl_max);
    println!(
        "perplexity       exact {:.4}, approximated {:.4}",
        fidelity.perplexity_exact, fidelity.perplexity_approx
    );
    println!("logit error      max {:.2e}", fidelity.logit_max_error);
}

/// Prints the `count` sites nearest to their bound, and those beyond it.
pub fn print_headroom(outcome: &TwinOutcome, count: usize) {
    let mut sites: Vec<&SiteHeadroom> = outcome.headroom.iter().collect();
    sites.sort_by(|a, b| b.headroom.total_cmp(&a.headroom));
    println!("sites nearest to their bound (largest |unit variable|):");
    for site in sites.iter().take(count) {
        println!(
            "  {:<28} {:.3}   {:.4} .. {:.4} in {:.4} .. {:.4}",
            site.site, site.headroom, site.seen_low, site.seen_high, site.low, site.high
        );
    }
    let outside = outcome.outside();
    println!("sites outside their interval: {}", outside.len());
    for site in outside {
        println!("  {}: {} arguments", site.site, site.outside);
    }
}

/// Prints how the divergence goes with the position in a text.
pub fn print_by_position(outcome: &TeacherForced) {
    println!("mean KL by position behind the public prefix:");
    for (index, Bucket { kl_mean, positions }) in outcome.kl_by_position.iter().enumerate() {
        println!("  {:>4} ..  {kl_mean:.2e}   {positions} positions", index * BUCKET);
    }
}
