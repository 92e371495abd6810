//! The encrypted decoder against the exact model over given texts, teacher-forced: both see the same tokens at every
//! position, so that one wrong token does not spoil what follows.

use crate::contract::{Client, Error, Result};

use super::block_functions::ExactFunctions;
use super::client::GenerationClient;
use super::decoder::Decoder;
use super::fidelity::{Fidelity, FidelitySummary};
use super::texts::PreparedModel;

/// Figures of a comparison, and how far it got.
#[derive(Debug)]
pub struct TeacherForced {
    /// All positions together.
    pub fidelity: FidelitySummary,
    /// By position behind the public prefix, a bucket of [`BUCKET`] positions each: mean KL and positions.
    pub kl_by_position: Vec<(f64, usize)>,
    /// Where a value left the interval of its bootstrap, which ended the comparison: the position in its sequence, and what
    /// was seen.
    pub stopped: Option<(usize, Error)>,
}

/// Positions in one bucket of [`TeacherForced::kl_by_position`].
pub const BUCKET: usize = 16;

/// Runs `decoder` over `sequences` (private tokens behind the public prefix), at most `positions` tokens in all, `wave` at a
/// time, and compares its logits with those of the exact model behind the last token of each wave: every wave shares its
/// bootstraps, and what came before is as wrong as it is. `progress` gets the tokens done and those to do.
///
/// # Errors
/// Those of [`Decoder::step_wave`], except a value outside the interval of its bootstrap, which ends the comparison with what
/// there is; [`Error::Internal`] when the decoder gives no output.
pub fn teacher_forced<K: Client>(
    client: &GenerationClient<'_, K>,
    evaluator: &K::Evaluator,
    decoder: &Decoder,
    prepared: &PreparedModel,
    sequences: &[Vec<u32>],
    (positions, wave): (usize, usize),
    progress: &mut dyn FnMut(usize, usize),
) -> Result<TeacherForced> {
    let wanted = sequences.iter().map(Vec::len).sum::<usize>().min(positions);
    let (mut fidelity, mut done) = (Fidelity::default(), 0usize);
    let mut buckets: Vec<Fidelity> = Vec::new();
    let model = &prepared.model;
    for tokens in sequences {
        let hidden = model.forward(tokens, &mut prepared.prefix_cache.clone(), &mut ExactFunctions)?;
        let exact = model.logits(&hidden);
        let mut state = decoder.new_state();
        decoder.append_public_prefix(evaluator, &mut state, &prepared.prefix_cache)?;
        let mut rest = tokens.as_slice();
        while !rest.is_empty() && done < wanted {
            progress(done, wanted);
            let count = wave.clamp(1, rest.len()).min(wanted - done);
            let (together, behind) = rest.split_at(count);
            rest = behind;
            let encrypted = (&client.encrypt_tokens(together)?, count);
            let answer = match decoder.step_wave(evaluator, &mut state, encrypted, true, &mut |_, _| {}) {
                Err(error @ Error::OutOfInterval { .. }) => {
                    let position = tokens.len() - rest.len();
                    return Ok(outcome(&fidelity, &buckets, Some((position, error))));
                }
                answer => answer?,
            };
            let answer = answer.ok_or_else(|| Error::Internal("a decode step without output".to_owned()))?;
            done += count;
            let last = tokens.len() - behind.len() - 1;
            let exact = exact.row(last);
            let logits = ndarray::Array1::from_vec(client.logits(&answer)?);
            let next = behind.first().copied();
            fidelity.add(exact, logits.view(), next);
            if buckets.len() <= last / BUCKET {
                buckets.resize(last / BUCKET + 1, Fidelity::default());
            }
            if let Some(bucket) = buckets.get_mut(last / BUCKET) {
                bucket.add(exact, logits.view(), next);
            }
        }
    }
    Ok(outcome(&fidelity, &buckets, None))
}

fn outcome(fidelity: &Fidelity, buckets: &[Fidelity], stopped: Option<(usize, Error)>) -> TeacherForced {
    let mean = |bucket: &Fidelity| (bucket.summary().kl_mean, bucket.summary().positions);
    TeacherForced {
        fidelity: fidelity.summary(),
        kl_by_position: buckets.iter().map(mean).collect(),
        stopped,
    }
}
