//! Ciphertexts in and out of the versioned container.

use super::container::{Fingerprint, Kind, read_container, write_container};
use super::fields::{FieldReader, extend_u64};
use super::{Ciphertext, Parameters};
use crate::contract::{Level, Result, Scale};
use crate::ring::{Evaluations, RnsPolynomial};

/// Sections of a ciphertext: level and scale; c_0; c_1 (evaluations, limb-major, 8 bytes a residue).
pub(super) fn ciphertext_to_bytes(parameters: &Parameters, a: &Ciphertext) -> Result<Vec<u8>> {
    let mut head = Vec::with_capacity(16);
    head.extend_from_slice(&(a.level.0 as u64).to_le_bytes());
    head.extend_from_slice(&a.scale.0.to_le_bytes());
    let half = |polynomial: &RnsPolynomial<Evaluations>| {
        let mut bytes = Vec::new();
        extend_u64(&mut bytes, polynomial.words());
        bytes
    };
    write_container(Kind::Ciphertext, *parameters.fingerprint(), &[&head, &half(&a.c0), &half(&a.c1)])
}

/// Reads what [`ciphertext_to_bytes`] wrote; residues are checked to be canonical.
///
/// # Errors
/// [`crate::Error::Format`], [`crate::Error::ParameterMismatch`], [`crate::Error::LevelOutOfRange`].
pub(super) fn ciphertext_from_bytes(parameters: &Parameters, bytes: &[u8]) -> Result<Ciphertext> {
    let fingerprint: Fingerprint = *parameters.fingerprint();
    let sections = read_container(bytes, Kind::Ciphertext, fingerprint)?;
    let bad = |why: String| crate::Error::Format {
        what: "ciphertext".to_owned(),
        why,
        remedy: "transfer it again".to_owned(),
    };
    let [head, c0, c1] = sections.as_slice() else {
        return Err(bad(format!("{} sections, expected 3", sections.len())));
    };
    let mut head = FieldReader::new("ciphertext", head);
    let level = Level(head.count("level", parameters.chain().max_level().0)?);
    let scale = Scale(head.finite_f64("scale")?);
    head.finish()?;
    let log2_modulus = parameters.chain().log2_modulus(level)?;
    if !(scale.0 >= 1.0 && scale.log2() < log2_modulus) {
        return Err(bad(format!("scale {scale} at level {level}")));
    }
    let ring = parameters.ring();
    let limbs = parameters.limbs(level)?;
    let half = |section: &[u8]| -> Result<RnsPolynomial<Evaluations>> {
        let mut reader = FieldReader::new("ciphertext", section);
        let words = reader.u64_list(limbs * ring.degree())?;
        reader.finish()?;
        RnsPolynomial::from_words(ring, words, limbs, 0)
    };
    Ok(Ciphertext { c0: half(c0)?, c1: half(c1)?, level, scale })
}
