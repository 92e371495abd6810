//! What the server side cannot do, as programs that must not compile.
//!
//! Documentation tests only (`#[cfg(doctest)]`). Each program that fails stands below one that compiles and differs
//! from it in the forbidden line alone, so that it cannot fail for another reason unnoticed; toolchains that check
//! error codes check them too. That no type the server reaches contains a secret is tested in
//! `tests/server_has_no_secret.rs`.

/// An evaluator evaluates.
///
/// ```
/// use cachemir::ckks::{Ciphertext, CkksEvaluator};
/// use cachemir::contract::Evaluator;
///
/// fn serve(evaluator: &CkksEvaluator, x: &Ciphertext) {
///     let _ = evaluator.rotate(x, 1);
/// }
/// ```
///
/// It cannot decrypt.
///
/// ```compile_fail,E0599
/// use cachemir::ckks::{Ciphertext, CkksEvaluator};
/// use cachemir::contract::Evaluator;
///
/// fn serve(evaluator: &CkksEvaluator, x: &Ciphertext) {
///     let _ = evaluator.decrypt(x);
/// }
/// ```
///
/// Nor can the simulator's, which sees the same interface.
///
/// ```compile_fail,E0599
/// use cachemir::backend::clear::{ClearCiphertext, ClearEvaluator};
/// use cachemir::contract::{Client, Evaluator};
///
/// fn serve(evaluator: &ClearEvaluator, x: &ClearCiphertext) {
///     let _ = evaluator.decrypt(x);
/// }
/// ```
pub struct EvaluatorsCannotDecrypt;

/// A server is made of an evaluator.
///
/// ```
/// use cachemir::ckks::CkksEvaluator;
///
/// struct Server {
///     evaluator: CkksEvaluator,
/// }
///
/// fn start(evaluator: CkksEvaluator) -> Server {
///     Server { evaluator }
/// }
/// ```
///
/// A client does not fit in its place.
///
/// ```compile_fail,E0308
/// use cachemir::ckks::{CkksClient, CkksEvaluator};
///
/// struct Server {
///     evaluator: CkksEvaluator,
/// }
///
/// fn start(evaluator: CkksClient) -> Server {
///     Server { evaluator }
/// }
/// ```
///
/// Nor in the place of any evaluator.
///
/// ```
/// use cachemir::backend::clear::ClearEvaluator;
/// use cachemir::ckks::CkksEvaluator;
/// use cachemir::contract::Evaluator;
///
/// struct Server<E: Evaluator>(E);
/// type Native = Server<CkksEvaluator>;
/// type Simulated = Server<ClearEvaluator>;
/// fn start(server: Native, twin: Simulated) {}
/// ```
///
/// ```compile_fail,E0277
/// use cachemir::backend::native::NativeClient;
/// use cachemir::contract::Evaluator;
///
/// struct Server<E: Evaluator>(E);
/// type Native = Server<NativeClient>;
/// fn start(server: Native) {}
/// ```
pub struct ClientsAreNoEvaluators;

/// Keys tell their size.
///
/// ```
/// use cachemir::ckks::EvaluationKeys;
///
/// fn look(keys: &EvaluationKeys) -> u64 {
///     keys.bytes()
/// }
/// ```
///
/// They do not tell the secret: there is none in them.
///
/// ```compile_fail,E0609
/// use cachemir::ckks::{EvaluationKeys, SecretKey};
///
/// fn look(keys: &EvaluationKeys) -> &SecretKey {
///     &keys.secret
/// }
/// ```
pub struct EvaluationKeysHoldNoSecret;

/// Ciphertexts can be copied and printed.
///
/// ```
/// fn copied<T: Clone + std::fmt::Debug>() {}
/// copied::<cachemir::ckks::Ciphertext>();
/// ```
///
/// Secret keys can not be copied,
///
/// ```compile_fail,E0277
/// fn copied<T: Clone>() {}
/// copied::<cachemir::ckks::SecretKey>();
/// ```
///
/// nor printed,
///
/// ```compile_fail,E0277
/// fn printed<T: std::fmt::Debug>() {}
/// printed::<cachemir::ckks::SecretKey>();
/// ```
///
/// nor serialized by accident.
///
/// ```compile_fail,E0277
/// fn serialized<T: serde::Serialize>() {}
/// serialized::<cachemir::ckks::SecretKey>();
/// ```
pub struct SecretKeysAreNeitherCopiedNorPrinted;
