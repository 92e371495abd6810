//! The encrypted decoder against the exact model over given texts, teacher-forced: both see the same tokens at every
//! position, so that one wrong token does not spoil what follows.

use crate::contract::{Client, Error, Result};

use crate::decoder::Decoder;
use crate::fidelity::agreement::{Fidelity, FidelitySummary};
use crate::generation::client::GenerationClient;
use crate::model::block_functions::ExactFunctions;
use crate::model::prepared::PreparedModel;

/// Figures of a comparison, and how far it got.
#[derive(Debug)]
pub struct TeacherForced {
    /// All positions together.
    pub fidelity: FidelitySummary,
    /// By position behind the public prefix, a bucket of [`BUCKET`] positions each: mean KL and positions.
    pub kl_by_position: Vec<(f64, usize)>,
    /// Where a value left its interval, which ended the comparison: the position in its sequence, and what was seen.
    pub stopped: Option<(usize, Error)>,
}

/// Positions in one bucket of [`TeacherForced::kl_by_position`].
pub const BUCKET: usize = 16;

/// Runs `decoder` over `sequences` (private tokens behind the public prefix), at most `positions` tokens in all, `wave` at a
/// time, and compares its logits with those of the exact model behind the last token of each wave: every wave shares its
/// bootstraps, and what came before is as wrong as it is. `progress` gets the tokens done and those to do.
///
/// # Errors
/// Those of [`Decoder::step_wave`] and [`GenerationClient::logits`], except a value outside its interval, which ends the
/// comparison with what there is; [`Error::Internal`] when the decoder gives no output.
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
            let encrypted = client.encrypt_tokens(together)?;
            let answer = decoder.step_wave(evaluator, &mut state, &encrypted, count, true, &mut |_, _| {});
            let logits = answer.and_then(|answer| {
                let missing = || Error::Internal("a decode step without output".to_owned());
                client.logits(&answer.ok_or_else(missing)?)
            });
            let last = tokens.len() - behind.len() - 1;
            let logits = match logits {
                Err(error @ Error::OutOfInterval { .. }) => {
                    return Ok(outcome(&fidelity, &buckets, Some((last, error))));
                }
                logits => ndarray::Array1::from_vec(logits?),
            };
            done += count;
            let exact = exact.row(last);
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
