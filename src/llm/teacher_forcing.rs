//! The encrypted decoder against the exact model over given texts, teacher-forced: both see the same tokens at every
//! position, so that one wrong token does not spoil what follows.

use crate::contract::{Client, Error, Result};

use super::block_functions::ExactFunctions;
use super::client::GenerationClient;
use super::decoder::Decoder;
use super::fidelity::{Fidelity, FidelitySummary};
use super::texts::PreparedModel;

/// Figures of a comparison, and how far it got.
#[derive(Clone, Debug)]
pub struct TeacherForced {
    /// All positions together.
    pub fidelity: FidelitySummary,
    /// By position behind the public prefix, a bucket of [`BUCKET`] positions each: mean KL and positions.
    pub kl_by_position: Vec<(f64, usize)>,
}

/// Positions in one bucket of [`TeacherForced::kl_by_position`].
pub const BUCKET: usize = 16;

/// Runs `decoder` over `sequences` (private tokens behind the public prefix), at most `positions` positions in all, and
/// compares its logits with those of the exact model. `progress` gets the positions done and those to do.
///
/// # Errors
/// Those of [`Decoder::step`], above all a value outside the interval of its bootstrap; [`Error::Internal`] when
/// the decoder gives no output.
pub fn teacher_forced<K: Client>(
    client: &GenerationClient<'_, K>,
    evaluator: &K::Evaluator,
    decoder: &Decoder,
    prepared: &PreparedModel,
    sequences: &[Vec<u32>],
    positions: usize,
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
        for (position, (token, exact)) in tokens.iter().zip(exact.rows()).enumerate() {
            if done == wanted {
                break;
            }
            progress(done, wanted);
            let token = client.encrypt_token(*token)?;
            let answer = decoder.step(evaluator, &mut state, &token, true, &mut |_, _| {})?;
            let answer = answer.ok_or_else(|| Error::Internal("a decode step without output".to_owned()))?;
            let logits = ndarray::Array1::from_vec(client.logits(&answer)?);
            let next = tokens.get(position + 1).copied();
            fidelity.add(exact, logits.view(), next);
            if buckets.len() <= position / BUCKET {
                buckets.resize(position / BUCKET + 1, Fidelity::default());
            }
            if let Some(bucket) = buckets.get_mut(position / BUCKET) {
                bucket.add(exact, logits.view(), next);
            }
            done += 1;
        }
    }
    let kl_by_position =
        buckets.iter().map(|bucket| (bucket.summary().kl_mean, bucket.summary().positions)).collect();
    Ok(TeacherForced { fidelity: fidelity.summary(), kl_by_position })
}
