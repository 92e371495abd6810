//! `cachemir bench attention`: one token's K and V append, Q·Kᵀ and P·V over an encrypted cache, part by part.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::bench_linear::{parameters, shape, widest};
use super::machine::peak_memory_bytes;
use super::report::Report;
use cachemir::backend::clear::{ClearClient, ClearParameters};
use cachemir::backend::native::NativeClient;
use cachemir::contract::{Client, CountingEvaluator, Evaluator, Level, LevelCounts};
use cachemir::packing::{AttentionPlan, BlockPlan, CacheBounds, Grouping, KeyValueCache, Packed};

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
    /// How grouped heads are cached.
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

/// Append of the last token, scores and weighted values; the part's name goes to `done`.
fn steps<E: Evaluator>(
    evaluator: &E,
    plan: &AttentionPlan,
    cache: &mut KeyValueCache<E::Ciphertext>,
    encrypt: impl Fn(&[cachemir::contract::Complex64], Level) -> cachemir::Result<E::Ciphertext>,
    mut done: impl FnMut(&'static str),
) -> cachemir::Result<ScoresAndSums<E::Ciphertext>> {
    let (stored, offset, token) = (plan.stored(), cache.next_offset()?, cache.tokens());
    let layout = stored.vector().at_offset(offset)?;
    let vector = |seed, offset| stored.values(offset, |head, j| number(token, head, j, seed));
    let key = Packed::new(encrypt(&vector(1, offset), CACHE_LEVEL)?, layout);
    let value = Packed::new(encrypt(&vector(2, offset), Level(CACHE_LEVEL.0 + 1))?, layout);
    let queries = (0..plan.queries())
        .map(|query| Ok(Packed::new(encrypt(&vector(3 + query, 0), CACHE_LEVEL)?, stored.vector())))
        .collect::<cachemir::Result<Vec<_>>>()?;
    // Weights come out of the softmax at a level of their own.
    let ones = plan.score_layout().values(0, token + 1, |token, head| number(token, head, 0, 9));
    let segments = plan.score_layout().segments(token + 1);
    let weights = (0..segments)
        .map(|_| encrypt(&ones, Level(CACHE_LEVEL.0 + 1)))
        .collect::<cachemir::Result<Vec<_>>>()?;
    done("prepare");
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
        let grouping = match self.cache {
            Cache::Duplicated => Grouping::Duplicated,
            Cache::Compact => Grouping::Compact,
        };
        let bounds =
            CacheBounds { maximum_tokens: self.tokens, key_level: CACHE_LEVEL, value_level: CACHE_LEVEL };
        let plan = BlockPlan::new(parameters.slots(), shape, grouping, bounds)?;
        let plan = *plan.attention();
        println!(
            "{}, {} tokens, {} per K ciphertext, {} lanes per segment, on native {name}",
            self.shape,
            self.tokens,
            plan.stored().tokens(),
            plan.score_layout().lanes()
        );

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
        let wanted =
            steps(&simulator, &plan, &mut simulated, |values, level| clear.encrypt(values, level), |_| ())?;

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
            &mut cache,
            |values, level| native.encrypt(values, level),
            |part| {
                let (seconds, counts) = (start.elapsed().as_secs_f64(), evaluator.take_counts().total());
                if part != "prepare" {
                    println!(
                        "{part:16} {seconds:9.3} s   {} ciphertext products, {} plaintext products, {} rotations ({} hoisted)",
                        counts.ciphertext_products,
                        counts.plaintext_products,
                        counts.rotations + counts.rotations_hoisted,
                        counts.rotations_hoisted
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
