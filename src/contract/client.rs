//! The side that holds the secret key.

use super::{BootstrapSummary, Complex64, Evaluator, KeyRequest, Level, OccupiedSlots, Result};

/// Holds the secret key: encrypts, decrypts, and generates the evaluation keys for an [`Evaluator`], which never sees
/// the secret.
///
/// ```
/// use cachemir::backend::native::{NativeClient, test_levelled};
/// use cachemir::ckks::Parameters;
/// use cachemir::contract::{Client, Complex64, Evaluator, KeyRequest, Level};
///
/// // N = 2^10 and two levels: fast, and without any security.
/// let client = NativeClient::new(Parameters::new(test_levelled(10, 2))?.into())?;
/// let x = client.encrypt(&[Complex64::new(1.5, -0.5)], Level(1))?;
/// let server = client.evaluator(&KeyRequest::new())?;
/// let sum = server.add(&x, &x)?;
/// assert!((client.decrypt(&sum)?[0] - Complex64::new(3.0, -1.0)).norm() < 1e-6);
/// # Ok::<(), cachemir::Error>(())
/// ```
pub trait Client: Send + Sync {
    /// The server side this client makes keys for.
    type Evaluator: Evaluator;

    /// Number of slots S.
    fn slots(&self) -> usize;

    /// Encrypts at most S values (the rest are zero) at `level` and its canonical scale.
    ///
    /// # Errors
    /// [`crate::Error::TooManyValues`], [`crate::Error::BadValue`] (NaN, infinite or too large),
    /// [`crate::Error::LevelOutOfRange`].
    fn encrypt(
        &self,
        values: &[Complex64],
        level: Level,
    ) -> Result<<Self::Evaluator as Evaluator>::Ciphertext>;

    /// Decrypts to S values. The result carries CKKS noise: never hand it back to a server (IND-CPA^D).
    ///
    /// # Errors
    /// [`crate::Error::ParameterMismatch`] for a ciphertext of another context.
    fn decrypt(&self, ciphertext: &<Self::Evaluator as Evaluator>::Ciphertext) -> Result<Vec<Complex64>>;

    /// Decrypts the result of a bootstrap and reports values that were beyond its bound as such, not as noise.
    ///
    /// # Errors
    /// [`crate::Error::ParameterMismatch`] for a ciphertext of another context; [`crate::Error::OutOfInterval`] for
    /// values beyond the bound ([`BootstrapSummary::check`] says what it can and what it cannot see).
    fn decrypt_bootstrapped(
        &self,
        ciphertext: &<Self::Evaluator as Evaluator>::Ciphertext,
        bootstrap: BootstrapSummary,
    ) -> Result<Vec<Complex64>> {
        let values = self.decrypt(ciphertext)?;
        bootstrap.check(&values)?;
        Ok(values)
    }

    /// Decrypts the result of a bootstrap of few values and returns these alone, in the order of `slots`; values that
    /// were beyond the bound are reported as such. Junk is left out.
    ///
    /// # Errors
    /// [`crate::Error::ParameterMismatch`] for a ciphertext of another context; [`crate::Error::OutOfInterval`] for
    /// values beyond the bound and [`crate::Error::Shape`] for a slot that does not exist
    /// ([`BootstrapSummary::few_values`]).
    fn decrypt_few(
        &self,
        ciphertext: &<Self::Evaluator as Evaluator>::Ciphertext,
        bootstrap: BootstrapSummary,
        slots: &OccupiedSlots,
    ) -> Result<Vec<Complex64>> {
        bootstrap.few_values(&self.decrypt(ciphertext)?, slots)
    }

    /// Generates the evaluation keys of `request` and the evaluator that holds them.
    ///
    /// # Errors
    /// [`crate::Error::LevelOutOfRange`] for levels outside the chain, [`crate::Error::Unsupported`] for
    /// bootstrapping under parameters without it.
    fn evaluator(&self, request: &KeyRequest) -> Result<Self::Evaluator>;
}
