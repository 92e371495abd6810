//! The one error of the library. Every variant carries the numbers it saw, what it wanted, and the remedy.

use super::{Level, Scale};

/// Result of every fallible operation of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. The text of each variant ends with the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Too few levels left for an operation.
    #[error(
        "{operation} at level {level} needs {needed} level(s): bootstrap before it, or plan it at a higher level"
    )]
    LevelExhausted {
        /// The operation that asked.
        operation: &'static str,
        /// Level of its input.
        level: Level,
        /// Levels it consumes.
        needed: usize,
    },
    /// A level that the parameters do not have.
    #[error(
        "{operation}: level {level} does not exist, the highest is {max}: use parameters with a longer moduli chain"
    )]
    LevelOutOfRange {
        /// The operation that asked.
        operation: &'static str,
        /// The level asked for.
        level: Level,
        /// Highest level of the parameters.
        max: Level,
    },
    /// A value stands below the level it should be brought to.
    #[error("{operation}: the value is at level {level} and cannot be raised to {wanted}: bootstrap it")]
    LevelTooLow {
        /// The operation that asked.
        operation: &'static str,
        /// Level of the value.
        level: Level,
        /// Level wanted.
        wanted: Level,
    },
    /// Operands at different levels.
    #[error("{operation}: operands are at levels {left} and {right}: bring both to {} with `lower`", left.min(right))]
    LevelMismatch {
        /// The operation that asked.
        operation: &'static str,
        /// Level of the first operand.
        left: Level,
        /// Level of the second operand.
        right: Level,
    },
    /// Operands at different scales, or a scale that is not the one wanted.
    #[error(
        "{operation}: scales are {left} and {right}: rescale products, and `lower` values from other levels, before combining them"
    )]
    ScaleMismatch {
        /// The operation that asked.
        operation: &'static str,
        /// Scale of the first operand.
        left: Scale,
        /// Scale of the second operand, or the one wanted.
        right: Scale,
    },
    /// A scale that no value fits, or that leaves no room below the modulus.
    #[error(
        "{operation}: scale {scale} does not fit a modulus of {log2_modulus:.1} bits at level {level}: rescale first, or encode at a smaller scale"
    )]
    ScaleOutOfRange {
        /// The operation that asked.
        operation: &'static str,
        /// The scale.
        scale: Scale,
        /// log2 of the modulus there.
        log2_modulus: f64,
        /// The level.
        level: Level,
    },
    /// No rotation key for a step at a level.
    #[error("no rotation key for step {step} at level {level} ({}): request it with KeyRequest::rotation before generating keys",
        match available { Some(top) => format!("there is one up to level {top}"), None => "there is none".to_owned() })]
    RotationKey {
        /// Rotation step (normalized to 0 .. S).
        step: usize,
        /// Level at which it was wanted.
        level: Level,
        /// Highest level of the key that exists.
        available: Option<Level>,
    },
    /// An evaluation key other than a rotation key is missing.
    #[error("no {key} key at level {level}: request it with KeyRequest before generating keys")]
    EvaluationKey {
        /// `relinearization`, `conjugation` or `bootstrapping`.
        key: &'static str,
        /// Level at which it was wanted.
        level: Level,
    },
    /// More values than slots.
    #[error("{operation}: {given} values do not fit {slots} slots: split them over several ciphertexts")]
    TooManyValues {
        /// The operation that asked.
        operation: &'static str,
        /// Number of values given.
        given: usize,
        /// Slots there are.
        slots: usize,
    },
    /// NaN, infinite, or too large a value.
    #[error(
        "{operation}: value {value} at index {index} is not usable (largest magnitude allowed here: {bound:e}): scale the data, or check where it comes from"
    )]
    BadValue {
        /// The operation that asked.
        operation: &'static str,
        /// Index of the value.
        index: usize,
        /// The value, as text.
        value: String,
        /// Largest magnitude allowed.
        bound: f64,
    },
    /// A value left the range a circuit was built for (detected on `clear`, or after decryption).
    #[error(
        "{site}: magnitude {magnitude:.6} exceeds its bound {bound:.6}: widen the interval by calibrating on such inputs, or scale the value down"
    )]
    OutOfInterval {
        /// Where, e.g. `layer 3 norm 1` or `bootstrap`.
        site: String,
        /// Largest magnitude seen.
        magnitude: f64,
        /// Bound it was designed for.
        bound: f64,
    },
    /// Ciphertext, plaintext or key of other parameters.
    #[error(
        "{operation}: made under parameters {given}, these are {wanted}: use objects of one context only"
    )]
    ParameterMismatch {
        /// The operation that asked.
        operation: &'static str,
        /// Fingerprint or description given.
        given: String,
        /// Fingerprint or description wanted.
        wanted: String,
    },
    /// Parameters that do not make a scheme, or not a secure one.
    #[error("parameters: {what}: {remedy}")]
    Parameters {
        /// What is wrong, with numbers.
        what: String,
        /// How to mend it.
        remedy: String,
    },
    /// log2(QP) of a key above the limit for its secret.
    #[error(
        "key `{key}` has log2(QP) = {log2_qp:.1}, above {limit:.0}, the limit for a {secret} secret at N = 2^{log2_n}: shorten the chain, or ask for insecure parameters by name"
    )]
    Insecure {
        /// Which key.
        key: String,
        /// Its modulus in bits.
        log2_qp: f64,
        /// The limit in bits.
        limit: f64,
        /// Kind of secret.
        secret: String,
        /// log2 of the ring degree.
        log2_n: usize,
    },
    /// A shape that cannot be packed, or arguments that disagree in size.
    #[error("{operation}: {what}: {remedy}")]
    Shape {
        /// The operation that asked.
        operation: &'static str,
        /// The numbers that disagree.
        what: String,
        /// How to mend it.
        remedy: String,
    },
    /// Serialized data that is not what it says.
    #[error("{what}: {why}: {remedy}")]
    Format {
        /// What was read, e.g. `ciphertext container` or a file name.
        what: String,
        /// What is wrong, with numbers.
        why: String,
        /// How to mend it.
        remedy: String,
    },
    /// A model directory that cannot be used.
    #[error("model {path}: {why}: {remedy}")]
    Model {
        /// File or directory.
        path: String,
        /// What is wrong, with numbers.
        why: String,
        /// How to mend it.
        remedy: String,
    },
    /// A plan, calibration or checkpoint that belongs to something else, or a plan that cannot be made.
    #[error("plan: {why}: {remedy}")]
    Plan {
        /// What is wrong, with numbers.
        why: String,
        /// How to mend it.
        remedy: String,
    },
    /// Not enough memory for what was asked; found before the work starts.
    #[error(
        "{operation} needs {needed_bytes} bytes of memory, {available_bytes} are available: use a smaller context or model, or a larger machine"
    )]
    Memory {
        /// The operation that asked.
        operation: &'static str,
        /// Bytes it needs.
        needed_bytes: u64,
        /// Bytes there are.
        available_bytes: u64,
    },
    /// An operation the backend does not offer under these parameters.
    #[error("{backend} cannot {operation}: {remedy}")]
    Unsupported {
        /// Name of the backend.
        backend: &'static str,
        /// What was asked.
        operation: String,
        /// How to mend it.
        remedy: String,
    },
    /// A foreign library failed; its own text is kept.
    #[error("{library}: {message}: {remedy}")]
    Foreign {
        /// Name of the library.
        library: &'static str,
        /// Its message.
        message: String,
        /// How to mend it.
        remedy: String,
    },
    /// The library broke its own invariant. A bug here, not in the caller.
    #[error("internal invariant broken: {0}: please report this")]
    Internal(String),
    /// Input or output failed.
    #[error("{path}: {source}: check the path, permissions and free space")]
    Io {
        /// File or directory.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}
