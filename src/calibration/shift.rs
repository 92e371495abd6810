//! The shift of a head's scores: a function of the rotated query that predicts log D, affine or with the squares of
//! its features (were the keys normally distributed, log D would be quadratic in the query).
//!
//! Ridge least squares; its strength is the one whose residuals range least over texts that were left out of the fit
//! (four folds by text). The range those residuals span is the honest one to build an interval on: fitted rows would
//! look narrower than new text is. A constant shift (infinite ridge) is among the candidates.

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};

use crate::contract::{Error, Result};

use crate::calibration::record::SeenRange;

const FOLDS: usize = 4;
/// Ridge strengths relative to the mean variance of the query's features.
const STRENGTHS: [f64; 6] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];

/// A fitted shift and how far its residuals range over left-out and fitted texts together.
#[derive(Clone, Debug)]
pub struct ScoreShift {
    /// One weight a feature of the query.
    pub weights: Vec<f64>,
    /// One weight a squared feature; zeros when squares do not help.
    pub square_weights: Vec<f64>,
    /// The constant.
    pub constant: f64,
    /// target − prediction.
    pub residuals: SeenRange,
}

/// Sums that least squares needs; those of several folds add up.
#[derive(Clone)]
struct Moments {
    count: f64,
    feature_sum: Array1<f64>,
    target_sum: f64,
    products: Array2<f64>,
    target_products: Array1<f64>,
}

impl Moments {
    fn new(features: &Array2<f64>, targets: &Array1<f64>) -> Self {
        Self {
            count: features.nrows() as f64,
            feature_sum: features.sum_axis(Axis(0)),
            target_sum: targets.sum(),
            products: features.t().dot(features),
            target_products: features.t().dot(targets),
        }
    }

    fn combine(&self, other: &Self, sign: f64) -> Self {
        Self {
            count: self.count + sign * other.count,
            feature_sum: &self.feature_sum + &(&other.feature_sum * sign),
            target_sum: self.target_sum + sign * other.target_sum,
            products: &self.products + &(&other.products * sign),
            target_products: &self.target_products + &(&other.target_products * sign),
        }
    }

    /// Weights and constant for a ridge strength; an infinite one leaves the constant alone.
    fn solve(&self, strength: f64) -> Option<(Array1<f64>, f64)> {
        let (mean, target_mean) = (&self.feature_sum / self.count, self.target_sum / self.count);
        let width = mean.len();
        if strength.is_infinite() {
            return target_mean.is_finite().then(|| (Array1::zeros(width), target_mean));
        }
        let outer = mean.view().insert_axis(Axis(1)).dot(&mean.view().insert_axis(Axis(0)));
        let mut covariance = &self.products / self.count - outer;
        let right = &self.target_products / self.count - &mean * target_mean;
        let variance = covariance.diag().sum() / width as f64;
        covariance.diag_mut().mapv_inplace(|value| value + strength * variance);
        let weights = solve_positive(covariance, right)?;
        let constant = target_mean - weights.dot(&mean);
        Some((weights, constant))
    }
}

/// Fits the shift of `queries` (rows) to `targets`; `texts` names the text of each row.
///
/// # Errors
/// [`Error::Plan`] when there are no rows.
pub fn fit_shift(queries: ArrayView2<'_, f32>, targets: &[f64], texts: &[usize]) -> Result<ScoreShift> {
    if queries.nrows() == 0 || queries.nrows() != targets.len() || targets.len() != texts.len() {
        return Err(Error::Plan {
            why: format!("{} queries, {} targets, {} texts", queries.nrows(), targets.len(), texts.len()),
            remedy: "calibrate on at least one text".to_owned(),
        });
    }
    let affine = queries.mapv(f64::from);
    let quadratic = concatenate(Axis(1), &[affine.view(), affine.mapv(|q| q * q).view()])
        .map_err(|source| Error::Internal(format!("features of a shift: {source}")))?;
    let candidates =
        [affine, quadratic].into_iter().filter_map(|features| best_ridge(features, targets, texts));
    let narrowest = candidates.min_by(|a, b| a.residuals.width().total_cmp(&b.residuals.width()));
    let Ridge { mut weights, constant, residuals } = narrowest.ok_or_else(|| Error::Plan {
        why: "no shift of the scores could be fitted: a score is not finite".to_owned(),
        remedy: "check the model's weights".to_owned(),
    })?;
    weights.resize(2 * queries.ncols(), 0.0);
    let square_weights = weights.split_off(queries.ncols());
    Ok(ScoreShift { weights, square_weights, constant, residuals })
}

/// A ridge regression and its residuals.
struct Ridge {
    weights: Vec<f64>,
    constant: f64,
    residuals: SeenRange,
}

/// The ridge regression on `features` whose residuals range least; `None` when nothing finite comes out.
fn best_ridge(features: Array2<f64>, targets: &[f64], texts: &[usize]) -> Option<Ridge> {
    // Features of one size: one strength suits all.
    let deviations = features.std_axis(Axis(0), 0.0).mapv(|deviation| deviation.max(1e-12));
    let features = features / &deviations;
    let folds: Vec<(Array2<f64>, Array1<f64>)> = (0..FOLDS)
        .map(|fold| {
            let rows: Vec<usize> = texts
                .iter()
                .enumerate()
                .filter(|(_, text)| *text % FOLDS == fold)
                .map(|(row, _)| row)
                .collect();
            let features = features.select(Axis(0), &rows);
            let targets = rows.iter().filter_map(|row| targets.get(*row).copied()).collect();
            (features, targets)
        })
        .collect();
    let moments: Vec<Moments> =
        folds.iter().map(|(features, targets)| Moments::new(features, targets)).collect();
    let whole = moments
        .iter()
        .skip(1)
        .fold(moments.first().cloned(), |sum, fold| sum.map(|sum| sum.combine(fold, 1.0)))?;
    let mut best: Option<Ridge> = None;
    for strength in STRENGTHS.into_iter().chain([f64::INFINITY]) {
        let Some((weights, constant)) = whole.solve(strength) else { continue };
        let mut residuals = SeenRange::default();
        let mut complete = true;
        for ((features, targets), own) in folds.iter().zip(&moments) {
            take_residuals(&mut residuals, features, targets, &weights, constant);
            let others = whole.combine(own, -1.0);
            if features.nrows() > 0 && others.count > 0.0 {
                match others.solve(strength) {
                    Some((weights, constant)) => {
                        take_residuals(&mut residuals, features, targets, &weights, constant);
                    }
                    None => complete = false,
                }
            }
        }
        let width = residuals.width();
        if complete && width.is_finite() && best.as_ref().is_none_or(|best| width < best.residuals.width()) {
            let weights = (&weights / &deviations).to_vec();
            best = Some(Ridge { weights, constant, residuals });
        }
    }
    best
}

fn take_residuals(
    range: &mut SeenRange,
    features: &Array2<f64>,
    targets: &Array1<f64>,
    weights: &Array1<f64>,
    constant: f64,
) {
    let predicted = features.dot(weights);
    for (target, predicted) in targets.iter().zip(&predicted) {
        range.add(target - predicted - constant);
    }
}

/// Solves a symmetric positive definite system by Cholesky; `None` when it is not positive.
fn solve_positive(mut matrix: Array2<f64>, mut right: Array1<f64>) -> Option<Array1<f64>> {
    let size = right.len();
    for column in 0..size {
        let (above, mut below) = matrix.view_mut().split_at(Axis(0), column);
        // Rows above hold the factor's transpose; subtract what they explain of this row.
        let mut row = below.row_mut(0);
        let mut value = *right.get(column)?;
        for (index, earlier) in above.rows().into_iter().enumerate() {
            let factor = *earlier.get(column)?;
            row.scaled_add(-factor, &earlier);
            value -= factor * right.get(index)?;
        }
        let pivot = *row.get(column)?;
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        let root = pivot.sqrt();
        row /= root;
        *right.get_mut(column)? = value / root;
    }
    for index in (0..size).rev() {
        let row = matrix.row(index);
        let mut value = *right.get(index)?;
        for (factor, solved) in row.iter().zip(&right).skip(index + 1) {
            value -= factor * solved;
        }
        *right.get_mut(index)? = value / row.get(index)?;
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cholesky_solves_what_it_factors(values in prop::collection::vec(-1.0f64..1.0, 25), x in prop::collection::vec(-1.0f64..1.0, 5)) {
            let a = Array2::from_shape_vec((5, 5), values).unwrap();
            let matrix = a.t().dot(&a) + Array2::<f64>::eye(5) * 0.1;
            let x = Array1::from_vec(x);
            let solved = solve_positive(matrix.clone(), matrix.dot(&x)).unwrap();
            let worst = (&solved - &x).mapv(f64::abs).fold(0.0, |a: f64, b| a.max(*b));
            prop_assert!(worst < 1e-9, "{worst:e}");
        }
    }

    fn synthetic(noise: f32) -> (Array2<f32>, Vec<f64>, Vec<usize>) {
        let mut state = 1u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 24) as f32 - 0.5
        };
        let queries = Array2::from_shape_fn((200, 4), |_| random());
        let targets: Vec<f64> = queries
            .rows()
            .into_iter()
            .map(|q| f64::from(3.0 * q[0] - 2.0 * q[2]) + 7.0 + f64::from(noise * random()))
            .collect();
        (queries, targets, (0..200).map(|row| row / 10).collect())
    }

    #[test]
    fn an_affine_target_is_found_again() {
        let (queries, targets, texts) = synthetic(0.0);
        let shift = fit_shift(queries.view(), &targets, &texts).unwrap();
        let width = shift.residuals.high - shift.residuals.low;
        assert!(width < 1e-2, "residuals range over {width}");
        assert!((shift.weights[0] - 3.0).abs() < 1e-2 && (shift.constant - 7.0).abs() < 1e-2, "{shift:?}");
    }

    #[test]
    fn a_quadratic_target_is_found_again() {
        let (queries, mut targets, texts) = synthetic(0.0);
        for (target, query) in targets.iter_mut().zip(queries.rows()) {
            *target += 5.0 * f64::from(query[1]).powi(2);
        }
        let shift = fit_shift(queries.view(), &targets, &texts).unwrap();
        assert!(shift.residuals.width() < 1e-2, "residuals range over {}", shift.residuals.width());
        assert!((shift.square_weights[1] - 5.0).abs() < 1e-1, "{shift:?}");
    }

    #[test]
    fn pure_noise_keeps_its_range_and_nothing_is_learnt_from_it() {
        let (queries, _, texts) = synthetic(0.0);
        let targets: Vec<f64> = (0..200).map(|row| if row % 7 == 0 { 1.0 } else { 0.0 }).collect();
        let shift = fit_shift(queries.view(), &targets, &texts).unwrap();
        let width = shift.residuals.high - shift.residuals.low;
        assert!((0.9..1.6).contains(&width), "residuals range over {width}");
    }

    #[test]
    fn no_rows_is_an_error() {
        assert!(fit_shift(Array2::zeros((0, 4)).view(), &[], &[]).is_err());
    }
}
