//! Parameters, plaintexts and ciphertexts, in and out of the versioned container. (Keys: [`super::rlwe`].)
//!
//! Polynomials are evaluations, limb-major, 8 bytes a residue. Reading checks that residues are canonical and sizes
//! those of the parameters before anything is allocated.

use super::container::{Kind, read_container, write_container};
use super::fields::{FieldReader, extend_u64};
use super::rlwe::{polynomial_from_bytes, polynomial_to_bytes};
use super::{Ciphertext, Parameters, ParametersLiteral, Plaintext, Security, Stretch};
use crate::contract::{Error, Level, Result, Scale};

/// Longest lists in stored parameters: far above any real chain, far below any harm.
const MAX_LIST: usize = 64;

fn bad(what: &str, why: String) -> Error {
    Error::Format { what: what.to_owned(), why, remedy: "transfer it again".to_owned() }
}

fn head_of(level: Level, scale: Scale) -> Vec<u8> {
    let mut head = Vec::with_capacity(16);
    head.extend_from_slice(&(level.0 as u64).to_le_bytes());
    head.extend_from_slice(&scale.0.to_le_bytes());
    head
}

/// Level and scale, checked against the chain.
fn read_head(parameters: &Parameters, what: &'static str, head: &[u8]) -> Result<(Level, Scale)> {
    let mut head = FieldReader::new(what, head);
    let level = Level(head.count("level", parameters.chain().max_level().0)?);
    let scale = Scale(head.finite_f64("scale")?);
    head.finish()?;
    if !(scale.0 >= 1.0 && scale.log2() < parameters.chain().log2_modulus(level)?) {
        return Err(bad(what, format!("scale {scale} at level {level}")));
    }
    Ok((level, scale))
}

/// Sections: level and scale; c_0; c_1.
pub(super) fn ciphertext_to_bytes(parameters: &Parameters, a: &Ciphertext) -> Result<Vec<u8>> {
    let sections = [head_of(a.level, a.scale), polynomial_to_bytes(&a.c0), polynomial_to_bytes(&a.c1)];
    write_container(Kind::Ciphertext, *parameters.fingerprint(), &sections.each_ref().map(Vec::as_slice))
}

/// Reads what [`ciphertext_to_bytes`] wrote.
///
/// # Errors
/// [`Error::Format`], [`Error::ParameterMismatch`].
pub(super) fn ciphertext_from_bytes(parameters: &Parameters, bytes: &[u8]) -> Result<Ciphertext> {
    const WHAT: &str = "ciphertext";
    let sections = read_container(bytes, Kind::Ciphertext, *parameters.fingerprint())?;
    let [head, c0, c1] = sections.as_slice() else {
        return Err(bad(WHAT, format!("{} sections, expected 3", sections.len())));
    };
    let (level, scale) = read_head(parameters, WHAT, head)?;
    let limbs = parameters.limbs(level)?;
    let half = |bytes| polynomial_from_bytes(parameters, WHAT, bytes, limbs, 0);
    Ok(Ciphertext { c0: half(c0)?, c1: half(c1)?, level, scale })
}

impl Plaintext {
    /// Serializes into the container.
    ///
    /// # Errors
    /// [`Error::Format`] never in practice: there are two sections.
    pub fn to_bytes(&self, parameters: &Parameters) -> Result<Vec<u8>> {
        let sections = [head_of(self.level, self.scale), polynomial_to_bytes(&self.polynomial)];
        write_container(Kind::Plaintext, *parameters.fingerprint(), &sections.each_ref().map(Vec::as_slice))
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::ParameterMismatch`].
    pub fn from_bytes(parameters: &Parameters, bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "plaintext";
        let sections = read_container(bytes, Kind::Plaintext, *parameters.fingerprint())?;
        let [head, polynomial] = sections.as_slice() else {
            return Err(bad(WHAT, format!("{} sections, expected 2", sections.len())));
        };
        let (level, scale) = read_head(parameters, WHAT, head)?;
        let polynomial = polynomial_from_bytes(parameters, WHAT, polynomial, parameters.limbs(level)?, 0)?;
        Ok(Self { polynomial, level, scale })
    }
}

impl Parameters {
    /// Serializes the literal into the container; primes follow from it, and the fingerprint makes sure of that.
    ///
    /// # Errors
    /// [`Error::Format`] never in practice: there is one section.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let literal = self.literal();
        let mut section = Vec::new();
        let insecure = u64::from(literal.security == Security::InsecureForTests);
        extend_u64(&mut section, &[u64::from(literal.log2_n), literal.special_primes as u64, insecure]);
        section.extend_from_slice(&literal.special_bits.to_le_bytes());
        extend_u64(&mut section, &[literal.base_bits.len() as u64, literal.stretches.len() as u64]);
        for bits in &literal.base_bits {
            section.extend_from_slice(&bits.to_le_bytes());
        }
        for stretch in &literal.stretches {
            extend_u64(&mut section, &[stretch.levels as u64, stretch.primes_per_level as u64]);
            section.extend_from_slice(&stretch.log2_scale.to_le_bytes());
        }
        write_container(Kind::Parameters, *self.fingerprint(), &[&section])
    }

    /// Reads what [`Self::to_bytes`] wrote, as parameters named `loaded`. Security claims are checked again.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::ParameterMismatch`] when the primes come out differently, errors of [`Self::new`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "parameters";
        let container = super::container::Container::parse(bytes)?;
        let (Kind::Parameters, [section]) = (container.kind, container.sections.as_slice()) else {
            return Err(bad(
                WHAT,
                format!("{} in {} sections", container.kind.name(), container.sections.len()),
            ));
        };
        let mut reader = FieldReader::new(WHAT, section);
        let log2_n = reader.count("log2 of the ring degree", 17)? as u32;
        let special_primes = reader.count("special primes", MAX_LIST)?;
        let insecure = reader.count("security", 1)? == 1;
        let special_bits = reader.finite_f64("special bits")?;
        let base_count = reader.count("base primes", MAX_LIST)?;
        let stretch_count = reader.count("stretches", MAX_LIST)?;
        let base_bits =
            (0..base_count).map(|_| reader.finite_f64("base bits")).collect::<Result<Vec<f64>>>()?;
        let stretches = (0..stretch_count)
            .map(|_| {
                Ok(Stretch {
                    levels: reader.count("levels", MAX_LIST)?,
                    primes_per_level: reader.count("primes a level", MAX_LIST)?,
                    log2_scale: reader.finite_f64("scale")?,
                })
            })
            .collect::<Result<Vec<Stretch>>>()?;
        reader.finish()?;
        let security = if insecure { Security::InsecureForTests } else { Security::Classical128 };
        let parameters = Self::new(ParametersLiteral {
            name: "loaded",
            log2_n,
            base_bits,
            stretches,
            special_primes,
            special_bits,
            security,
        })?;
        if *parameters.fingerprint() != container.fingerprint {
            return Err(Error::ParameterMismatch {
                operation: "read parameters",
                given: container.fingerprint.to_string(),
                wanted: parameters.fingerprint().to_string(),
            });
        }
        Ok(parameters)
    }
}
