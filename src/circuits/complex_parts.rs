//! Two real vectors as the real and imaginary parts of one ciphertext: joined before an operation that treats both at
//! once (a bootstrap, a product with complex weights), and taken apart after it.

use crate::contract::{Evaluator, Result};

/// z = x + i·y of two real ciphertexts at one level and scale, which stay. No key switch.
///
/// # Errors
/// [`crate::Error::LevelMismatch`] and [`crate::Error::ScaleMismatch`] when the two parts do not stand at one level and
/// scale.
pub fn join_complex<E: Evaluator>(
    evaluator: &E,
    re: &E::Ciphertext,
    im: &E::Ciphertext,
) -> Result<E::Ciphertext> {
    evaluator.add(re, &evaluator.mul_by_i(im)?)
}

/// Twice the real and twice the imaginary part of z: z + z̄ and i·(z̄ − z). One conjugation; level and scale stay.
/// The factor 2 is the caller's to fold into what comes before or after.
///
/// # Errors
/// [`crate::Error::EvaluationKey`] without a conjugation key.
pub fn split_complex<E: Evaluator>(
    evaluator: &E,
    z: &E::Ciphertext,
) -> Result<(E::Ciphertext, E::Ciphertext)> {
    let conjugate = evaluator.conjugate(z)?;
    Ok((evaluator.add(z, &conjugate)?, evaluator.mul_by_i(&evaluator.sub(&conjugate, z)?)?))
}

/// Twice the real part of z: z + z̄. One conjugation; level and scale stay.
///
/// # Errors
/// [`crate::Error::EvaluationKey`] without a conjugation key.
pub fn twice_real_part<E: Evaluator>(evaluator: &E, z: &E::Ciphertext) -> Result<E::Ciphertext> {
    evaluator.add(z, &evaluator.conjugate(z)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::clear::{ClearClient, ClearParameters};
    use crate::contract::{Client, Complex64, Level};

    #[test]
    fn joined_vectors_come_apart_again_doubled() {
        let client = ClearClient::new(ClearParameters::new(8, 1, 40).unwrap());
        let evaluator = client.dry_run();
        let real = |k: f64| -> Vec<Complex64> {
            (0..8).map(|s| Complex64::new(k * f64::from(s) - 1.0, 0.0)).collect()
        };
        let [x, y] = [0.25, -0.75].map(|k| client.encrypt(&real(k), Level(1)).unwrap());
        let z = join_complex(&evaluator, &x, &y).unwrap();
        let (re, im) = split_complex(&evaluator, &z).unwrap();
        let doubled = |x: &_| evaluator.mul_integer(x, 2).unwrap();
        assert_eq!((&re, &im), (&doubled(&x), &doubled(&y)));
        assert_eq!(twice_real_part(&evaluator, &z).unwrap(), re);
        assert_eq!(evaluator.recorded().conjugation, Some(Level(1)));
    }
}
