//! RMSNorm: x/√(mean square + ε) up to a constant, in three steps. Domain: the residual stream of all tokens of a
//! wave.
//!
//! γ and the constant wait in the weights that follow. The root stands at every slot of its token, so the last step
//! is one product for all. The mask that cleans the stream also takes the tokens of a wave apart, which then costs no
//! level.

use crate::circuits::evaluate_series;
use crate::contract::{CiphertextInfo, Complex64, Evaluator, Result};
use crate::decoder::layer::{LayerRun, NormSite};
use crate::decoder::products::norm_slopes;
use crate::decoder::values::Values;
use crate::packing::{signed, sum_strided};

/// The stream, masked, and its mean square as the unit variable of the polynomial over `interval`, at every slot of
/// every token. The stream may have noise or junk between its values. Two levels for the square, one for the masks; a
/// sum over all slots.
pub(super) fn square<E: Evaluator>(
    run: &LayerRun<'_, E>,
    site: &NormSite<'_>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let (evaluator, wave, x) = (run.evaluator, &run.members.wave, reads.one(site.stream)?);
    let hidden = &run.shared.layout;
    let interval = site.function.interval();
    let slopes = hidden.hidden_order.pack(&hidden.hidden, &norm_slopes(interval, site.bounds))?;
    let slopes = wave.repeat_slots(0..wave.members(), &slopes);
    let square = evaluator.square(&evaluator.mul_values(x, &slopes)?)?;

    // What is normalised keeps its scale by feature: so does the noise of a bootstrap behind the norm.
    let masked = if site.together {
        vec![evaluator.mul_values(x, &wave.mask(0..wave.members(), 1.0))?]
    } else {
        let alone = |member| evaluator.mul_values(x, &wave.mask(member..member + 1, 1.0));
        site.members.clone().map(alone).collect::<Result<_>>()?
    };

    // All values of a block, seen from each of them; then all blocks.
    let layout = wave.vector();
    let centred = evaluator.rotate(&square, -signed(layout.values() - 1))?;
    let within = sum_strided(evaluator, &centred, 2 * layout.values() - 1, 1)?;
    let sum = sum_strided(evaluator, &within, layout.ring(), signed(layout.block()))?;
    let constant = Complex64::new(interval.to_unit(run.shared.epsilon), 0.0);
    let unit = evaluator.add_constant(&sum, constant)?;
    Ok(Values::of(site.mean_square, unit).with(site.masked, masked))
}

/// 1/√ of the mean square, normalised to 1 at its largest: the levels of the polynomial and two for each Newton step.
pub(super) fn root<E: Evaluator>(
    run: &LayerRun<'_, E>,
    site: &NormSite<'_>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let unit = reads.one(site.mean_square)?;
    let start = evaluate_series(run.evaluator, unit, &site.function.start.complex_coefficients(), None)?;
    Ok(Values::of(site.inverse_root, site.function.refine(run.evaluator, unit, &start)?))
}

/// Stream times root: each token alone at place 0 and clean, or all side by side when they are to be bootstrapped.
/// One level, a product for each ciphertext of the stream, a rotation for each token apart.
pub(super) fn scale<E: Evaluator>(
    run: &LayerRun<'_, E>,
    site: &NormSite<'_>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let root = reads.one(site.inverse_root)?;
    let members = if site.together { 0..1 } else { site.members.clone() };
    let masked = reads.many(site.masked, members.len())?;
    let mut normed = Vec::with_capacity(masked.len());
    for (member, masked) in members.zip(masked) {
        let product = run.evaluator.mul(&run.lower(masked, root.level())?, root)?;
        normed.push(run.members.wave.bring(run.evaluator, &product, member)?);
    }
    Ok(Values::new().with(site.normed, normed))
}
