//! Saving and loading caches.

use super::{client, number};
use crate::backend::clear::{ClearCiphertext, ClearEvaluator};
use crate::contract::{Client, Level};
use crate::packing::{
    AttentionPlan, AttentionShape, CacheBounds, CacheLayout, Grouping, KeyValueCache, Packed,
};

fn plan(grouping: Grouping, maximum_tokens: usize) -> AttentionPlan {
    let shape = AttentionShape { heads: 2, kv_heads: 2, head_dim: 4 };
    let bounds = CacheBounds { maximum_tokens, key_level: Level(2), value_level: Level(2) };
    let ring = if grouping == Grouping::Complex { 4 } else { 8 };
    AttentionPlan::new(32, ring, shape, grouping, bounds).unwrap()
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
        let (stored, offset) = (plan.stored(), cache.next_offset().unwrap());
        let layout = stored.vector().at_offset(offset).unwrap();
        let key = stored.key_values(offset, |h, j| number(i as u64, 4 * h + j));
        let value = stored.values(offset, |h, j| number(50 + i as u64, 4 * h + j));
        let [key, value] =
            [key, value].map(|slots| Packed::new(client.encrypt(&slots, Level(3)).unwrap(), layout));
        cache.append(&evaluator, &key, &value).unwrap();
    }
    (cache, evaluator)
}

#[test]
fn a_loaded_cache_gives_the_same_scores_and_takes_more_tokens() {
    let client = client(32, 4);
    for (grouping, public, encrypted) in [Grouping::Duplicated, Grouping::Complex]
        .into_iter()
        .flat_map(|g| [(0, 0), (5, 0), (0, 4), (3, 2), (9, 11)].map(|(p, e)| (g, p, e)))
    {
        let plan = plan(grouping, 30);
        let (cache, evaluator) = filled(&plan, public, encrypted);
        let bytes = cache.to_bytes(&evaluator).unwrap();
        let mut loaded = KeyValueCache::from_bytes(&evaluator, plan.cache_layout(), &bytes).unwrap();
        assert_eq!(loaded.tokens(), public + encrypted);
        assert_eq!(loaded.ciphertexts(), cache.ciphertexts());
        loaded.append_public(&evaluator, |_, _| 1.0, |_, _| 2.0).unwrap();
        let mut cache = cache;
        cache.append_public(&evaluator, |_, _| 1.0, |_, _| 2.0).unwrap();
        let stored = plan.stored();
        let q = stored.values(0, |h, j| number(99, 4 * h + j));
        let q = Packed::new(client.encrypt(&q, Level(2)).unwrap(), stored.vector());
        let scores = |cache| plan.scores(&evaluator, std::slice::from_ref(&q), cache, 1.0).unwrap();
        let what = format!("{grouping:?}, {public} public, {encrypted} encrypted tokens");
        assert_eq!(scores(&cache), scores(&loaded), "{what}");
        let weights =
            vec![client.encrypt(&[], Level(2)).unwrap(); plan.score_layout().segments(cache.tokens())];
        let values = |cache| plan.weighted_values(&evaluator, &weights, cache).unwrap().ciphertext;
        assert_eq!(values(&cache), values(&loaded), "{what}");
    }
}

/// A layout written before heads had a form reads as one of real heads; layouts of the other form are refused.
#[test]
fn the_form_of_the_heads_is_part_of_the_layout_and_real_where_it_is_missing() {
    let (real, complex) = (plan(Grouping::Duplicated, 30), plan(Grouping::Complex, 30));
    let text = serde_json::to_string(&real.cache_layout()).unwrap();
    let older = text.replace(",\"form\":\"Real\"", "");
    assert_ne!(text, older, "{text}");
    assert_eq!(serde_json::from_str::<CacheLayout>(&older).unwrap(), real.cache_layout());
    let (cache, evaluator) = filled(&complex, 2, 2);
    let bytes = cache.to_bytes(&evaluator).unwrap();
    let error = KeyValueCache::<ClearCiphertext>::from_bytes(&evaluator, real.cache_layout(), &bytes);
    let text = error.unwrap_err().to_string();
    assert!(text.contains("form: Complex") && text.contains("form: Real"), "{text}");
}

#[test]
fn damaged_and_foreign_caches_are_refused_without_panic() {
    for grouping in [Grouping::Duplicated, Grouping::Complex] {
        refuse_damage(grouping);
    }
}

fn refuse_damage(grouping: Grouping) {
    let wanted = plan(grouping, 30);
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
    let other = plan(grouping, 60);
    let error = KeyValueCache::<ClearCiphertext>::from_bytes(&evaluator, other.cache_layout(), &bytes);
    assert!(error.unwrap_err().to_string().contains("laid out as"));
}
