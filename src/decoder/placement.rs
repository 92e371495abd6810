//! Where the encrypted decoder bootstraps, solved for its own steps: a [`Plan`] out of the decoder's functions, the
//! levels of a scheme, and measured costs.
//!
//! Every layer is the graph of its steps as [`crate::decoder::count`] counts them, with bootstraps where the decoder
//! has a seam ([`crate::decoder::step::Step::seam`]); the end of the model follows as a layer of its own. The search
//! is exact. What stays as the hand-made plan has it: the functions, and how many iterations of the inverse stand
//! before its bootstrap.

use sha2::{Digest, Sha256};

use crate::contract::{BootstrapSummary, Error, Level, LevelChain, Result};
use crate::placement::{
    BootstrapCosts, CostFile, LayerTemplate, LevelGraph, Plan, PlanTarget, Prices, Refresh, Search, Solution,
    place, place_greedily, run_in_order,
};

use crate::decoder::Decoder;
use crate::decoder::count::StepCounter;
use crate::decoder::plan::DecoderPlan;
use crate::model::config::LlamaConfig;

/// A scheme, as far as placement needs to know it.
#[derive(Clone, Debug)]
pub struct PlacementScheme<'a> {
    /// Backend.
    pub backend: &'a str,
    /// Preset.
    pub preset: &'a str,
    /// Slots of a ciphertext.
    pub slots: usize,
    /// Levels and scales.
    pub chain: &'a LevelChain,
    /// What a bootstrap offers.
    pub bootstrap: BootstrapSummary,
}

impl PlacementScheme<'_> {
    /// What a plan for `functions` of a model under this scheme is made for: fingerprints of the calibrated model,
    /// and the preset with its levels.
    ///
    /// # Errors
    /// [`Error::Internal`] when the functions do not serialize; those of the chain.
    pub fn target(&self, config: &LlamaConfig, functions: &DecoderPlan) -> Result<PlanTarget> {
        let functions = serde_json::to_vec(functions)
            .map_err(|error| Error::Internal(format!("functions of the decoder: {error}")))?;
        let shape = config.to_json().to_string();
        let BootstrapSummary { output_level, minimum_input_level, .. } = self.bootstrap;
        let mut scales = Vec::new();
        for level in 0..=self.chain.max_level().0 {
            scales.extend(self.chain.canonical_scale(Level(level))?.0.to_le_bytes());
        }
        Ok(PlanTarget {
            model: digest(&[shape.as_bytes(), &functions]),
            preset: format!(
                "{}: {} slots, bootstraps from level {minimum_input_level} to {output_level}, scales {}",
                self.preset,
                self.slots,
                digest(&[&scales])
            ),
            backend: self.backend.to_owned(),
        })
    }

    /// Costs of bootstraps to the levels of this scheme, one value at a time. A level that `file` does not know costs
    /// as the highest it knows.
    fn bootstrap_costs(&self, file: &CostFile) -> Result<BootstrapCosts> {
        let known = file.bootstrap_costs()?;
        let highest = known.output_level()?;
        let highest = known.seconds.get(highest.0).copied().flatten();
        let seconds = (0..=self.bootstrap.output_level.0)
            .map(|level| known.seconds.get(level).copied().flatten().or(highest))
            .collect();
        Ok(BootstrapCosts {
            seconds,
            minimum_input_level: self.bootstrap.minimum_input_level,
            pairing_seconds: None,
            lanes: None,
            real_share: known.real_share,
        })
    }
}

/// Twelve bytes of SHA-256, in hexadecimal.
fn digest(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// The layers of the decoder and its end as templates, with the bootstraps placed by hand.
///
/// # Errors
/// Errors of [`StepCounter::template`].
fn templates(
    config: &LlamaConfig,
    functions: &DecoderPlan,
    scheme: &PlacementScheme<'_>,
    tokens: TokensOfCache,
) -> Result<Vec<(LayerTemplate, Vec<Refresh>)>> {
    let decoder = Decoder::without_weights(config, functions.clone(), scheme.slots, tokens.context)?;
    let mut counter = StepCounter::new(&decoder, scheme.chain, scheme.bootstrap, tokens.cached, 1)?;
    let of_layer = |index: usize| Ok((counter.template(index)?, counter.refreshes(index)?));
    (0..=functions.layers.len()).map(of_layer).collect()
}

/// How far a cache is filled, and how far it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokensOfCache {
    /// Tokens before the new one.
    pub cached: usize,
    /// Tokens it is laid out for.
    pub context: usize,
}

/// Bootstraps and seconds of one token under some placement.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct TokenCost {
    /// Ciphertexts bootstrapped.
    pub bootstraps: usize,
    /// Seconds predicted.
    pub seconds: f64,
}

impl TokenCost {
    fn of(solutions: &[Solution]) -> Self {
        Self {
            bootstraps: solutions.iter().map(Solution::bootstraps).sum(),
            seconds: solutions.iter().map(|one| one.seconds).sum(),
        }
    }
}

/// A plan for the decoder, and what other placements of the same layers would cost.
#[derive(Clone, Debug)]
pub struct DecoderPlacement {
    /// The cheapest plan.
    pub plan: Plan,
    /// The bootstraps placed by hand.
    pub by_hand: TokenCost,
    /// Every value bootstrapped when it is out of levels, alone, to the top, whether the decoder could or not.
    pub greedy: TokenCost,
    /// Seconds that the search took.
    pub search_seconds: f64,
}

/// The cheapest plan for the decoder of `functions`, with bootstraps by hand, for a model of shape `config` under
/// `scheme` and the costs of `file`. No weights are needed: costs do not depend on them.
///
/// # Errors
/// [`Error::Plan`] when no placement exists; those of counting on the simulator.
pub fn place_decoder(
    config: &LlamaConfig,
    functions: &DecoderPlan,
    scheme: &PlacementScheme<'_>,
    file: &CostFile,
    tokens: TokensOfCache,
) -> Result<DecoderPlacement> {
    let top = scheme.bootstrap.output_level;
    let operations = file.operation_costs()?;
    let costs = scheme.bootstrap_costs(file)?;
    let prices = Prices { operations: &operations, file: None };
    let mut graphs: Vec<LevelGraph> = Vec::new();
    let mut by_hand = Vec::new();
    let mut level = top;
    for (template, refreshes) in templates(config, functions, scheme, tokens)? {
        let graph = template.graph(&prices, top)?;
        let solution = run_in_order(&graph, &costs, level, &refreshes)?;
        let bootstraps = solution.bootstraps() + refreshes.iter().filter(|at| at.before.is_none()).count();
        level = solution.exit.first().copied().unwrap_or(top);
        by_hand.push(TokenCost { bootstraps, seconds: solution.seconds });
        graphs.push(graph);
    }
    let by_hand = TokenCost {
        bootstraps: by_hand.iter().map(|layer| layer.bootstraps).sum(),
        seconds: by_hand.iter().map(|layer| layer.seconds).sum(),
    };
    let free: Vec<LevelGraph> = graphs.iter().map(LevelGraph::without_restrictions).collect();
    let greedy = place_greedily(&free.iter().collect::<Vec<_>>(), &costs, top)?;
    let graphs: Vec<&LevelGraph> = graphs.iter().collect();
    let start = std::time::Instant::now();
    let solutions = place(&graphs, &costs, top, Search::Exact)?;
    Ok(DecoderPlacement {
        search_seconds: start.elapsed().as_secs_f64(),
        plan: Plan::new(scheme.target(config, functions)?, &graphs, &solutions)?,
        by_hand,
        greedy: TokenCost::of(&greedy),
    })
}
