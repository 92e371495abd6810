//! Ciphertexts as bytes: plain residues in the crate's own container.
//!
//! Sections: level (u64), scale (f64) and length of the key tag (u64) with the tag; then 2 · limbs · N residues (u64,
//! NTT form). OpenFHE's own serialization is not used: it takes the lengths of untrusted data on trust.

use std::sync::Arc;

use super::bridge::ffi;
use super::ciphertext::OpenFheCiphertext;
use super::evaluator::OpenFheEvaluator;
use super::library::call;
use crate::ckks::container::{Kind, read_container, write_container};
use crate::ckks::fields::{FieldReader, extend_u64};
use crate::contract::{Error, Level, Result, Scale};

/// Name of the object in errors.
const WHAT: &str = "openfhe ciphertext";
/// More than any key tag of OpenFHE has.
const MAXIMUM_TAG_BYTES: usize = 1 << 10;

fn bad(why: String) -> Error {
    Error::Format {
        what: WHAT.to_owned(),
        why,
        remedy: "pass bytes that ciphertext_to_bytes wrote under the same parameters and key".to_owned(),
    }
}

impl OpenFheEvaluator {
    /// Writes the container.
    pub(super) fn write(&self, a: &OpenFheCiphertext) -> Result<Vec<u8>> {
        self.check_tag("ciphertext_to_bytes", &a.tag)?;
        let residues = call("export", || ffi::export_ciphertext(self.context(), &a.inner))?;
        let mut header = Vec::with_capacity(24 + a.tag.len());
        extend_u64(&mut header, &[a.level.0 as u64, a.scale.0.to_bits(), a.tag.len() as u64]);
        header.extend_from_slice(a.tag.as_bytes());
        let mut payload = Vec::new();
        extend_u64(&mut payload, &residues);
        write_container(Kind::OpenFheCiphertext, self.engine.fingerprint, &[&header, &payload])
    }

    /// Reads the container. Sizes are compared with what the parameters demand before anything is allocated.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<OpenFheCiphertext> {
        let sections = read_container(bytes, Kind::OpenFheCiphertext, self.engine.fingerprint)?;
        let [header, payload] = sections.as_slice() else {
            return Err(bad(format!("{} sections instead of 2", sections.len())));
        };
        let mut fields = FieldReader::new(WHAT, header);
        let level = Level(fields.count("level", self.engine.chain.max_level().0)?);
        let scale = Scale(fields.finite_f64("scale")?);
        let tag_bytes = fields.count("length of the key tag", MAXIMUM_TAG_BYTES)?;
        let tag = fields.bytes(tag_bytes)?;
        fields.finish()?;
        if scale.0 < 1.0 {
            return Err(bad(format!("a scale of {}", scale.0)));
        }
        if tag != self.tag.as_bytes() {
            return Err(Error::ParameterMismatch {
                operation: "ciphertext_from_bytes",
                given: format!("key {}", String::from_utf8_lossy(tag)),
                wanted: format!("key {}", self.tag),
            });
        }
        let limbs = self.engine.limbs(level, "ciphertext_from_bytes")?;
        let count = 2 * (limbs as usize) * 2 * self.engine.slots();
        let mut fields = FieldReader::new(WHAT, payload);
        let residues = fields.u64_list(count)?;
        fields.finish()?;
        let inner = call("import", || ffi::import_ciphertext(self.context(), &self.tag, limbs, &residues))
            .map_err(|error| bad(error.to_string()))?;
        Ok(OpenFheCiphertext { inner, level, scale, tag: Arc::clone(&self.tag) })
    }
}
