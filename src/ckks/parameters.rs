//! Parameters: ring degree, moduli chain in levels, special primes, and the security they claim.
//!
//! A literal that a person writes ([`ParametersLiteral`]) becomes checked, immutable [`Parameters`]: primes are chosen,
//! canonical scales computed, and log2(QP) is held against the limit for the secret.

use std::sync::Arc;

use super::container::Fingerprint;
use super::fields::extend_u64;
use crate::contract::{Error, Level, LevelChain, Result, Scale};
use crate::ring::{Limb, RingContext, primes_near};

/// Consecutive levels with the same scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// Number of levels.
    pub levels: usize,
    /// log2 of the canonical scale at the top of the stretch; each modulus is near it.
    pub log2_scale: f64,
    /// Primes multiplied into the modulus of one level: 1, or 2 for scales above 2^50.
    pub primes_per_level: usize,
}

/// What the parameters claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// 128-bit classical security of every key under its own secret; checked.
    Classical128,
    /// None. For tests.
    InsecureForTests,
}

/// Parameters as a person writes them.
#[derive(Clone, Debug, PartialEq)]
pub struct ParametersLiteral {
    /// Name shown to users.
    pub name: &'static str,
    /// log2 of the ring degree N.
    pub log2_n: u32,
    /// log2 of each prime of level 0.
    pub base_bits: Vec<f64>,
    /// log2 of the canonical scale at level 0 and in the first stretch's top.
    pub stretches: Vec<Stretch>,
    /// Number of special primes; also the number of primes in a digit.
    pub special_primes: usize,
    /// log2 of each special prime.
    pub special_bits: f64,
    /// Security claimed.
    pub security: Security,
}

/// Most primes, special ones included: 64 of 50 bits are all that 128-bit security allows at N = 2^17. Parameters
/// that came from elsewhere must not make a ring of any number of primes.
const MAX_PRIMES: usize = 128;

impl ParametersLiteral {
    /// Number of primes, special ones included.
    fn primes(&self) -> usize {
        let levels =
            self.stretches.iter().map(|stretch| stretch.levels.saturating_mul(stretch.primes_per_level));
        levels.fold(self.base_bits.len().saturating_add(self.special_primes), usize::saturating_add)
    }

    /// That there is a base, a special prime, a stretch, primes in every level, and not too many in all.
    fn check(&self) -> Result<()> {
        let bad = |what: String, remedy: &str| Err(Error::Parameters { what, remedy: remedy.to_owned() });
        if self.stretches.is_empty() {
            return bad("no levels".to_owned(), "give at least one stretch");
        }
        if self.base_bits.is_empty() || self.special_primes == 0 {
            return bad("no base prime or no special prime".to_owned(), "give at least one of each");
        }
        if self.stretches.iter().any(|stretch| stretch.primes_per_level == 0) {
            return bad("a level without primes".to_owned(), "use one or two primes a level");
        }
        let primes = self.primes();
        if primes > MAX_PRIMES {
            return bad(format!("{primes} primes"), "use at most 128 primes, special ones included");
        }
        Ok(())
    }
}

/// Primes chosen one after the other, none twice.
struct PrimeChoice {
    log2_n: u32,
    taken: Vec<u64>,
}

impl PrimeChoice {
    /// The prime nearest to `target` that is still free.
    fn take(&mut self, target: f64) -> Result<u64> {
        let prime = primes_near(target, self.log2_n, 1, &self.taken)?;
        self.taken.extend(&prime);
        prime.first().copied().ok_or_else(|| Error::Internal("no prime".to_owned()))
    }

    /// Primes near 2^bits for each of `bits`.
    fn take_all(&mut self, bits: &[f64]) -> Result<Vec<u64>> {
        bits.iter().map(|bits| self.take(bits.exp2())).collect()
    }
}

/// The moduli chain in the making, from level 0 upwards.
struct Levels {
    primes: Vec<u64>,
    /// Number of primes at each level.
    limbs: Vec<usize>,
    /// What a rescale from each level above 0 divides by.
    moduli: Vec<f64>,
    /// Canonical scale of each level.
    scales: Vec<Scale>,
}

impl Levels {
    /// Level 0 alone; its scale comes with the first stretch.
    fn above(base: &[u64]) -> Self {
        Self { primes: base.to_vec(), limbs: vec![base.len()], moduli: Vec::new(), scales: Vec::new() }
    }

    /// Adds the levels of a stretch on top.
    fn add(&mut self, stretch: &Stretch, choice: &mut PrimeChoice) -> Result<()> {
        let top = stretch.log2_scale.exp2();
        let mut scale = top;
        // From the top of the stretch down, each modulus pulls the scale back to its nominal value.
        let mut levels: Vec<(Vec<u64>, f64)> = Vec::with_capacity(stretch.levels);
        let mut canonical = vec![Scale(top)];
        for _ in 0..stretch.levels {
            let target = scale * scale / top;
            let mut product = 1.0;
            let mut primes = Vec::with_capacity(stretch.primes_per_level);
            for remaining in (1..=stretch.primes_per_level).rev() {
                let prime = choice.take((target / product).powf(1.0 / remaining as f64))?;
                product *= prime as f64;
                primes.push(prime);
            }
            scale = scale * scale / product;
            canonical.push(Scale(scale));
            levels.push((primes, product));
        }
        // `canonical` runs from the top of the stretch to the level below it, which the first stretch owns as level 0
        // and every later one leaves to the stretch beneath.
        let owned = if self.scales.is_empty() { stretch.levels + 1 } else { stretch.levels };
        self.scales.extend(canonical.into_iter().take(owned).rev());
        for (primes, product) in levels.into_iter().rev() {
            self.primes.extend(&primes);
            self.limbs.push(self.primes.len());
            self.moduli.push(product);
        }
        Ok(())
    }
}

/// Checked parameters, shared by everything made under them.
///
/// ```
/// use cachemir::ckks::{Parameters, ParametersLiteral, Security, Stretch};
/// use cachemir::contract::Level;
///
/// let parameters = Parameters::new(ParametersLiteral {
///     name: "mine",
///     log2_n: 14,
///     base_bits: vec![49.9],
///     stretches: vec![Stretch { levels: 5, log2_scale: 40.0, primes_per_level: 1 }],
///     special_primes: 2,
///     special_bits: 49.9,
///     security: Security::Classical128, // refused if log2(QP) exceeds the limit for this ring
/// })?;
/// assert_eq!((parameters.slots(), parameters.chain().max_level()), (8192, Level(5)));
/// println!("log2(QP) = {:.0}", parameters.log2_qp_full()?);
/// # Ok::<(), cachemir::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Parameters {
    literal: ParametersLiteral,
    ring: Arc<RingContext>,
    chain: LevelChain,
    /// `limbs[ℓ]` = number of primes of the chain at level ℓ.
    limbs: Vec<usize>,
    fingerprint: Fingerprint,
}

impl Parameters {
    /// Chooses primes and builds the ring.
    ///
    /// # Errors
    /// [`Error::Parameters`] for literals without levels, with more than 128 primes, with sizes that have no primes,
    /// or with fewer bits in P than in the largest digit; [`Error::Insecure`] when the claim does not hold.
    pub fn new(literal: ParametersLiteral) -> Result<Self> {
        literal.check()?;
        let mut choice = PrimeChoice { log2_n: literal.log2_n, taken: Vec::new() };
        // Special primes first: they are the largest, and their number decides the digits.
        let special = choice.take_all(&vec![literal.special_bits; literal.special_primes])?;
        let base = choice.take_all(&literal.base_bits)?;
        let mut levels = Levels::above(&base);
        for stretch in &literal.stretches {
            levels.add(stretch, &mut choice)?;
        }
        let Levels { primes, limbs, moduli, scales } = levels;
        let base_modulus = base.iter().map(|p| *p as f64).product();
        let chain = LevelChain::with_scales(base_modulus, moduli, scales)?;
        let ring = Arc::new(RingContext::new(literal.log2_n, &primes, &special)?);
        // Everything that must agree between objects of one context.
        let mut words = vec![u64::from(literal.log2_n)];
        words.extend(primes.iter().chain([&0]).chain(&special));
        words.extend(limbs.iter().map(|count| *count as u64));
        for level in 0..limbs.len() {
            words.push(chain.canonical_scale(Level(level))?.0.to_bits());
        }
        let mut bytes = Vec::new();
        extend_u64(&mut bytes, &words);
        let parameters = Self { literal, ring, chain, limbs, fingerprint: Fingerprint::of(&bytes) };
        parameters.check_digits()?;
        parameters.check_security()?;
        Ok(parameters)
    }

    /// The literal.
    #[must_use]
    pub fn literal(&self) -> &ParametersLiteral {
        &self.literal
    }

    /// The ring.
    #[must_use]
    pub fn ring(&self) -> &Arc<RingContext> {
        &self.ring
    }

    /// Levels and canonical scales.
    #[must_use]
    pub fn chain(&self) -> &LevelChain {
        &self.chain
    }

    /// Number of slots S = N/2.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.ring.degree() / 2
    }

    /// Number of primes of the chain at `level`.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`].
    pub fn limbs(&self, level: Level) -> Result<usize> {
        self.limbs.get(level.0).copied().ok_or(Error::LevelOutOfRange {
            operation: "limbs",
            level,
            max: self.chain.max_level(),
        })
    }

    /// SHA-256 of everything that must agree between objects of one context.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// log2(QP) of a key over `chain_limbs` primes of the chain and `special_limbs` special ones.
    ///
    /// # Errors
    /// [`Error::Internal`] for limbs that do not exist.
    pub fn log2_qp(&self, chain_limbs: usize, special_limbs: usize) -> Result<f64> {
        let limbs = (0..chain_limbs).map(Limb::Chain).chain((0..special_limbs).map(Limb::Special));
        limbs.map(|limb| Ok((self.ring.prime(limb)?.value() as f64).log2())).sum()
    }

    /// log2(QP) of the largest keys: all primes.
    ///
    /// # Errors
    /// [`Error::Internal`] never in practice: the limbs exist.
    pub fn log2_qp_full(&self) -> Result<f64> {
        self.log2_qp(self.ring.chain_limbs(), self.ring.special_limbs())
    }

    /// Number of key-switching digits at `level`.
    ///
    /// # Errors
    /// [`Error::LevelOutOfRange`].
    pub fn digits(&self, level: Level) -> Result<usize> {
        Ok(self.limbs(level)?.div_ceil(self.literal.special_primes))
    }

    /// That P is not smaller than any digit, which would let the switching noise grow.
    fn check_digits(&self) -> Result<()> {
        let size = self.literal.special_primes;
        let special = self.log2_qp(0, size)?;
        for start in (0..self.ring.chain_limbs()).step_by(size) {
            let end = self.ring.chain_limbs().min(start + size);
            let digit = self.log2_qp(end, 0)? - self.log2_qp(start, 0)?;
            if digit > special + 0.5 {
                return Err(Error::Parameters {
                    what: format!("a digit of {digit:.1} bits against {special:.1} bits of special primes"),
                    remedy: "use larger special primes".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn check_security(&self) -> Result<()> {
        match self.literal.security {
            Security::InsecureForTests => Ok(()),
            Security::Classical128 => {
                let log2_n = self.literal.log2_n as usize;
                let log2_qp = self.log2_qp_full()?;
                super::security::check_security(
                    "evaluation",
                    log2_n,
                    log2_qp,
                    super::security::SecretKind::UniformTernary,
                )
                .map(|_margin| ())
            }
        }
    }
}
