//! Saving and loading caches.

use super::{client, encrypt, vector};
use crate::backend::clear::{ClearCiphertext, ClearEvaluator};
use crate::contract::Level;
use crate::packing::{AttentionPlan, AttentionShape, CacheBounds, Grouping, KeyValueCache, Order};

fn plan(maximum_tokens: usize) -> AttentionPlan {
    let shape = AttentionShape { heads: 2, kv_heads: 2, head_dim: 4 };
    let bounds = CacheBounds { maximum_tokens, key_level: Level(2), value_level: Level(2) };
    AttentionPlan::new(32, 8, shape, Grouping::Duplicated, bounds).unwrap()
}

/// A cache of `public` public and then `encrypted` encrypted tokens, and an evaluator.
fn filled(
    plan: &AttentionPlan,
    public: usize,
    encrypted: usize,
) -> (KeyValueCache<ClearCiphertext>, ClearEvaluator) {
    let client = client(32, 4);
    let evaluator = client.dry_run();
    let mut cache = KeyValueCache::new(plan.cache_layout());
    for i in 0..public {
        cache.append_public(&evaluator, |h, j| (h + j + i) as f64, |h, j| (h * j + i) as f64).unwrap();
    }
    for i in 0..encrypted {
        let layout = plan.stored().vector().at_offset(cache.next_offset().unwrap()).unwrap();
        let order = Order::plain(&layout, 8);
        let key = encrypt(&client, layout, &order, &vector(i as u64, 8), 3);
        let value = encrypt(&client, layout, &order, &vector(50 + i as u64, 8), 3);
        cache.append(&evaluator, &key, &value).unwrap();
    }
    (cache, evaluator)
}

#[test]
fn a_loaded_cache_gives_the_same_scores_and_takes_more_tokens() {
    let (plan, client) = (plan(30), client(32, 4));
    for (public, encrypted) in [(0, 0), (5, 0), (0, 4), (3, 2), (9, 11)] {
        let (cache, evaluator) = filled(&plan, public, encrypted);
        let bytes = cache.to_bytes(&evaluator).unwrap();
        let mut loaded = KeyValueCache::from_bytes(&evaluator, plan.cache_layout(), &bytes).unwrap();
        assert_eq!(loaded.tokens(), public + encrypted);
        assert_eq!(loaded.ciphertexts(), cache.ciphertexts());
        loaded.append_public(&evaluator, |_, _| 1.0, |_, _| 2.0).unwrap();
        let mut cache = cache;
        cache.append_public(&evaluator, |_, _| 1.0, |_, _| 2.0).unwrap();
        let layout = plan.stored().vector();
        let q = encrypt(&client, layout, &Order::plain(&layout, 8), &vector(99, 8), 2);
        let scores = |cache| plan.scores(&evaluator, std::slice::from_ref(&q), cache, 1.0).unwrap();
        assert_eq!(scores(&cache), scores(&loaded), "{public} public, {encrypted} encrypted tokens");
    }
}

#[test]
fn damaged_and_foreign_caches_are_refused_without_panic() {
    let wanted = plan(30);
    let (cache, evaluator) = filled(&wanted, 3, 4);
    let bytes = cache.to_bytes(&evaluator).unwrap();
    let load =
        |bytes: &[u8]| KeyValueCache::<ClearCiphertext>::from_bytes(&evaluator, wanted.cache_layout(), bytes);
    for length in (0..bytes.len()).step_by(7) {
        assert!(load(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(load(&longer).is_err());
    // Every byte of the magic, the lengths and the header changed in turn; some changes keep the header valid.
    for index in 0..200 {
        let mut damaged = bytes.clone();
        damaged[index] ^= 0x40;
        if let Ok(cache) = load(&damaged) {
            assert_eq!(cache.layout(), &wanted.cache_layout(), "byte {index}");
        }
    }
    let mut huge = bytes.clone();
    huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    let text = load(&huge).unwrap_err().to_string();
    assert!(text.contains("bytes"), "{text}");
    let other = plan(60);
    let error = KeyValueCache::<ClearCiphertext>::from_bytes(&evaluator, other.cache_layout(), &bytes);
    assert!(error.unwrap_err().to_string().contains("laid out as"));
}
