//! Chebyshev series on ciphertexts.
//!
//! Input: x in [−1, 1], any level and scale. Output: Σ c_k T_k(x), ⌈log2(degree + 1)⌉ levels below, at *exactly* the
//! scale asked for. The scale is handed down the tree of products: a factor of T_m is evaluated at (scale · q)/s_m, so
//! its product with T_m rescales to `scale`; coefficients are rounded at whatever scale lands there. Additions
//! therefore always meet at equal scales, on any chain. Bossuat et al. 2021, §5.1.

use super::polynomial_basis::ChebyshevBasis;
use super::polynomial_coefficient::Coefficient;
use super::polynomial_plan::{Node, PolynomialPlan};
use crate::contract::{CiphertextInfo, Complex64, Evaluator, Level, LinearTerm, Result, Scale};

/// Σ coefficients\[k\]·T_k(x), ⌈log2(degree + 1)⌉ levels below x.
///
/// * `x`: slots in [−1, 1] (outside, T_k grows like (2x)^k: the result is meaningless), any scale near q.
/// * `scale`: scale of the result; the canonical one of its level when `None`.
/// * Cost: [`PolynomialPlan::cost`].
///
/// For several series at one x, or coefficients that differ by slot, see [`evaluate_with_basis`].
///
/// # Errors
/// [`crate::Error::LevelExhausted`] with too few levels; [`crate::Error::EvaluationKey`] without relinearization.
pub fn evaluate_series<E: Evaluator>(
    evaluator: &E,
    x: &E::Ciphertext,
    coefficients: &[Complex64],
    scale: Option<Scale>,
) -> Result<E::Ciphertext> {
    let plan = PolynomialPlan::of_constants(coefficients);
    evaluate_with_basis(&mut ChebyshevBasis::new(evaluator, x.clone()), &plan, scale)
}

/// The series of `plan` at the x of `basis`; T_k that an earlier series computed are reused.
///
/// Level, scale and errors as in [`evaluate_series`]; with coefficients that differ by slot also the errors of
/// [`Evaluator::encode`].
pub fn evaluate_with_basis<E: Evaluator>(
    basis: &mut ChebyshevBasis<'_, E>,
    plan: &PolynomialPlan,
    scale: Option<Scale>,
) -> Result<E::Ciphertext> {
    let chain = basis.evaluator().chain();
    let level = basis.level()?.minus(plan.depth(), "Chebyshev series")?;
    let scale = match scale {
        Some(scale) => scale,
        None => chain.canonical_scale(level)?,
    };
    for power in &plan.powers {
        basis.compute(*power)?;
    }
    node(basis, &plan.root, scale)
}

/// One node of the plan, at `scale` and `node.depth` levels below x.
fn node<E: Evaluator>(basis: &ChebyshevBasis<'_, E>, node: &Node, scale: Scale) -> Result<E::Ciphertext> {
    let evaluator = basis.evaluator();
    let level = basis.level()?.minus(node.depth - 1, "Chebyshev series")?;
    let product_scale = Scale(scale.0 * evaluator.chain().rescale_modulus(level)?);
    let by_slot = terms_by_slot(basis, node, level, product_scale)?;
    let mut terms = Vec::with_capacity(node.linear.len() + 1);
    for (power, coefficient) in &node.linear {
        if let Coefficient::Same(c) = coefficient {
            terms.push(LinearTerm::at_scale(*c, basis.get(*power)?, product_scale));
        }
    }
    terms.extend(by_slot.as_ref().map(|sum| LinearTerm::integer(1, sum)));
    let addend = match node.constant {
        Coefficient::Same(c) => c,
        // Already among the terms by slot.
        Coefficient::Slots(_) => Complex64::ZERO,
    };
    if let Some(products) = products(basis, node, level, product_scale)? {
        return evaluator.relinearize_and_rescale(&products, &terms, addend);
    }
    if terms.is_empty() {
        // Only the constant is left: it still needs a ciphertext to stand in.
        terms.push(LinearTerm::at_scale(Complex64::ZERO, basis.get(1)?, product_scale));
    }
    evaluator.rescale(&evaluator.linear_combination(&terms, addend, level)?)
}

/// Σ factor·T_power at `level` and `product_scale`, not relinearized.
fn products<E: Evaluator>(
    basis: &ChebyshevBasis<'_, E>,
    parent: &Node,
    level: Level,
    product_scale: Scale,
) -> Result<Option<E::Tensor>> {
    let evaluator = basis.evaluator();
    let mut sum: Option<E::Tensor> = None;
    for (factor, power) in &parent.products {
        let power = basis.at(*power, level)?;
        let factor = node(basis, factor, product_scale / power.scale())?;
        let product = evaluator.tensor(&factor, &power)?;
        sum = Some(match sum {
            Some(sum) => evaluator.add_tensor(&sum, &product)?,
            None => product,
        });
    }
    Ok(sum)
}

/// The terms and the constant whose coefficients differ by slot, at `level` and `product_scale`, not rescaled; `None`
/// without any.
fn terms_by_slot<E: Evaluator>(
    basis: &ChebyshevBasis<'_, E>,
    node: &Node,
    level: Level,
    product_scale: Scale,
) -> Result<Option<E::Ciphertext>> {
    let evaluator = basis.evaluator();
    let mut sum: Option<E::Ciphertext> = None;
    for (power, coefficient) in &node.linear {
        let Coefficient::Slots(values) = coefficient else { continue };
        let power = basis.at(*power, level)?;
        let plaintext = evaluator.encode(values, level, product_scale / power.scale())?;
        let term = evaluator.mul_plain(&power, &plaintext)?;
        sum = Some(match sum {
            Some(sum) => evaluator.add(&sum, &term)?,
            None => term,
        });
    }
    let Coefficient::Slots(values) = &node.constant else { return Ok(sum) };
    let sum = match sum {
        Some(sum) => sum,
        None => {
            let zero = LinearTerm::at_scale(Complex64::ZERO, basis.get(1)?, product_scale);
            evaluator.linear_combination(&[zero], Complex64::ZERO, level)?
        }
    };
    Ok(Some(evaluator.add_values(&sum, values)?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::clear::{ClearClient, ClearEvaluator, ClearParameters};
    use crate::circuits::{ChebyshevSeries, depth};
    use crate::contract::{Client, CountingEvaluator, LevelChain};
    use proptest::prelude::*;

    const SLOTS: usize = 16;

    fn setup(parameters: ClearParameters) -> (ClearClient, ClearEvaluator) {
        let client = ClearClient::new(parameters);
        let evaluator = client.dry_run();
        (client, evaluator)
    }

    fn points() -> Vec<f64> {
        (0..SLOTS).map(|s| -1.0 + 2.0 * s as f64 / (SLOTS - 1) as f64).collect()
    }

    fn complex(values: &[f64]) -> Vec<Complex64> {
        values.iter().map(|x| Complex64::new(*x, 0.0)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn a_series_equals_clenshaw_at_the_least_depth_and_the_scale_asked_for(
            coefficients in proptest::collection::vec(-1.0..1.0f64, 1..140), spare in 0usize..3, off in 0.25..4.0f64,
            parity in 0usize..3,
        ) {
            let mut coefficients = coefficients;
            for (k, c) in coefficients.iter_mut().enumerate() {
                if parity < 2 && k % 2 != parity {
                    *c = 0.0;
                }
            }
            let series = ChebyshevSeries::new(coefficients, -1.0, 1.0).unwrap();
            let degree = series.coefficients().iter().rposition(|c| *c != 0.0).unwrap_or(0);
            let levels = depth(degree) + spare;
            let (client, evaluator) = setup(ClearParameters::new(SLOTS, levels, 40).unwrap());
            let x = client.encrypt(&complex(&points()), Level(levels)).unwrap();
            let scale = Scale(evaluator.chain().canonical_scale(Level(spare)).unwrap().0 * off);
            let y = evaluate_series(&evaluator, &x, &series.complex_coefficients(), Some(scale)).unwrap();
            prop_assert_eq!(y.level(), Level(spare));
            prop_assert!(y.scale().agrees_with(scale), "scale {} wanted {}", y.scale(), scale);
            for (value, t) in client.decrypt(&y).unwrap().iter().zip(points()) {
                let expected = series.evaluate(t);
                prop_assert!((value.re - expected).abs() < 1e-9, "at {t}: {} wanted {expected}", value.re);
            }
        }
    }

    #[test]
    fn a_chain_with_a_stretch_of_other_primes_lands_on_the_canonical_scale_below() {
        // Two application levels at 2^40 under five levels of 50 bits, the way bootstrapping chains look.
        let moduli: Vec<f64> = (0..7)
            .map(|i| if i < 2 { 1.01e12 } else { 2f64.powi(50) * (1.0 - 1e-9 * f64::from(i)) })
            .collect();
        let scales =
            (0..8).map(|i| Scale(if i < 3 { 2f64.powi(40) } else { 2f64.powi(50) })).collect::<Vec<_>>();
        let chain = LevelChain::with_scales(2f64.powi(60), moduli, scales).unwrap();
        let parameters = ClearParameters { slots: SLOTS, chain, bootstrapping: None, noise: None };
        let (client, evaluator) = setup(parameters);
        let series = ChebyshevSeries::fit(f64::cos, -1.0, 1.0, 31).unwrap();
        let x = client.encrypt(&complex(&points()), Level(7)).unwrap();
        let y = evaluate_series(&evaluator, &x, &series.complex_coefficients(), None).unwrap();
        assert_eq!(y.level(), Level(2));
        assert!(y.scale().agrees_with(Scale(2f64.powi(40))), "{}", y.scale());
        for (value, t) in client.decrypt(&y).unwrap().iter().zip(points()) {
            assert!((value.re - t.cos()).abs() < 1e-12, "at {t}: {value}");
        }
    }

    #[test]
    fn coefficients_may_differ_by_slot() {
        let (client, evaluator) = setup(ClearParameters::new(SLOTS, 4, 40).unwrap());
        let x = client.encrypt(&complex(&points()), Level(4)).unwrap();
        let coefficient = |k: usize, s: usize| ((k * 7 + s * 3) % 11) as f64 / 11.0 - 0.4;
        let coefficients: Vec<Coefficient> = (0..=13)
            .map(|k| {
                Coefficient::Slots(Arc::new(
                    (0..SLOTS).map(|s| Complex64::new(coefficient(k, s), 0.0)).collect(),
                ))
            })
            .collect();
        let plan = PolynomialPlan::new(&coefficients);
        let y = evaluate_with_basis(&mut ChebyshevBasis::new(&evaluator, x), &plan, None).unwrap();
        let values = client.decrypt(&y).unwrap();
        for (s, t) in points().into_iter().enumerate() {
            let series =
                ChebyshevSeries::new((0..=13).map(|k| coefficient(k, s)).collect(), -1.0, 1.0).unwrap();
            assert!((values[s].re - series.evaluate(t)).abs() < 1e-10, "slot {s}: {}", values[s]);
        }
    }

    #[test]
    fn the_cost_of_a_plan_is_what_the_evaluator_counts() {
        for degree in [1usize, 2, 5, 8, 15, 20, 31, 40, 63, 100] {
            let client = ClearClient::new(ClearParameters::new(SLOTS, 8, 40).unwrap());
            let counting = CountingEvaluator::new(client.dry_run());
            let series = ChebyshevSeries::fit(|x| (3.0 * x).exp(), -1.0, 1.0, degree).unwrap();
            let plan = PolynomialPlan::of_constants(&series.complex_coefficients());
            let x = client.encrypt(&complex(&points()), Level(8)).unwrap();
            evaluate_with_basis(&mut ChebyshevBasis::new(&counting, x), &plan, None).unwrap();
            let total = counting.counts().total();
            let cost = plan.cost();
            assert_eq!(total.relinearizations, cost.relinearizations, "degree {degree}");
            assert_eq!(total.ciphertext_products, cost.products, "degree {degree}");
            assert_eq!(total.rescales, cost.rescales, "degree {degree}");
        }
    }

    #[test]
    fn too_few_levels_give_an_error_that_names_them() {
        let (client, evaluator) = setup(ClearParameters::new(SLOTS, 4, 40).unwrap());
        let x = client.encrypt(&complex(&points()), Level(4)).unwrap();
        let coefficients = vec![Complex64::new(0.5, 0.0); 32];
        let error = evaluate_series(&evaluator, &x, &coefficients, None).unwrap_err();
        assert!(error.to_string().contains("level 4 needs 5"), "{error}");
    }
}
