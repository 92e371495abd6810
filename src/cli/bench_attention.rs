//! `cachemir bench attention`: one token's RoPE, K and V append, Q·Kᵀ and P·V over an encrypted cache, part by part.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::bench_linear::levelled_parameters;
use crate::backend::native::NativeClient;
use crate::benchmarks::attention::{
    AttentionCase, AttentionTime, CACHE_LEVEL, attention_plan, attention_time, is_rotary,
};
use crate::benchmarks::linear::block_shape;
use crate::measure::{Report, peak_memory_bytes};
use crate::packing::Grouping;
use crate::pages::attention_table;
use crate::setup::Preset;

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
    #[arg(long, value_enum, default_value_t = Cache::Duplicated)]
    cache: Cache,
    /// n16, or test (insecure; N = 2^13, or larger where the shape does not fit).
    #[arg(long, value_enum, visible_alias = "params", default_value = "n16")]
    preset: Preset,
    /// Also write the findings as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Cache {
    /// Every query head has its own copy of its KV head: the paper's, and what `generate` runs.
    Duplicated,
    /// KV heads once, query heads in complex pairs. Not run by `generate`, like the two below.
    Compact,
    /// A copy of its KV head for every query head, with RoPE and K, V in complex numbers: dimensions j and j +
    /// head_dim/2 as one.
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
struct Body {
    shape: String,
    cache: Cache,
    tokens: usize,
    run_by_generate: bool,
    peak_bytes: Option<u64>,
    #[serde(flatten)]
    time: AttentionTime,
}

impl Attention {
    /// Runs the measurement and prints a table.
    pub fn run(self) -> anyhow::Result<()> {
        let shape = block_shape(&self.shape)?;
        let parameters = levelled_parameters(self.preset, CACHE_LEVEL.0 + 1, &shape)?;
        let (name, slots) = (parameters.literal().name, parameters.slots());
        let (grouping, rotary) = (self.cache.grouping(), is_rotary(&self.shape));
        let case = AttentionCase { shape, tokens: self.tokens, grouping, rotary };
        let plan = attention_plan(&case, slots)?;
        println!(
            "{}, {} tokens, {} per K ciphertext, {} lanes per segment, on native {name}",
            self.shape,
            self.tokens,
            plan.stored().tokens(),
            plan.score_layout().lanes()
        );
        eprintln!("making keys and encrypting the cache");
        let time = attention_time(&NativeClient::new(Arc::clone(&parameters))?, &case)?;
        print!("{}", attention_table(&time.parts));
        println!(
            "{} K and {} V ciphertexts, precision {:.1} bits",
            time.key_ciphertexts, time.value_ciphertexts, time.precision_min_bits
        );
        let peak_bytes = peak_memory_bytes();
        if let Some(bytes) = peak_bytes {
            println!("peak memory {:.2} GiB", bytes as f64 / f64::from(1u32 << 30));
        }
        if let Some(path) = self.json {
            let run_by_generate = grouping == Grouping::Duplicated;
            let (shape, tokens, cache) = (self.shape, self.tokens, self.cache);
            let body = Body { shape, cache, tokens, run_by_generate, peak_bytes, time };
            Report::new("bench attention", "native", name, body).write(&path)?;
        }
        Ok(())
    }
}
