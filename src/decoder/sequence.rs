//! How a sequence begins: empty, behind a public prefix, or filled to count and to time with.

use crate::contract::{Error, Evaluator, Level, Result};
use crate::decoder::Decoder;
use crate::decoder::layer::{of_dimension, of_head};
use crate::decoder::state::DecoderState;
use crate::model::reference::KeyValueCache as ReferenceCache;
use crate::packing::{CacheLayout, KeyValueCache};

impl Decoder {
    /// An empty sequence.
    #[must_use]
    pub fn new_state<C: Clone>(&self) -> DecoderState<C> {
        DecoderState {
            caches: self.cache_layouts().into_iter().map(KeyValueCache::new).collect(),
            position: 0,
        }
    }

    /// A sequence whose caches hold `tokens` encrypted tokens in every layer, their ciphertexts made by
    /// `encrypt(level)`: a state to count or to time a decode step from.
    ///
    /// # Errors
    /// [`Error::Shape`] when the context is shorter; those of `encrypt`.
    pub fn filled_state<C: Clone>(
        &self,
        tokens: usize,
        encrypt: impl Fn(Level) -> Result<C>,
    ) -> Result<DecoderState<C>> {
        let filled = |layout| KeyValueCache::filled(layout, tokens, &encrypt);
        let caches = self.cache_layouts().into_iter().map(filled).collect::<Result<_>>()?;
        Ok(DecoderState { caches, position: tokens })
    }

    /// Layouts of the caches, one a layer.
    pub(crate) fn cache_layouts(&self) -> Vec<CacheLayout> {
        self.blocks().map(|block| block.attention.cache_layout()).collect()
    }

    /// Appends a public prefix, computed in the clear by the reference model: its keys and values enter as plaintexts.
    ///
    /// # Errors
    /// [`Error::Shape`] when the context is shorter than the prefix, or the prefix belongs to a model of another
    /// shape.
    pub fn append_public_prefix<E: Evaluator>(
        &self,
        evaluator: &E,
        state: &mut DecoderState<E::Ciphertext>,
        prefix: &ReferenceCache,
    ) -> Result<()> {
        let width = self.config.num_key_value_heads * self.config.head_dim;
        let refuse = |what: String| Error::Shape {
            operation: "public prefix",
            what,
            remedy: "compute the prefix with the model of this decoder".to_owned(),
        };
        for (index, (block, cache)) in self.blocks().zip(&mut state.caches).enumerate() {
            let (Some(keys), Some(values)) = (prefix.keys(index), prefix.values(index)) else {
                return Err(refuse(format!("it has no layer {index}")));
            };
            if keys.ncols() != width || values.dim() != keys.dim() {
                let (found, of) = (keys.dim(), values.dim());
                return Err(refuse(format!(
                    "keys of {found:?} and values of {of:?} where tokens have {width}"
                )));
            }
            let functions = &block.functions.attention;
            for (keys, values) in keys.rows().into_iter().zip(values.rows()) {
                // Every feature is there, by the check above.
                let entry = |row: &ndarray::ArrayView1<'_, f32>, head: usize, dimension: usize| {
                    row.get(block.attention.kv_feature(head, dimension)).map_or(f64::NAN, |x| f64::from(*x))
                };
                cache.append_public(
                    evaluator,
                    |head, j| entry(&keys, head, j) - of_dimension(&functions.shifts, head, j),
                    |head, j| entry(&values, head, j) * of_head(&functions.value_factors, head),
                )?;
            }
        }
        state.position += prefix.positions();
        Ok(())
    }
}
