//! CoeffsToSlots and SlotsToCoeffs: the encoder's DFT on encrypted slots, factored into few levels.
//!
//! n slots belong to n complex coefficients w_k = m_k + i·m_{k+n}: slot j is Σ_k w_k·ζ^{k·5^j}, ζ = exp(iπ/2n), that is
//! z = U·w with U = S_n ⋯ S_4·S_2·R, where S_{2h} is a layer of butterflies between slots h apart and R the bit
//! reversal (the special FFT of Cheon et al. 2018, §3). A layer is a matrix of three diagonals; several layers merge
//! into one level.
//! * SlotsToCoeffs applies S_n ⋯ S_2 = U·R: afterwards the coefficients hold the slot values in bit-reversed order.
//! * CoeffsToSlots applies its inverse R·U⁻¹: slots hold the coefficients, the order put right again.
//!
//! Between the two only functions of single coefficients may stand. With fewer than S slots the data has period n in
//! the slots and its polynomial is one in X^{S/n}; the same matrices apply. Chen–Chillotti–Song 2019, §4.

use std::collections::BTreeMap;

use crate::contract::{
    CiphertextInfo, Complex64, Diagonal, Error, Evaluator, GiantStep, KeyRequest, Level, LinearTransform,
    Result, Scale, normalize_step,
};

/// Weight of a hoisted baby step relative to a giant step, in time (an inner product with a key against a whole key
/// switch) and in memory (a key each).
const BABY_COST: f64 = 0.6;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DftDirection {
    /// Slots to coefficients, S_n ⋯ S_2.
    SlotsToCoeffs,
    /// Coefficients to slots, S_2⁻¹ ⋯ S_n⁻¹.
    CoeffsToSlots,
}

/// One level of a factored DFT: a matrix with few diagonals, at multiples of `stride`.
#[derive(Clone, Debug)]
struct Factor {
    /// y\[s\] = Σ_k diagonal_k\[s\]·x\[s + k·stride\], k from −(r−1) to r−1 (or 0 to r−1 where they wrap).
    diagonals: BTreeMap<i64, Vec<Complex64>>,
    stride: i64,
    /// Baby steps 0 .. babies.
    babies: i64,
}

/// A factored homomorphic DFT on n slots. In the clear; diagonals are encoded as they are used.
#[derive(Clone, Debug)]
pub struct HomomorphicDft {
    factors: Vec<Factor>,
    slots: usize,
}

impl HomomorphicDft {
    /// DFT on `slots` slots whose level i merges `layers[i]` butterfly layers, in order of use; the whole matrix is
    /// multiplied by `factor`, spread evenly over the levels.
    ///
    /// # Errors
    /// [`Error::Shape`] when `slots` is not a power of two ≥ 2, or `layers` does not sum to its logarithm.
    pub fn new(direction: DftDirection, slots: usize, layers: &[usize], factor: f64) -> Result<Self> {
        let log2_slots = slots.max(1).trailing_zeros() as usize;
        if !slots.is_power_of_two()
            || slots < 2
            || layers.iter().sum::<usize>() != log2_slots
            || layers.contains(&0)
        {
            return Err(Error::Shape {
                operation: "homomorphic DFT",
                what: format!("{slots} slots with merged layers {layers:?}"),
                remedy: "use a power of two of slots and positive layer counts that sum to its logarithm"
                    .to_owned(),
            });
        }
        if !(factor.is_finite() && factor > 0.0) {
            return Err(Error::BadValue {
                operation: "homomorphic DFT",
                index: 0,
                value: factor.to_string(),
                bound: f64::MAX,
            });
        }
        let share = factor.powf(1.0 / layers.len() as f64);
        let mut done = 0;
        let factors = layers
            .iter()
            .map(|merged| {
                let range = done..done + merged;
                done += merged;
                Factor::merge(direction, slots, range, share)
            })
            .collect();
        Ok(Self { factors, slots })
    }

    /// `log2_slots` layers over `levels` levels, the larger counts first; fewer levels when there are fewer layers.
    #[must_use]
    pub fn spread_layers(log2_slots: usize, levels: usize) -> Vec<usize> {
        let levels = levels.clamp(1, log2_slots.max(1));
        (0..levels).map(|i| log2_slots / levels + usize::from(i < log2_slots % levels)).collect()
    }

    /// Levels it consumes.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.factors.len()
    }

    /// Diagonals in all: plaintext products.
    #[must_use]
    pub fn diagonals(&self) -> usize {
        self.factors.iter().map(|factor| factor.diagonals.len()).sum()
    }

    /// Adds the rotations it needs, used from `level` down, to `request`.
    pub fn request_keys(&self, request: &mut KeyRequest, total_slots: usize, level: Level) {
        for (depth, factor) in self.factors.iter().enumerate() {
            let level = Level(level.0.saturating_sub(depth));
            for index in factor.diagonals.keys() {
                let (giant, baby) = factor.split(*index);
                for step in [giant, baby] {
                    request.rotation(normalize_step(step * factor.stride, total_slots), level);
                }
            }
        }
    }

    /// The transform of `x` (period n in the slots), one level for each factor, at exactly `scale`.
    ///
    /// Any level and scale; the quotient of the two scales is spread evenly over the levels, so that no level's
    /// diagonals lose more bits than another's. Cost: per level one decomposition, the baby steps hoisted, the giant
    /// steps.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`], [`Error::RotationKey`], errors of the encoder.
    pub fn apply<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &E::Ciphertext,
        scale: Scale,
    ) -> Result<E::Ciphertext> {
        evaluator.rescale(&self.apply_unrescaled(evaluator, x, scale)?)
    }

    /// The transform without its last rescale: one level above, such that a rescale gives exactly `scale`.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`] with too few levels, [`Error::RotationKey`] for a missing key; errors of the encoder.
    pub fn apply_unrescaled<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &E::Ciphertext,
        scale: Scale,
    ) -> Result<E::Ciphertext> {
        x.level().minus(self.levels(), "homomorphic DFT")?;
        let mut x = x.clone();
        for (index, factor) in self.factors.iter().enumerate() {
            if index > 0 {
                x = evaluator.rescale(&x)?;
            }
            let next = self.next_scale(index, x.scale(), scale).0;
            let modulus = evaluator.chain().rescale_modulus(x.level())?;
            let transform = factor.transform::<E::Plaintext>(self.slots, evaluator.slots());
            x = evaluator.linear_transform(&x, &transform, Scale(next * modulus / x.scale().0))?;
        }
        Ok(x)
    }
}

/// A factored DFT whose diagonals are encoded, for one input level and scale: applied many times, encoded once.
pub struct EncodedDft<P> {
    factors: Vec<EncodedFactor<P>>,
    level: Level,
    scale: Scale,
}

struct EncodedFactor<P> {
    /// (giant step, (baby step, diagonal)).
    giants: Vec<(i64, Vec<(i64, P)>)>,
    scale: Scale,
}

impl HomomorphicDft {
    /// The transform encoded for inputs at `level` and `scale` with results at `result`. One encoding a diagonal, of as
    /// many limbs as its level has.
    ///
    /// # Errors
    /// [`Error::LevelExhausted`], errors of the encoder.
    pub fn encode<E: Evaluator>(
        &self,
        evaluator: &E,
        level: Level,
        scale: Scale,
        result: Scale,
    ) -> Result<EncodedDft<E::Plaintext>> {
        level.minus(self.levels(), "homomorphic DFT")?;
        let mut factors = Vec::with_capacity(self.factors.len());
        let mut current = scale;
        for (index, factor) in self.factors.iter().enumerate() {
            let at = level.minus(index, "homomorphic DFT")?;
            let next = self.next_scale(index, current, result);
            let diagonal_scale = Scale(next.0 * evaluator.chain().rescale_modulus(at)? / current.0);
            let encode = |diagonal: Diagonal<'_, E::Plaintext>| match diagonal {
                Diagonal::Encoded(plaintext) => Ok(plaintext.clone()),
                Diagonal::Lazy(values) => evaluator.encode(&values(), at, diagonal_scale),
            };
            let giants = factor
                .transform::<E::Plaintext>(self.slots, evaluator.slots())
                .giants
                .into_iter()
                .map(|giant| {
                    let babies = giant
                        .babies
                        .into_iter()
                        .map(|(step, diagonal)| Ok((step, encode(diagonal)?)))
                        .collect::<Result<Vec<_>>>()?;
                    Ok((giant.step, babies))
                })
                .collect::<Result<Vec<_>>>()?;
            factors.push(EncodedFactor { giants, scale: diagonal_scale });
            current = next;
        }
        Ok(EncodedDft { factors, level, scale })
    }

    /// Scale after level `index`: the quotient of what is left, spread evenly over the levels that are left.
    fn next_scale(&self, index: usize, current: Scale, result: Scale) -> Scale {
        let left = self.factors.len().saturating_sub(index);
        if left <= 1 { result } else { Scale(current.0 * (result.0 / current.0).powf(1.0 / left as f64)) }
    }
}

impl<P> EncodedDft<P> {
    /// All plaintexts it keeps.
    pub fn plaintexts(&self) -> impl Iterator<Item = &P> {
        let giants = self.factors.iter().flat_map(|factor| &factor.giants);
        giants.flat_map(|(_, babies)| babies.iter().map(|(_, plaintext)| plaintext))
    }

    /// [`HomomorphicDft::apply_unrescaled`] of an input at the level and scale it was encoded for.
    ///
    /// # Errors
    /// [`Error::LevelMismatch`], [`Error::ScaleMismatch`], [`Error::RotationKey`].
    pub fn apply_unrescaled<E: Evaluator<Plaintext = P>>(
        &self,
        evaluator: &E,
        x: &E::Ciphertext,
    ) -> Result<E::Ciphertext> {
        let operation = "encoded homomorphic DFT";
        if x.level() != self.level {
            return Err(Error::LevelMismatch { operation, left: x.level(), right: self.level });
        }
        if !x.scale().agrees_with(self.scale) {
            return Err(Error::ScaleMismatch { operation, left: x.scale(), right: self.scale });
        }
        let mut x = x.clone();
        for (index, factor) in self.factors.iter().enumerate() {
            if index > 0 {
                x = evaluator.rescale(&x)?;
            }
            let giants = factor
                .giants
                .iter()
                .map(|(step, babies)| GiantStep {
                    step: *step,
                    babies: babies.iter().map(|(baby, p)| (*baby, Diagonal::Encoded(p))).collect(),
                })
                .collect();
            x = evaluator.linear_transform(&x, &LinearTransform { giants }, factor.scale)?;
        }
        Ok(x)
    }
}

impl Factor {
    /// Layers `range` in order of use, merged, times `share`.
    fn merge(direction: DftDirection, slots: usize, range: std::ops::Range<usize>, share: f64) -> Self {
        let log2_slots = slots.trailing_zeros() as usize;
        // Half-widths h of the layers: 1, 2, … n/2 towards the coefficients, n/2 … 1 back.
        let half = |position: usize| match direction {
            DftDirection::SlotsToCoeffs => 1usize << position,
            DftDirection::CoeffsToSlots => slots >> (position + 1),
        };
        let count = range.len() as u32;
        let smallest = half(match direction {
            DftDirection::SlotsToCoeffs => range.start,
            DftDirection::CoeffsToSlots => range.end - 1,
        });
        let mut matrix = BTreeMap::from([(0i64, vec![Complex64::new(share, 0.0); slots])]);
        for position in range {
            matrix = compose(&layer(direction, slots, half(position)), &matrix, slots);
        }
        // Offsets as signed multiples of the smallest half-width. When the largest layer spans all slots, offsets wrap
        // and only r of the 2r − 1 differ.
        let stride = smallest as i64;
        let span = (slots / smallest) as i64;
        let wraps = (smallest << count) >= slots || count as usize == log2_slots;
        let diagonals: BTreeMap<i64, Vec<Complex64>> = matrix
            .into_iter()
            .map(|(offset, diagonal)| {
                let index = offset / stride;
                (if !wraps && index > span / 2 { index - span } else { index }, diagonal)
            })
            .collect();
        let babies = best_babies(diagonals.keys().copied());
        Self { diagonals, stride, babies }
    }

    /// A diagonal's index as giant step + baby step.
    fn split(&self, index: i64) -> (i64, i64) {
        let baby = index.rem_euclid(self.babies);
        (index - baby, baby)
    }

    /// The factor as baby and giant steps; diagonals repeat with period n and are rotated right by their giant step.
    fn transform<P>(&self, slots: usize, total_slots: usize) -> LinearTransform<'_, P> {
        let mut giants: BTreeMap<i64, Vec<(i64, Diagonal<'_, P>)>> = BTreeMap::new();
        for (index, diagonal) in &self.diagonals {
            let (giant, baby) = self.split(*index);
            let back = normalize_step(-giant * self.stride, slots);
            let values = move || -> Vec<Complex64> {
                diagonal.iter().cycle().skip(back).take(total_slots).copied().collect()
            };
            giants.entry(giant).or_default().push((baby * self.stride, Diagonal::Lazy(Box::new(values))));
        }
        LinearTransform {
            giants: giants
                .into_iter()
                .map(|(giant, babies)| GiantStep { step: giant * self.stride, babies })
                .collect(),
        }
    }
}

/// One butterfly layer between slots `half` apart, as diagonals by offset modulo n.
/// Forward: (a, b) ↦ (a + ω·b, a − ω·b); inverse: (a, b) ↦ ((a + b)/2, ω̄·(a − b)/2); ω = exp(iπ·5^j/(4·half)).
fn layer(direction: DftDirection, slots: usize, half: usize) -> BTreeMap<i64, Vec<Complex64>> {
    // ω_j for j < half, from 5^j modulo 8·half: ζ of order 4n to the power 5^j·n/(2·half).
    let order = 8 * half;
    let mut power = 1usize;
    let twiddles: Vec<Complex64> = (0..half)
        .map(|_| {
            let angle = std::f64::consts::TAU * power as f64 / order as f64;
            power = power * 5 % order;
            Complex64::from_polar(1.0, angle)
        })
        .collect();
    let mut same = Vec::with_capacity(slots);
    let mut ahead = Vec::with_capacity(slots);
    let mut behind = Vec::with_capacity(slots);
    for _block in 0..slots / (2 * half) {
        for (own, other) in [(true, false), (false, true)] {
            for twiddle in &twiddles {
                let (diagonal, neighbour) = match (direction, own) {
                    (DftDirection::SlotsToCoeffs, true) => (Complex64::ONE, *twiddle),
                    (DftDirection::SlotsToCoeffs, false) => (-*twiddle, Complex64::ONE),
                    (DftDirection::CoeffsToSlots, true) => {
                        (Complex64::new(0.5, 0.0), Complex64::new(0.5, 0.0))
                    }
                    (DftDirection::CoeffsToSlots, false) => (twiddle.conj() * -0.5, twiddle.conj() * 0.5),
                };
                same.push(diagonal);
                ahead.push(if other { Complex64::ZERO } else { neighbour });
                behind.push(if other { neighbour } else { Complex64::ZERO });
            }
        }
    }
    let mut diagonals = BTreeMap::from([(0, same), (half as i64, ahead)]);
    // With one block both neighbours are n/2 away: one diagonal.
    merge_diagonal(&mut diagonals, (slots - half) as i64, behind);
    diagonals
}

/// left ∘ right: y = left·(right·x), offsets modulo n.
fn compose(
    left: &BTreeMap<i64, Vec<Complex64>>,
    right: &BTreeMap<i64, Vec<Complex64>>,
    slots: usize,
) -> BTreeMap<i64, Vec<Complex64>> {
    let mut product = BTreeMap::new();
    for (offset_left, diagonal_left) in left {
        for (offset_right, diagonal_right) in right {
            let shifted = diagonal_right.iter().cycle().skip(normalize_step(*offset_left, slots));
            let values: Vec<Complex64> = diagonal_left.iter().zip(shifted).map(|(a, b)| a * b).collect();
            let offset = (offset_left + offset_right).rem_euclid(slots as i64);
            merge_diagonal(&mut product, offset, values);
        }
    }
    // Offsets that cancelled to nothing would cost a product each.
    product.retain(|_, diagonal: &mut Vec<Complex64>| diagonal.iter().any(|z| z.norm_sqr() > 0.0));
    product
}

fn merge_diagonal(diagonals: &mut BTreeMap<i64, Vec<Complex64>>, offset: i64, values: Vec<Complex64>) {
    match diagonals.entry(offset) {
        std::collections::btree_map::Entry::Vacant(entry) => {
            entry.insert(values);
        }
        std::collections::btree_map::Entry::Occupied(mut entry) => {
            for (sum, value) in entry.get_mut().iter_mut().zip(values) {
                *sum += value;
            }
        }
    }
}

/// The power of two of baby steps with the least cost.
fn best_babies(indices: impl Iterator<Item = i64> + Clone) -> i64 {
    let cost = |babies: i64| {
        let mut giants: Vec<i64> = indices.clone().map(|index| index.div_euclid(babies)).collect();
        giants.sort_unstable();
        giants.dedup();
        let nonzero = giants.iter().filter(|giant| **giant != 0).count();
        BABY_COST * (babies - 1) as f64 + nonzero as f64
    };
    (0..8).map(|log2| 1i64 << log2).min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::clear::{ClearClient, ClearParameters};
    use crate::contract::{Client, CountingEvaluator};
    use proptest::prelude::*;

    fn bit_reversed(values: &[Complex64]) -> Vec<Complex64> {
        let bits = values.len().trailing_zeros();
        (0..values.len()).map(|i| values[i.reverse_bits() >> (usize::BITS - bits)]).collect()
    }

    /// z_j = Σ_k w_k·ζ^{k·5^j}.
    fn dense_dft(coefficients: &[Complex64]) -> Vec<Complex64> {
        let n = coefficients.len();
        let mut power = 1usize;
        (0..n)
            .map(|_| {
                let z = coefficients
                    .iter()
                    .enumerate()
                    .map(|(k, w)| {
                        w * Complex64::from_polar(
                            1.0,
                            std::f64::consts::TAU * ((k * power) % (4 * n)) as f64 / (4 * n) as f64,
                        )
                    })
                    .sum();
                power = power * 5 % (4 * n);
                z
            })
            .collect()
    }

    fn values(n: usize, seed: u64) -> Vec<Complex64> {
        (0..n as u64)
            .map(|i| {
                let x = (i + 1).wrapping_mul(seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15));
                Complex64::new(
                    (x >> 40) as f64 / 2f64.powi(23) - 1.0,
                    (x >> 16 & 0xFF_FFFF) as f64 / 2f64.powi(23) - 1.0,
                )
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn both_directions_equal_the_dense_dft(
            log2_slots in 1usize..8, spare in 0usize..3, levels in 1usize..5, seed in any::<u64>(), off in 0.01..100.0f64,
        ) {
            let n = 1 << log2_slots;
            let total = n << spare;
            let layers = HomomorphicDft::spread_layers(log2_slots, levels);
            let client = ClearClient::new(ClearParameters::new(total, layers.len(), 40).unwrap());
            let evaluator = client.dry_run();
            let data = values(n, seed);
            let repeated = |data: &[Complex64]| -> Vec<Complex64> { data.iter().cycle().take(total).copied().collect() };
            let scale = Scale(2f64.powi(40) * off);
            for (direction, input, expected) in [
                (DftDirection::SlotsToCoeffs, data.clone(), dense_dft(&bit_reversed(&data))),
                (DftDirection::CoeffsToSlots, dense_dft(&bit_reversed(&data)), data.clone()),
            ] {
                let dft = HomomorphicDft::new(direction, n, &layers, 0.75).unwrap();
                let x = client.encrypt(&repeated(&input), Level(layers.len())).unwrap();
                let y = dft.apply(&evaluator, &x, scale).unwrap();
                prop_assert_eq!(y.level(), Level(0));
                prop_assert!(y.scale().agrees_with(scale), "{} wanted {scale}", y.scale());
                for (value, wanted) in client.decrypt(&y).unwrap().iter().zip(repeated(&expected)) {
                    prop_assert!((value - wanted * 0.75).norm() < 1e-9, "{direction:?}: {value} wanted {wanted}");
                }
            }
        }
    }

    #[test]
    fn the_keys_requested_are_the_keys_used() {
        let client = ClearClient::new(ClearParameters::new(1024, 3, 40).unwrap());
        let evaluator = client.dry_run();
        let dft = HomomorphicDft::new(DftDirection::CoeffsToSlots, 512, &[3, 3, 3], 1.0).unwrap();
        let x = client.encrypt(&values(1024, 3), Level(3)).unwrap();
        dft.apply(&evaluator, &x, Scale(2f64.powi(40))).unwrap();
        let mut request = KeyRequest::new();
        dft.request_keys(&mut request, 1024, Level(3));
        assert_eq!(request, evaluator.recorded());
    }

    #[test]
    fn four_levels_of_2_to_the_15_slots_take_few_key_switches() {
        let client = ClearClient::new(ClearParameters::new(1 << 15, 4, 40).unwrap());
        let counting = CountingEvaluator::new(client.dry_run());
        let dft = HomomorphicDft::new(DftDirection::CoeffsToSlots, 1 << 15, &[4, 4, 4, 3], 1.0).unwrap();
        let x = client.encrypt(&[Complex64::ONE], Level(4)).unwrap();
        dft.apply(&counting, &x, Scale(2f64.powi(40))).unwrap();
        let total = counting.counts().total();
        assert!(total.rotations <= 12 && total.rotations_hoisted <= 28, "{total:?}");
        assert_eq!(total.plaintext_products, dft.diagonals());
    }

    #[test]
    fn layers_that_do_not_fit_are_refused() {
        for (slots, layers) in [(12, vec![2, 1]), (16, vec![2, 1]), (16, vec![4, 0]), (1, vec![])] {
            assert!(HomomorphicDft::new(DftDirection::CoeffsToSlots, slots, &layers, 1.0).is_err());
        }
        assert!(HomomorphicDft::new(DftDirection::CoeffsToSlots, 16, &[4], 0.0).is_err());
    }
}
