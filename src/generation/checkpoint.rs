//! A generation on disk: encrypted caches, tokens so far, and what they belong to. Never a secret key: that lies in a
//! file of its own, written once by the client.
//!
//! The file is replaced atomically after every token, so a run that is killed at any moment leaves the state after its
//! last finished token. Container: magic, length of a JSON header, header, caches, SHA-256 of everything before.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::contract::{CiphertextInfo, Error, Evaluator, Result};

use crate::decoder::{Decoder, DecoderState};
use crate::generation::chat::GenerationRequest;
use crate::model::files::read_bounded;

/// File of a checkpoint in its directory.
pub const CHECKPOINT_FILE: &str = "generation.checkpoint";
const MAGIC: &[u8; 8] = b"CMGEN001";
const DIGEST: usize = 32;
/// Largest checkpoint that is read.
const MAX_BYTES: u64 = 1 << 36;

/// What a checkpoint belongs to and how far it is.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CheckpointHeader {
    /// Backend and parameters.
    pub scheme: String,
    /// Fingerprint of the secret key the caches are encrypted under; empty when nothing is encrypted.
    pub key: String,
    /// Digest of the model's shape and the decoder's plan ([`plan_digest`]).
    pub plan: String,
    /// Tokens the caches are laid out for.
    pub context: usize,
    /// Prompt and sampling.
    pub request: GenerationRequest,
    /// New tokens so far.
    pub generated: Vec<u32>,
}

impl CheckpointHeader {
    /// That a run with header `wanted` may go on from this one: everything but the tokens so far agrees.
    ///
    /// # Errors
    /// [`Error::Plan`] naming what differs.
    pub fn require(&self, wanted: &Self) -> Result<()> {
        let differences = [
            ("scheme", self.scheme == wanted.scheme),
            ("secret key", self.key == wanted.key),
            ("model or plan", self.plan == wanted.plan),
            ("context", self.context == wanted.context),
            ("prompt", self.request.prompt == wanted.request.prompt),
            ("sampling", self.request.sampling == wanted.request.sampling),
        ];
        match differences.iter().find(|(_, same)| !same) {
            None => Ok(()),
            Some((what, _)) => Err(Error::Plan {
                why: format!("the checkpoint belongs to another {what}"),
                remedy: "go on with the same model, prompt and parameters, or use another directory"
                    .to_owned(),
            }),
        }
    }
}

/// A name for a secret key that says nothing else about it: SHA-256 of a label and its bytes, in hexadecimal.
#[must_use]
pub fn key_fingerprint(secret: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(b"cachemir secret key fingerprint");
    digest.update(secret);
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of the model's shape and the plan, in hexadecimal.
///
/// # Errors
/// [`Error::Internal`] when the plan does not serialize.
pub fn plan_digest(decoder: &Decoder) -> Result<String> {
    let plan = serde_json::to_vec(decoder.plan()).map_err(|e| Error::Internal(format!("plan: {e}")))?;
    let mut digest = Sha256::new();
    digest.update(decoder.config().to_json().to_string().as_bytes());
    digest.update(plan);
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn bad(why: impl Into<String>) -> Error {
    Error::Format {
        what: "checkpoint".to_owned(),
        why: why.into(),
        remedy: "delete the checkpoint directory and start again".to_owned(),
    }
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.display().to_string(), source }
}

/// Writes header and caches into `directory`, replacing what is there atomically.
///
/// # Errors
/// [`Error::Io`]; those of [`Evaluator::ciphertext_to_bytes`].
pub fn write_checkpoint<E: Evaluator>(
    directory: &Path,
    evaluator: &E,
    header: &CheckpointHeader,
    state: &DecoderState<E::Ciphertext>,
) -> Result<()> {
    let json = serde_json::to_vec(header).map_err(|e| Error::Internal(format!("checkpoint header: {e}")))?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&json);
    bytes.extend_from_slice(&state.to_bytes(evaluator)?);
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    std::fs::create_dir_all(directory).map_err(|source| io(directory, source))?;
    let path = directory.join(CHECKPOINT_FILE);
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(|source| io(directory, source))?;
    std::io::Write::write_all(&mut file, &bytes).map_err(|source| io(&path, source))?;
    file.as_file().sync_all().map_err(|source| io(&path, source))?;
    file.persist(&path).map_err(|error| io(&path, error.error))?;
    Ok(())
}

/// Header and bytes of the caches of the checkpoint in `directory`; `None` when there is none.
///
/// # Errors
/// [`Error::Format`] for a damaged file; [`Error::Io`].
pub fn read_checkpoint(directory: &Path) -> Result<Option<(CheckpointHeader, Vec<u8>)>> {
    let path = directory.join(CHECKPOINT_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read_bounded(&path, MAX_BYTES)?;
    let (header, caches) = parse_checkpoint(&bytes)?;
    Ok(Some((header, caches.to_vec())))
}

/// Header and bytes of the caches in the bytes of a checkpoint. Allocates for the header only.
///
/// # Errors
/// [`Error::Format`] for anything that [`write_checkpoint`] did not write.
pub fn parse_checkpoint(bytes: &[u8]) -> Result<(CheckpointHeader, &[u8])> {
    let (body, digest) = bytes
        .len()
        .checked_sub(DIGEST)
        .and_then(|end| bytes.split_at_checked(end))
        .ok_or_else(|| bad(format!("{} bytes", bytes.len())))?;
    if Sha256::digest(body).as_slice() != digest {
        return Err(bad("the checksum does not match"));
    }
    let rest = body.strip_prefix(MAGIC).ok_or_else(|| bad("wrong magic or version"))?;
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(|| bad("no header"))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|e| bad(e.to_string()))?;
    let (json, caches) = rest.split_at_checked(length).ok_or_else(|| bad("the header is cut off"))?;
    let header = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
    Ok((header, caches))
}

impl<C: CiphertextInfo + Clone> DecoderState<C> {
    /// The caches as bytes.
    ///
    /// # Errors
    /// [`Error::Foreign`] when a library behind the backend fails ([`Evaluator::ciphertext_to_bytes`]).
    pub fn to_bytes<E: Evaluator<Ciphertext = C>>(&self, evaluator: &E) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for cache in self.caches() {
            let cache = cache.to_bytes(evaluator)?;
            bytes.extend_from_slice(&(cache.len() as u64).to_le_bytes());
            bytes.extend_from_slice(&cache);
        }
        Ok(bytes)
    }
}

impl Decoder {
    /// Reads what [`DecoderState::to_bytes`] wrote for this decoder.
    ///
    /// # Errors
    /// [`Error::Format`] for damaged data; those of the cache's reader.
    pub fn state_from_bytes<E: Evaluator>(
        &self,
        evaluator: &E,
        mut bytes: &[u8],
    ) -> Result<DecoderState<E::Ciphertext>> {
        let mut caches = Vec::new();
        for layout in self.cache_layouts() {
            let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| bad("a cache is missing"))?;
            let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|e| bad(e.to_string()))?;
            let (cache, rest) = rest.split_at_checked(length).ok_or_else(|| bad("a cache is cut off"))?;
            caches.push(crate::packing::KeyValueCache::from_bytes(evaluator, layout, cache)?);
            bytes = rest;
        }
        DecoderState::from_caches(caches).ok_or_else(|| bad("the caches hold different numbers of tokens"))
    }
}
