//! What each step of a layer does, a file for each group of them; this page says which is where.
//!
//! A step gets the values it reads, lowered to the level at which it runs (and above it where [`LayerRun::above`]
//! says so), and returns those it writes. Where nothing lowers them (bootstraps placed by hand), its inputs may stand
//! higher than each other and the step brings them together.

mod head;
mod mlp;
mod norm;
mod projections;
mod residual;
mod rope_and_cache;
mod scores;
mod softmax;
mod values;

use crate::contract::{Error, Evaluator, Result};
use crate::decoder::layer::LayerRun;
use crate::decoder::step::Step;
use crate::decoder::values::Values;
use crate::packing::KeyValueCache;

impl Step {
    /// Does this step of `run` on the values it reads, and returns those it writes. Keys and values go into `cache`,
    /// which the end of the model has not got.
    ///
    /// # Errors
    /// [`Error::Internal`] when a value it reads is missing; those of the evaluator.
    pub(crate) fn apply<E: Evaluator>(
        self,
        run: &LayerRun<'_, E>,
        reads: &Values<E::Ciphertext>,
        cache: Option<&mut KeyValueCache<E::Ciphertext>>,
    ) -> Result<Values<E::Ciphertext>> {
        let cache =
            move || cache.ok_or_else(|| Error::Internal(format!("`{}` without a cache", self.name())));
        match self {
            Self::InputNormSquare => norm::square(run, &run.input_norm(), reads),
            Self::InputNormRoot => norm::root(run, &run.input_norm(), reads),
            Self::InputNormScale => norm::scale(run, &run.input_norm(), reads),
            Self::QueryKeyValue => projections::query_key_value(run, reads),
            Self::Rope => rope_and_cache::rope(run, reads),
            Self::Append => rope_and_cache::append(run, reads, cache()?),
            Self::Scores => scores::scores(run, reads, cache()?),
            Self::Exponential => softmax::exponential(run, reads),
            Self::Denominator => softmax::denominator(run, reads),
            Self::Values => values::numerator(run, reads, cache()?),
            Self::DivideFirst => softmax::divide_first(run, reads),
            Self::DivideLast => softmax::divide_last(run, reads),
            Self::Output => projections::output(run, reads),
            Self::AttentionResidual => residual::after_attention(run, reads),
            Self::PostNormSquare => norm::square(run, &run.post_norm()?, reads),
            Self::PostNormRoot => norm::root(run, &run.post_norm()?, reads),
            Self::PostNormScale => norm::scale(run, &run.post_norm()?, reads),
            Self::UpGate => mlp::up_gate(run, reads),
            Self::Activation => mlp::activation(run, reads),
            Self::GateProduct => mlp::gate_product(run, reads),
            Self::Down => mlp::down(run, reads),
            Self::MlpResidual => residual::after_mlp(run, reads),
            Self::Head => head::logits(run, reads),
        }
    }
}
