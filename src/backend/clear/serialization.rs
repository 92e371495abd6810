//! Bytes of a simulated ciphertext: one container section with level, scale and the slots.

use super::ciphertext::ClearCiphertext;
use super::parameters::ClearParameters;
use crate::ckks::container::{Fingerprint, Kind, read_container, write_container};
use crate::ckks::fields::FieldReader;
use crate::contract::{CiphertextInfo, Complex64, Error, Level, Result, Scale};

/// Slots and chain make the fingerprint: what decides whether two ciphertexts can be combined.
fn fingerprint(parameters: &ClearParameters) -> Result<Fingerprint> {
    let chain = &parameters.chain;
    let mut bytes = b"clear".to_vec();
    bytes.extend_from_slice(&(parameters.slots as u64).to_le_bytes());
    for level in 0..=chain.max_level().0 {
        bytes.extend_from_slice(&chain.log2_modulus(Level(level))?.to_le_bytes());
        bytes.extend_from_slice(&chain.canonical_scale(Level(level))?.0.to_le_bytes());
    }
    Ok(Fingerprint::of(&bytes))
}

/// The container of a simulated ciphertext.
///
/// # Errors
/// [`Error::Format`] never in practice: there is one section.
pub(super) fn ciphertext_to_bytes(a: &ClearCiphertext, parameters: &ClearParameters) -> Result<Vec<u8>> {
    let mut section = Vec::with_capacity(16 + 16 * a.values().len());
    section.extend_from_slice(&(a.level().0 as u64).to_le_bytes());
    section.extend_from_slice(&a.scale().0.to_le_bytes());
    for value in a.values() {
        section.extend_from_slice(&value.re.to_le_bytes());
        section.extend_from_slice(&value.im.to_le_bytes());
    }
    write_container(Kind::SimulatedCiphertext, fingerprint(parameters)?, &[&section])
}

/// Reads what [`ciphertext_to_bytes`] wrote.
///
/// # Errors
/// [`Error::Format`], [`Error::ParameterMismatch`].
pub(super) fn ciphertext_from_bytes(bytes: &[u8], parameters: &ClearParameters) -> Result<ClearCiphertext> {
    let sections = read_container(bytes, Kind::SimulatedCiphertext, fingerprint(parameters)?)?;
    let [section] = sections.as_slice() else {
        return Err(unexpected(format!("{} sections instead of 1", sections.len())));
    };
    let mut fields = FieldReader::new("simulated ciphertext", section);
    let level = Level(fields.count("level", parameters.chain.max_level().0)?);
    let scale = Scale(fields.finite_f64("scale")?);
    if scale.0 <= 0.0 {
        return Err(unexpected(format!("scale {}", scale.0)));
    }
    let mut values = Vec::new();
    for _ in 0..parameters.slots {
        values.push(Complex64::new(fields.finite_f64("real part")?, fields.finite_f64("imaginary part")?));
    }
    fields.finish()?;
    Ok(ClearCiphertext::new(values, level, scale))
}

fn unexpected(why: String) -> Error {
    Error::Format {
        what: "simulated ciphertext".to_owned(),
        why,
        remedy: "pass bytes that ciphertext_to_bytes wrote under the same parameters".to_owned(),
    }
}
