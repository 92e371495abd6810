//! SwiGLU between two products. Domain: tokens apart in the products, side by side as up + i·gate; up and gate share
//! one bootstrap as real and imaginary part.

use crate::circuits::evaluate_series;
use crate::circuits::softmax::split_complex;
use crate::contract::{CiphertextInfo, Complex64, Evaluator, Result};
use crate::decoder::layer::LayerRun;
use crate::decoder::values::{LayerValue, Values};
use crate::packing::{Packed, Wave};

/// Places of the tokens in up + i·gate.
fn wide<E: Evaluator>(run: &LayerRun<'_, E>) -> Result<Wave> {
    Wave::new(run.block()?.products.intermediate(), run.members.wave.members())
}

/// Up + i·gate of each token, halved and in units of their bounds, masked, side by side. Two levels.
pub(super) fn up_gate<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let (evaluator, block, wide) = (run.evaluator, run.block()?, wide(run)?);
    let attending = run.members.attending.clone();
    let normed = reads.many(LayerValue::PostNormed, attending.len())?;
    let mut widened = Vec::with_capacity(normed.len());
    for (member, normed) in attending.clone().zip(normed) {
        let normed = Packed::new(normed.clone(), run.shared.layout.hidden);
        let both = block.products.up_gate.apply(evaluator, &normed)?.mask(evaluator, 1.0)?;
        widened.push((member, both.ciphertext));
    }
    let both = wide.pack(evaluator, &widened)?;
    // The constant of the gate's unit variable; its slope stands in the weights.
    let offset = Complex64::new(0.0, block.functions.gate.interval.unit_offset() / 2.0);
    let offsets: Vec<Complex64> = wide.mask(attending, 1.0).iter().map(|place| place * offset).collect();
    Ok(Values::of(LayerValue::UpGate, evaluator.add_values(&both, &offsets)?))
}

/// Up, and SiLU of the gate divided by its largest value. A conjugation, and the levels of the polynomial for the
/// gate.
pub(super) fn activation<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let (up, gate) = split_complex(run.evaluator, reads.one(LayerValue::UpGate)?)?;
    let coefficients = run.block()?.functions.gate.complex_coefficients();
    let activation = evaluate_series(run.evaluator, &gate, &coefficients, None)?;
    Ok(Values::of(LayerValue::Up, up).with(LayerValue::Activation, vec![activation]))
}

/// SiLU(gate) · up of each token, still at its place beside the others. One level, and one of up's for the mask that
/// takes several tokens apart.
pub(super) fn gate_product<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let (up, activation) = (reads.one(LayerValue::Up)?, reads.one(LayerValue::Activation)?);
    let wide = wide(run)?;
    let mut gated = Vec::with_capacity(run.members.attending.len());
    for member in run.members.attending.clone() {
        let alone = if run.members.are_several() {
            run.evaluator.mul_values(up, &wide.mask(member..member + 1, 1.0))?
        } else {
            up.clone()
        };
        gated.push(run.evaluator.mul(&run.lower(&alone, activation.level())?, activation)?);
    }
    Ok(Values::new().with(LayerValue::Gated, gated))
}

/// Down projection of each token, masked, side by side. Two levels.
pub(super) fn down<E: Evaluator>(
    run: &LayerRun<'_, E>,
    reads: &Values<E::Ciphertext>,
) -> Result<Values<E::Ciphertext>> {
    let (evaluator, down, wide) = (run.evaluator, &run.block()?.products.down, wide(run)?);
    let attending = run.members.attending.clone();
    let gated = reads.many(LayerValue::Gated, attending.len())?;
    let mut narrowed = Vec::with_capacity(gated.len());
    for (member, gated) in attending.zip(gated) {
        let gated = Packed::new(wide.bring(evaluator, gated, member)?, wide.vector());
        narrowed.push((member, down.apply(evaluator, &gated)?.mask(evaluator, 1.0)?.ciphertext));
    }
    Ok(Values::of(LayerValue::MlpOutput, run.members.wave.pack(evaluator, &narrowed)?))
}
