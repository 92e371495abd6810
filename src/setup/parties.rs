//! The two parties of a set-up: the client, which keeps the secret key, and the server, which gets bytes.

use std::io::Read;

use super::{Setup, StoredSecret};
use crate::backend::native::{NativeClient, NativeEvaluator};
use crate::contract::{self, BootstrapSummary, Evaluator, Result};
use crate::decoder::DecoderState;
use crate::fidelity::shadow::Shadow;
use crate::generation::client::Client;
use crate::generation::server::Server;

impl Client {
    /// The native client of `setup` with a fresh secret key from the operating system's entropy.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for a set-up of another backend: see [`Client::with_secret`].
    pub fn new(setup: &Setup) -> Result<Self> {
        let parameters = setup.scheme().native_parameters()?.clone();
        Ok(Self::with_secret(setup, NativeClient::with_bootstrapping(parameters, None)?))
    }

    /// The native client of `setup` with a secret key that was stored before.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for a set-up of another backend; those of [`NativeClient::with_stored_secret`].
    pub fn with_stored_secret(setup: &Setup, secret: &StoredSecret) -> Result<Self> {
        let parameters = setup.scheme().native_parameters()?.clone();
        Ok(Self::with_secret(setup, NativeClient::with_stored_secret(parameters, secret.bytes())?))
    }

    /// Bytes of the evaluation keys that [`Client::keys`] makes, known before they are made.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for bootstrapping under parameters without it
    /// ([`NativeClient::predicted_key_bytes`]).
    pub fn predicted_key_bytes(&self) -> Result<u64> {
        self.secret().predicted_key_bytes(self.keys_needed())
    }
}

impl<K: contract::Client> Client<K> {
    /// The client of `setup` that owns `secret`, which must be made for the parameters of `setup`: the simulator's,
    /// OpenFHE's, or a native one with a seed of its own.
    pub fn with_secret(setup: &Setup, secret: K) -> Self {
        Self::from_parts(secret, setup.codec().clone(), setup.model().prepared(), setup.context())
            .with_server_head(setup.decoder().head())
            .with_keys_for(setup.keys_needed().request.clone(), setup.wave())
            .with_longest_text(setup.model().longest_text())
            .with_fingerprint(setup.fingerprint())
    }
}

impl Server {
    /// The native server of `setup` with the evaluation keys that [`NativeEvaluator::write_to`] wrote: all it gets
    /// from the client before the first message. Cost: reading them, and expanding their seeds.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for a set-up of another backend; those of [`NativeEvaluator::read_from`] and
    /// [`Server::new`].
    pub fn from_keys(setup: &Setup, keys: impl Read) -> Result<Self> {
        Self::new(setup, NativeEvaluator::read_from(setup.scheme().native_parameters()?, keys)?)
    }
}

impl<E: Evaluator> Server<E> {
    /// The server of `setup` with a client's evaluation keys, for a text that begins with the model's public prefix.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the context is shorter than the prefix; those of the evaluator.
    pub fn new(setup: &Setup, keys: E) -> Result<Self> {
        let mut state = setup.decoder().new_state();
        setup.decoder().append_public_prefix(&keys, &mut state, &setup.model().prepared().prefix_cache)?;
        Ok(Self::resumed(setup, keys, state))
    }

    /// The server of `setup` that goes on from the caches of `state`.
    pub fn resumed(setup: &Setup, keys: E, state: DecoderState<E::Ciphertext>) -> Self {
        Self::from_parts(setup.decoder(), keys, state).with_fingerprint(setup.fingerprint())
    }
}

impl Shadow {
    /// The simulator, exact, beside a run of `setup` that starts from the public prefix and bootstraps as `bootstrap`
    /// says.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the context is shorter than the prefix; errors of [`Server::new`].
    pub fn beside(setup: &Setup, bootstrap: Option<BootstrapSummary>) -> Result<Self> {
        let client = Client::with_secret(setup, setup.scheme().exact_simulator());
        let server = Server::new(setup, client.keys()?)?;
        Ok(Self::new(client, server, bootstrap))
    }
}
