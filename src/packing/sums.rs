//! Sums of rotations: the ladders that replicate and reduce.
//!
//! Level and scale stay as they are; every rotation is one key switch. A sum of n equally spaced rotations takes
//! ⌊log2 n⌋ + popcount(n) − 1 rotations for any n.

use crate::contract::{Error, Evaluator, Result};

/// A slot count or distance as a signed rotation step.
pub fn signed(distance: usize) -> i64 {
    i64::try_from(distance).unwrap_or(i64::MAX)
}

/// Σ_{i<count} rot(x, i·step).
///
/// # Errors
/// [`Error::Shape`] for an empty sum; errors of [`Evaluator::rotate`].
pub fn sum_strided<E: Evaluator>(
    evaluator: &E,
    x: &E::Ciphertext,
    count: usize,
    step: i64,
) -> Result<E::Ciphertext> {
    let mut doubled = x.clone();
    let mut sum: Option<E::Ciphertext> = None;
    let (mut done, mut width) = (0usize, 1usize);
    while width <= count {
        if count & width != 0 {
            let piece = evaluator.rotate(&doubled, signed(done) * step)?;
            sum = Some(match sum {
                Some(sum) => evaluator.add(&sum, &piece)?,
                None => piece,
            });
            done += width;
        }
        width *= 2;
        if width <= count {
            doubled = add_rotated(evaluator, &doubled, signed(width / 2) * step)?;
        }
    }
    sum.ok_or_else(|| Error::Shape {
        operation: "sum of rotations",
        what: "0 terms".to_owned(),
        remedy: "sum at least one".to_owned(),
    })
}

/// Rotations [`sum_strided`] costs.
#[must_use]
pub fn sum_rotations(count: usize) -> usize {
    match count {
        0 => 0,
        _ => count.ilog2() as usize + count.count_ones() as usize - 1,
    }
}

/// Steps [`sum_strided`] rotates by.
#[must_use]
pub fn sum_steps(count: usize, step: i64) -> Vec<i64> {
    let (mut steps, mut done, mut width) = (Vec::new(), 0usize, 1usize);
    while width <= count {
        if count & width != 0 {
            if done > 0 {
                steps.push(signed(done) * step);
            }
            done += width;
        }
        width *= 2;
        if width <= count {
            steps.push(signed(width / 2) * step);
        }
    }
    steps
}

/// Σ over the `count` slots (a power of two) of a window, landing at slot `landing` of the window instead of its first:
/// the rotation of step 2^s goes the other way where bit s of `landing` is set. Free placement.
///
/// # Errors
/// [`Error::Shape`] when `count` is not a power of two or `landing` not below it; errors of [`Evaluator::rotate`].
pub fn sum_landing<E: Evaluator>(
    evaluator: &E,
    x: &E::Ciphertext,
    count: usize,
    landing: usize,
) -> Result<E::Ciphertext> {
    if !count.is_power_of_two() || landing >= count {
        return Err(Error::Shape {
            operation: "sum that lands at an offset",
            what: format!("offset {landing} in a window of {count}"),
            remedy: "use a power-of-two window and an offset inside it".to_owned(),
        });
    }
    let mut sum = x.clone();
    for bit in 0..count.ilog2() {
        let step = 1usize << bit;
        let sign = if landing & step == 0 { 1 } else { -1 };
        sum = add_rotated(evaluator, &sum, sign * signed(step))?;
    }
    Ok(sum)
}

/// x shifted right by `distance` with power-of-two rotations only, so that few keys serve every distance: popcount
/// rotations by −2^s.
///
/// # Errors
/// [`Error::RotationKey`] for a missing key.
pub fn shift_right<E: Evaluator>(evaluator: &E, x: &E::Ciphertext, distance: usize) -> Result<E::Ciphertext> {
    let mut shifted = x.clone();
    for bit in 0..usize::BITS {
        if distance >> bit & 1 == 1 {
            shifted = evaluator.rotate(&shifted, -signed(1usize << bit))?;
        }
    }
    Ok(shifted)
}

/// x + rot(x, step).
fn add_rotated<E: Evaluator>(evaluator: &E, x: &E::Ciphertext, step: i64) -> Result<E::Ciphertext> {
    evaluator.add(x, &evaluator.rotate(x, step)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::clear::{ClearClient, ClearParameters};
    use crate::contract::{Client, Complex64, CountingEvaluator, Level};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_of_any_length_equal_the_plain_sum_at_the_predicted_cost(count in 1usize..40, step in -5i64..6) {
            let client = ClearClient::new(ClearParameters::new(64, 1, 40).unwrap());
            let values: Vec<Complex64> = (0..64).map(|s| Complex64::new(f64::from(s * s % 37), 0.0)).collect();
            let x = client.encrypt(&values, Level(1)).unwrap();
            let evaluator = CountingEvaluator::new(client.dry_run());
            let sum = sum_strided(&evaluator, &x, count, step).unwrap();
            for (slot, got) in client.decrypt(&sum).unwrap().iter().enumerate() {
                let want: f64 = (0..count)
                    .map(|i| values[(slot as i64 + i as i64 * step).rem_euclid(64) as usize].re)
                    .sum();
                prop_assert!((got.re - want).abs() < 1e-9, "slot {slot}: {got} instead of {want}");
            }
            if step != 0 && step.unsigned_abs() as usize * count < 64 {
                prop_assert_eq!(evaluator.counts().total().rotations, sum_rotations(count));
                prop_assert_eq!(sum_steps(count, step).len(), sum_rotations(count));
            }
        }
    }

    #[test]
    fn a_shift_to_the_right_needs_only_power_of_two_keys() {
        let client = ClearClient::new(ClearParameters::new(64, 1, 40).unwrap());
        let x = client.encrypt(&[Complex64::new(1.0, 0.0)], Level(1)).unwrap();
        let evaluator = client.dry_run();
        let shifted = shift_right(&evaluator, &x, 21).unwrap();
        assert_eq!(client.decrypt(&shifted).unwrap()[21], Complex64::new(1.0, 0.0));
        assert_eq!(evaluator.recorded().rotations.keys().copied().collect::<Vec<_>>(), vec![48, 60, 63]);
    }
}
