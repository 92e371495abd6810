//! The solver against the oracle on thousands of random small graphs.

use std::collections::HashMap;

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::bootstrap::{BootstrapCosts, LaneCosts};
use super::graph::{LevelGraph, Operation, Read, ValueId, Write};
use super::greedy::greedy;
use super::oracle::{exhaust, exhaust_ends};
use super::pruning::pruning_obstacles;
use super::solution::Solution;
use super::solver::{Search, solve};
use crate::contract::Level;

/// What a random case may contain.
#[derive(Clone, Copy)]
struct Kind {
    chain: bool,
    monotone: bool,
    groups: bool,
}

struct Case {
    graph: LevelGraph,
    costs: BootstrapCosts,
    entry: Vec<Level>,
}

fn seconds(rng: &mut ChaCha8Rng, max: usize, depth: usize, monotone: bool) -> Vec<Option<f64>> {
    let mut costs: Vec<f64> = (0..=max).map(|_| rng.random_range(0.1..5.0)).collect();
    if monotone {
        costs.sort_by(f64::total_cmp);
    }
    let mut table: Vec<Option<f64>> =
        costs.into_iter().enumerate().map(|(level, cost)| (level >= depth).then_some(cost)).collect();
    // Holes, but never everywhere.
    if !monotone && max > depth && rng.random_bool(0.3) {
        table[rng.random_range(depth..max)] = None;
    }
    table
}

fn random_case(seed: u64, kind: Kind) -> Case {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Shared bootstraps multiply the moves of the oracle.
    let max = rng.random_range(2..=if kind.groups { 3 } else { 4 });
    let count = rng.random_range(1..=if kind.groups { 4 } else { 5 });
    let mut builder = LevelGraph::builder("random", Level(max));
    let size = |rng: &mut ChaCha8Rng| (rng.random_range(1..=2), [1, 2, 2, 4][rng.random_range(0..4)]);
    let inputs = if kind.chain { 1 } else { rng.random_range(1..=2) };
    let mut known: Vec<ValueId> = Vec::new();
    for index in 0..inputs {
        let (ciphertexts, lanes) = size(&mut rng);
        known.push(builder.input(format!("input {index}"), ciphertexts, lanes));
    }
    for index in 0..count {
        let reads = if kind.chain { 1 } else { rng.random_range(1..=known.len().min(3)) };
        let mut read = Vec::new();
        while read.len() < reads {
            // Recent values are read more often: chains with shortcuts rather than bushes.
            let back = if kind.chain {
                1
            } else {
                rng.random_range(1..=known.len()).min(rng.random_range(1..=known.len()))
            };
            let value = known[known.len() - back];
            if !read.iter().any(|other: &Read| other.value == value) {
                let above = usize::from(!kind.chain && rng.random_bool(0.1));
                read.push(Read { value, above });
            }
        }
        let depth = rng.random_range(0..=max.min(2));
        let writes = if !kind.chain && rng.random_bool(0.2) { 2 } else { 1 };
        let mut write = Vec::new();
        for copy in 0..writes {
            let (ciphertexts, lanes) = size(&mut rng);
            let value = builder.value(format!("value {index}.{copy}"), ciphertexts, lanes);
            builder.may_bootstrap(kind.chain || rng.random_bool(0.8));
            write.push(Write { value, depth: if copy == 0 { depth } else { rng.random_range(0..=depth) } });
            known.push(value);
        }
        let seconds = seconds(&mut rng, max, depth, kind.monotone);
        builder.push(Operation { name: format!("operation {index}"), reads: read, writes: write, seconds });
    }
    let mut outputs = vec![known[known.len() - 1]];
    if !kind.chain && known.len() > 3 && rng.random_bool(0.2) {
        outputs.push(known[known.len() - 2]);
    }
    let graph = builder.finish(&outputs).unwrap();
    let output_level = rng.random_range(1..=max);
    let mut costs = BootstrapCosts {
        seconds: seconds(&mut rng, output_level, 0, kind.monotone),
        minimum_input_level: Level(usize::from(rng.random_bool(0.3))),
        pairing_seconds: None,
        lanes: None,
        real_share: 1.0,
    };
    if kind.groups {
        costs.real_share = rng.random_range(0.5..=1.0);
        costs.pairing_seconds = rng.random_bool(0.7).then_some(0.2);
        costs.lanes =
            rng.random_bool(0.4).then_some(LaneCosts { seconds: 0.1, depth: rng.random_range(0..=1) });
    }
    let entry = (0..inputs).map(|_| Level(rng.random_range(0..=max))).collect();
    Case { graph, costs, entry }
}

/// A random graph of one input and one output between levels 0 and 3, and costs: layers that follow one another.
pub fn random_layer(seed: u64) -> (LevelGraph, BootstrapCosts) {
    let kind = Kind { chain: false, monotone: false, groups: true };
    let mut cases = (0..).map(|index| random_case(seed.wrapping_mul(1000).wrapping_add(index), kind));
    let fits = |case: &Case| {
        let graph = &case.graph;
        graph.max_level() == Level(3) && graph.inputs().len() == 1 && graph.outputs().len() == 1
    };
    let case = cases.find(fits).unwrap();
    (case.graph, case.costs)
}

/// Least seconds of `ends` with every output at least at `wanted`.
fn at_least<'a>(ends: impl Iterator<Item = (&'a [usize], f64)>, wanted: &[usize]) -> f64 {
    ends.filter(|(exit, _)| exit.iter().zip(wanted).all(|(own, wanted)| own >= wanted))
        .map(|(_, seconds)| seconds)
        .fold(f64::INFINITY, f64::min)
}

fn exits(solutions: &[Solution]) -> Vec<(Vec<usize>, f64)> {
    solutions.iter().map(|one| (one.exit.iter().map(|level| level.0).collect(), one.seconds)).collect()
}

fn equals_oracle(
    case: &Case,
    solutions: &[Solution],
    oracle: &HashMap<Vec<usize>, f64>,
) -> Result<(), TestCaseError> {
    let found = exhaust_ends(&case.graph, &case.costs, &exits(solutions));
    for exit in oracle.keys().chain(found.keys()) {
        let least =
            |ends: &HashMap<Vec<usize>, f64>| at_least(ends.iter().map(|(e, s)| (e.as_slice(), *s)), exit);
        let (ours, theirs) = (least(&found), least(oracle));
        prop_assert!((ours - theirs).abs() < 1e-9, "outputs at {exit:?}: solver {ours}, oracle {theirs}");
    }
    Ok(())
}

fn check(seed: u64, kind: Kind) -> Result<(), TestCaseError> {
    let case = random_case(seed, kind);
    let oracle = exhaust(&case.graph, &case.costs, &case.entry);
    match solve(&case.graph, &case.costs, &case.entry, Search::Exact) {
        Err(error) => {
            prop_assert!(oracle.is_empty(), "solver finds nothing ({error}), oracle {oracle:?}");
        }
        Ok(solutions) => {
            equals_oracle(&case, &solutions, &oracle)?;
            for solution in &solutions {
                solution.replay(&case.graph, &case.costs).unwrap();
            }
            if let Ok(greedy) = greedy(&case.graph, &case.costs, &case.entry) {
                greedy.replay(&case.graph, &case.costs).unwrap();
                let exit: Vec<usize> = greedy.exit.iter().map(|level| level.0).collect();
                let best = at_least(oracle.iter().map(|(exit, s)| (exit.as_slice(), *s)), &exit);
                prop_assert!(greedy.seconds >= best - 1e-9, "greedy {} below {best}", greedy.seconds);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exact_search_equals_exhaustion_on_graphs_with_monotone_costs(seed: u64) {
        check(seed, Kind { chain: false, monotone: true, groups: false })?;
    }

    #[test]
    fn exact_search_equals_exhaustion_on_chains(seed: u64, monotone: bool) {
        check(seed, Kind { chain: true, monotone, groups: false })?;
    }

    #[test]
    fn pruned_search_equals_exact_on_monotone_chains_and_refuses_others(seed: u64, monotone: bool) {
        let case = random_case(seed, Kind { chain: true, monotone, groups: false });
        let obstacles = pruning_obstacles(&case.graph, &case.costs);
        let pruned = solve(&case.graph, &case.costs, &case.entry, Search::Pruned);
        if obstacles.is_empty() {
            let oracle = exhaust(&case.graph, &case.costs, &case.entry);
            match pruned {
                Ok(solutions) => equals_oracle(&case, &solutions, &oracle)?,
                Err(_) => prop_assert!(oracle.is_empty()),
            }
        } else {
            let error = pruned.unwrap_err().to_string();
            prop_assert!(error.contains(&obstacles[0]), "{error}");
        }
        prop_assert!(!monotone || obstacles.is_empty(), "a monotone chain is refused: {obstacles:?}");
    }
}

proptest! {
    // The oracle needs tens of milliseconds where bootstraps are shared.
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exact_search_equals_exhaustion_on_graphs_with_branches_and_shared_bootstraps(seed: u64) {
        check(seed, Kind { chain: false, monotone: false, groups: true })?;
    }
}

#[test]
fn pruning_is_refused_where_a_value_is_shared_and_names_it() {
    let mut builder = LevelGraph::builder("shortcut", Level(2));
    let x = builder.input("residual", 1, 2);
    let h = builder.value("h", 1, 2);
    let y = builder.value("y", 1, 2);
    builder.operation("square", &[x], &[h], 1, vec![None, Some(1.0), Some(1.0)]);
    builder.operation("join", &[x, h], &[y], 0, vec![Some(0.0); 3]);
    let graph = builder.finish(&[y]).unwrap();
    let costs = BootstrapCosts::constant(5.0, Level(2));
    let error = solve(&graph, &costs, &[Level(2)], Search::Pruned).unwrap_err().to_string();
    assert!(error.contains("`residual` is used 2 times"), "{error}");
}

#[test]
fn entries_that_do_not_fit_the_graph_are_refused() {
    let case = random_case(1, Kind { chain: true, monotone: true, groups: false });
    for entry in [vec![], vec![Level(60)], vec![Level(0), Level(0)]] {
        let error = solve(&case.graph, &case.costs, &entry, Search::Exact).unwrap_err().to_string();
        assert!(error.contains("inputs at"), "{error}");
    }
}
