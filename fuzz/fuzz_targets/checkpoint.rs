//! Any bytes, under a digest that fits, as the checkpoint of a generation, and its rest as a KV cache on the simulator: an
//! error, or a cache that is written back to the same bytes.
//!
//! `cargo +nightly fuzz run checkpoint fuzz/corpus/checkpoint fuzz/seeds/checkpoint`

#![no_main]

use std::sync::LazyLock;

use cachemir::backend::clear::{ClearClient, ClearEvaluator, ClearParameters};
use cachemir::contract::{Client, KeyRequest, Level};
use cachemir::generation::checkpoint::parse_checkpoint;
use cachemir::packing::{
    AttentionPlan, AttentionShape, CacheBounds, CacheLayout, Grouping, KeyValueCache,
};
use sha2::{Digest, Sha256};

static EVALUATOR: LazyLock<ClearEvaluator> = LazyLock::new(|| {
    let client = ClearClient::new(ClearParameters::new(16, 3, 40).unwrap());
    client.evaluator(&KeyRequest::new()).unwrap()
});

static LAYOUT: LazyLock<CacheLayout> = LazyLock::new(|| {
    let shape = AttentionShape { heads: 2, kv_heads: 2, head_dim: 2 };
    let bounds = CacheBounds { maximum_tokens: 12, key_level: Level(2), value_level: Level(2) };
    AttentionPlan::new(16, 4, shape, Grouping::Duplicated, bounds).unwrap().cache_layout()
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let digest = Sha256::digest(data);
    let bytes = [data, &digest].concat();
    let cache = match parse_checkpoint(&bytes) {
        Ok((_, caches)) => caches,
        Err(_) => data,
    };
    if let Ok(cache) = KeyValueCache::from_bytes(&*EVALUATOR, *LAYOUT, cache) {
        let written = cache.to_bytes(&*EVALUATOR).unwrap();
        let again = KeyValueCache::from_bytes(&*EVALUATOR, *LAYOUT, &written).unwrap();
        assert_eq!(again.to_bytes(&*EVALUATOR).unwrap(), written);
    }
});
