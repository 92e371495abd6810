//! One secret key or one switching key, in and out of the versioned container.
//!
//! Polynomials are evaluations, limb-major, 8 bytes a residue. The uniform half of a key is not stored but its seed.
//! Reading checks that residues are canonical and sizes those of the parameters before anything is allocated.

use zeroize::Zeroizing;

use super::key_switching_key::KeySwitchingKey;
use super::secret::SecretKey;
use crate::ckks::Parameters;
use crate::ckks::container::{Kind, read_container, write_container};
use crate::ckks::fields::{FieldReader, extend_u64};
use crate::contract::{Error, Result};
use crate::ring::{Evaluations, RnsPolynomial};

fn bad(what: &str, why: String) -> Error {
    Error::Format { what: what.to_owned(), why, remedy: "transfer it again".to_owned() }
}

/// The words of a polynomial, limb-major, 8 bytes each.
pub(in crate::ckks) fn polynomial_to_bytes(polynomial: &RnsPolynomial<Evaluations>) -> Vec<u8> {
    let mut bytes = Vec::new();
    extend_u64(&mut bytes, polynomial.words());
    bytes
}

/// Reads what [`polynomial_to_bytes`] wrote: a polynomial over the given limbs.
///
/// # Errors
/// [`Error::Format`] for another number of bytes, or residues that are not canonical.
pub(in crate::ckks) fn polynomial_from_bytes(
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
