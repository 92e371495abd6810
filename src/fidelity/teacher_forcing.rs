//! The encrypted decoder against the exact model over given texts, teacher-forced: both see the same tokens at every
//! position, so that one wrong token does not spoil what follows.

use crate::contract::{self, Error, Result};

use crate::decoder::Decoder;
use crate::fidelity::agreement::{Fidelity, FidelitySummary};
use crate::generation::client::Client;
use crate::model::block_functions::ExactFunctions;
use crate::model::prepared::PreparedModel;

/// Figures of a comparison, and how far it got.
#[derive(Debug)]
pub struct TeacherForced {
    /// All positions together.
    pub fidelity: FidelitySummary,
    /// By position behind the public prefix, a bucket of [`BUCKET`] positions each.
    pub kl_by_position: Vec<Bucket>,
    /// Where a value left its interval, which ended the comparison.
    pub stopped: Option<Stop>,
}

/// Positions that stand about as far behind the public prefix.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Bucket {
    /// Mean KL divergence in nats; NaN where there is no position.
    pub kl_mean: f64,
    /// Positions compared.
    pub positions: usize,
}

/// What ended a comparison.
#[derive(Debug)]
pub struct Stop {
    /// The position in its sequence, the public prefix aside.
    pub position: usize,
    /// What was seen.
    pub error: Error,
}

/// How far a comparison goes, and in what steps.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Most tokens in all.
    pub positions: usize,
    /// Tokens that go through the decoder together.
    pub wave: usize,
}

/// Positions in one bucket of [`TeacherForced::kl_by_position`].
pub const BUCKET: usize = 16;

/// Runs `decoder` over `sequences` (private tokens behind the public prefix), as far as `extent` says, and compares
/// its logits with those of the exact model behind the last token of each wave: every wave shares its bootstraps, and
/// what came before is as wrong as it is. `progress` gets the tokens done and those to do.
///
/// # Errors
/// Errors of [`Decoder::step_wave`] and [`Client::logits`], except a value outside its interval, which ends the
/// comparison with what there is; [`Error::Internal`] when the decoder gives no output.
pub fn teacher_forced<K: contract::Client>(
    client: &Client<K>,
    evaluator: &K::Evaluator,
    decoder: &Decoder,
    prepared: &PreparedModel,
    sequences: &[Vec<u32>],
    extent: Extent,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<TeacherForced> {
    let wanted = sequences.iter().map(Vec::len).sum::<usize>().min(extent.positions);
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
            let count = extent.wave.clamp(1, rest.len()).min(wanted - done);
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
                    return Ok(outcome(&fidelity, &buckets, Some(Stop { position: last, error })));
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

fn outcome(fidelity: &Fidelity, buckets: &[Fidelity], stopped: Option<Stop>) -> TeacherForced {
    let mean = |bucket: &Fidelity| {
        let FidelitySummary { kl_mean, positions, .. } = bucket.summary();
        Bucket { kl_mean, positions }
    };
    TeacherForced {
        fidelity: fidelity.summary(),
        kl_by_position: buckets.iter().map(mean).collect(),
        stopped,
    }
}
