//! `cachemir bench attention`: one token's RoPE, K and V append, Q·Kᵀ and P·V over an encrypted cache, part by part.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::bench_linear::{parameters, shape, widest};
use super::machine::peak_memory_bytes;
use super::report::Report;
use crate::backend::clear::{ClearClient, ClearParameters};
use crate::backend::native::NativeClient;
use crate::contract::{Client, CountingEvaluator, Evaluator, Level, LevelCounts};
use crate::packing::{AttentionPlan, CacheBounds, Grouping, KeyValueCache, Packed, Rope};
use crate::related_work::BlockPlan;

/// Level at which K and V are cached: two levels to read them.
const CACHE_LEVEL: Level = Level(2);

/// Flags of `bench attention`.
#[derive(Args)]
pub struct Attention {
    /// gpt2, smollm2-135m, tinyllama or llama-3-8b.
    #[arg(long, default_value = "llama-3-8b")]
    shape: String,
    /// Tokens in the cache, the new one included.
    #[arg(long, default_value_t = 512)]
    tokens: usize,
    /// How heads are cached.
    #[arg(long, value_enum, default_value_t = Cache::Compact)]
    cache: Cache,
    /// n16, or test (insecure; N = 2^13, or larger where the shape does not fit).
    #[arg(long, visible_alias = "params", default_value = "n16")]
    preset: String,
    /// Also write the findings as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Cache {
    /// Every query head has its own copy of its KV head (the paper).
    Duplicated,
    /// KV heads once, query heads in complex pairs.
    Compact,
    /// As duplicated, with RoPE and K, V in complex numbers: dimensions j and j + head_dim/2 as one.
    Complex,
    /// KV heads once, in complex numbers.
    CompactComplex,
}

impl Cache {
    fn grouping(self) -> Grouping {
        match self {
            Self::Duplicated => Grouping::Duplicated,
            Self::Compact => Grouping::Compact,
            Self::Complex => Grouping::Complex,
            Self::CompactComplex => Grouping::CompactComplex,
        }
    }
}

#[derive(Serialize)]
struct Part {
    part: &'static str,
    seconds: f64,
    #[serde(flatten)]
    counts: LevelCounts,
}

#[derive(Serialize)]
struct Body {
    shape: String,
    cache: Cache,
    tokens: usize,
    key_ciphertexts: usize,
    value_ciphertexts: usize,
    precision_min_bits: f64,
    peak_bytes: Option<u64>,
    parts: Vec<Part>,
}

/// A number in −1 .. 1 that depends on its place only.
fn number(token: usize, head: usize, dimension: usize, seed: usize) -> f64 {
    ((token * 31 + head * 17 + dimension * 7 + seed) as f64).sin()
}

/// Score ciphertexts, and the weighted sums of values.
type ScoresAndSums<C> = (Vec<C>, Packed<C>);

/// RoPE of the last token (where the model has it), its append, scores and weighted values; the part's name goes to `done`.
fn steps<E: Evaluator>(
    evaluator: &E,
    plan: &AttentionPlan,
    rope: Option<&Rope>,
    cache: &mut KeyValueCache<E::Ciphertext>,
    encrypt: impl Fn(&[crate::contract::Complex64], Level) -> crate::Result<E::Ciphertext>,
    mut done: impl FnMut(&'static str),
) -> crate::Result<ScoresAndSums<E::Ciphertext>> {
    let (stored, offset, token) = (plan.stored(), cache.next_offset()?, cache.tokens());
    let layout = stored.vector().at_offset(offset)?;
    let place = |seed| move |head, j| number(token, head, j, seed);
    // RoPE takes a level.
    let level = Level(CACHE_LEVEL.0 + usize::from(rope.is_some()));
    let mut key = Packed::new(encrypt(&stored.key_values(offset, place(1)), level)?, layout);
    let value = Packed::new(encrypt(&stored.values(offset, place(2)), Level(CACHE_LEVEL.0 + 1))?, layout);
    let mut queries = (0..plan.queries())
        .map(|query| Ok(Packed::new(encrypt(&stored.values(0, place(3 + query)), level)?, stored.vector())))
        .collect::<crate::Result<Vec<_>>>()?;
    // Weights come out of the softmax at a level of their own, and sum to at most 1: so do values at level 0, where the modulus
    // leaves little room above the scale.
    let share = 1.0 / (token + 1) as f64;
    let ones = plan.score_layout().values(0, token + 1, |token, head| share * number(token, head, 0, 9));
    let segments = plan.score_layout().segments(token + 1);
    let weights =
        (0..segments).map(|_| encrypt(&ones, Level(CACHE_LEVEL.0 + 1))).collect::<crate::Result<Vec<_>>>()?;
    done("prepare");
    if let Some(rope) = rope {
        key = rope.apply_key(evaluator, &stored, &key, token, 1.0)?;
        for query in &mut queries {
            *query = rope.apply(evaluator, &stored, query, token, 1.0)?;
        }
        done("rope");
    }
    cache.append(evaluator, &key, &value)?;
    done("append");
    let scores = plan.scores(evaluator, &queries, cache, 1.0 / (stored.head_dim() as f64))?;
    done("scores");
    let values = plan.weighted_values(evaluator, &weights, cache)?;
    done("weighted_values");
    Ok((scores, values))
}

impl Attention {
    /// Runs the measurement and prints a table.
    pub fn run(self) -> anyhow::Result<()> {
        let shape = shape(&self.shape)?;
        let (parameters, insecure) = parameters(&self.preset, CACHE_LEVEL.0 + 1, widest(&shape))?;
        let name = parameters.literal().name;
        let bounds =
            CacheBounds { maximum_tokens: self.tokens, key_level: CACHE_LEVEL, value_level: CACHE_LEVEL };
        let plan = BlockPlan::new(parameters.slots(), shape, self.cache.grouping(), bounds)?;
        let plan = *plan.attention();
        println!(
            "{}, {} tokens, {} per K ciphertext, {} lanes per segment, on native {name}",
            self.shape,
            self.tokens,
            plan.stored().tokens(),
            plan.score_layout().lanes()
        );

        // GPT-2 learns its positions.
        let rope = (self.shape != "gpt2").then(|| Rope::new(shape.attention.head_dim, 10_000.0, self.tokens));

        // The tokens before the last enter as the client would prefill them: computed in the clear, then encrypted.
        let clear = ClearClient::new(ClearParameters {
            slots: parameters.slots(),
            chain: parameters.chain().clone(),
            bootstrapping: None,
            noise: None,
        });
        let simulator = clear.dry_run();
        let mut public = KeyValueCache::new(plan.cache_layout());
        for token in 0..self.tokens.saturating_sub(1) {
            public.append_public(
                &simulator,
                |head, j| number(token, head, j, 1),
                |head, j| number(token, head, j, 2),
            )?;
        }
        let mut simulated = public.encrypted(|values, level| clear.encrypt(values, level))?;
        let wanted = steps(
            &simulator,
            &plan,
            rope.as_ref(),
            &mut simulated,
            |values, level| clear.encrypt(values, level),
            |_| (),
        )?;

        eprintln!("making keys and encrypting the cache");
        let native = NativeClient::new(parameters)?;
        let evaluator = CountingEvaluator::new(native.evaluator(&simulator.recorded())?);
        let mut cache = public.encrypted(|values, level| native.encrypt(values, level))?;
        drop(public);
        let mut parts = Vec::new();
        let mut start = Instant::now();
        let got = steps(
            &evaluator,
            &plan,
            rope.as_ref(),
            &mut cache,
            |values, level| native.encrypt(values, level),
            |part| {
                let (seconds, counts) = (start.elapsed().as_secs_f64(), evaluator.take_counts().total());
                if part != "prepare" {
                    println!(
                        "{part:16} {seconds:9.3} s   {} ciphertext products, {} plaintext products, {} rotations ({} hoisted), {} conjugations",
                        counts.ciphertext_products,
                        counts.plaintext_products,
                        counts.rotations + counts.rotations_hoisted,
                        counts.rotations_hoisted,
                        counts.conjugations
                    );
                    parts.push(Part { part, seconds, counts });
                }
                start = Instant::now();
            },
        )?;

        let mut error: f64 = 0.0;
        let pairs = got.0.iter().zip(&wanted.0).chain([(&got.1.ciphertext, &wanted.1.ciphertext)]);
        for (got, want) in pairs {
            let (got, want) = (native.decrypt(got)?, clear.decrypt(want)?);
            let largest = want.iter().map(|value| value.norm()).fold(1.0, f64::max);
            error = got.iter().zip(&want).map(|(a, b)| (a - b).norm() / largest).fold(error, f64::max);
        }
        let (key_ciphertexts, value_ciphertexts) = cache.ciphertexts();
        let precision_min_bits = -error.log2();
        println!(
            "{key_ciphertexts} K and {value_ciphertexts} V ciphertexts, precision {precision_min_bits:.1} bits"
        );
        let peak_bytes = peak_memory_bytes();
        if let Some(bytes) = peak_bytes {
            println!("peak memory {:.2} GiB", bytes as f64 / f64::from(1u32 << 30));
        }
        if let Some(path) = self.json {
            let body = Body {
                shape: self.shape,
                cache: self.cache,
                tokens: self.tokens,
                key_ciphertexts,
                value_ciphertexts,
                precision_min_bits,
                peak_bytes,
                parts,
            };
            Report::new("bench attention", "native", name, insecure, body).write(&path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(shape: &str, tokens: usize, cache: Cache) -> anyhow::Result<serde_json::Value> {
        let folder = tempfile::tempdir()?;
        let json = folder.path().join("parts.json");
        let (shape, preset) = (shape.to_owned(), "test".to_owned());
        Attention { shape, tokens, cache, preset, json: Some(json.clone()) }.run()?;
        Ok(serde_json::from_slice(&std::fs::read(json)?)?)
    }

    /// SmolLM2 (9 heads over 3 of 64) in 4096 slots, 14 tokens: 4 tokens in a K ciphertext when duplicated, 8 otherwise. Three
    /// query heads of a group are two pairs, or three vectors of complex heads.
    #[test]
    fn every_way_to_cache_runs_at_the_test_preset_with_the_counts_of_its_form() {
        let found = [Cache::Duplicated, Cache::Compact, Cache::Complex, Cache::CompactComplex].map(|cache| {
            let report = run("smollm2-135m", 14, cache).unwrap();
            assert_eq!(report["insecure"], true);
            let bits = report["precision_min_bits"].as_f64().unwrap();
            assert!(bits > 10.0, "{bits} bits: {report}");
            let parts = report["parts"].as_array().unwrap();
            let names: Vec<&str> = parts.iter().map(|part| part["part"].as_str().unwrap()).collect();
            assert_eq!(names, ["rope", "append", "scores", "weighted_values"]);
            let count = |part: usize, key: &str| parts[part][key].as_u64().unwrap();
            let switches = count(0, "rotations") + count(0, "rotations_hoisted");
            [
                report["key_ciphertexts"].as_u64().unwrap(),
                report["value_ciphertexts"].as_u64().unwrap(),
                switches,
                count(2, "ciphertext_products"),
                count(2, "conjugations"),
            ]
        });
        // K ciphertexts, lanes, rotations of RoPE, products and conjugations of the scores.
        assert_eq!(found, [[4, 4, 2, 4, 0], [2, 2, 3, 4, 1], [2, 2, 0, 2, 1], [2, 2, 0, 6, 1]]);
    }

    #[test]
    fn shapes_without_rope_skip_it_and_unknown_ones_are_refused() {
        let report = run("gpt2", 3, Cache::Complex).unwrap();
        assert_eq!(report["parts"].as_array().unwrap().len(), 3);
        assert!(run("gpt5", 3, Cache::Complex).unwrap_err().to_string().contains("gpt5"));
    }
}
