//! Everything that travels or rests, in and out of the versioned container: parameters, keys, plaintexts, ciphertexts.
//!
//! Polynomials are evaluations, limb-major, 8 bytes a residue. Uniform halves of keys are not stored but their seed.
//! Reading checks that residues are canonical and sizes those of the parameters before anything is allocated.

use zeroize::Zeroizing;

use super::container::{Kind, read_container, write_container};
use super::fields::{FieldReader, extend_u64};
use super::{
    Ciphertext, KeySwitchingKey, Parameters, ParametersLiteral, Plaintext, SecretKey, Security, Stretch,
};
use crate::contract::{Error, Level, Result, Scale};
use crate::ring::{Evaluations, RnsPolynomial};

/// Longest lists in stored parameters: far above any real chain, far below any harm.
const MAX_LIST: usize = 64;

fn bad(what: &str, why: String) -> Error {
    Error::Format { what: what.to_owned(), why, remedy: "transfer it again".to_owned() }
}

fn polynomial_to_bytes(polynomial: &RnsPolynomial<Evaluations>) -> Vec<u8> {
    let mut bytes = Vec::new();
    extend_u64(&mut bytes, polynomial.words());
    bytes
}

fn polynomial_from_bytes(
    parameters: &Parameters,
    what: &'static str,
    bytes: &[u8],
    chain_limbs: usize,
    special_limbs: usize,
) -> Result<RnsPolynomial<Evaluations>> {
    let ring = parameters.ring();
    let mut reader = FieldReader::new(what, bytes);
    let words = reader.u64_list((chain_limbs + special_limbs) * ring.degree())?;
    reader.finish()?;
    RnsPolynomial::from_words(ring, words, chain_limbs, special_limbs)
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

impl KeySwitchingKey {
    /// Serializes into the container: limbs and seed, then the halves b_d. The halves a_d follow from the seed.
    ///
    /// # Errors
    /// [`Error::Format`] never in practice: digits are few.
    pub fn to_bytes(&self, parameters: &Parameters) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        extend_u64(&mut head, &[self.chain_limbs() as u64, self.special_limbs() as u64]);
        head.extend_from_slice(self.seed());
        let halves: Vec<Vec<u8>> = self.digits().iter().map(|(b, _)| polynomial_to_bytes(b)).collect();
        let sections: Vec<&[u8]> =
            std::iter::once(head.as_slice()).chain(halves.iter().map(Vec::as_slice)).collect();
        write_container(Kind::SwitchingKey, *parameters.fingerprint(), &sections)
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::ParameterMismatch`].
    pub fn from_bytes(parameters: &Parameters, bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "switching key";
        let sections = read_container(bytes, Kind::SwitchingKey, *parameters.fingerprint())?;
        let Some((head, halves)) = sections.split_first() else {
            return Err(bad(WHAT, "no sections".to_owned()));
        };
        let mut head = FieldReader::new(WHAT, head);
        let chain_limbs = head.count("limbs", parameters.ring().chain_limbs())?;
        let special_limbs = head.count("special limbs", parameters.ring().special_limbs())?;
        let seed = head.array()?;
        head.finish()?;
        let halves = halves
            .iter()
            .map(|half| polynomial_from_bytes(parameters, WHAT, half, chain_limbs, special_limbs))
            .collect::<Result<Vec<_>>>()?;
        Self::from_parts(parameters, halves, seed, chain_limbs, special_limbs)
    }
}

impl SecretKey {
    /// Serializes into the container, one byte a coefficient. Keep it with the client, apart from everything else.
    ///
    /// # Errors
    /// [`Error::Internal`] for an image under an automorphism, which has no coefficients.
    pub fn to_bytes(&self, parameters: &Parameters) -> Result<Zeroizing<Vec<u8>>> {
        if self.coefficients().len() != parameters.ring().degree() {
            return Err(Error::Internal("a secret without coefficients cannot be stored".to_owned()));
        }
        // −1, 0, 1 as 0, 1, 2.
        let bytes: Zeroizing<Vec<u8>> =
            Zeroizing::new(self.coefficients().iter().map(|c| (c + 1) as u8).collect());
        write_container(Kind::SecretKey, *parameters.fingerprint(), &[&bytes]).map(Zeroizing::new)
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::ParameterMismatch`].
    pub fn from_bytes(parameters: &Parameters, bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "secret key";
        let sections = read_container(bytes, Kind::SecretKey, *parameters.fingerprint())?;
        let [coefficients] = sections.as_slice() else {
            return Err(bad(WHAT, format!("{} sections, expected 1", sections.len())));
        };
        if coefficients.len() != parameters.ring().degree() || coefficients.iter().any(|c| *c > 2) {
            return Err(bad(WHAT, format!("not {} ternary coefficients", parameters.ring().degree())));
        }
        let coefficients = Zeroizing::new(coefficients.iter().map(|c| i64::from(*c) - 1).collect());
        Self::from_coefficients(parameters, coefficients)
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
