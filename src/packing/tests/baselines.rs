//! The packings to compare with.

use std::sync::Arc;

use super::{client, dense, matrix, number};
use crate::backend::clear::{ClearCiphertext, ClearClient};
use crate::contract::{Client, Complex64, CountingEvaluator, Level};
use crate::packing::Weights;
use crate::related_work::{Moai, Thor};

pub(super) fn rows(seed: u64, tokens: usize, features: usize) -> Vec<Vec<f64>> {
    (0..tokens).map(|t| (0..features).map(|f| number(seed, t * features + f)).collect()).collect()
}

fn encrypt(client: &ClearClient, slots: &[Vec<Complex64>], level: usize) -> Vec<ClearCiphertext> {
    slots.iter().map(|slots| client.encrypt(slots, Level(level)).unwrap()).collect()
}

pub(super) fn project(rows: &[Vec<f64>], weights: &Arc<dyn Weights>) -> Vec<Vec<f64>> {
    rows.iter().map(|row| dense(row, weights.as_ref())).collect()
}

/// Causal scores of a head: [token][distance].
pub(super) fn causal_scores(q: &[Vec<f64>], k: &[Vec<f64>], head: std::ops::Range<usize>) -> Vec<Vec<f64>> {
    (0..q.len())
        .map(|t| {
            let dot = |u: usize| q[t][head.clone()].iter().zip(&k[u][head.clone()]).map(|(a, b)| a * b).sum();
            (0..=t).map(|distance| dot(t - distance)).collect()
        })
        .collect()
}

/// Causal weighted values of a head, weights = scores: [token][feature].
pub(super) fn causal_values(
    scores: &[Vec<f64>],
    v: &[Vec<f64>],
    head: std::ops::Range<usize>,
) -> Vec<Vec<f64>> {
    scores
        .iter()
        .enumerate()
        .map(|(t, row)| {
            head.clone()
                .map(|f| row.iter().enumerate().map(|(distance, s)| s * v[t - distance][f]).sum())
                .collect()
        })
        .collect()
}

#[test]
fn moai_products_and_causal_attention_equal_dense_algebra_at_the_counted_cost() {
    let (slots, tokens, features) = (64, 16, 6);
    let moai = Moai::new(slots, tokens).unwrap();
    let client = client(slots, 4);
    let evaluator = CountingEvaluator::new(client.dry_run());
    let x = rows(1, tokens, features);
    let weights = matrix(2, features, 5);
    let columns = moai.product(&evaluator, &encrypt(&client, &moai.pack(&x), 4), weights.as_ref()).unwrap();
    let want = project(&x, &weights);
    for (o, column) in columns.iter().enumerate() {
        for (t, got) in moai.read(&client.decrypt(column).unwrap()).iter().enumerate() {
            assert!((got - want[t][o]).abs() < 1e-9, "token {t} output {o}: {got} instead of {}", want[t][o]);
        }
    }
    let counts = evaluator.take_counts().total();
    assert_eq!((counts.constant_products, counts.key_switches(), counts.rescales), (features * 5, 0, 5));

    let (q, k, v) = (rows(3, tokens, features), rows(4, tokens, features), rows(5, tokens, features));
    let columns = |rows: &[Vec<f64>], level| encrypt(&client, &moai.pack(rows), level);
    let scores = moai.scores(&evaluator, &columns(&q, 4), &columns(&k, 4), 0.5).unwrap();
    let want = causal_scores(&q, &k, 0..features);
    for (distance, score) in scores.iter().enumerate() {
        for (t, got) in moai.read(&client.decrypt(score).unwrap()).iter().enumerate() {
            let want = want[t].get(distance).map_or(0.0, |s| 0.5 * s);
            assert!((got - want).abs() < 1e-9, "token {t} distance {distance}: {got} instead of {want}");
        }
    }
    let counts = evaluator.take_counts().total();
    // 16 distances in 4 babies and 4 giants: 3 + 3 hoisted rotations per column, 12 of the diagonals turned back.
    assert_eq!(
        (counts.ciphertext_products, counts.relinearizations, counts.rotations_hoisted, counts.rotations),
        (16 * features, 16, 6 * features, 12)
    );
    let weighted = moai.weighted_values(&evaluator, &scores, &columns(&v, 2)).unwrap();
    let halved: Vec<Vec<f64>> = want.iter().map(|row| row.iter().map(|s| 0.5 * s).collect()).collect();
    let want = causal_values(&halved, &v, 0..features);
    for (f, column) in weighted.iter().enumerate() {
        for (t, got) in moai.read(&client.decrypt(column).unwrap()).iter().enumerate() {
            assert!(
                (got - want[t][f]).abs() < 1e-9,
                "token {t} feature {f}: {got} instead of {}",
                want[t][f]
            );
        }
    }
    let counts = evaluator.take_counts().total();
    assert_eq!((counts.ciphertext_products, counts.rotations_hoisted), (16 * features, 3 * features));
}

#[test]
fn thor_products_and_causal_attention_equal_dense_algebra_at_the_counted_cost() {
    for (slots, tokens, head_dim, heads, outputs) in
        [(64, 8, 4, 2, 8), (64, 8, 4, 4, 24), (128, 16, 4, 6, 12), (32, 2, 8, 2, 16)]
    {
        let thor = Thor::new(slots, tokens, head_dim).unwrap();
        let client = client(slots, 4);
        let evaluator = CountingEvaluator::new(client.dry_run());
        let features = heads * head_dim;
        let x = rows(1, tokens, features);
        let weights = matrix(2, features, outputs);
        let y = thor.product(&evaluator, &encrypt(&client, &thor.pack(&x), 4), weights.as_ref()).unwrap();
        let decrypted: Vec<_> = y.iter().map(|y| client.decrypt(y).unwrap()).collect();
        let (got, want) = (thor.unpack(&decrypted, outputs), project(&x, &weights));
        for t in 0..tokens {
            for o in 0..outputs {
                assert!(
                    (got[t][o] - want[t][o]).abs() < 1e-9,
                    "token {t} output {o}: {} {}",
                    got[t][o],
                    want[t][o]
                );
            }
        }
        let counts = evaluator.take_counts().total();
        let pairs = thor.ciphertexts(outputs).div_ceil(2);
        assert_eq!(counts.plaintext_products, thor.ciphertexts(features) * pairs * thor.diagonals());

        let (q, k, v) = (rows(3, tokens, features), rows(4, tokens, features), rows(5, tokens, features));
        let packed = |rows: &[Vec<f64>], level| encrypt(&client, &thor.pack(rows), level);
        let scores = thor.scores(&evaluator, &packed(&q, 4), &packed(&k, 4), 0.5).unwrap();
        let (counts, cts) = (evaluator.take_counts().total(), thor.ciphertexts(features));
        let log = head_dim.ilog2() as usize;
        assert_eq!((counts.ciphertext_products, counts.rotations), (tokens * cts, tokens * cts * log));
        let weighted = thor.weighted_values(&evaluator, &scores, &packed(&v, 2)).unwrap();
        assert_eq!(evaluator.take_counts().total().ciphertext_products, tokens * cts);
        let decrypted: Vec<_> = weighted.iter().map(|y| client.decrypt(y).unwrap()).collect();
        let got = thor.unpack(&decrypted, features);
        for head in 0..heads {
            let range = head * head_dim..(head + 1) * head_dim;
            let scores = causal_scores(&q, &k, range.clone());
            let halved: Vec<Vec<f64>> =
                scores.iter().map(|row| row.iter().map(|s| 0.5 * s).collect()).collect();
            let want = causal_values(&halved, &v, range.clone());
            for t in 0..tokens {
                for (j, f) in range.clone().enumerate() {
                    let (got, want) = (got[t][f], want[t][j]);
                    assert!(
                        (got - want).abs() < 1e-9,
                        "head {head} token {t} dimension {j}: {got} instead of {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn baselines_refuse_sizes_that_do_not_fit() {
    assert!(Moai::new(64, 12).is_err());
    assert!(Moai::new(64, 128).is_err());
    let text = Thor::new(64, 32, 4).unwrap_err().to_string();
    assert!(text.contains("32 tokens of 4"), "{text}");
    let client = client(64, 2);
    let moai = Moai::new(64, 8).unwrap();
    assert!(moai.product(&client.dry_run(), &[], matrix(1, 3, 3).as_ref()).is_err());
}
