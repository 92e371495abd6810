//! Sums over slots at power-of-two distances: over the features of a vector, the tokens of a head, the blocks of a ring.

use crate::contract::{Error, Evaluator, Result};

/// Σ_{i < count} rot(x, i·step) for a power of two `count`.
///
/// When `count`·`step` is the number of slots the sum is cyclic: every slot holds the sum over its residue modulo
/// `step`, replicated. Otherwise the sum of a window stands at its first slot, and the others hold parts of two
/// windows. Level and scale unchanged; log2(`count`) rotations.
///
/// # Errors
/// [`Error::Shape`] when `count` is not a power of two; those of [`Evaluator::rotate`].
pub fn sum_slots<E: Evaluator>(
    evaluator: &E,
    x: &E::Ciphertext,
    count: usize,
    step: usize,
) -> Result<E::Ciphertext> {
    if !count.is_power_of_two() {
        return Err(Error::Shape {
            operation: "sum over slots",
            what: format!("{count} terms"),
            remedy: "pad to a power of two".to_owned(),
        });
    }
    let mut sum = x.clone();
    for bit in 0..count.ilog2() {
        let distance = i64::try_from(step << bit).unwrap_or(i64::MAX);
        sum = evaluator.add(&sum, &evaluator.rotate(&sum, distance)?)?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::clear::{ClearClient, ClearParameters};
    use crate::contract::{Client, Complex64, Level};

    #[test]
    fn a_cyclic_sum_is_replicated_and_a_window_sum_lands_at_its_start() {
        let client = ClearClient::new(ClearParameters::new(32, 1, 40).unwrap());
        let values: Vec<Complex64> = (0..32).map(|s| Complex64::new(f64::from(s), 0.0)).collect();
        let x = client.encrypt(&values, Level(1)).unwrap();
        let cyclic = client.decrypt(&sum_slots(&client.dry_run(), &x, 4, 8).unwrap()).unwrap();
        let window = client.decrypt(&sum_slots(&client.dry_run(), &x, 8, 1).unwrap()).unwrap();
        for (slot, value) in cyclic.iter().enumerate() {
            let residue: f64 = (0..4).map(|i| ((slot + 8 * i) % 32) as f64).sum();
            assert_eq!(value.re, residue, "slot {slot}");
        }
        assert_eq!(window[8].re, (8..16).map(f64::from).sum::<f64>());
        assert!(sum_slots(&client.dry_run(), &x, 3, 1).is_err());
    }
}
