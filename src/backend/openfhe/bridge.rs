//! The functions and opaque types that cross to C++ (`cpp/`), chosen by hand.
//!
//! Every function is fallible: a C++ exception arrives as `cxx::Exception` with OpenFHE's text. Nothing here checks
//! levels, scales or keys; the callers in this folder do, and they hold the one lock of [`super::library`].
#![allow(unsafe_code, reason = "the foreign-function boundary; each `unsafe` states why it holds")]
#![allow(clippy::panic, reason = "in code that cxx generates; a slice that large cannot exist")]

#[cxx::bridge(namespace = "cachemir")]
pub(super) mod ffi {
    unsafe extern "C++" {
        include!("cachemir/cpp/objects.h");
        type Context;
        type SecretKey;
        type Polynomial;
        type Ciphertext;
        type Digits;
    }

    unsafe extern "C++" {
        include!("cachemir/cpp/context.h");
        fn library_version() -> Result<String>;
        fn new_context(
            log2_n: u32,
            depth: u32,
            log2_scale: u32,
            log2_base: u32,
            digits: u32,
            encapsulated: bool,
        ) -> Result<UniquePtr<Context>>;
        fn chain_moduli(context: &Context) -> Result<Vec<u64>>;
        fn special_moduli(context: &Context) -> Result<Vec<u64>>;
        fn bootstrap_depth(budget_encode: u32, budget_decode: u32, encapsulated: bool) -> Result<u32>;
        fn listed_contexts() -> Result<u64>;
    }

    unsafe extern "C++" {
        include!("cachemir/cpp/keys.h");
        fn generate_secret_key(context: &Context) -> Result<UniquePtr<SecretKey>>;
        fn key_tag(key: &SecretKey) -> Result<String>;
        fn generate_relinearization_key(context: &Context, key: &SecretKey) -> Result<()>;
        fn generate_rotation_keys(context: &Context, key: &SecretKey, steps: &[i32]) -> Result<()>;
        fn generate_conjugation_key(context: &Context, key: &SecretKey) -> Result<()>;
        fn clear_keys(tag: &str) -> Result<()>;
        fn count_keys(tag: &str) -> Result<u64>;
        fn count_key_tags() -> Result<u64>;
        fn key_bytes(tag: &str) -> Result<u64>;
    }

    unsafe extern "C++" {
        include!("cachemir/cpp/encoding.h");
        fn encode(context: &Context, values: &[f64], scale: f64, limbs: u32)
        -> Result<SharedPtr<Polynomial>>;
        fn encrypt(
            context: &Context,
            key: &SecretKey,
            plaintext: &Polynomial,
        ) -> Result<SharedPtr<Ciphertext>>;
        fn decrypt(context: &Context, key: &SecretKey, a: &Ciphertext, scale: f64) -> Result<Vec<f64>>;
    }

    unsafe extern "C++" {
        include!("cachemir/cpp/arithmetic.h");
        fn add(context: &Context, a: &Ciphertext, b: &Ciphertext) -> Result<SharedPtr<Ciphertext>>;
        fn subtract(context: &Context, a: &Ciphertext, b: &Ciphertext) -> Result<SharedPtr<Ciphertext>>;
        fn negate(context: &Context, a: &Ciphertext) -> Result<SharedPtr<Ciphertext>>;
        fn add_polynomial(context: &Context, a: &Ciphertext, p: &Polynomial)
        -> Result<SharedPtr<Ciphertext>>;
        fn multiply_polynomial(
            context: &Context,
            a: &Ciphertext,
            p: &Polynomial,
        ) -> Result<SharedPtr<Ciphertext>>;
        fn add_constant(
            context: &Context,
            a: &Ciphertext,
            real: &[u64],
            imaginary: &[u64],
        ) -> Result<SharedPtr<Ciphertext>>;
        fn multiply_constant(
            context: &Context,
            a: &Ciphertext,
            real: &[u64],
            imaginary: &[u64],
        ) -> Result<SharedPtr<Ciphertext>>;
        fn multiply_by_i(context: &Context, a: &Ciphertext) -> Result<SharedPtr<Ciphertext>>;
        fn tensor(context: &Context, a: &Ciphertext, b: &Ciphertext) -> Result<SharedPtr<Ciphertext>>;
        fn relinearize(context: &Context, a: &Ciphertext) -> Result<SharedPtr<Ciphertext>>;
        fn rescale(context: &Context, a: &Ciphertext) -> Result<SharedPtr<Ciphertext>>;
        fn keep_limbs(context: &Context, a: &Ciphertext, limbs: u32) -> Result<SharedPtr<Ciphertext>>;
        fn limb_count(a: &Ciphertext) -> Result<u32>;
    }

    unsafe extern "C++" {
        include!("cachemir/cpp/rotation.h");
        fn rotate(context: &Context, a: &Ciphertext, step: u32) -> Result<SharedPtr<Ciphertext>>;
        fn decompose(context: &Context, a: &Ciphertext) -> Result<UniquePtr<Digits>>;
        fn rotate_hoisted(
            context: &Context,
            a: &Ciphertext,
            digits: &Digits,
            step: u32,
        ) -> Result<SharedPtr<Ciphertext>>;
        fn conjugate(context: &Context, a: &Ciphertext) -> Result<SharedPtr<Ciphertext>>;
    }

    unsafe extern "C++" {
        include!("cachemir/cpp/bootstrap.h");
        fn prepare_bootstrap(
            context: &Context,
            slots: u32,
            budget_encode: u32,
            budget_decode: u32,
            correction_factor: u32,
        ) -> Result<()>;
        fn generate_bootstrap_keys(context: &Context, key: &SecretKey, slots: u32) -> Result<()>;
        fn bootstrap(
            context: &Context,
            a: &Ciphertext,
            scale: f64,
            slots: u32,
            iterations: u32,
            precision: u32,
        ) -> Result<SharedPtr<Ciphertext>>;
        fn scaling_factor(a: &Ciphertext) -> Result<f64>;
    }

    unsafe extern "C++" {
        include!("cachemir/cpp/residues.h");
        fn export_ciphertext(context: &Context, a: &Ciphertext) -> Result<Vec<u64>>;
        fn import_ciphertext(
            context: &Context,
            tag: &str,
            limbs: u32,
            residues: &[u64],
        ) -> Result<SharedPtr<Ciphertext>>;
    }
}

// SAFETY: the C++ objects own their data through std::shared_ptr, whose counts are atomic, and hold no thread-local
// state. A context changes only when bootstrapping tables are prepared; that, like every other call, happens under the
// lock of `super::library`, so no two threads are inside OpenFHE at once.
unsafe impl Send for ffi::Context {}
// SAFETY: as above.
unsafe impl Sync for ffi::Context {}
// SAFETY: never changed after key generation.
unsafe impl Send for ffi::SecretKey {}
// SAFETY: as above.
unsafe impl Sync for ffi::SecretKey {}
// SAFETY: the pointee is const; no function changes a polynomial after it was made.
unsafe impl Send for ffi::Polynomial {}
// SAFETY: as above.
unsafe impl Sync for ffi::Polynomial {}
// SAFETY: the pointee is const, and every C++ function copies before it writes.
unsafe impl Send for ffi::Ciphertext {}
// SAFETY: as above.
unsafe impl Sync for ffi::Ciphertext {}
