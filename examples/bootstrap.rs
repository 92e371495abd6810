//! CKKS alone: encrypt, use up the levels, bootstrap, compute on, decrypt, and say how many bits are left. On a small
//! ring that claims **no security**; `BootstrapParameters::n16()` in its place is secure.
//!
//! `cargo run --release --example bootstrap`

use std::time::Instant;

use cachemir::backend::native::NativeClient;
use cachemir::bootstrapping::BootstrapParameters;
use cachemir::contract::{
    BootstrapRequest, CiphertextInfo, Client, Complex64, Evaluator, KeyRequest, Level, Result,
};

/// Worst and mean −log2 of the errors of all real and imaginary parts.
fn bits(found: &[Complex64], wanted: &[Complex64]) -> (f64, f64) {
    let errors = found.iter().zip(wanted).map(|(x, y)| x - y).flat_map(|z| [z.re, z.im]);
    let bits: Vec<f64> = errors.map(|error| -error.abs().max(f64::MIN_POSITIVE).log2()).collect();
    (bits.iter().copied().fold(f64::INFINITY, f64::min), bits.iter().sum::<f64>() / bits.len() as f64)
}

fn main() -> Result<()> {
    println!("parameters: INSECURE, for tests and examples only");
    // N = 2^11, three levels between bootstraps. The client keeps the secret key.
    let client = NativeClient::with_bootstrapping(BootstrapParameters::test(11, 3), None)?;
    let slots = client.slots();

    // The server gets evaluation keys only: for products, and for bootstraps of all slots.
    let mut keys = KeyRequest::new();
    keys.bootstrapping(slots);
    let server = client.evaluator(&keys)?;
    let Some(bootstrap) = server.bootstrapping() else { unreachable!("its keys were asked for") };

    let mut wanted: Vec<Complex64> =
        (0..slots).map(|s| Complex64::from_polar(0.99, s as f64 * 0.37)).collect();
    let mut x = client.encrypt(&wanted, bootstrap.output_level)?;
    println!("encrypted at {}: {:.1?} bits", x.level(), bits(&client.decrypt(&x)?, &wanted));

    // Squares, down to the lowest level from which a bootstrap can start.
    while x.level() > bootstrap.minimum_input_level {
        x = server.mul(&x, &x)?;
        wanted.iter_mut().for_each(|value| *value *= *value);
    }
    println!("at {} after products: {:.1?} bits", x.level(), bits(&client.decrypt(&x)?, &wanted));

    let start = Instant::now();
    let request = BootstrapRequest::all(bootstrap.output_level, slots);
    let x = server.bootstrap(&x, &request)?;
    println!("bootstrapped to {} in {:.2?}", x.level(), start.elapsed());
    // Unlike a plain decryption this reports values that were too large to be bootstrapped.
    let found = client.decrypt_bootstrapped(&x, bootstrap)?;
    println!("worst and mean: {:.1?} bits", bits(&found, &wanted));

    let x = server.lower(&server.mul(&x, &x)?, Level(0))?;
    wanted.iter_mut().for_each(|value| *value *= *value);
    println!("and computed on: {:.1?} bits", bits(&client.decrypt(&x)?, &wanted));
    Ok(())
}
