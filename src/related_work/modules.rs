//! The paper's own composition: chains of layers, nested modules, and shortcuts as a correction of a matrix.
//!
//! Cachemir, §5, and section 10 of the executable specification. A chain is a shortest path over (layer, level); a
//! chain solved from every level becomes one matrix; a shortcut around it adds one bootstrap wherever the module ends
//! higher than it began. [`crate::placement::LevelGraph`] says the same with less: one bootstrap of a shared value may
//! serve both of its readers, and two values may share one. This form is kept to reproduce the published figures.

use super::level_matrix::LevelMatrix;
use crate::contract::Level;
use crate::placement::BootstrapCosts;

/// A link of a chain.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// One layer: levels it takes, and seconds by the level at which it runs.
    Layer {
        /// Levels it takes.
        depth: usize,
        /// `seconds[ℓ]` when run at level ℓ.
        seconds: Vec<Option<f64>>,
    },
    /// A module solved before.
    Module(LevelMatrix),
}

/// Matrix of `parts` in a row, between levels 0 and `max_level`: before each layer, lower for free or bootstrap.
#[must_use]
pub fn chain(parts: &[Part], max_level: Level, costs: &BootstrapCosts) -> LevelMatrix {
    let mut all = LevelMatrix::impossible(max_level);
    for level in 0..=max_level.0 {
        all.offer(Level(level), Level(level), 0.0);
    }
    for part in parts {
        all = match part {
            Part::Module(matrix) => all.then(matrix),
            Part::Layer { depth, seconds } => all.then(&layer(*depth, seconds, max_level, costs)),
        };
    }
    all
}

/// One layer from every level to every level: run at the level out + depth, bootstrapped to it from below.
fn layer(depth: usize, seconds: &[Option<f64>], max_level: Level, costs: &BootstrapCosts) -> LevelMatrix {
    let mut matrix = LevelMatrix::impossible(max_level);
    for (run, cost) in seconds.iter().enumerate().take(max_level.0 + 1).skip(depth) {
        let Some(cost) = cost else { continue };
        for from in 0..=max_level.0 {
            let bootstrap = if from >= run {
                Some(0.0)
            } else if from >= costs.minimum_input_level.0 {
                costs.seconds.get(run).copied().flatten()
            } else {
                None
            };
            if let Some(bootstrap) = bootstrap {
                matrix.offer(Level(from), Level(run - depth), cost + bootstrap);
            }
        }
    }
    matrix
}

/// A value that by-passes `module` and joins its output: it needs a bootstrap of its own wherever the module ends
/// higher than it began.
#[must_use]
pub fn with_shortcut(module: &LevelMatrix, costs: &BootstrapCosts) -> LevelMatrix {
    let mut joined = LevelMatrix::impossible(module.max_level());
    for (from, to, seconds) in module.entries() {
        let refresh = if to > from { costs.seconds.get(to.0).copied().flatten() } else { Some(0.0) };
        if let Some(refresh) = refresh {
            joined.offer(from, to, seconds + refresh);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Least bootstraps a decoder in the steady state, operations for nothing, division before the values (spec
    /// section 10b, order A).
    fn least(max_level: usize, inverse: usize, root: usize, exponential: usize) -> f64 {
        let top = Level(max_level);
        let costs = BootstrapCosts::constant(1.0, top);
        let layer = |depth: usize| Part::Layer { depth, seconds: vec![Some(0.0); max_level + 1] };
        let solve = |parts: &[Part]| chain(parts, top, &costs);
        let around = |parts: &[Part]| Part::Module(with_shortcut(&solve(parts), &costs));
        let mut divide = with_shortcut(&solve(&[layer(inverse)]), &costs);
        // One bootstrap of exp serves the inverse and the by-pass.
        for from in 0..=max_level {
            for to in 0..=max_level - inverse {
                divide.offer(Level(from), Level(to), 1.0);
            }
        }
        let norm = [around(&[layer(1), layer(root)]), layer(1)];
        let mut attention = norm.to_vec();
        attention.extend([
            layer(2),
            layer(2),
            layer(exponential),
            Part::Module(divide),
            layer(1),
            layer(2),
            layer(2),
        ]);
        let mut feed_forward = norm.to_vec();
        feed_forward.extend([layer(1), around(&[layer(8)]), layer(1), layer(2)]);
        let decoder =
            with_shortcut(&solve(&attention), &costs).then(&with_shortcut(&solve(&feed_forward), &costs));
        decoder.steady_state().unwrap().seconds
    }

    #[test]
    fn the_papers_composition_needs_7_bootstraps_at_13_levels_and_5_at_16() {
        assert_eq!(least(13, 11, 13, 8), 7.0);
        assert_eq!(least(16, 11, 13, 8), 5.0);
    }
}
