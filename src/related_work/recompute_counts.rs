//! Operations of MOAI and THOR, counted by running their packings on the simulator, for
//! [`crate::related_work::formulas::recompute_layer`], which knows nothing of ciphertexts.
//!
//! [`Moai`] and [`Thor`] run on small sizes that count the same: MOAI's counts depend on the tokens and columns, not on
//! the sequences side by side; those of THOR's products on ciphertexts and diagonals, not on the tokens; those of its
//! attention grow by the same step with every token. Each such step is taken from two runs. Levels: the counts come by
//! level below the input's.

use std::sync::Arc;

use crate::backend::clear::{ClearCiphertext, ClearClient, ClearEvaluator, ClearParameters};
use crate::contract::{Client, Complex64, CountingEvaluator, Level, Result};
use crate::packing::{FnWeights, Weights};
use crate::placement::Work;
use crate::related_work::formulas::{RecomputeCounts, Stages, sum, times};
use crate::related_work::{Moai, Thor};

/// Level of every input of a counted run: room for the deepest of them.
const TOP: Level = Level(4);

/// What grows by the same step between sizes `one` and `two` of `size`, at size `wanted`.
fn extrapolate(one: &[Work], two: &[Work], size: f64, wanted: f64) -> Stages {
    let step = sum(two, &times(one, -1.0));
    sum(one, &times(&step, (wanted - size) / size))
}

/// A simulator to count on.
struct Simulator {
    client: ClearClient,
    evaluator: CountingEvaluator<ClearEvaluator>,
}

impl Simulator {
    fn new(slots: usize) -> Result<Self> {
        let client = ClearClient::new(ClearParameters::new(slots, TOP.0, 40)?);
        let evaluator = CountingEvaluator::new(client.dry_run());
        Ok(Self { client, evaluator })
    }

    fn zeros(&self, count: usize, level: Level) -> Result<Vec<ClearCiphertext>> {
        Ok(vec![self.client.encrypt(&[Complex64::ZERO], level)?; count])
    }

    /// Work since the last call.
    fn work(&self) -> Stages {
        let counts = self.evaluator.take_counts();
        let mut stages = Stages::new();
        for below in 0..=TOP.0 {
            let found = counts.by_level.get(&Level(TOP.0 - below)).copied().unwrap_or_default();
            stages.push(found.into());
        }
        while stages.len() > 1 && stages.last() == Some(&Work::default()) {
            stages.pop();
        }
        stages
    }
}

fn ones(inputs: usize, outputs: usize) -> Arc<dyn Weights> {
    Arc::new(FnWeights::new(inputs, outputs, |_, _| 1.0))
}

/// MOAI's columns `inputs` → `outputs` over all sequences side by side.
fn moai_product(tokens: usize, inputs: usize, outputs: usize) -> Result<Stages> {
    // Every column takes the same; nothing depends on the number of slots.
    let simulator = Simulator::new(tokens)?;
    let columns = simulator.zeros(inputs, TOP)?;
    Moai::new(tokens, tokens)?.product_column(&simulator.evaluator, &columns, ones(inputs, 1).as_ref(), 0)?;
    Ok(times(&simulator.work(), outputs as f64))
}

/// MOAI's Q·Kᵀ and P·V of one head, over all sequences side by side.
fn moai_attention(tokens: usize, head_dim: usize) -> Result<(Stages, Stages)> {
    let run = |columns: usize| -> Result<(Stages, Stages)> {
        let simulator = Simulator::new(tokens)?;
        let moai = Moai::new(tokens, tokens)?;
        let zeros = simulator.zeros(columns, TOP)?;
        moai.scores(&simulator.evaluator, &zeros, &zeros, 1.0)?;
        let scores = simulator.work();
        let diagonals = simulator.zeros(tokens, TOP)?;
        moai.weighted_values(&simulator.evaluator, &diagonals, &zeros)?;
        Ok((scores, simulator.work()))
    };
    let (one, two) = (run(1)?, run(2)?);
    let at = |one: &[Work], two: &[Work]| extrapolate(one, two, 1.0, head_dim as f64);
    Ok((at(&one.0, &two.0), at(&one.1, &two.1)))
}

/// THOR's product of `sources` ciphertexts to `results` ciphertexts of `diagonals` diagonals each, two results folded.
fn thor_product(diagonals: usize, sources: usize, results: usize) -> Result<Stages> {
    let run = |sources: usize, pairs: usize| -> Result<Stages> {
        let simulator = Simulator::new(2 * diagonals)?;
        let thor = Thor::new(2 * diagonals, 2, diagonals)?;
        let x = simulator.zeros(sources, TOP)?;
        let weights = ones(sources * diagonals, 2 * pairs * diagonals);
        thor.product(&simulator.evaluator, &x, weights.as_ref())?;
        Ok(simulator.work())
    };
    let pairs = results.div_ceil(2) as f64;
    let at = |sources: usize| -> Result<Stages> {
        Ok(extrapolate(&run(sources, 1)?, &run(sources, 2)?, 1.0, pairs))
    };
    Ok(extrapolate(&at(1)?, &at(2)?, 1.0, sources as f64))
}

/// THOR's Q·Kᵀ and P·V of one ciphertext of heads.
///
/// A head wider than the diagonals of a ciphertext lies in several, whose products add up before they are folded and
/// masked: each then takes its share of that.
fn thor_attention(diagonals: usize, tokens: usize, head_dim: usize) -> Result<(Stages, Stages)> {
    let narrow = head_dim.min(diagonals);
    let run = |tokens: usize| -> Result<(Stages, Stages)> {
        let simulator = Simulator::new(tokens * narrow)?;
        let thor = Thor::new(tokens * narrow, tokens, narrow)?;
        let x = simulator.zeros(1, TOP)?;
        thor.scores(&simulator.evaluator, &x, &x, 1.0)?;
        let scores = simulator.work();
        let weights = vec![x.clone(); tokens];
        thor.weighted_values(&simulator.evaluator, &weights, &x)?;
        Ok((scores, simulator.work()))
    };
    // From two tokens on, every further token takes the same.
    let (two, four) = (run(2)?, run(4)?);
    let at = |two: &[Work], four: &[Work]| extrapolate(two, four, 2.0, tokens as f64);
    let (mut scores, values) = (at(&two.0, &four.0), at(&two.1, &four.1));
    let share = narrow as f64 / head_dim as f64;
    for (below, stage) in scores.iter_mut().enumerate() {
        if below == 0 {
            // The hoisted rotations and products of every ciphertext stay.
            continue;
        }
        stage.rotations *= share;
        stage.additions *= share;
        stage.plaintext_products *= share;
        stage.rescales *= share;
    }
    Ok((scores, values))
}

/// Counts by the packings themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimulatedCounts;

impl RecomputeCounts for SimulatedCounts {
    fn moai_product(&self, tokens: usize, inputs: usize, outputs: usize) -> Result<Stages> {
        moai_product(tokens, inputs, outputs)
    }

    fn moai_attention(&self, tokens: usize, head_dim: usize) -> Result<(Stages, Stages)> {
        moai_attention(tokens, head_dim)
    }

    fn thor_product(&self, diagonals: usize, sources: usize, results: usize) -> Result<Stages> {
        thor_product(diagonals, sources, results)
    }

    fn thor_attention(&self, diagonals: usize, tokens: usize, head_dim: usize) -> Result<(Stages, Stages)> {
        thor_attention(diagonals, tokens, head_dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(stages: &[Work]) -> Work {
        stages.iter().copied().sum()
    }

    #[test]
    fn extrapolated_counts_equal_those_of_a_full_run() {
        let (tokens, head_dim) = (16, 5);
        let simulator = Simulator::new(64).unwrap();
        let moai = Moai::new(64, tokens).unwrap();
        let columns = simulator.zeros(head_dim, TOP).unwrap();
        moai.scores(&simulator.evaluator, &columns, &columns, 1.0).unwrap();
        assert_eq!(simulator.work(), moai_attention(tokens, head_dim).unwrap().0);
        moai.product(&simulator.evaluator, &columns, ones(head_dim, 7).as_ref()).unwrap();
        assert_eq!(simulator.work(), moai_product(tokens, head_dim, 7).unwrap());

        let (slots, tokens, head_dim) = (128, 16, 4);
        let thor = Thor::new(slots, tokens, head_dim).unwrap();
        let simulator = Simulator::new(slots).unwrap();
        let x = simulator.zeros(3, TOP).unwrap();
        thor.product(&simulator.evaluator, &x, ones(24, 48).as_ref()).unwrap();
        let diagonals = thor.diagonals();
        assert_eq!(simulator.work(), thor_product(diagonals, 3, 6).unwrap());
        thor.scores(&simulator.evaluator, &x[..1], &x[..1], 1.0).unwrap();
        assert_eq!(simulator.work(), thor_attention(diagonals, tokens, head_dim).unwrap().0);
        let weights = vec![x[..1].to_vec(); tokens];
        thor.weighted_values(&simulator.evaluator, &weights, &x[..1]).unwrap();
        assert_eq!(simulator.work(), thor_attention(diagonals, tokens, head_dim).unwrap().1);
    }

    #[test]
    fn counts_of_llama_3_8b_follow_from_the_packings() {
        let moai = total(&moai_product(512, 4096, 14336).unwrap());
        assert_eq!((moai.constant_products, moai.rotations), (4096.0 * 14336.0, 0.0));
        let thor = total(&thor_product(64, 64, 224).unwrap());
        assert_eq!(thor.plaintext_products, 64.0 * 112.0 * 64.0);
        let (scores, values) = thor_attention(64, 512, 128).unwrap();
        assert_eq!((total(&scores).ciphertext_products, total(&values).relinearizations), (512.0, 1.0));
    }
}
