//! Encrypt two vectors, multiply and rotate them on the server's side, decrypt: on the simulator and on the native
//! backend, with the same code.
//!
//! `cargo run --release --example ckks_basics`

use std::sync::Arc;

use cachemir::backend::clear::{ClearClient, ClearParameters};
use cachemir::backend::native::{NativeClient, test_levelled};
use cachemir::ckks::Parameters;
use cachemir::contract::{Client, Complex64, Evaluator, KeyRequest, Level, Result};

/// The server's work: rot(x · y, 1). It sees ciphertexts and evaluation keys only.
fn serve<E: Evaluator>(evaluator: &E, x: &E::Ciphertext, y: &E::Ciphertext) -> Result<E::Ciphertext> {
    evaluator.rotate(&evaluator.mul(x, y)?, 1)
}

/// The client's work: encrypt, send, receive, decrypt. Returns the first slots and the error.
fn ask<C: Client>(client: &C, keys: &KeyRequest) -> Result<(Vec<f64>, f64)> {
    let server = client.evaluator(keys)?;
    let slots = client.slots();
    let x: Vec<Complex64> = (0..slots).map(|s| Complex64::new(s as f64 / slots as f64, 0.0)).collect();
    let y: Vec<Complex64> = (0..slots).map(|s| Complex64::new(0.5, 1.0 / (s + 1) as f64)).collect();
    let level = Level(1);
    let answer = serve(&server, &client.encrypt(&x, level)?, &client.encrypt(&y, level)?)?;
    let decrypted = client.decrypt(&answer)?;
    let mut expected: Vec<Complex64> = x.iter().zip(&y).map(|(x, y)| x * y).collect();
    expected.rotate_left(1);
    let error = decrypted.iter().zip(&expected).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max);
    Ok((decrypted.iter().take(4).map(|z| z.re).collect(), error))
}

fn main() -> Result<()> {
    // A dry run on the simulator says which keys the circuit needs, and up to which level.
    let parameters = Arc::new(Parameters::new(test_levelled(12, 2))?);
    let clear = ClearClient::new(ClearParameters {
        slots: parameters.slots(),
        chain: parameters.chain().clone(),
        bootstrapping: None,
        noise: None,
    });
    let dry = clear.dry_run();
    let x = clear.encrypt(&[], Level(1))?;
    serve(&dry, &x, &x)?;
    let keys = dry.recorded();
    println!("keys needed: {keys:?}");

    let (slots, error) = ask(&clear, &keys)?;
    println!("clear : {slots:.6?} …, largest error 2^{:.1}", error.log2());
    println!("native parameters below are INSECURE, for tests and examples only");
    let (slots, error) = ask(&NativeClient::new(parameters)?, &keys)?;
    println!("native: {slots:.6?} …, largest error 2^{:.1}", error.log2());
    Ok(())
}
