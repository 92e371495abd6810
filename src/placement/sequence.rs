//! Layers in a row: the cheapest way through a whole model, and the same with greedy placement.

use std::collections::HashMap;

use rayon::prelude::*;

use super::bootstrap::BootstrapCosts;
use super::graph::{LevelGraph, Value};
use super::greedy::greedy;
use super::solution::Solution;
use super::solver::{Search, solve};
use crate::contract::{Error, Level, Result};

/// Places bootstraps in `layers`, one after the other, the first entered at `entry`. Equal graphs are solved once for
/// each level at which they are entered, so that many equal layers cost little more than one. One value crosses from
/// layer to layer.
///
/// # Errors
/// [`Error::Plan`] when a graph has not exactly one input and one output, or there is no way through; errors of
/// [`solve`].
pub fn place(
    layers: &[&LevelGraph],
    costs: &BootstrapCosts,
    entry: Level,
    search: Search,
) -> Result<Vec<Solution>> {
    let mut distinct: Vec<&LevelGraph> = Vec::new();
    // Ends of every kind of layer by the level at which it is entered.
    let mut known: HashMap<(usize, Level), Vec<Solution>> = HashMap::new();
    let mut stages: Vec<Stage> = Vec::with_capacity(layers.len());
    let mut entries = vec![(entry, 0.0)];
    for layer in layers {
        check_ends(layer)?;
        if search != Search::Pruned {
            entries = useful(&entries, layer, costs)?;
        }
        let kind = distinct.iter().position(|known| known == layer).unwrap_or_else(|| {
            distinct.push(layer);
            distinct.len() - 1
        });
        let missing: Vec<Level> = entries
            .iter()
            .map(|entry| entry.0)
            .filter(|level| !known.contains_key(&(kind, *level)))
            .collect();
        let solved: Vec<Result<Vec<Solution>>> =
            missing.par_iter().map(|level| solve(layer, costs, &[*level], search)).collect();
        let mut failure = None;
        for (level, solutions) in missing.into_iter().zip(solved) {
            // Another entry may still lead on.
            let solutions = solutions.unwrap_or_else(|error| {
                failure = Some(error);
                Vec::new()
            });
            known.insert((kind, level), solutions);
        }
        let stage = Stage::through(kind, &entries, &known);
        entries = stage.ways.iter().map(|(level, way)| (*level, way.seconds)).collect();
        if entries.is_empty() {
            return Err(failure.unwrap_or_else(|| Error::Plan {
                why: format!("no way through layer {} of {}", stages.len(), layers.len()),
                remedy: "let bootstraps end higher, or enter higher".to_owned(),
            }));
        }
        stages.push(stage);
    }
    let best = entries.iter().min_by(|a, b| a.1.total_cmp(&b.1)).map(|entry| entry.0);
    trace(&stages, &known, best.unwrap_or(entry))
}

fn check_ends(layer: &LevelGraph) -> Result<()> {
    if layer.inputs().len() == 1 && layer.outputs().len() == 1 {
        return Ok(());
    }
    Err(Error::Plan {
        why: format!(
            "graph `{}` has {} inputs and {} outputs",
            layer.name(),
            layer.inputs().len(),
            layer.outputs().len()
        ),
        remedy: "only graphs with one of each follow one another".to_owned(),
    })
}

/// The cheapest way to one level after a layer: seconds of everything so far, the level at which the layer is entered,
/// and which of the solutions from there.
#[derive(Clone, Copy)]
struct Way {
    seconds: f64,
    entry: Level,
    solution: usize,
}

/// One layer of a row.
struct Stage {
    kind: usize,
    /// By level after the layer.
    ways: Vec<(Level, Way)>,
}

impl Stage {
    fn through(
        kind: usize,
        entries: &[(Level, f64)],
        known: &HashMap<(usize, Level), Vec<Solution>>,
    ) -> Self {
        let mut ways: Vec<(Level, Way)> = Vec::new();
        for (entry, before) in entries {
            for (index, solution) in known.get(&(kind, *entry)).into_iter().flatten().enumerate() {
                let exit = solution.exit.first().copied().unwrap_or_default();
                let way = Way { seconds: before + solution.seconds, entry: *entry, solution: index };
                match ways.iter_mut().find(|(level, _)| *level == exit) {
                    Some((_, best)) if best.seconds <= way.seconds => {}
                    Some((_, best)) => *best = way,
                    None => ways.push((exit, way)),
                }
            }
        }
        Self { kind, ways }
    }
}

/// The levels, with the seconds so far, at which it can pay to enter `layer`: without those that another level serves
/// as well at no higher cost, a bootstrap of the layer's input to get there included. (The pruned search enters
/// everywhere.)
fn useful(entries: &[(Level, f64)], layer: &LevelGraph, costs: &BootstrapCosts) -> Result<Vec<(Level, f64)>> {
    let input: Option<&Value> = layer.inputs().first().map(|input| layer.value(*input)).transpose()?;
    let top = costs.output_level()?;
    // Least seconds that bring the input to a level or higher.
    let raised = |level: Level| {
        (level.0..=top.0)
            .filter_map(|level| costs.group(&[input?], Level(level)))
            .map(|cost| cost.seconds)
            .fold(f64::INFINITY, f64::min)
    };
    let serves = |other: &(Level, f64), (level, seconds): &(Level, f64)| {
        let extra = match other.0 >= *level {
            true => 0.0,
            false if other.0 >= costs.minimum_input_level => raised(*level),
            false => f64::INFINITY,
        };
        let with = other.1 + extra;
        // Of two that serve each other equally the higher level stays.
        with < *seconds || (with == *seconds && other.0 > *level)
    };
    let useless = |one: &(Level, f64)| entries.iter().any(|other| serves(other, one));
    Ok(entries.iter().filter(|one| !useless(one)).copied().collect())
}

/// The solutions of the cheapest way that ends at `exit`.
fn trace(
    stages: &[Stage],
    known: &HashMap<(usize, Level), Vec<Solution>>,
    exit: Level,
) -> Result<Vec<Solution>> {
    let mut at = exit;
    let mut placed = Vec::with_capacity(stages.len());
    for stage in stages.iter().rev() {
        let way = stage.ways.iter().find(|(level, _)| *level == at).map(|(_, way)| *way);
        let solution = way.and_then(|way| known.get(&(stage.kind, way.entry))?.get(way.solution));
        let (Some(way), Some(solution)) = (way, solution) else {
            return Err(Error::Internal(format!("no way to level {at} where one was found")));
        };
        placed.push(solution.clone());
        at = way.entry;
    }
    placed.reverse();
    Ok(placed)
}

/// Greedy placement of `layers` in a row, the first of which starts at `entry`: what an optimal placement is compared
/// with.
///
/// # Errors
/// [`Error::Plan`] when an input cannot be bootstrapped high enough ([`greedy`]), or a layer has no output.
pub fn place_greedily(layers: &[&LevelGraph], costs: &BootstrapCosts, entry: Level) -> Result<Vec<Solution>> {
    let mut level = entry;
    let mut placed = Vec::with_capacity(layers.len());
    for layer in layers {
        let solution = greedy(layer, costs, &[level])?;
        level = *solution.exit.first().ok_or_else(|| Error::Plan {
            why: format!("graph `{}` has no output", layer.name()),
            remedy: "only graphs with one output follow one another".to_owned(),
        })?;
        placed.push(solution);
    }
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::super::random_graphs::random_layer;
    use super::*;
    use crate::related_work::LevelMatrix;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn layers_in_a_row_cost_what_the_product_of_their_matrices_says(seeds in prop::collection::vec(0u64..4, 1..6), base: u64) {
            let cases: Vec<(LevelGraph, BootstrapCosts)> =
                seeds.iter().map(|seed| random_layer(base.wrapping_add(*seed))).collect();
            let (costs, top) = (cases[0].1.clone(), cases[0].0.max_level());
            let layers: Vec<&LevelGraph> = cases.iter().map(|case| &case.0).collect();
            let matrices: Result<Vec<LevelMatrix>> =
                layers.iter().map(|layer| LevelMatrix::of_graph(layer, &costs, Search::Exact)).collect();
            let least = matrices.and_then(|all| LevelMatrix::path(&all.iter().collect::<Vec<_>>(), top, None));
            match (place(&layers, &costs, top, Search::Exact), least) {
                (Ok(placed), Ok(least)) => {
                    let seconds: f64 = placed.iter().map(|one| one.seconds).sum();
                    prop_assert!((seconds - least.seconds).abs() < 1e-9, "{seconds} s, matrices {} s", least.seconds);
                    let mut at = top;
                    for (solution, layer) in placed.iter().zip(&layers) {
                        prop_assert_eq!(&solution.entry, &vec![at]);
                        solution.replay(layer, &costs).unwrap();
                        at = solution.exit[0];
                    }
                }
                (Err(_), Err(_)) => {}
                (placed, least) => prop_assert!(false, "{placed:?} against {least:?}"),
            }
        }
    }
}
