//! The output head on the server. Domain: the last token, alone, behind the final norm.

use crate::contract::{Evaluator, Result};
use crate::decoder::head_side::HeadSide;
use crate::decoder::layer::LayerRun;
use crate::decoder::values::{LayerValue, Values};

/// Logits of the token, divided by their bound, at level 0; see [`crate::decoder::head::EncryptedHead`].
pub(super) fn logits<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let hidden = run.lower(reads.one(LayerValue::InputNormed)?, HeadSide::Server.level())?;
    let logits = run.head()?.apply(run.evaluator, &run.shared.layout, hidden)?;
    Ok(Values::new().with(LayerValue::Logits, logits))
}
