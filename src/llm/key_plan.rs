//! Which evaluation keys a generation needs: a dry run of the decoder on the simulator.

use crate::backend::clear::{ClearEvaluator, ClearParameters};
use crate::contract::{
    BootstrapSummary, Complex64, CountingEvaluator, Error, KeyRequest, LevelChain, LevelCounts, Result,
};

use super::decoder::{Decoder, DecoderState};

/// Keys of a whole generation, and the operations of one decode step.
#[derive(Clone, Debug)]
pub struct KeyPlan {
    /// Rotation steps, relinearization, conjugation and bootstrapping, each up to its highest level.
    pub request: KeyRequest,
    /// Operations of one decode step with output, at the first position.
    pub operations: LevelCounts,
}

/// Runs `decoder` on the simulator with the levels of `chain` and records the keys it uses at the offsets of the cache
/// that together use every rotation: a token lands at offset τ by a rotation per bit of τ, left where the bit is 0 and
/// right where it is 1, so zero, the highest power of two and that minus one cover all.
///
/// # Errors
/// Those of [`Decoder::step`]: a plan that runs out of levels shows here, before any key is made.
pub fn plan_keys(decoder: &Decoder, chain: &LevelChain, bootstrap: BootstrapSummary) -> Result<KeyPlan> {
    let slots = decoder.layout().hidden.slots();
    // Values do not matter for keys, and those of an empty sequence leave the intervals of the functions.
    let bootstrap = BootstrapSummary { bound: f64::INFINITY, ..bootstrap };
    let parameters =
        ClearParameters { slots, chain: chain.clone(), bootstrapping: Some(bootstrap), noise: None };
    let mut request = KeyRequest::new();
    let mut operations = LevelCounts::default();
    let context = decoder.layout().context;
    for position in decoder.positions_with_all_rotations()? {
        let evaluator = CountingEvaluator::new(ClearEvaluator::dry_run(parameters.clone()));
        let mut state: DecoderState<_> = decoder.new_state();
        state.pad_with_zeros(&evaluator, position)?;
        let zero = crate::contract::Client::encrypt(
            &crate::backend::clear::ClearClient::new(parameters.clone()),
            &[Complex64::ZERO],
            decoder.plan().input_level,
        )?;
        if position >= context {
            return Err(Error::Internal(format!("position {position} of {context} to plan with")));
        }
        decoder.step(&evaluator, &mut state, &zero, true, &mut |_, _| {})?;
        request.merge(&evaluator.inner().recorded());
        if position == 0 {
            operations = evaluator.counts().total();
        }
    }
    Ok(KeyPlan { request, operations })
}
