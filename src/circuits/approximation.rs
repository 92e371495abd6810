//! Polynomials fitted to a function over an interval: the degree follows from an error target.
//!
//! A fit is the weighted minimax polynomial (exchange algorithm of Remez), written in the Chebyshev basis of the
//! *unit variable* u = (2x − low − high) / (high − low). Ciphertexts hold u: whoever makes the argument folds the
//! affine map into a product or a mask that is there anyway, so that the polynomial costs ⌈log2(degree + 1)⌉ levels.
//! Outside its interval a polynomial grows without bound: every argument must be kept inside by calibration.

use crate::contract::{Complex64, Error, Result};

/// Closed interval of arguments.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Smallest argument.
    pub low: f64,
    /// Largest argument.
    pub high: f64,
}

impl Interval {
    /// Interval from `low` to `high`.
    ///
    /// # Errors
    /// [`Error::Plan`] when a bound is not finite or `low` is not below `high`.
    pub fn new(low: f64, high: f64) -> Result<Self> {
        if low.is_finite() && high.is_finite() && low < high {
            return Ok(Self { low, high });
        }
        Err(Error::Plan {
            why: format!("an interval from {low} to {high}"),
            remedy: "calibrate on texts that reach more than one value".to_owned(),
        })
    }

    /// u of x: −1 at `low`, 1 at `high`.
    #[must_use]
    pub fn to_unit(&self, x: f64) -> f64 {
        (2.0 * x - self.low - self.high) / (self.high - self.low)
    }

    /// x of u.
    #[must_use]
    pub fn from_unit(&self, u: f64) -> f64 {
        f64::midpoint(self.low, self.high) + u * (self.high - self.low) / 2.0
    }

    /// du/dx: what an argument is multiplied by on its way to the unit variable.
    #[must_use]
    pub fn unit_slope(&self) -> f64 {
        2.0 / (self.high - self.low)
    }

    /// u at x = 0: what is added on the way to the unit variable.
    #[must_use]
    pub fn unit_offset(&self) -> f64 {
        self.to_unit(0.0)
    }

    /// Whether x lies inside, bounds included.
    #[must_use]
    pub fn contains(&self, x: f64) -> bool {
        (self.low..=self.high).contains(&x)
    }
}

/// How the error of an approximation is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ErrorMeasure {
    /// |p − f|.
    Absolute,
    /// |p − f| / |f|; f must not vanish on the interval.
    Relative,
}

/// A polynomial that stands for a function over an interval.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Approximation {
    /// Where it holds.
    pub interval: Interval,
    /// How `worst_error` is measured.
    pub measure: ErrorMeasure,
    /// Coefficients of T_0, T_1, … of the unit variable.
    pub coefficients: Vec<f64>,
    /// Largest error found on a grid of more than 16 points per degree.
    pub worst_error: f64,
}

/// Degrees that use their levels up: 2^k − 1.
const DEGREES: [usize; 8] = [1, 3, 7, 15, 31, 63, 127, 255];

impl Approximation {
    /// Least-depth fit: the smallest degree 2^k − 1 (k ≤ 8) whose worst error is at most `target`.
    ///
    /// # Errors
    /// [`Error::Plan`] when degree 255 does not reach the target, with the error it reaches.
    pub fn fit(
        function: impl Fn(f64) -> f64,
        interval: Interval,
        measure: ErrorMeasure,
        target: f64,
    ) -> Result<Self> {
        let mut reached = f64::INFINITY;
        for degree in DEGREES {
            let fit = Self::of_degree(&function, interval, measure, degree)?;
            if fit.worst_error <= target {
                return Ok(fit);
            }
            reached = reached.min(fit.worst_error);
        }
        Err(Error::Plan {
            why: format!(
                "no polynomial up to degree 255 reaches an error of {target:e} on {:e} .. {:e}, the best has {reached:e}",
                interval.low, interval.high
            ),
            remedy: "narrow the interval, allow more error, or use an iteration".to_owned(),
        })
    }

    /// Minimax fit of one degree.
    ///
    /// # Errors
    /// [`Error::Plan`] when the function is not finite on the interval, or vanishes under a relative measure.
    pub fn of_degree(
        function: impl Fn(f64) -> f64,
        interval: Interval,
        measure: ErrorMeasure,
        degree: usize,
    ) -> Result<Self> {
        let grid: Vec<Sample> = sample(&function, interval, measure, 16 * (degree + 2) + 1)?;
        // Interpolation at Chebyshev nodes is always available and near the optimum for the absolute measure; the
        // exchange improves on it where the weight matters. The better of the two is kept.
        let mut best = interpolate(&function, interval, degree);
        let mut best_error = worst_error(&best, &grid);
        if let Some(exchanged) = exchange(&grid, degree) {
            let error = worst_error(&exchanged, &grid);
            if error < best_error {
                (best, best_error) = (exchanged, error);
            }
        }
        Ok(Self { interval, measure, coefficients: best, worst_error: best_error })
    }

    /// Degree of the polynomial.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.coefficients.len().saturating_sub(1)
    }

    /// Levels its evaluation takes: ⌈log2(degree + 1)⌉.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.coefficients.len().next_power_of_two().ilog2() as usize
    }

    /// The coefficients as complex numbers, for [`super::evaluate_series`] at the unit variable.
    #[must_use]
    pub fn complex_coefficients(&self) -> Vec<Complex64> {
        self.coefficients.iter().map(|c| Complex64::new(*c, 0.0)).collect()
    }

    /// p(x) in f64.
    #[must_use]
    pub fn value(&self, x: f64) -> f64 {
        clenshaw(&self.coefficients, self.interval.to_unit(x))
    }
}

/// One point of the fitting grid: unit variable, f there, 1/weight.
#[derive(Clone, Copy)]
struct Sample {
    unit: f64,
    value: f64,
    weight: f64,
}

fn sample(
    function: &impl Fn(f64) -> f64,
    interval: Interval,
    measure: ErrorMeasure,
    points: usize,
) -> Result<Vec<Sample>> {
    (0..points)
        .map(|index| {
            // Chebyshev spacing: dense at the ends, where minimax errors oscillate fastest.
            let unit = -(std::f64::consts::PI * index as f64 / (points - 1).max(1) as f64).cos();
            let value = function(interval.from_unit(unit));
            let weight = match measure {
                ErrorMeasure::Absolute => 1.0,
                ErrorMeasure::Relative => 1.0 / value.abs(),
            };
            if !value.is_finite() || !weight.is_finite() {
                return Err(Error::Plan {
                    why: format!("the function is {value} at {}", interval.from_unit(unit)),
                    remedy: "keep zeros and poles outside the interval".to_owned(),
                });
            }
            Ok(Sample { unit, value, weight })
        })
        .collect()
}

/// Σ c_k T_k(u).
fn clenshaw(coefficients: &[f64], unit: f64) -> f64 {
    let (mut above, mut sum) = (0.0, 0.0);
    for coefficient in coefficients.iter().skip(1).rev() {
        (above, sum) = (sum, 2.0 * unit * sum - above + coefficient);
    }
    unit * sum - above + coefficients.first().copied().unwrap_or(0.0)
}

fn worst_error(coefficients: &[f64], grid: &[Sample]) -> f64 {
    let error = |point: &Sample| ((clenshaw(coefficients, point.unit) - point.value) * point.weight).abs();
    let worst = grid.iter().map(error).fold(0.0, f64::max);
    if worst.is_finite() { worst } else { f64::INFINITY }
}

fn interpolate(function: &impl Fn(f64) -> f64, interval: Interval, degree: usize) -> Vec<f64> {
    let nodes = degree + 1;
    let angles: Vec<f64> =
        (0..nodes).map(|j| std::f64::consts::PI * (j as f64 + 0.5) / nodes as f64).collect();
    let values: Vec<f64> = angles.iter().map(|angle| function(interval.from_unit(angle.cos()))).collect();
    (0..nodes)
        .map(|k| {
            let sum: f64 = angles.iter().zip(&values).map(|(angle, v)| v * (k as f64 * angle).cos()).sum();
            sum * if k == 0 { 1.0 } else { 2.0 } / nodes as f64
        })
        .collect()
}

/// Remez exchange on `grid`: solves for equal alternating weighted errors on degree + 2 points, moves the points to the
/// extrema of the error, until the largest error is within 2 % of the levelled one. `None` when it does not settle.
fn exchange(grid: &[Sample], degree: usize) -> Option<Vec<f64>> {
    let points = degree + 2;
    let mut reference: Vec<Sample> =
        (0..points).map(|j| grid.get(j * (grid.len() - 1) / (points - 1)).copied()).collect::<Option<_>>()?;
    for _ in 0..30 {
        let matrix: Vec<Vec<f64>> = reference
            .iter()
            .enumerate()
            .map(|(j, point)| {
                let angle = point.unit.clamp(-1.0, 1.0).acos();
                let sign = if j % 2 == 0 { 1.0 } else { -1.0 };
                (0..=degree)
                    .map(|k| (k as f64 * angle).cos())
                    .chain([sign / point.weight, point.value])
                    .collect()
            })
            .collect();
        let mut solution = solve(matrix)?;
        let levelled = solution.pop()?.abs();
        let error = |point: &Sample| (clenshaw(&solution, point.unit) - point.value) * point.weight;
        let mut extrema: Vec<(f64, Sample)> = Vec::new();
        for point in grid {
            let e = error(point);
            match extrema.last_mut() {
                Some((last, kept)) if (*last >= 0.0) == (e >= 0.0) => {
                    if e.abs() > last.abs() {
                        (*last, *kept) = (e, *point);
                    }
                }
                _ => extrema.push((e, *point)),
            }
        }
        let worst = extrema.iter().map(|(e, _)| e.abs()).fold(0.0, f64::max);
        if worst <= levelled * 1.02 {
            return Some(solution);
        }
        // Keep degree + 2 consecutive alternations: drop the smaller end until they fit.
        let (mut first, mut last) = (0, extrema.len());
        while last - first > points {
            let size = |index: usize| extrema.get(index).map_or(0.0, |(e, _)| e.abs());
            if size(first) < size(last - 1) { first += 1 } else { last -= 1 }
        }
        if last - first < points {
            return None;
        }
        reference = extrema.get(first..last)?.iter().map(|(_, point)| *point).collect();
    }
    None
}

/// Solves a square system given with its right side as last column; Gaussian elimination with partial pivoting. `None`
/// when it is singular.
pub fn solve(mut rows: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let unknowns = rows.len();
    for column in 0..unknowns {
        let size = |row: &Vec<f64>| row.get(column).map_or(0.0, |x| x.abs());
        let pivot = (column..unknowns).max_by(|a, b| {
            let of = |index: &usize| rows.get(*index).map_or(0.0, size);
            of(a).total_cmp(&of(b))
        })?;
        rows.swap(column, pivot);
        let (done, below) = rows.split_at_mut_checked(column + 1)?;
        let pivot_row = done.last()?;
        let head = *pivot_row.get(column)?;
        if head == 0.0 || !head.is_finite() {
            return None;
        }
        for row in below {
            let factor = row.get(column)? / head;
            for (x, p) in row.iter_mut().zip(pivot_row).skip(column) {
                *x -= factor * p;
            }
        }
    }
    let mut solution = vec![0.0; unknowns];
    for index in (0..unknowns).rev() {
        let row = rows.get(index)?;
        let known: f64 = row.iter().zip(&solution).skip(index + 1).map(|(a, x)| a * x).sum();
        *solution.get_mut(index)? = (row.get(unknowns)? - known) / row.get(index)?;
    }
    solution.iter().all(|x| x.is_finite()).then_some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_error_stated_is_the_error_found_between_the_grid_points(
            low in 0.01f64..1.0, ratio in 2.0f64..200.0, log_target in -5.0f64..-2.0
        ) {
            let interval = Interval::new(low, low * ratio).unwrap();
            let target = 10f64.powf(log_target);
            let fit = Approximation::fit(|x| x.powf(-0.5), interval, ErrorMeasure::Relative, target).unwrap();
            let worst = (0..=5000)
                .map(|i| low * ratio.powf(f64::from(i) / 5000.0))
                .map(|x| (fit.value(x) * x.sqrt() - 1.0).abs())
                .fold(0.0, f64::max);
            prop_assert!(worst <= target * 1.02, "{worst:e} over {target:e} at degree {}", fit.degree());
        }
    }

    #[test]
    fn the_exchange_beats_interpolation_where_the_weight_matters() {
        let interval = Interval::new(1.0, 160.0).unwrap();
        let f = |x: f64| x.powf(-0.5);
        let grid = sample(&f, interval, ErrorMeasure::Relative, 2001).unwrap();
        let interpolated = worst_error(&interpolate(&f, interval, 31), &grid);
        let fitted = Approximation::of_degree(f, interval, ErrorMeasure::Relative, 31).unwrap().worst_error;
        assert!(fitted < interpolated / 1.5, "{fitted:e} against {interpolated:e}");
    }

    #[test]
    fn a_target_out_of_reach_is_refused_with_the_error_reached() {
        let interval = Interval::new(1e-6, 1.0).unwrap();
        let error =
            Approximation::fit(|x| 1.0 / x, interval, ErrorMeasure::Relative, 1e-3).unwrap_err().to_string();
        assert!(error.contains("degree 255"), "{error}");
    }
}
