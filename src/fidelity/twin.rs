//! The f64 twin of the encrypted decoder ([`crate::fidelity::approximated_model`]) against the exact model,
//! teacher-forced.

use crate::contract::Result;

use crate::decoder::plan::DecoderPlan;
use crate::fidelity::agreement::{Fidelity, FidelitySummary};
use crate::fidelity::approximated_model::ApproximatedFunctions;
use crate::fidelity::bootstrap_noise::BootstrapNoise;
use crate::fidelity::headroom::SiteHeadroom;
use crate::model::block_functions::ExactFunctions;
use crate::model::prepared::PreparedModel;

/// The twin against the exact model.
pub struct TwinOutcome {
    /// The figures.
    pub fidelity: FidelitySummary,
    /// What every site met, in the order of the model.
    pub headroom: Vec<SiteHeadroom>,
}

impl TwinOutcome {
    /// Sites that met an argument outside their interval.
    #[must_use]
    pub fn outside(&self) -> Vec<&SiteHeadroom> {
        self.headroom.iter().filter(|site| site.outside > 0).collect()
    }
}

/// Compares the twin of `plan` with the exact model, teacher-forced, over all positions of `sequences` (private
/// tokens, each behind the public prefix), with noise at the plan's bootstraps when given. `progress` is told the
/// sequences done and those there are.
///
/// # Errors
/// [`crate::Error::Internal`] for a plan of another model; errors of the forward pass.
pub fn compare_twin(
    prepared: &PreparedModel,
    plan: &DecoderPlan,
    sequences: &[Vec<u32>],
    noise: Option<BootstrapNoise>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<TwinOutcome> {
    let model = &prepared.model;
    let mut functions = ApproximatedFunctions::new(model, plan, noise);
    let mut fidelity = Fidelity::default();
    for (index, tokens) in sequences.iter().enumerate() {
        progress(index, sequences.len());
        let exact = model.forward(tokens, &mut prepared.prefix_cache.clone(), &mut ExactFunctions)?;
        let twin = model.forward(tokens, &mut prepared.prefix_cache.clone(), &mut functions)?;
        let (exact, twin) = (model.logits(&exact), model.logits(&twin));
        for (position, (exact, twin)) in exact.rows().into_iter().zip(twin.rows()).enumerate() {
            fidelity.add(exact, twin, tokens.get(position + 1).copied());
        }
    }
    Ok(TwinOutcome { fidelity: fidelity.summary(), headroom: functions.headroom.sites() })
}

#[cfg(test)]
mod tests;
