//! A matrix times an encrypted vector, as diagonals with a baby-step / giant-step split, on the native backend; the operation
//! counts come from the wrapper that counts.
//!
//! `cargo run --example encrypted_matrix_product`

use std::sync::Arc;

use cachemir::backend::native::{NativeClient, test_levelled};
use cachemir::ckks::Parameters;
use cachemir::contract::{
    Client, Complex64, CountingEvaluator, Diagonal, Evaluator, GiantStep, KeyRequest, Level, LinearTransform,
    Result,
};

/// Rows and columns of the matrix; the vector is repeated to fill all slots.
const SIZE: usize = 64;
const BABIES: usize = 8;

fn entry(row: usize, column: usize) -> f64 {
    ((row * 31 + column * 17) % 13) as f64 / 13.0 - 0.5
}

/// Slot s of diagonal k is M[s, s + k]; inside a giant step it is rotated right by that step.
fn diagonal(k: usize, giant: usize, slots: usize) -> Vec<Complex64> {
    (0..slots)
        .map(|slot| (slot + SIZE - giant) % SIZE)
        .map(|row| Complex64::new(entry(row, (row + k) % SIZE), 0.0))
        .collect()
}

fn main() -> Result<()> {
    println!("parameters: INSECURE, for tests and examples only");
    let client = NativeClient::new(Arc::new(Parameters::new(test_levelled(12, 2))?))?;
    let slots = client.slots();
    let level = Level(1);

    let mut keys = KeyRequest::new();
    let babies: Vec<i64> = (1..BABIES as i64).collect();
    let giants: Vec<i64> = (0..SIZE as i64).step_by(BABIES).collect();
    keys.rotations(&babies, slots, level).rotations(&giants, slots, level);
    let server = CountingEvaluator::new(client.evaluator(&keys)?);

    let x: Vec<f64> = (0..SIZE).map(|i| (i as f64 * 0.3).sin()).collect();
    let repeated: Vec<Complex64> = x.iter().cycle().take(slots).map(|v| Complex64::new(*v, 0.0)).collect();
    let encrypted = client.encrypt(&repeated, level)?;

    let transform = LinearTransform {
        giants: (0..SIZE)
            .step_by(BABIES)
            .map(|giant| GiantStep {
                step: giant as i64,
                babies: (0..BABIES)
                    .map(|baby| {
                        let compute = move || diagonal(giant + baby, giant, slots);
                        (baby as i64, Diagonal::Lazy(Box::new(compute)))
                    })
                    .collect(),
            })
            .collect(),
    };
    let scale = server.chain().canonical_scale(level)?;
    let product = server.rescale(&server.linear_transform(&encrypted, &transform, scale)?)?;

    let decrypted = client.decrypt(&product)?;
    let error = (0..SIZE)
        .map(|row| (0..SIZE).map(|column| entry(row, column) * x.get(column).copied().unwrap_or(0.0)).sum())
        .zip(&decrypted)
        .map(|(expected, found): (f64, &Complex64)| (found.re - expected).abs())
        .fold(0.0, f64::max);
    let counts = server.counts().total();
    println!(
        "{SIZE}×{SIZE}: {} plaintext products, {} hoisted rotations, {} rotations, largest error 2^{:.1}",
        counts.plaintext_products,
        counts.rotations_hoisted,
        counts.rotations,
        error.log2()
    );
    Ok(())
}
