//! One generated token by Cachemir, by this program, by plain diagonals, MOAI and THOR, on the same measured costs.
//!
//! Nothing is run as a whole: the operations of a layer are counted, priced by the costs of single operations, and the
//! bootstraps of all layers placed by the same exact solver. [`ASSUMPTIONS`] belong beside every figure.

use serde::Serialize;

use super::formulas::{CachedPackings, Functions, ModelShape, Recompute, cached_layer, recompute_layer};
use super::own_layer;
use super::recompute_counts::SimulatedCounts;
use crate::contract::Result;
use crate::placement::{
    BootstrapCosts, CostFile, LayerTemplate, OperationCosts, Prices, Search, Solution, place,
};

/// What the figures rest on.
pub const ASSUMPTIONS: [&str; 9] = [
    "nothing was run as a whole: operations are counted, their seconds composed from those measured one by one",
    "ours is the layer that `generate` runs, counted step by step on the simulator, with the functions of a \
     middle layer of SmolLM2",
    "products of cachemir and diagonal_kv are counted by the geometry their code runs by; appending to and \
     reading the cache by formulas",
    "products, QK^T and PV of moai and thor are counted by running their packings on the simulator, at \
     sizes that count the same; norms, exp, division and activation by formulas, alike for both",
    "bootstraps of every method are placed by the same exact solver; only thor shares one between two real \
     values, and only ours leaves out the imaginary parts of one that is real",
    "moai and thor recompute the whole prefix for every token, padded to a power of two; their tensors take \
     as many ciphertexts as their data fill",
    "moai is amortised over the S/n sequences that fill its slots: a single user waits S/n times longer \
     (seconds_single_user)",
    "thor runs without its complex folding of QK^T and PV; a head wider than S/n diagonals lies in several ciphertexts",
    "cachemir and diagonal_kv use the paper's approximations (7 bootstraps a layer or more)",
];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct BaselineCase {
    /// Sizes of the model.
    pub shape: ModelShape,
    /// Tokens of context.
    pub context: usize,
    /// Slots of a ciphertext.
    pub slots: usize,
    /// Whether weights stay encoded in memory instead of being encoded at every use.
    pub kept_encoded: bool,
}

/// One token by one method.
#[derive(Clone, Debug, Serialize)]
pub struct BaselineRow {
    /// `cachemir`, `ours`, `diagonal_kv`, `moai` or `thor`.
    pub method: &'static str,
    /// Whether `generate` runs these packings.
    pub run_by_generate: bool,
    /// Whether the seconds were measured as a whole: of none.
    pub measured: bool,
    /// Products with plaintexts and constants.
    pub plaintext_products: f64,
    /// Rotations and conjugations.
    pub rotations: f64,
    /// Products of two ciphertexts.
    pub ciphertext_products: f64,
    /// Bootstraps.
    pub bootstraps: usize,
    /// Seconds, composed; of `moai` amortised over all sequences in its slots.
    pub seconds: f64,
    /// Seconds that one user alone waits.
    pub seconds_single_user: f64,
    /// Seconds of this row over seconds of `cachemir`.
    pub speedup: f64,
}

/// A ratio of two rows beside the one to compare it with.
#[derive(Clone, Debug, Serialize)]
pub struct Headline {
    /// What is divided by what.
    pub what: &'static str,
    /// By these rows.
    pub ratio: f64,
    /// What the paper reports for Llama-3-8B on CPUs, or what is asked of ours over it.
    pub wanted: f64,
    /// Whether the ratio is at least that.
    pub reached: bool,
}

/// A headline before its ratio is known: seconds of the first method over those of the second.
const HEADLINES: [(&str, [&str; 2], f64); 3] = [
    ("cachemir over moai (amortised)", ["moai", "cachemir"], 48.83),
    ("cachemir over thor", ["thor", "cachemir"], 67.16),
    ("ours over cachemir", ["cachemir", "ours"], 1.5),
];

/// The headlines whose two methods have rows.
#[must_use]
pub fn headlines(rows: &[BaselineRow]) -> Vec<Headline> {
    let seconds = |method: &str| rows.iter().find(|row| row.method == method).map(|row| row.seconds);
    let headline = |(what, [slow, fast], wanted): (&'static str, [&str; 2], f64)| {
        let ratio = seconds(slow)? / seconds(fast)?;
        Some(Headline { what, ratio, wanted, reached: ratio >= wanted })
    };
    HEADLINES.into_iter().filter_map(headline).collect()
}

/// A method: its layer, and what bootstraps cost it.
struct Method {
    name: &'static str,
    run_by_generate: bool,
    layer: LayerTemplate,
    bootstraps: BootstrapCosts,
}

/// Counts, prices and places every method.
///
/// # Errors
/// [`crate::contract::Error::Shape`] for a shape that does not fit the slots; [`crate::contract::Error::Format`] for
/// costs that lack an operation.
pub fn baselines(case: &BaselineCase, costs: &CostFile) -> Result<Vec<BaselineRow>> {
    let operations = costs.operation_costs()?;
    // Sequences side by side in a column of MOAI.
    let padded = case.context.max(16).next_power_of_two().min(case.slots);
    let sequences = (case.slots / padded) as f64;
    let layers = case.shape.num_hidden_layers;
    let mut rows: Vec<BaselineRow> = Vec::new();
    for method in methods(case, costs)? {
        let placed = placed(&method, &operations, layers)?;
        let seconds: f64 = placed.iter().map(|layer| layer.seconds).sum();
        let reference = rows.first().map_or(seconds, |cachemir| cachemir.seconds);
        let work = method.layer.work() * layers as f64;
        rows.push(BaselineRow {
            method: method.name,
            run_by_generate: method.run_by_generate,
            measured: false,
            plaintext_products: work.plaintext_products + work.constant_products,
            rotations: work.rotations + work.rotations_hoisted + work.conjugations,
            ciphertext_products: work.ciphertext_products,
            bootstraps: placed.iter().map(Solution::bootstraps).sum(),
            seconds,
            seconds_single_user: if method.name == "moai" { seconds * sequences } else { seconds },
            speedup: seconds / reference,
        });
    }
    Ok(rows)
}

/// `cachemir` first: the others are compared with it.
fn methods(case: &BaselineCase, costs: &CostFile) -> Result<Vec<Method>> {
    let BaselineCase { shape, context, slots, kept_encoded } = case;
    let cached = |packings, functions: &Functions| {
        cached_layer(shape, packings, functions, *slots, *context, *kept_encoded)
    };
    let recomputed =
        |packing| recompute_layer(shape, packing, &SimulatedCounts, *slots, *context, *kept_encoded);
    let measured = costs.bootstrap_costs()?;
    // The decoder refreshes one value at a time, real ones as such. The papers have no bootstrap of real slots, and
    // only THOR puts two real values in one.
    let ours = BootstrapCosts { pairing_seconds: None, ..measured.clone() };
    let paired = BootstrapCosts { real_share: 1.0, ..measured.clone() };
    let alone = BootstrapCosts { pairing_seconds: None, ..paired.clone() };
    let method = |name, layer, bootstraps: &BootstrapCosts| Method {
        name,
        run_by_generate: name == "ours",
        layer,
        bootstraps: bootstraps.clone(),
    };
    let own = own_layer(shape, *slots, *context, *kept_encoded, &ours)?;
    Ok(vec![
        method("cachemir", cached(CachedPackings::Cachemir, &Functions::paper())?, &alone),
        method("ours", own, &ours),
        method("diagonal_kv", cached(CachedPackings::Diagonal, &Functions::paper())?, &alone),
        method("moai", recomputed(Recompute::Moai)?, &alone),
        method("thor", recomputed(Recompute::Thor)?, &paired),
    ])
}

fn placed(method: &Method, operations: &OperationCosts, layers: usize) -> Result<Vec<Solution>> {
    let top = method.bootstraps.output_level()?;
    let graph = method.layer.graph(&Prices { operations, file: None }, top)?;
    place(&vec![&graph; layers], &method.bootstraps, top, Search::Exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(method: &'static str, seconds: f64) -> BaselineRow {
        BaselineRow {
            method,
            run_by_generate: false,
            measured: false,
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
        assert_eq!(headlines(&rows[..2]).len(), 1, "no ratio to a method without a row");
    }
}
