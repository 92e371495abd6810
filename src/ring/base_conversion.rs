//! Fast base conversion: residues modulo q_1 … q_k to residues modulo other primes.
//!
//! Halevi–Polyakov–Shoup 2019, §2 (and Cheon et al. 2018, "full RNS CKKS"): with Q = Π q_i and
//! y_i = [x · (Q/q_i)^{-1}]_{q_i}, Σ y_i · Q/q_i = x + u·Q for a small integer u. The y_i are centred, so that
//! |u| ≤ k/2, and u is zero for a single centred source. [`BaseConversion::centred`] takes u = round(Σ y_i/q_i) off:
//! what is converted is then the representative of x in [−Q/2, Q/2]. Coefficient domain.

use rayon::prelude::*;

use super::Prime;
use super::kernels::{ConversionColumn, Kernels};
use crate::contract::{Error, Result};

/// Words of a row handled by one task: small enough to share between threads, large enough to amortize its start.
const TASK_WORDS: usize = 4096;

/// Words of a row handled by one task of a centred conversion, which keeps as many quotients on the stack.
const CENTRED_TASK_WORDS: usize = 1024;

/// Constants of a conversion from one set of primes to another.
pub struct BaseConversion<'a> {
    sources: Vec<&'a Prime>,
    /// (Q/q_i)^{-1} mod q_i.
    weights: Vec<u64>,
    targets: Vec<&'a Prime>,
    columns: Vec<ConversionColumn>,
    /// Whether u·Q is subtracted; the columns then have −Q as one more factor.
    centred: bool,
}

impl<'a> BaseConversion<'a> {
    /// Conversion from `sources` to `targets`.
    #[must_use]
    pub fn new(sources: Vec<&'a Prime>, targets: Vec<&'a Prime>) -> Self {
        // Π of all sources but the i-th, modulo p.
        let cofactor = |i: usize, p: &Prime| {
            sources
                .iter()
                .enumerate()
                .filter(|(k, _)| *k != i)
                .fold(1, |product, (_, q)| p.mul(product, p.reduce(q.value())))
        };
        let weights = sources.iter().enumerate().map(|(i, q)| q.inv(cofactor(i, q))).collect();
        let columns = targets
            .iter()
            .map(|p| ConversionColumn { factors: (0..sources.len()).map(|i| cofactor(i, p)).collect() })
            .collect();
        Self { sources, weights, targets, columns, centred: false }
    }

    /// Turns this into a conversion of the centred representative: one more term for every target. (u is found in
    /// f64: within 2^-50 of half a modulus it may be the neighbour's, which is as near.)
    #[must_use]
    pub fn centred(mut self) -> Self {
        for (target, column) in self.targets.iter().zip(&mut self.columns) {
            let modulus =
                self.sources.iter().fold(1, |product, q| target.mul(product, target.reduce(q.value())));
            column.factors.push(target.sub(0, modulus));
        }
        self.centred = true;
        self
    }

    /// Converts rows of coefficients; as many `sources` and `targets` as primes, all of one length.
    ///
    /// # Errors
    /// [`Error::Internal`] when the numbers of rows disagree.
    pub fn convert(&self, kernels: Kernels, sources: &[&[u64]], targets: Vec<&mut [u64]>) -> Result<()> {
        if sources.len() != self.sources.len() || targets.len() != self.targets.len() {
            return Err(Error::Internal(format!(
                "base conversion of {} rows to {}, made for {} to {}",
                sources.len(),
                targets.len(),
                self.sources.len(),
                self.targets.len()
            )));
        }
        let length = sources.first().map_or(0, |row| row.len());
        let mut tasks: Vec<Vec<&mut [u64]>> = Vec::new();
        let task_words = if self.centred { CENTRED_TASK_WORDS } else { TASK_WORDS };
        tasks.resize_with(length.div_ceil(task_words), || Vec::with_capacity(targets.len()));
        for row in targets {
            for (task, piece) in tasks.iter_mut().zip(row.chunks_mut(task_words)) {
                task.push(piece);
            }
        }
        tasks.into_par_iter().enumerate().for_each(|(index, rows)| {
            let start = index * task_words;
            let end = length.min(start + task_words);
            let mut quotients = [0; CENTRED_TASK_WORDS];
            let mut sources: Vec<(&Prime, u64, &[u64])> = self
                .sources
                .iter()
                .zip(&self.weights)
                .zip(sources)
                .map(|((prime, weight), row)| (*prime, *weight, row.get(start..end).unwrap_or(&[])))
                .collect();
            let quotients = quotients.get_mut(..end - start).filter(|_| self.centred);
            if let (Some(first), Some(quotients)) = (self.sources.first(), quotients) {
                kernels.conversion_quotients(&sources, quotients);
                sources.push((*first, 1, quotients));
            }
            let mut targets: Vec<(&Prime, &ConversionColumn, &mut [u64])> = self
                .targets
                .iter()
                .zip(&self.columns)
                .zip(rows)
                .map(|((prime, column), row)| (*prime, column, row))
                .collect();
            kernels.convert_base(&sources, &mut targets);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;
    use proptest::prelude::*;

    use super::super::primes_near;
    use super::*;

    proptest! {
        #[test]
        fn conversion_is_exact_up_to_a_small_multiple_of_the_source_modulus(count in 1usize..9, seed: u64) {
            let values = primes_near(2f64.powi(49), 10, count + 1, &[]).unwrap();
            let primes: Vec<Prime> = values.iter().map(|p| Prime::new(*p).unwrap()).collect();
            let (target, sources) = primes.split_last().unwrap();
            let modulus: BigInt = sources.iter().map(|p| BigInt::from(p.value())).product();
            // A centred number of the size of the modulus.
            let x: BigInt = (0..count as u64 + 1).fold(BigInt::from(seed), |x, k| x * BigInt::from(seed ^ (k << 32) ^ 0x1234_5678_9abc) + k)
                % &modulus - &modulus / 2;
            let rows: Vec<Vec<u64>> = sources.iter().map(|p| {
                let p = BigInt::from(p.value());
                vec![u64::try_from(((&x % &p) + &p) % &p).unwrap(); 4]
            }).collect();
            let mut out = vec![0u64; 4];
            let rows: Vec<&[u64]> = rows.iter().map(Vec::as_slice).collect();
            BaseConversion::new(sources.iter().collect(), vec![target])
                .convert(Kernels::detect(), &rows, vec![&mut out]).unwrap();
            let p = BigInt::from(target.value());
            let found = BigInt::from(out[0]);
            let bound = (count as i64 + 1) / 2 + 1;
            let hit = (-bound..=bound).any(|u| ((&x + &modulus * u - &found) % &p) == BigInt::from(0));
            prop_assert!(hit, "no |u| ≤ {bound} explains the residue");
            if count == 1 {
                prop_assert!((&x - &found) % &p == BigInt::from(0), "one centred source converts exactly");
            }
            for kernels in [Kernels::detect(), Kernels::Portable] {
                let mut out = vec![0u64; 4];
                BaseConversion::new(sources.iter().collect(), vec![target]).centred()
                    .convert(kernels, &rows, vec![&mut out]).unwrap();
                prop_assert!((&x - BigInt::from(out[0])) % &p == BigInt::from(0), "a centred number converts exactly");
            }
        }
    }
}
