//! One layer of a decode step as it runs, beside what measured costs predict for it.

use std::time::Instant;

use super::Observer;
use super::layer_times::{LayerCheck, Stretch};
use super::modules::{ModelModules, ModuleBench};
use crate::contract::{Error, Result};
use crate::measure::Statistics;
use crate::placement::{CostFile, Prices, Search, Solution, place, run_in_order};

impl ModuleBench {
    /// Times the last layer of whole decode steps, from the tensor before its last bootstrap to the same in the next
    /// layer.
    pub(super) fn layer(
        &self,
        subject: &ModelModules,
        costs: &CostFile,
        observer: &mut Observer<'_>,
    ) -> Result<LayerCheck> {
        let layers = subject.decoder.config().num_hidden_layers;
        if layers < 2 {
            return Err(Error::Shape {
                operation: "layer check",
                what: "a model of one layer has no layer between two".to_owned(),
                remedy: "leave the layer check out".to_owned(),
            });
        }
        let runs = self.decode_steps(subject, observer)?;
        let prices = Prices { operations: &costs.operation_costs()?, file: Some(costs) };
        let (bootstraps, top) = (costs.bootstrap_costs()?, self.summary.output_level);
        let graph = subject.template.graph(&prices, top)?;
        let by_hand = run_in_order(&graph, &bootstraps, top, &subject.refreshes)?;
        let predicted = predicted_stretches(&by_hand);
        let first = runs.first().ok_or_else(|| Error::Internal("no decode step was run".to_owned()))?;
        let mut stretches = Vec::with_capacity(first.len());
        for (index, ((stage, _), predicted_s)) in first.iter().zip(&predicted).enumerate() {
            let samples: Vec<f64> =
                runs.iter().filter_map(|run| run.get(index)).map(|(_, seconds)| *seconds).collect();
            // The first stretch begins with the bootstrap of the layer before: the same as this layer's last.
            let last = if index == 0 { by_hand.seconds - predicted.iter().sum::<f64>() } else { 0.0 };
            let measured_s = Statistics::of(&samples)?.median;
            stretches.push(Stretch { ends_at: stage, measured_s, predicted_s: predicted_s + last });
        }
        let measured_s: f64 = stretches.iter().map(|stretch| stretch.measured_s).sum();
        let placed = place(&vec![&graph; layers], &bootstraps, top, Search::Exact)?;
        let ratio = by_hand.seconds / measured_s;
        Ok(LayerCheck {
            measured_s,
            predicted_s: by_hand.seconds,
            ratio,
            within_20_percent: (0.8..=1.2).contains(&ratio),
            solver_s: placed.iter().map(|solution| solution.seconds).sum::<f64>() / layers as f64,
            solver_bootstraps: placed.iter().map(Solution::bootstraps).sum::<usize>() as f64 / layers as f64,
            decoder_bootstraps: by_hand.bootstraps() + 1,
            stretches,
        })
    }

    /// Seconds between the bootstraps of the last layer, named by the bootstrap that ends them, once a round.
    fn decode_steps(
        &self,
        subject: &ModelModules,
        observer: &mut Observer<'_>,
    ) -> Result<Vec<Vec<(&'static str, f64)>>> {
        let decoder = &subject.decoder;
        let layers = decoder.config().num_hidden_layers;
        let filled = decoder.filled_state(self.case.cached, |level| self.zero(level))?;
        let x = self.zero(decoder.plan().input_level)?;
        let mut runs = Vec::new();
        for round in 0..self.case.rounds {
            observer("decode steps", round, self.case.rounds);
            let (mut state, mut last, mut stretches) = (filled.clone(), Instant::now(), Vec::new());
            decoder.step(&self.evaluator, &mut state, &x, true, &mut |progress, _| {
                // A stretch begins with a bootstrap and ends before the next one.
                if progress.refreshed {
                    return;
                }
                let now = Instant::now();
                if progress.layer + 1 == layers {
                    stretches.push((progress.stage, (now - last).as_secs_f64()));
                }
                last = now;
            })?;
            runs.push(stretches);
        }
        Ok(runs)
    }
}

/// Seconds between the bootstraps of a layer, each with the bootstrap it begins with.
fn predicted_stretches(solution: &Solution) -> Vec<f64> {
    let mut stretches = vec![0.0];
    for step in &solution.steps {
        if !step.bootstraps.is_empty() {
            stretches.push(step.bootstraps.iter().map(|bootstrap| bootstrap.seconds).sum());
        }
        if let Some(last) = stretches.last_mut() {
            *last += step.seconds;
        }
    }
    stretches
}
