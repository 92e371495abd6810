//! Which evaluation keys a generation needs: a dry run of the decoder on the simulator.

use crate::backend::clear::{ClearEvaluator, ClearParameters};
use crate::contract::{
    BootstrapSummary, CountingEvaluator, Error, KeyRequest, LevelChain, LevelCounts, Result,
};

use crate::decoder::{Decoder, DecoderState};

/// Keys of a whole generation, and the operations of one decode step.
#[derive(Clone, Debug)]
pub struct KeyPlan {
    /// Rotation steps, relinearization, conjugation and bootstrapping, each up to its highest level.
    pub request: KeyRequest,
    /// Operations of one decode step with output, at the first position.
    pub operations: LevelCounts,
}

/// Runs `decoder` on the simulator with the levels of `chain` and records the keys it uses at the offsets of the
/// cache that together use every rotation: a token lands at offset τ by a rotation per bit of τ, left where the bit
/// is 0 and right where it is 1, so zero, the highest power of two and that minus one cover all. A prompt goes in
/// `wave` tokens at a time.
///
/// # Errors
/// Errors of [`Decoder::step_wave`]: a plan that runs out of levels shows here, before any key is made.
pub fn plan_keys(
    decoder: &Decoder,
    chain: &LevelChain,
    bootstrap: BootstrapSummary,
    wave: usize,
) -> Result<KeyPlan> {
    let slots = decoder.layout().hidden.slots();
    let parameters =
        ClearParameters { slots, chain: chain.clone(), bootstrapping: Some(bootstrap), noise: None };
    let mut request = KeyRequest::new();
    let context = decoder.layout().context;
    let client = crate::backend::clear::ClearClient::new(parameters.clone());
    let mut run = |position: usize, tokens: usize| -> Result<LevelCounts> {
        if position + tokens > context {
            return Err(Error::Internal(format!("{tokens} tokens at position {position} of {context}")));
        }
        let evaluator = CountingEvaluator::new(ClearEvaluator::dry_run(parameters.clone()));
        let mut state: DecoderState<_> = decoder.new_state();
        state.pad_with_zeros(&evaluator, position)?;
        let level = decoder.plan().input_level;
        let blank = client.encrypt_blank(level)?;
        decoder.step_wave(&evaluator, &mut state, &blank, tokens, true, &mut |_, _| {})?;
        request.merge(&evaluator.inner().recorded());
        Ok(evaluator.counts().total())
    };
    let mut operations = LevelCounts::default();
    for position in decoder.positions_with_all_rotations()? {
        let counts = run(position, 1)?;
        if position == 0 {
            operations = counts;
        }
    }
    if wave > 1 {
        run(0, wave)?;
    }
    Ok(KeyPlan { request, operations })
}
