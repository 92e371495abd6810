//! Layers in a row: the cheapest way through a whole model, and the same with greedy placement.

use std::collections::HashMap;

use super::bootstrap::BootstrapCosts;
use super::graph::LevelGraph;
use super::greedy::greedy;
use super::level_matrix::LevelMatrix;
use super::solution::Solution;
use super::solver::{Search, solve};
use crate::contract::{Error, Level, Result};

/// Places bootstraps in `layers`, one after the other, the first entered at `entry`. Equal graphs are solved once, so
/// that many equal layers cost little more than one. One value crosses from layer to layer.
///
/// # Errors
/// As [`LevelMatrix::of_graph`] and [`LevelMatrix::path`].
pub fn place(
    layers: &[&LevelGraph],
    costs: &BootstrapCosts,
    entry: Level,
    search: Search,
) -> Result<Vec<Solution>> {
    let mut distinct: Vec<&LevelGraph> = Vec::new();
    let mut kinds = Vec::with_capacity(layers.len());
    for layer in layers {
        let kind = distinct.iter().position(|known| known == layer).unwrap_or_else(|| {
            distinct.push(layer);
            distinct.len() - 1
        });
        kinds.push(kind);
    }
    let matrices = distinct
        .iter()
        .map(|graph| LevelMatrix::of_graph(graph, costs, search))
        .collect::<Result<Vec<LevelMatrix>>>()?;
    let row: Vec<&LevelMatrix> = kinds.iter().filter_map(|kind| matrices.get(*kind)).collect();
    let path = LevelMatrix::path(&row, entry, None)?;
    let mut known: HashMap<(usize, Level, Level), Solution> = HashMap::new();
    let mut placed = Vec::with_capacity(layers.len());
    for ((layer, kind), (from, to)) in
        layers.iter().zip(&kinds).zip(path.levels.iter().zip(path.levels.iter().skip(1)))
    {
        let key = (*kind, *from, *to);
        let solution = match known.get(&key) {
            Some(solution) => solution.clone(),
            None => {
                let found = ending_at(layer, costs, *from, *to, search)?;
                known.insert(key, found.clone());
                found
            }
        };
        placed.push(solution);
    }
    Ok(placed)
}

/// The cheapest solution of one layer that ends at `to`.
fn ending_at(
    layer: &LevelGraph,
    costs: &BootstrapCosts,
    from: Level,
    to: Level,
    search: Search,
) -> Result<Solution> {
    solve(layer, costs, &[from], search)?
        .into_iter()
        .filter(|solution| solution.exit.first().is_some_and(|exit| *exit == to))
        .min_by(|a, b| a.seconds.total_cmp(&b.seconds))
        .ok_or_else(|| Error::Internal(format!("no way from level {from} to {to} where one was found")))
}

/// Greedy placement of the same layers.
///
/// # Errors
/// As [`greedy`].
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
