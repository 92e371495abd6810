//! Decoder layers as graphs: how many bootstraps they need, and how much work placing them is.

use super::*;
use crate::contract::Level;
use crate::placement::LayerTemplate;
use crate::placement::{
    BootstrapCosts, OperationCosts, OperationRow, Prices, Search, Solution, Source, place, place_greedily,
    states_kept,
};
use crate::placement::{LevelGraph, Operation, Read};
use crate::related_work::recompute_counts::SimulatedCounts;
use crate::related_work::{LevelMatrix, own_layer};

/// The layer with operations for nothing, so that only bootstraps count.
///
/// * `caches_at_any_level`: nothing is said of appending to the caches, and they do not bind the level at which they
///   are read (section 10b of the specification).
fn free(template: &LayerTemplate, max_level: usize, caches_at_any_level: bool) -> LevelGraph {
    let mut builder = LevelGraph::builder("free", Level(max_level));
    for (index, value) in template.values.iter().enumerate() {
        if template.inputs.iter().any(|input| input.0 == index) {
            builder.input(value.name.clone(), value.ciphertexts, value.lanes);
        } else {
            builder.value(value.name.clone(), value.ciphertexts, value.lanes);
        }
    }
    for operation in &template.operations {
        if caches_at_any_level && operation.name.starts_with("append_") {
            continue;
        }
        let depth = operation.depth();
        let is_cache = |read: &Read| template.values[read.value.0].name.ends_with("_cache");
        builder.push(Operation {
            name: operation.name.clone(),
            reads: operation
                .reads
                .iter()
                .filter(|read| !(caches_at_any_level && is_cache(read)))
                .copied()
                .collect(),
            writes: operation.writes.clone(),
            seconds: (0..=max_level).map(|level| (level >= depth).then_some(0.0)).collect(),
        });
    }
    builder.finish(&template.outputs).unwrap()
}

fn llama(packings: CachedPackings, functions: &Functions) -> LayerTemplate {
    let shape = ModelShape::named("llama-3-8b").unwrap();
    cached_layer(&shape, packings, functions, 32768, 512, true).unwrap()
}

/// Least bootstraps a layer in the steady state.
fn least(functions: &Functions, max_level: usize, pairing: bool, caches_at_any_level: bool) -> f64 {
    let mut costs = BootstrapCosts::constant(1.0, Level(max_level));
    if pairing {
        costs = costs.with_pairing(0.0);
    }
    let graph = free(&llama(CachedPackings::Cachemir, functions), max_level, caches_at_any_level);
    LevelMatrix::of_graph(&graph, &costs, Search::Exact).unwrap().steady_state().unwrap().seconds
}

// The paper's composition (placement::modules) refreshes two values that meet in a product as one, which takes a shared
// bootstrap; values refreshed one by one need an eighth at 13 levels.
#[test]
fn with_the_papers_functions_a_layer_needs_7_bootstraps_at_13_levels_and_5_at_16() {
    assert_eq!(least(&Functions::paper(), 13, true, false), 7.0);
    assert_eq!(least(&Functions::paper(), 16, true, false), 5.0);
    assert_eq!(least(&Functions::paper(), 13, false, true), 8.0);
}

/// Our layer of Llama-3-8B, under bootstraps to level 16.
fn own() -> LayerTemplate {
    let shape = ModelShape::named("llama-3-8b").unwrap();
    own_layer(&shape, 32768, 512, true, &BootstrapCosts::constant(1.0, Level(16))).unwrap()
}

#[test]
fn with_our_functions_a_layer_needs_at_most_5_bootstraps_at_16_levels() {
    let costs = BootstrapCosts::constant(1.0, Level(16));
    let graph = free(&own(), 16, false);
    let count = LevelMatrix::of_graph(&graph, &costs, Search::Exact).unwrap().steady_state().unwrap().seconds;
    assert!(count <= 5.0, "{count}");
}

#[test]
fn a_32_layer_model_is_placed_by_a_small_search_and_never_worse_than_greedily() {
    let operations = OperationCosts::new(&rows()).unwrap();
    let prices = Prices { operations: &operations, file: None };
    let graph = own().graph(&prices, Level(16)).unwrap();
    let costs = BootstrapCosts::constant(20.0, Level(16));
    let layers = vec![&graph; 32];
    let placed = place(&layers, &costs, Level(16), Search::Exact).unwrap();
    let free = graph.without_restrictions();
    let greedy = place_greedily(&vec![&free; 32], &costs, Level(16)).unwrap();
    let total = |all: &[Solution]| all.iter().map(|one| one.seconds).sum::<f64>();
    assert!(total(&placed) < total(&greedy), "{} s against {} s", total(&placed), total(&greedy));
    for solution in &placed {
        solution.replay(&graph, &costs).unwrap();
    }
    for solution in &greedy {
        solution.replay(&free, &costs).unwrap();
    }
    // Equal layers are solved once for each entry level, so this is all the work there is beside a product of matrices.
    let states: usize =
        (0..=16).map(|level| states_kept(&graph, &costs, &[Level(level)], Search::Exact).unwrap()).sum();
    assert!(states < 100_000, "{states} states");
}

fn rows() -> Vec<OperationRow> {
    [("rotate", 0.08), ("mult", 0.1), ("mult_plain", 0.005), ("rescale", 0.01), ("rotate_hoisted", 0.03)]
        .into_iter()
        .map(|(op, seconds)| OperationRow {
            op: op.to_owned(),
            level: Level(13),
            seconds,
            source: Source::Assumed,
        })
        .collect()
}

#[test]
fn counts_of_llama_3_8b_are_those_of_the_specification() {
    let shape = ModelShape::named("llama-3-8b").unwrap();
    let paper = llama(CachedPackings::Cachemir, &Functions::paper()).work() * 32.0;
    assert!((paper.plaintext_products / 2.7e5 - 1.0).abs() < 0.05, "{}", paper.plaintext_products);
    // Up with gate in one product, nothing padded to a power of two; a mask where the paper has one.
    let ours = own().work() * 32.0;
    assert!(ours.plaintext_products < 0.8 * paper.plaintext_products, "{}", ours.plaintext_products);
    let moai =
        recompute_layer(&shape, Recompute::Moai, &SimulatedCounts, 32768, 512, true).unwrap().work() * 32.0;
    assert!((moai.constant_products / 1.1e8 - 1.0).abs() < 0.05, "{}", moai.constant_products);
    let thor =
        recompute_layer(&shape, Recompute::Thor, &SimulatedCounts, 32768, 512, true).unwrap().work() * 32.0;
    assert!((thor.plaintext_products / 5.5e7 - 1.0).abs() < 0.05, "{}", thor.plaintext_products);
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    assert!(ModelShape::named("gpt5").unwrap_err().to_string().contains("llama-3-8b"));
    let mut shape = ModelShape::named("gpt2").unwrap();
    shape.num_key_value_heads = 5;
    assert!(shape.check(32768).unwrap_err().to_string().contains("12 heads over 5"));
    shape.num_key_value_heads = 0;
    assert!(shape.check(32768).is_err());
    let large = ModelShape::named("llama-3-8b").unwrap();
    assert!(recompute_layer(&large, Recompute::Thor, &SimulatedCounts, 4096, 8, true).is_err());
}
