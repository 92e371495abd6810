//! Intermediate polynomials in evaluations, whose words come from the workspaces of their ring and return there: an
//! operation that keeps its intermediate values in them allocates nothing but its result once the pool has filled.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::{Evaluations, RingContext, RnsPolynomial};

/// A polynomial on words borrowed from the ring's pool. It never holds secrets: buffers are not wiped.
#[derive(Debug)]
pub struct Temporary {
    polynomial: RnsPolynomial<Evaluations>,
    ring: Arc<RingContext>,
}

impl Temporary {
    /// A polynomial over the given limbs with unspecified contents: whoever asks for it writes every row.
    #[must_use]
    pub fn new(ring: &Arc<RingContext>, chain_limbs: usize, special_limbs: usize) -> Self {
        let words = (chain_limbs + special_limbs) * ring.degree();
        let polynomial = RnsPolynomial::from_buffer(ring.take_buffer(words), chain_limbs, special_limbs);
        Self { polynomial, ring: Arc::clone(ring) }
    }
}

impl Deref for Temporary {
    type Target = RnsPolynomial<Evaluations>;
    fn deref(&self) -> &Self::Target {
        &self.polynomial
    }
}

impl DerefMut for Temporary {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.polynomial
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.ring.return_buffer(self.polynomial.take_buffer());
    }
}
