//! A ring degree with all primes of a scheme: the moduli chain and the special primes.

use rayon::prelude::*;

use super::buffer::Workspace;
use super::kernels::Kernels;
use super::{NttPlan, Prime};
use crate::contract::{Error, Result};

/// Which prime a row of residues belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limb {
    /// Prime of the moduli chain, 0 at the bottom.
    Chain(usize),
    /// Special prime of key switching.
    Special(usize),
}

/// One prime with its transform.
struct LimbContext {
    prime: Prime,
    plan: NttPlan,
}

/// Ring degree, primes, transforms and kernels. Shared by everything under one set of parameters.
pub struct RingContext {
    log2_n: u32,
    kernels: Kernels,
    chain: Vec<LimbContext>,
    special: Vec<LimbContext>,
}

impl RingContext {
    /// Context of degree 2^`log2_n` with the given primes, on the fastest kernels of this machine.
    ///
    /// # Errors
    /// [`Error::Parameters`] for a degree outside 2^5 .. 2^17, repeated primes, or primes without an NTT.
    pub fn new(log2_n: u32, chain: &[u64], special: &[u64]) -> Result<Self> {
        Self::with_kernels(log2_n, chain, special, Kernels::detect())
    }

    /// Context on the kernels given, for tests that compare them.
    ///
    /// # Errors
    /// [`Error::Parameters`] for a degree outside 2^5 .. 2^17, repeated primes, or primes without an NTT.
    pub fn with_kernels(log2_n: u32, chain: &[u64], special: &[u64], kernels: Kernels) -> Result<Self> {
        if !(5..=17).contains(&log2_n) {
            return Err(Error::Parameters {
                what: format!("ring degree 2^{log2_n}"),
                remedy: "use 2^5 to 2^17".to_owned(),
            });
        }
        let mut all: Vec<u64> = chain.iter().chain(special).copied().collect();
        all.sort_unstable();
        if let Some(pair) = all.windows(2).find(|pair| pair.first() == pair.last()) {
            return Err(Error::Parameters {
                what: format!("prime {pair:?} is used twice"),
                remedy: "use distinct primes".to_owned(),
            });
        }
        let make = |values: &[u64]| -> Result<Vec<LimbContext>> {
            values
                .par_iter()
                .map(|value| {
                    let prime = Prime::new(*value)?;
                    let plan = NttPlan::new(&prime, 1 << log2_n, kernels)?;
                    Ok(LimbContext { prime, plan })
                })
                .collect()
        };
        Ok(Self { log2_n, kernels, chain: make(chain)?, special: make(special)? })
    }

    /// log2 of the ring degree N.
    #[must_use]
    pub fn log2_n(&self) -> u32 {
        self.log2_n
    }

    /// Ring degree N.
    #[must_use]
    pub fn degree(&self) -> usize {
        1 << self.log2_n
    }

    /// The kernels in use.
    #[must_use]
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Number of primes in the moduli chain.
    #[must_use]
    pub fn chain_limbs(&self) -> usize {
        self.chain.len()
    }

    /// Number of special primes.
    #[must_use]
    pub fn special_limbs(&self) -> usize {
        self.special.len()
    }

    /// The prime of a limb.
    ///
    /// # Errors
    /// [`Error::Internal`] for a limb that does not exist.
    pub fn prime(&self, limb: Limb) -> Result<&Prime> {
        self.limb(limb).map(|context| &context.prime)
    }

    /// The transform of a limb.
    ///
    /// # Errors
    /// [`Error::Internal`] for a limb that does not exist.
    pub fn plan(&self, limb: Limb) -> Result<&NttPlan> {
        self.limb(limb).map(|context| &context.plan)
    }

    fn limb(&self, limb: Limb) -> Result<&LimbContext> {
        match limb {
            Limb::Chain(index) => self.chain.get(index),
            Limb::Special(index) => self.special.get(index),
        }
        .ok_or_else(|| Error::Internal(format!("no limb {limb:?}")))
    }

    /// `words` words with unspecified contents for a short while, from the pool of buffers; they return there when
    /// dropped.
    #[must_use]
    pub fn workspace(&self, words: usize) -> Workspace {
        Workspace::new(words, self.degree())
    }
}

impl std::fmt::Debug for RingContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingContext")
            .field("log2_n", &self.log2_n)
            .field("kernels", &self.kernels.name())
            .field("chain_limbs", &self.chain.len())
            .field("special_limbs", &self.special.len())
            .finish_non_exhaustive()
    }
}
