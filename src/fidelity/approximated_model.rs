//! The f64 twin of the encrypted decoder: the exact model's pass with the decoder's own functions in it, in the clear.
//!
//! It evaluates the objects of a [`DecoderPlan`] (norms, exp, 1/D cut in two, SiLU), without slots, levels or
//! packings, and adds noise where the plan's schedule bootstraps, at the scale at which the decoder holds each value.
//! It runs thousands of positions in the time in which the decoder on `clear` runs a few, and it watches every
//! interval. What it leaves out is small, and a test bounds it: matrices in f64 instead of f32, the weights e^(lowest
//! score) of slots without a token. Left out, too, is noise that reaches values from elsewhere: of rescales and key
//! switches, and of slots without a value where the decoder does not mask what it bootstrapped (what leaves a norm,
//! when tokens go through one at a time).

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use crate::circuits::approximation::Interval;
use crate::contract::{Error, Result};

use crate::calibration::ranges::score_shift;
use crate::decoder::attention_functions::AttentionFunctions;
use crate::decoder::functions::LayerFunctions;
use crate::decoder::plan::DecoderPlan;
use crate::decoder::products::norm_factors;
use crate::decoder::schedule::Refresh;
use crate::decoder::step::Step;
use crate::fidelity::bootstrap_noise::{BootstrapNoise, NoiseSource};
use crate::fidelity::headroom::{Headroom, Site};
use crate::model::block_functions::{BlockFunctions, NormPlace, Tensor};
use crate::model::reference::ReferenceModel;

/// The functions of a plan, as the forward pass of the exact model takes them.
pub struct ApproximatedFunctions<'a> {
    model: &'a ReferenceModel,
    plan: &'a DecoderPlan,
    noise: Option<NoiseSource>,
    /// What every site met.
    pub(crate) headroom: Headroom,
    /// Per head, one a position of the batch: the denominator half way through its division, where it is bootstrapped.
    half_divided: BTreeMap<usize, Vec<f64>>,
}

impl<'a> ApproximatedFunctions<'a> {
    /// Functions of `plan`, made for `model`, with noise at its bootstraps when given.
    #[must_use]
    pub fn new(model: &'a ReferenceModel, plan: &'a DecoderPlan, noise: Option<BootstrapNoise>) -> Self {
        Self {
            model,
            plan,
            noise: noise.map(NoiseSource::new),
            headroom: Headroom::default(),
            half_divided: BTreeMap::new(),
        }
    }

    fn layer(&self, layer: usize) -> Result<&'a LayerFunctions> {
        let missing = || Error::Internal(format!("layer {layer} of a plan of {}", self.plan.layers.len()));
        self.plan.layers.get(layer).ok_or_else(missing)
    }

    /// Standard deviation of the noise that a bootstrap adds to each part of a slot; zero where there is none.
    fn deviation(&self, refresh: Option<Refresh>) -> f64 {
        match (&self.noise, refresh) {
            (Some(noise), Some(refresh)) => noise.deviation(refresh),
            _ => 0.0,
        }
    }

    /// A normal deviate times `deviation`.
    fn draw(&mut self, deviation: f64) -> f64 {
        match &mut self.noise {
            Some(noise) if deviation > 0.0 => deviation * noise.normal(),
            _ => 0.0,
        }
    }

    /// The bootstrap `refresh` of `values` held divided by `scales`, one a column.
    fn bootstrap(
        &mut self,
        site: Option<Site>,
        scales: &[f64],
        refresh: Option<Refresh>,
        values: &mut Array2<f32>,
    ) {
        let Some(refresh) = refresh else { return };
        if let Some(site) = site {
            let shares = values.rows().into_iter();
            let shares = shares
                .flat_map(|row| row.into_iter().zip(scales).map(|(value, scale)| f64::from(*value) / scale));
            self.headroom.watch_shares(site, shares);
        }
        let deviation = self.deviation(Some(refresh));
        if deviation > 0.0 {
            for mut row in values.rows_mut() {
                for (value, scale) in row.iter_mut().zip(scales) {
                    *value += (scale * self.draw(deviation)) as f32;
                }
            }
        }
    }

    /// What the features that leave the norm before attention are held divided by: γ, and their bounds in the stream.
    fn normed_scales(&self, index: usize, layer: &LayerFunctions) -> Result<Vec<f64>> {
        let layers = self.model.layers();
        let missing = || Error::Internal(format!("layer {index} of a model of {}", layers.len()));
        let gamma = &layers.get(index).ok_or_else(missing)?.input_norm;
        let factors = norm_factors(&layer.input_norm, &self.plan.entering(index, gamma.len()));
        Ok(factors.iter().zip(gamma).map(|(factor, gamma)| factor * f64::from(*gamma)).collect())
    }

    /// The second half of the divisions: numerators and denominators are bootstrapped as one complex vector, in which
    /// every value of a head has a denominator of its own, and multiplied by what is left of 1/D.
    fn divide_last(
        &mut self,
        index: usize,
        layer: &LayerFunctions,
        numerators: &mut Array2<f32>,
    ) -> Result<()> {
        let AttentionFunctions { softmax, largest_denominator, value_factors, .. } = &layer.attention;
        let deviation = self.deviation(layer.schedule.refresh(Step::DivideLast));
        let width = numerators.ncols() / value_factors.len().max(1);
        let half_divided = std::mem::take(&mut self.half_divided);
        for (head, factor) in value_factors.iter().enumerate() {
            let missing = || Error::Internal(format!("head {head} has an output and no softmax"));
            let denominators = half_divided.get(&head).ok_or_else(missing)?;
            // The imaginary part holds the numerator, divided by this.
            let scale = softmax.first_gain() / (largest_denominator * factor);
            let site = Site::Numerator(index, head);
            for (mut row, denominator) in numerators.rows_mut().into_iter().zip(denominators) {
                let own = || row.iter().skip(head * width).take(width);
                self.headroom.watch_shares(site, own().map(|value| f64::from(*value) / scale));
                for value in row.iter_mut().skip(head * width).take(width) {
                    // The real part holds half of f = offset + slope·D.
                    let noise = 2.0 * self.draw(deviation) / softmax.after.slope;
                    let rest = softmax.after.value(denominator + noise);
                    *value = ((f64::from(*value) + scale * self.draw(deviation)) * rest) as f32;
                }
            }
        }
        Ok(())
    }

    /// The softmax's weights of one query, divided half way, and the denominator there; its shifted scores given.
    fn half_divided_weights(
        &mut self,
        index: usize,
        head: usize,
        functions: &AttentionFunctions,
        scores: &[f64],
    ) -> (Vec<f64>, f64) {
        let AttentionFunctions { softmax, largest_denominator, .. } = functions;
        let interval = softmax.exponential.root.interval;
        self.headroom.watch(Site::Scores(index, head), interval, scores.iter().copied());
        let mut weights: Vec<f64> = scores.iter().map(|x| softmax.exponential.value(*x)).collect();
        let denominator = weights.iter().sum::<f64>() / largest_denominator;
        let whole = Interval { low: 0.0, high: 1.0 };
        self.headroom.watch(Site::Denominator(index, head), whole, std::iter::once(denominator));
        let before = softmax.before.value(denominator);
        weights.iter_mut().for_each(|weight| *weight *= before / largest_denominator);
        (weights, denominator * before)
    }
}

impl BlockFunctions for ApproximatedFunctions<'_> {
    fn inverse_root(&mut self, place: NormPlace, mean_squares: &[f64], epsilon: f64) -> Result<Vec<f64>> {
        let norm = match place {
            NormPlace::Input(layer) => &self.layer(layer)?.input_norm,
            NormPlace::PostAttention(layer) => &self.layer(layer)?.post_norm,
            NormPlace::Final => &self.plan.final_norm,
        };
        let arguments = mean_squares.iter().map(|mean_square| mean_square + epsilon);
        self.headroom.watch(Site::Norm(place), norm.interval(), arguments.clone());
        let gain = 1.0 / norm.interval().low.sqrt();
        Ok(arguments.map(|x| gain * norm.value(x)).collect())
    }

    fn softmax(
        &mut self,
        index: usize,
        head: usize,
        queries: ArrayView2<'_, f32>,
        scores: &mut Array2<f32>,
        first: usize,
    ) -> Result<()> {
        let layer = self.layer(index)?;
        let functions = &layer.attention;
        let missing = || Error::Internal(format!("head {head} of {}", functions.offsets.len()));
        let shift = functions.shifts.get(head).ok_or_else(missing)?;
        let square_shift = functions.square_shifts.get(head).ok_or_else(missing)?;
        let offset = functions.offsets.get(head).ok_or_else(missing)?;
        let deviation = self.deviation(layer.schedule.refresh(Step::Exponential));
        let half_width = 1.0 / functions.softmax.exponential.root.interval.unit_slope();
        let mut denominators = Vec::with_capacity(scores.nrows());
        for (row, (query, mut scores)) in queries.rows().into_iter().zip(scores.rows_mut()).enumerate() {
            let shift = score_shift(shift, square_shift, *offset, query.iter().copied());
            let visible = (first + row + 1).min(scores.len());
            let shifted: Vec<f64> = scores
                .iter()
                .take(visible)
                .map(|score| f64::from(*score) - shift + half_width * self.draw(deviation))
                .collect();
            let (weights, denominator) = self.half_divided_weights(index, head, functions, &shifted);
            denominators.push(denominator);
            // Later positions have no weight.
            let weights = weights.into_iter().chain(std::iter::repeat(0.0));
            scores.iter_mut().zip(weights).for_each(|(score, weight)| *score = weight as f32);
        }
        self.half_divided.insert(head, denominators);
        Ok(())
    }

    fn silu(&mut self, index: usize, gate: &mut Array2<f32>) -> Result<()> {
        let layer = self.layer(index)?;
        let arguments = gate.iter().map(|value| f64::from(*value));
        self.headroom.watch(Site::Silu(index), layer.gate.interval, arguments);
        gate.as_slice_mut()
            .ok_or_else(|| Error::Internal("gates are not contiguous".to_owned()))?
            .par_iter_mut()
            .for_each(|value| *value = (layer.gate_peak * layer.gate.value(f64::from(*value))) as f32);
        Ok(())
    }

    fn tensor(&mut self, index: usize, tensor: Tensor, values: &mut Array2<f32>) -> Result<()> {
        let layer = self.layer(index)?;
        let refresh = |module| layer.schedule.refresh(module);
        match tensor {
            Tensor::Values => {}
            Tensor::Normed => {
                let scales = self.normed_scales(index, layer)?;
                self.bootstrap(None, &scales, refresh(Step::QueryKeyValue), values);
            }
            Tensor::AttentionOutput => self.divide_last(index, layer, values)?,
            Tensor::ResidualForSum => {
                let entering = self.plan.entering(index, values.ncols());
                self.bootstrap(None, &entering, refresh(Step::AttentionResidual), values);
            }
            Tensor::MiddleResidual => {
                let site = Some(Site::MiddleResidual(index));
                self.bootstrap(site, &layer.middle_residual, refresh(Step::PostNormSquare), values);
            }
            Tensor::MiddleForSum => {
                self.bootstrap(None, &layer.middle_residual, refresh(Step::MlpResidual), values);
            }
            // up/2 + i·gate/2 is bootstrapped, each in its unit.
            Tensor::Up => {
                let scales = vec![2.0 * layer.up; values.ncols()];
                self.bootstrap(Some(Site::Up(index)), &scales, refresh(Step::Activation), values);
            }
            Tensor::Gate => {
                let scales = vec![2.0 / layer.gate.interval.unit_slope(); values.ncols()];
                self.bootstrap(None, &scales, refresh(Step::Activation), values);
            }
            Tensor::Residual => {
                let site = Some(Site::Residual(index));
                self.bootstrap(site, &layer.residual, layer.schedule.residual, values);
            }
        }
        Ok(())
    }
}
