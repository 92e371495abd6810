//! How embeddings enter the encrypted decoder and hidden states leave it: the client's side of the layouts.

use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::contract::{Complex64, Level, Result};
use crate::packing::Wave;

use crate::decoder::layout::DecoderLayout;
use crate::decoder::plan::DecoderPlan;
use crate::decoder::products::norm_factors;
use crate::model::config::LlamaConfig;

/// Packs embeddings and unpacks hidden states; knows the plan's scales, no weights and no keys.
#[derive(Clone, Debug)]
pub struct HiddenCodec {
    layout: DecoderLayout,
    hidden_size: usize,
    embedding: f64,
    /// What each feature is divided by before the final norm.
    last: Vec<f64>,

    input_level: Level,
    final_norm: InverseSquareRoot,
}

impl HiddenCodec {
    /// Codec for a model of shape `config` under `plan` in `slots` slots.
    ///
    /// # Errors
    /// Errors of [`DecoderLayout::new`].
    pub fn new(config: &LlamaConfig, plan: &DecoderPlan, slots: usize, context: usize) -> Result<Self> {
        Ok(Self {
            layout: DecoderLayout::new(config, slots, context)?,
            hidden_size: config.hidden_size,
            embedding: plan.embedding,
            last: plan.entering(plan.layers.len(), config.hidden_size),

            input_level: plan.input_level,
            final_norm: plan.final_norm.clone(),
        })
    }

    /// Level at which embeddings are encrypted.
    #[must_use]
    pub fn input_level(&self) -> Level {
        self.input_level
    }

    /// Slot values of an embedding.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for fewer values than the hidden size.
    pub fn pack(&self, embedding: &[f64]) -> Result<Vec<Complex64>> {
        let scaled: Vec<f64> = embedding.iter().map(|x| x / self.embedding).collect();

        self.layout.hidden_order.pack(&self.layout.hidden, &scaled)
    }

    /// Slot values of consecutive embeddings, side by side, for [`crate::decoder::Decoder::step_wave`].
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for no or too many embeddings, or one with fewer values than the hidden size.
    pub fn pack_wave(&self, embeddings: &[Vec<f64>]) -> Result<Vec<Complex64>> {
        let wave = Wave::new(self.layout.hidden, embeddings.len())?;
        let packed: Vec<_> = embeddings.iter().map(|x| self.pack(x)).collect::<Result<_>>()?;
        Ok(wave.pack_slots(&packed))
    }

    /// The hidden state after the final norm, without its γ, out of decrypted slots.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the layout does not fit (never with slots of this codec).
    pub fn unpack(&self, slots: &[Complex64]) -> Result<Vec<f64>> {
        let factors = norm_factors(&self.final_norm, &self.last);

        let values = self.layout.hidden_order.unpack(&self.layout.hidden, slots, self.hidden_size)?;
        Ok(values.iter().zip(factors).map(|(value, factor)| value.re * factor).collect())
    }
}
