//! Least seconds from every level before a piece of network to every level after it, and what follows from that:
//! pieces in a row, many equal layers, the steady state.

#[cfg(test)]
use rayon::prelude::*;

use crate::contract::{Error, Level, Result};
#[cfg(test)]
use crate::placement::{BootstrapCosts, LevelGraph, Search, Solution, solve};

/// Square table of seconds over (level in, level out); `None` where there is no way. Addition along paths, minimum
/// over paths (the min-plus semiring).
#[derive(Clone, Debug, PartialEq)]
pub struct LevelMatrix {
    rows: Vec<Vec<Option<f64>>>,
}

/// Steady state of equal layers: levels repeat in a cycle.
#[derive(Clone, Debug, PartialEq)]
pub struct SteadyState {
    /// Mean seconds a layer.
    pub seconds: f64,
    /// Level at which each layer of the cycle is entered.
    pub levels: Vec<Level>,
}

/// Cheapest way through a sequence of layers.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelPath {
    /// Seconds of all layers.
    pub seconds: f64,
    /// Level before every layer, and after the last one.
    pub levels: Vec<Level>,
}

impl LevelMatrix {
    /// Nothing is possible, between levels 0 and `max_level`.
    #[must_use]
    pub fn impossible(max_level: Level) -> Self {
        Self { rows: vec![vec![None; max_level.0 + 1]; max_level.0 + 1] }
    }

    /// Matrix of a graph with one input and one output: every entry level solved. Levels to which an
    /// output could be lowered for free are left out: what follows does as well from the higher one.
    ///
    /// # Errors
    /// [`Error::Plan`] when the graph has not exactly one input and one output, or when [`solve`] refuses it for a
    /// reason other than an entry level from which there is no way.
    #[cfg(test)]
    pub fn of_graph(graph: &LevelGraph, costs: &BootstrapCosts, search: Search) -> Result<Self> {
        if graph.inputs().len() != 1 || graph.outputs().len() != 1 {
            return Err(Error::Plan {
                why: format!(
                    "graph `{}` has {} inputs and {} outputs",
                    graph.name(),
                    graph.inputs().len(),
                    graph.outputs().len()
                ),
                remedy: "only graphs with one of each follow one another".to_owned(),
            });
        }
        let mut matrix = Self::impossible(graph.max_level());
        let mut failure = None;
        let entries: Vec<usize> = (0..=graph.max_level().0).collect();
        let solved: Vec<Result<Vec<Solution>>> =
            entries.par_iter().map(|entry| solve(graph, costs, &[Level(*entry)], search)).collect();
        for (entry, solutions) in entries.into_iter().zip(solved) {
            match solutions {
                Ok(solutions) => {
                    for solution in solutions {
                        let exit = solution.exit.first().copied().unwrap_or_default();
                        matrix.offer(Level(entry), exit, solution.seconds);
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if matrix.rows.iter().flatten().all(Option::is_none) => Err(error),
            _ => Ok(matrix),
        }
    }

    /// Highest level.
    #[must_use]
    pub fn max_level(&self) -> Level {
        Level(self.rows.len().saturating_sub(1))
    }

    /// Seconds from one level to another.
    #[must_use]
    pub fn get(&self, from: Level, to: Level) -> Option<f64> {
        self.rows.get(from.0)?.get(to.0).copied().flatten()
    }

    /// Takes `seconds` where nothing better is known.
    pub fn offer(&mut self, from: Level, to: Level, seconds: f64) {
        if let Some(slot) = self.rows.get_mut(from.0).and_then(|row| row.get_mut(to.0))
            && slot.is_none_or(|known| seconds < known)
        {
            *slot = Some(seconds);
        }
    }

    /// All (from, to, seconds) that are possible.
    pub fn entries(&self) -> impl Iterator<Item = (Level, Level, f64)> + '_ {
        self.rows.iter().enumerate().flat_map(|(from, row)| {
            row.iter()
                .enumerate()
                .filter_map(move |(to, seconds)| Some((Level(from), Level(to), (*seconds)?)))
        })
    }

    /// This, then `other`.
    #[must_use]
    pub fn then(&self, other: &Self) -> Self {
        let mut product = Self::impossible(self.max_level());
        for (from, middle, first) in self.entries() {
            for (to, second) in other.row(middle) {
                product.offer(from, to, first + second);
            }
        }
        product
    }

    fn row(&self, from: Level) -> impl Iterator<Item = (Level, f64)> + '_ {
        self.rows
            .get(from.0)
            .into_iter()
            .flatten()
            .enumerate()
            .filter_map(|(to, seconds)| Some((Level(to), (*seconds)?)))
    }

    /// Cheapest way through `layers`, entered at `entry`, left at `exit` (any level when `None`).
    ///
    /// # Errors
    /// [`Error::Plan`] when there is no way.
    pub fn path(layers: &[&Self], entry: Level, exit: Option<Level>) -> Result<LevelPath> {
        let mut reached: Vec<Vec<Option<(f64, usize)>>> = Vec::with_capacity(layers.len() + 1);
        let size = layers.iter().map(|layer| layer.rows.len()).max().unwrap_or(0).max(entry.0 + 1);
        let mut start = vec![None; size];
        if let Some(slot) = start.get_mut(entry.0) {
            *slot = Some((0.0, 0));
        }
        reached.push(start);
        for layer in layers {
            let mut next: Vec<Option<(f64, usize)>> = vec![None; size];
            for (from, before) in reached.last().into_iter().flatten().enumerate() {
                let Some((seconds, _)) = before else { continue };
                for (to, cost) in layer.row(Level(from)) {
                    if let Some(slot) = next.get_mut(to.0)
                        && slot.is_none_or(|(known, _)| seconds + cost < known)
                    {
                        *slot = Some((seconds + cost, from));
                    }
                }
            }
            reached.push(next);
        }
        trace(&reached, exit).ok_or_else(|| Error::Plan {
            why: format!("no way through {} layers entered at level {entry}", layers.len()),
            remedy: "let bootstraps end higher, or enter higher".to_owned(),
        })
    }

    /// Cheapest cycle of levels over equal layers: the minimum mean over all cycles (Karp 1978), found as the least
    /// over cycle lengths 1 … L + 1 of the cheapest closed walk of that length divided by it.
    ///
    /// # Errors
    /// [`Error::Plan`] when no cycle exists.
    pub fn steady_state(&self) -> Result<SteadyState> {
        let mut best: Option<(f64, usize, Level)> = None;
        let mut power = self.clone();
        for length in 1..=self.rows.len() {
            for level in 0..self.rows.len() {
                if let Some(seconds) = power.get(Level(level), Level(level)) {
                    let mean = seconds / length as f64;
                    // The shortest cycle wins ties that rounding alone would break.
                    if best.is_none_or(|(known, ..)| mean < known - 1e-9 * known.abs().max(1e-9)) {
                        best = Some((mean, length, Level(level)));
                    }
                }
            }
            power = power.then(self);
        }
        let (seconds, length, level) = best.ok_or_else(|| Error::Plan {
            why: "no level can be held over equal layers".to_owned(),
            remedy: "let bootstraps end higher".to_owned(),
        })?;
        let mut levels = Self::path(&vec![self; length], level, Some(level))?.levels;
        levels.pop();
        Ok(SteadyState { seconds, levels })
    }
}

fn trace(reached: &[Vec<Option<(f64, usize)>>], exit: Option<Level>) -> Option<LevelPath> {
    let last = reached.last()?;
    let (end, seconds) = last
        .iter()
        .enumerate()
        .filter(|(level, _)| exit.is_none_or(|exit| exit.0 == *level))
        .filter_map(|(level, state)| Some((level, (*state)?.0)))
        .min_by(|a, b| a.1.total_cmp(&b.1))?;
    let mut levels = vec![Level(end)];
    let mut at = end;
    for stage in reached.iter().skip(1).rev() {
        at = stage.get(at).copied().flatten()?.1;
        levels.push(Level(at));
    }
    levels.reverse();
    Some(LevelPath { seconds, levels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    fn random_matrix(seed: u64) -> LevelMatrix {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let size = rng.random_range(1..=4);
        let mut matrix = LevelMatrix::impossible(Level(size - 1));
        for from in 0..size {
            for to in 0..size {
                if rng.random_bool(0.7) {
                    matrix.offer(Level(from), Level(to), rng.random_range(0.0..10.0));
                }
            }
        }
        matrix
    }

    /// Least mean over simple cycles, by depth-first enumeration.
    fn least_simple_cycle(matrix: &LevelMatrix) -> f64 {
        fn walk(matrix: &LevelMatrix, path: &mut Vec<usize>, seconds: f64, best: &mut f64) {
            let last = Level(path[path.len() - 1]);
            for (to, cost) in matrix.row(last) {
                if to.0 == path[0] {
                    *best = best.min((seconds + cost) / path.len() as f64);
                } else if !path.contains(&to.0) {
                    path.push(to.0);
                    walk(matrix, path, seconds + cost, best);
                    path.pop();
                }
            }
        }
        let mut best = f64::INFINITY;
        for start in 0..=matrix.max_level().0 {
            walk(matrix, &mut vec![start], 0.0, &mut best);
        }
        best
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn steady_state_is_the_least_mean_over_simple_cycles(seed: u64) {
            let matrix = random_matrix(seed);
            let least = least_simple_cycle(&matrix);
            match matrix.steady_state() {
                Err(_) => prop_assert!(least.is_infinite()),
                Ok(steady) => {
                    prop_assert!((steady.seconds - least).abs() < 1e-7, "{} against {least}", steady.seconds);
                    let around: f64 = steady.levels.iter().zip(steady.levels.iter().cycle().skip(1))
                        .map(|(from, to)| matrix.get(*from, *to).unwrap()).sum();
                    prop_assert!((around / steady.levels.len() as f64 - least).abs() < 1e-7);
                }
            }
        }

        #[test]
        fn a_path_costs_what_the_min_plus_power_says(seed: u64, layers in 1usize..6) {
            let matrix = random_matrix(seed);
            let mut power = matrix.clone();
            for _ in 1..layers {
                power = power.then(&matrix);
            }
            let least = power.row(Level(0)).map(|(_, seconds)| seconds).fold(f64::INFINITY, f64::min);
            match LevelMatrix::path(&vec![&matrix; layers], Level(0), None) {
                Err(_) => prop_assert!(least.is_infinite()),
                Ok(path) => prop_assert!((path.seconds - least).abs() < 1e-9),
            }
        }
    }
}
