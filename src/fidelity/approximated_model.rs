//! The approximated model in f64: every function replaced by the approximation of the calibration, evaluated in the clear.
//!
//! The twin of the encrypted decoder without slots or levels: the same polynomials and iterations, optional noise where
//! bootstraps stand. It is fast enough for thousands of positions, and it watches every interval.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::circuits::approximation::Interval;
use crate::circuits::inverse::RelaxedInverse;
use crate::contract::{Error, Result};

use crate::calibration::table::{
    CalibrationTable, ITERATIONS_BEFORE_REFRESH, InverseSite, LayerCalibration, NormSite, SoftmaxMethod,
    SoftmaxSite,
};
use crate::model::block_functions::{BlockFunctions, NormPlace, Refreshed};

/// Noise that every bootstrap adds, relative to the bound of the refreshed tensor.
#[derive(Clone, Copy, Debug)]
pub struct BootstrapNoise {
    /// The noise is normal with a standard deviation of 2^−`bits` times the bound.
    pub bits: f64,
    /// Seed of the noise.
    pub seed: u64,
}

/// How far the arguments of one site reached.
#[derive(Clone, Debug, Serialize)]
pub struct SiteHeadroom {
    /// Layer and name.
    pub site: String,
    /// Interval the site was built for.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// Smallest argument met.
    pub seen_low: f64,
    /// Largest argument met.
    pub seen_high: f64,
    /// Largest |unit variable| (of a denominator, its share of the upper bound): above 1 an argument was outside.
    pub headroom: f64,
    /// Arguments outside.
    pub outside: usize,
}

/// Runs the approximations of a table.
pub struct SimulatedFunctions<'a> {
    table: &'a CalibrationTable,
    inverses: Vec<LayerInverses>,
    noise: Option<(f64, ChaCha20Rng)>,
    sites: BTreeMap<Site, SiteHeadroom>,
    /// Per head and position of the batch: factor by which noise on the half-divided output still grows.
    remaining: BTreeMap<usize, Vec<f64>>,
}

enum LayerInverses {
    /// Iterations before and after the refresh of numerator and denominator.
    Deferred { before: RelaxedInverse, after: RelaxedInverse },
    /// Inverses of the first division and of those after a squaring.
    NormalizeAndSquare { first: RelaxedInverse, later: RelaxedInverse },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Site {
    Norm(NormPlace),
    Scores(usize, usize),
    Denominator(usize, usize),
    Silu(usize),
}

impl<'a> SimulatedFunctions<'a> {
    /// Functions of `table`, with noise at bootstraps when given.
    ///
    /// # Errors
    /// [`Error::Plan`] when the table's inverses cannot be built.
    pub fn new(table: &'a CalibrationTable, noise: Option<BootstrapNoise>) -> Result<Self> {
        let build = |site: InverseSite| RelaxedInverse::new(site.low, site.iterations);
        let split = |site: InverseSite| {
            let before = ITERATIONS_BEFORE_REFRESH.min(site.iterations.saturating_sub(1)).max(1);
            RelaxedInverse::split(site.low, before, site.iterations.saturating_sub(before).max(1))
        };
        let inverses = table
            .layers
            .iter()
            .map(|layer| match &layer.softmax.method {
                SoftmaxMethod::Deferred => {
                    let (before, after) = split(layer.softmax.inverse)?;
                    Ok(LayerInverses::Deferred { before, after })
                }
                SoftmaxMethod::NormalizeAndSquare(site) => Ok(LayerInverses::NormalizeAndSquare {
                    first: build(site.first)?,
                    later: build(site.later)?,
                }),
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            table,
            inverses,
            noise: noise.map(|noise| ((-noise.bits).exp2(), ChaCha20Rng::seed_from_u64(noise.seed))),
            sites: BTreeMap::new(),
            remaining: BTreeMap::new(),
        })
    }

    /// What every site met so far, in the order of the model.
    pub fn headroom(&self) -> impl Iterator<Item = &SiteHeadroom> {
        self.sites.values()
    }

    fn layer(&self, layer: usize) -> Result<&'a LayerCalibration> {
        self.table
            .layers
            .get(layer)
            .ok_or_else(|| Error::Internal(format!("no calibration of layer {layer}")))
    }

    fn watch(&mut self, site: Site, interval: Interval, arguments: impl Iterator<Item = f64>) {
        let entry = self.sites.entry(site).or_insert_with(|| SiteHeadroom {
            site: site.to_string(),
            low: interval.low,
            high: interval.high,
            seen_low: f64::INFINITY,
            seen_high: f64::NEG_INFINITY,
            headroom: 0.0,
            outside: 0,
        });
        for argument in arguments {
            entry.seen_low = entry.seen_low.min(argument);
            entry.seen_high = entry.seen_high.max(argument);
            // `contains` is false for NaN too.
            entry.outside += usize::from(!interval.contains(argument));
            // A denominator is bounded above alone: below its interval the quotient is too small, harmlessly.
            let reach = match site {
                Site::Denominator(..) => argument / interval.high,
                _ => interval.to_unit(argument).abs(),
            };
            entry.headroom = entry.headroom.max(reach);
        }
    }

    /// A normal deviate with a standard deviation of the noise level; zero without noise.
    fn deviate(&mut self) -> f64 {
        self.noise.as_mut().map_or(0.0, |(level, rng)| *level * normal(rng))
    }

    /// 1/D of one row of the deferred softmax, whose half-divided D is refreshed on the way; also says how much noise at
    /// the refresh still grows.
    fn divide(&mut self, before: &RelaxedInverse, after: &RelaxedInverse, denominator: f64) -> (f64, f64) {
        let half = before.value(denominator);
        // What is refreshed is −slope/2·x.
        let x = denominator.mul_add(half, self.deviate() * 2.0 / after.slope);
        let rest = after.value(x);
        (half * rest, rest)
    }
}

impl BlockFunctions for SimulatedFunctions<'_> {
    fn inverse_root(&mut self, place: NormPlace, mean_squares: &[f64], epsilon: f64) -> Result<Vec<f64>> {
        let site: &NormSite = match place {
            NormPlace::Input(layer) => &self.layer(layer)?.input_norm,
            NormPlace::PostAttention(layer) => &self.layer(layer)?.post_attention_norm,
            NormPlace::Final => &self.table.final_norm,
        };
        let interval = site.function.interval();
        self.watch(Site::Norm(place), interval, mean_squares.iter().map(|mean_square| mean_square + epsilon));
        let gain = 1.0 / interval.low.sqrt();
        Ok(mean_squares.iter().map(|mean_square| gain * site.function.value(mean_square + epsilon)).collect())
    }

    fn softmax(
        &mut self,
        layer: usize,
        head: usize,
        queries: ArrayView2<'_, f32>,
        scores: &mut Array2<f32>,
        first: usize,
    ) -> Result<()> {
        let site: &SoftmaxSite = &self.layer(layer)?.softmax;
        let (heads, exponential, squarings) = match &site.method {
            SoftmaxMethod::Deferred => (&site.heads, &site.exponential, 0),
            SoftmaxMethod::NormalizeAndSquare(site) => (&site.heads, &site.exponential, site.squarings),
        };
        let head_site =
            heads.get(head).ok_or_else(|| Error::Internal(format!("no calibration of head {head}")))?;
        let divisor = (squarings as f64).exp2();
        let interval = exponential.root.interval;
        let one = Interval { low: 0.0, high: 1.0 };
        let mut remaining = Vec::with_capacity(scores.nrows());
        for (row, (query, mut scores)) in queries.rows().into_iter().zip(scores.rows_mut()).enumerate() {
            let visible = (first + row + 1).min(scores.len());
            let shift = head_site.shift(query.iter().copied());
            let half_width = (interval.high - interval.low) / 2.0;
            let shifted: Vec<f64> = scores
                .iter()
                .take(visible)
                .map(|score| f64::from(*score) / divisor - shift + half_width * self.deviate())
                .collect();
            self.watch(Site::Scores(layer, head), interval, shifted.iter().copied());
            let mut weights: Vec<f64> = shifted.iter().map(|x| exponential.value(*x)).collect();
            let sum: f64 = weights.iter().sum();
            self.watch(Site::Denominator(layer, head), one, std::iter::once(sum));
            let inverses = self
                .inverses
                .get(layer)
                .ok_or_else(|| Error::Internal(format!("no inverse of layer {layer}")))?;
            match inverses {
                LayerInverses::NormalizeAndSquare { first, later } => {
                    let (quotient, later) = (first.value(sum), later.clone());
                    for weight in &mut weights {
                        // The shares are refreshed after the first division; they lie within 1.
                        *weight = *weight * quotient + self.deviate();
                    }
                    for _ in 0..squarings {
                        weights.iter_mut().for_each(|weight| *weight *= *weight);
                        let quotient = later.value(weights.iter().sum());
                        weights.iter_mut().for_each(|weight| *weight *= quotient);
                    }
                    remaining.push(1.0);
                }
                LayerInverses::Deferred { before, after } => {
                    let (before, after) = (before.clone(), after.clone());
                    let (quotient, rest) = self.divide(&before, &after, sum);
                    weights.iter_mut().for_each(|weight| *weight *= quotient);
                    remaining.push(rest);
                }
            }
            for (column, score) in scores.iter_mut().enumerate() {
                *score = weights.get(column).map_or(0.0, |weight| *weight as f32);
            }
        }
        self.remaining.insert(head, remaining);
        Ok(())
    }

    fn silu(&mut self, layer: usize, gate: &mut Array2<f32>) -> Result<()> {
        let site = &self.layer(layer)?.silu;
        self.watch(Site::Silu(layer), site.function.interval, gate.iter().map(|value| f64::from(*value)));
        gate.as_slice_mut()
            .ok_or_else(|| Error::Internal("gates are not contiguous".to_owned()))?
            .par_iter_mut()
            .for_each(|value| *value = (site.normaliser * site.function.value(f64::from(*value))) as f32);
        Ok(())
    }

    fn refresh(&mut self, layer: usize, tensor: Refreshed, values: &mut Array2<f32>) -> Result<()> {
        if self.noise.is_none() {
            return Ok(());
        }
        let magnitudes = &self.layer(layer)?.magnitudes;
        match tensor {
            Refreshed::MiddleResidual | Refreshed::Residual => {
                // The stream is held divided by its scale, within ±1.
                let scale = &self.table.residual_scale;
                for mut row in values.rows_mut() {
                    for (value, scale) in row.iter_mut().zip(scale) {
                        *value += (scale * self.deviate()) as f32;
                    }
                }
            }
            Refreshed::AttentionOutput => {
                let bound = magnitudes.attention_output;
                let heads = self.remaining.len().max(1);
                let width = values.ncols() / heads;
                for head in 0..heads {
                    let remaining = self.remaining.get(&head).cloned().unwrap_or_default();
                    for (mut row, remaining) in values.rows_mut().into_iter().zip(remaining) {
                        for value in row.iter_mut().skip(head * width).take(width) {
                            *value += (bound * remaining * self.deviate()) as f32;
                        }
                    }
                }
            }
            Refreshed::Up | Refreshed::Gate => {
                let bound = if tensor == Refreshed::Up { magnitudes.up } else { magnitudes.gate };
                for value in values.iter_mut() {
                    *value += (bound * self.deviate()) as f32;
                }
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Norm(NormPlace::Input(layer)) => write!(formatter, "layer {layer} norm 1"),
            Self::Norm(NormPlace::PostAttention(layer)) => write!(formatter, "layer {layer} norm 2"),
            Self::Norm(NormPlace::Final) => write!(formatter, "final norm"),
            Self::Scores(layer, head) => write!(formatter, "layer {layer} head {head} scores"),
            Self::Denominator(layer, head) => write!(formatter, "layer {layer} head {head} denominator"),
            Self::Silu(layer) => write!(formatter, "layer {layer} SiLU"),
        }
    }
}

/// Standard normal deviate by the polar method of Marsaglia.
fn normal(rng: &mut ChaCha20Rng) -> f64 {
    use rand::Rng;
    loop {
        let (x, y) = (rng.random_range(-1.0..1.0f64), rng.random_range(-1.0..1.0f64));
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            return x * (-2.0 * square.ln() / square).sqrt();
        }
    }
}
