//! The hot loops, each in a portable form and in SIMD forms chosen once at run time.
//!
//! All inputs and outputs are canonical residues of primes below 2^50, so every form gives the same bits; the tests
//! compare them. Rows are slices of equal length (a limb, or a block of one): a multiple of 4 for `Fma`, any for the
//! others.
//!
//! | form | arithmetic | when |
//! |---|---|---|
//! | `Portable` | 64 × 64 → 128-bit integers | always available; the oracle of the others |
//! | `Fma` | f64 with fused multiply-add: a product's high part and exact remainder | x86-64 with AVX2 and FMA |
//! | `Ifma` | low and high 52 bits of integer products | x86-64 with AVX-512 F, DQ and IFMA besides |
//!
//! `Ifma` has been compared with `Portable` in an emulator (`scripts/test-ifma.sh`); its speed has not been measured.

#[cfg(target_arch = "x86_64")]
mod fma;
#[cfg(target_arch = "x86_64")]
mod fma_ntt;
#[cfg(target_arch = "x86_64")]
mod ifma;
#[cfg(target_arch = "x86_64")]
mod ifma_lanes;
#[cfg(target_arch = "x86_64")]
mod ifma_sums;
mod portable;

use super::Prime;

/// A set of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// Plain integer code.
    Portable,
    /// AVX2 with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Fma(FmaToken),
    /// AVX-512 with 52-bit integer products.
    #[cfg(target_arch = "x86_64")]
    Ifma(IfmaToken),
}

/// Witness that AVX2 and FMA were found; only [`Kernels::available`] makes one.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FmaToken(());

/// Witness that AVX-512 F, DQ and IFMA were found beside AVX2 and FMA; only [`Kernels::available`] makes one.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfmaToken(());

/// Constants of a base conversion from sources q_i to one target p (see [`super::BaseConversion`]).
#[derive(Clone, Debug)]
pub struct ConversionColumn {
    /// (Q/q_i) mod p for every source.
    pub factors: Vec<u64>,
}

impl Kernels {
    /// The fastest kernels of this machine.
    #[must_use]
    pub fn detect() -> Self {
        Self::available().first().copied().unwrap_or(Self::Portable)
    }

    /// All kernels that this machine can run, fastest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut found = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            found.insert(0, Self::Fma(FmaToken(())));
            if std::is_x86_feature_detected!("avx512f")
                && std::is_x86_feature_detected!("avx512dq")
                && std::is_x86_feature_detected!("avx512ifma")
            {
                found.insert(0, Self::Ifma(IfmaToken(())));
            }
        }
        found
    }

    /// `portable` or the name of the SIMD extension.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Fma(_) => "avx2+fma",
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(_) => "avx512ifma",
        }
    }

    /// out = a · b, element by element.
    pub fn multiply(self, prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
        match self {
            Self::Portable => portable::multiply(prime, out, a, b),
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => fma::multiply(token, prime, out, a, b),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => ifma::multiply(token, prime, out, a, b),
        }
    }

    /// accumulator += a · b, element by element.
    pub fn multiply_accumulate(self, prime: &Prime, accumulator: &mut [u64], a: &[u64], b: &[u64]) {
        match self {
            Self::Portable => portable::multiply_accumulate(prime, accumulator, a, b),
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => fma::multiply_accumulate(token, prime, accumulator, a, b),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => ifma::multiply_accumulate(token, prime, accumulator, a, b),
        }
    }

    /// out_0 = Σ_d digits_d · keys_d.0 and out_1 = Σ_d digits_d · keys_d.1: the inner product of a key switch.
    pub fn inner_product(
        self,
        prime: &Prime,
        out: (&mut [u64], &mut [u64]),
        digits: &[&[u64]],
        keys: &[(&[u64], &[u64])],
    ) {
        match self {
            Self::Portable => portable::inner_product(prime, out, digits, keys),
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => fma::inner_product(token, prime, out, digits, keys),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => ifma_sums::inner_product(token, prime, out, digits, keys),
        }
    }

    /// out = a · c for a constant c.
    pub fn multiply_scalar(self, prime: &Prime, out: &mut [u64], a: &[u64], c: u64) {
        match self {
            Self::Portable => portable::multiply_scalar(prime, out, a, c),
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => fma::multiply_scalar(token, prime, out, a, c),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => ifma::multiply_scalar(token, prime, out, a, c),
        }
    }

    /// row = (a − row) · c for a constant c, in place: the last step of a division by dropped limbs.
    pub fn subtract_multiply(self, prime: &Prime, row: &mut [u64], a: &[u64], c: u64) {
        match self {
            Self::Portable => portable::subtract_multiply(prime, row, a, c),
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => fma::subtract_multiply(token, prime, row, a, c),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => ifma::subtract_multiply(token, prime, row, a, c),
        }
    }

    /// accumulator += a · c for a constant c.
    pub fn multiply_scalar_accumulate(self, prime: &Prime, accumulator: &mut [u64], a: &[u64], c: u64) {
        match self {
            Self::Portable => portable::multiply_scalar_accumulate(prime, accumulator, a, c),
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => fma::multiply_scalar_accumulate(token, prime, accumulator, a, c),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => ifma::multiply_scalar_accumulate(token, prime, accumulator, a, c),
        }
    }

    /// out = a + b.
    pub fn add(self, prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
        match self {
            Self::Portable => portable::add(prime, out, a, b),
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => fma::add(token, prime, out, a, b),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => ifma::add(token, prime, out, a, b),
        }
    }

    /// accumulator += a.
    pub fn add_assign(self, prime: &Prime, accumulator: &mut [u64], a: &[u64]) {
        match self {
            Self::Portable => portable::add_assign(prime, accumulator, a),
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => fma::add_assign(token, prime, accumulator, a),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => ifma::add_assign(token, prime, accumulator, a),
        }
    }

    /// out = a − b.
    pub fn sub(self, prime: &Prime, out: &mut [u64], a: &[u64], b: &[u64]) {
        match self {
            Self::Portable => portable::sub(prime, out, a, b),
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => fma::sub(token, prime, out, a, b),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => ifma::sub(token, prime, out, a, b),
        }
    }

    /// row = −row, in place.
    pub fn negate(self, prime: &Prime, row: &mut [u64]) {
        match self {
            Self::Portable => portable::negate(prime, row),
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => fma::negate(token, prime, row),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => ifma::negate(token, prime, row),
        }
    }

    /// out = the integers `values` (exact f64, magnitude below 2^52) modulo the prime.
    pub fn reduce_floats(self, prime: &Prime, out: &mut [u64], values: &[f64]) {
        match self {
            Self::Portable => portable::reduce_floats(prime, out, values),
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => fma::reduce_floats(token, prime, out, values),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => ifma::reduce_floats(token, prime, out, values),
        }
    }

    /// Base conversion of one block of coefficients: targets_j = Σ_i y_i · factors_{j,i} modulo p_j, where y_i is
    /// sources_i · weights_i modulo q_i, centred. `sources` and `targets` are blocks of equal length.
    pub fn convert_base(
        self,
        sources: &[(&Prime, u64, &[u64])],
        targets: &mut [(&Prime, &ConversionColumn, &mut [u64])],
    ) {
        match self {
            Self::Portable => portable::convert_base(sources, targets),
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => fma::convert_base(token, sources, targets),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => ifma_sums::convert_base(token, sources, targets),
        }
    }

    /// out = round(Σ_i y_i/q_i) modulo the first q, with y_i as in [`Self::convert_base`]: how often the product of
    /// the sources is contained in Σ_i y_i·(Q/q_i). Sums in f64, in the order of the sources.
    pub fn conversion_quotients(self, sources: &[(&Prime, u64, &[u64])], out: &mut [u64]) {
        match self {
            Self::Portable => portable::conversion_quotients(sources, out),
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => fma::conversion_quotients(token, sources, out),
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(token) => ifma_sums::conversion_quotients(token, sources, out),
        }
    }

    /// Tables of the f64 NTT when these kernels have one; `None` means that `tfhe-ntt` serves.
    pub(super) fn ntt_tables(self, prime: &Prime, root: u64, size: usize) -> Option<FmaNtt> {
        match self {
            Self::Portable => None,
            #[cfg(target_arch = "x86_64")]
            Self::Fma(token) => FmaNtt::new(token, prime, root, size),
            // AVX2 and FMA are part of this witness.
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(IfmaToken(())) => FmaNtt::new(FmaToken(()), prime, root, size),
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use fma_ntt::FmaNtt;

/// Stand-in where the f64 NTT does not exist; never constructed.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Debug)]
pub(super) enum FmaNtt {}

#[cfg(not(target_arch = "x86_64"))]
impl FmaNtt {
    pub(super) fn forward(&self, _: &mut [u64]) {
        match *self {}
    }
    pub(super) fn inverse(&self, _: &mut [u64]) {
        match *self {}
    }
}

#[cfg(test)]
mod tests;
