//! What stands at a seam of the decoder: which slots carry a value, what the others hold, and whether the step behind
//! it clears them.
//!
//! A bootstrap of few values leaves junk in the slots that carry none. Where the step behind the seam multiplies with
//! a mask, that is no matter; elsewhere the bootstrap has to put there what the seam says.

use crate::contract::{Error, Result};
use crate::decoder::Decoder;
use crate::decoder::layer::{Body, Layer, Members};
use crate::decoder::step::Step;
use crate::decoder::values::LayerValue;
use crate::packing::Wave;

/// Layout of the value at a seam.
#[derive(Clone, Debug, PartialEq)]
pub struct SeamLayout {
    /// The value.
    pub value: LayerValue,
    /// Slots that carry one, in ascending order: a list for each ciphertext of the value.
    pub slots: Vec<Vec<usize>>,
    /// What all other slots hold before the bootstrap, and have to hold behind it unless they are cleared.
    pub elsewhere: f64,
    /// Whether the step behind the seam, and every other that reads the value, clears all other slots.
    pub readers_clear_the_rest: bool,
}

impl Decoder {
    /// What stands at the seam of `step` in layer `index` when `tokens` tokens go through together behind `position`
    /// others, and the last of them is answered; none for a step without a seam, or a layer without that step.
    ///
    /// # Errors
    /// [`Error::Shape`] when so many tokens do not fit.
    pub fn seam_layout(
        &self,
        index: usize,
        step: Step,
        position: usize,
        tokens: usize,
    ) -> Result<Option<SeamLayout>> {
        let members = self.members(index, self.wave_of(tokens)?, true);
        match self.layers.get(index) {
            Some(layer) => SeamLayout::at(step, layer, &members, position),
            None => Ok(None),
        }
    }
}

impl SeamLayout {
    /// Layout of what stands at the seam of `step`; none for a step without a seam, and for the steps of attention
    /// and MLP at the end of the model. `position` tokens are in the cache before those of `members`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tokens do not fit one ciphertext.
    fn at(step: Step, layer: &Layer, members: &Members, position: usize) -> Result<Option<Self>> {
        let (Some(value), Body::Block(block)) = (step.seam(), &layer.body) else { return Ok(None) };
        let several = members.are_several();
        let of = |slots: Vec<Vec<usize>>, elsewhere: f64, readers_clear_the_rest: bool| Self {
            value,
            slots,
            elsewhere,
            readers_clear_the_rest,
        };
        let count = members.wave.members();
        Ok(Some(match value {
            // Slopes of the norm, masks and ratios are zero there.
            LayerValue::Residual => of(vec![slots(&members.wave, members.entering.clone())], 0.0, true),
            LayerValue::MiddleResidual => {
                of(vec![slots(&members.wave, members.attending.clone())], 0.0, true)
            }
            // The product replicates what it finds; tokens side by side are taken apart by masks.
            LayerValue::InputNormed => of(vec![slots(&members.wave, members.entering.clone())], 0.0, several),
            // exp vanishes at −1; sums and products behind it go over all slots.
            LayerValue::Scores => {
                let layout = block.attention.score_layout();
                let seen = position + members.attending.end;
                let segments = (0..layout.segments(seen)).map(|segment| {
                    let first = segment * layout.segment_tokens();
                    let mut slots: Vec<usize> = Vec::new();
                    for member in members.attending.clone() {
                        let copy = member * layout.period()..(member + 1) * layout.period();
                        let last = (position + member + 1).min(first + layout.segment_tokens());
                        for token in first..last {
                            for head in 0..layout.query_heads() {
                                let copies = layout.slots(token - first, head);
                                slots.extend(copies.filter(|slot| !several || copy.contains(slot)));
                            }
                        }
                    }
                    slots.sort_unstable();
                    slots
                });
                of(segments.collect(), -1.0, false)
            }
            LayerValue::Halves => {
                let heads = Wave::new(block.attention.output_layout()?, count)?;
                of(vec![slots(&heads, members.attending.clone())], 0.0, false)
            }
            LayerValue::UpGate => {
                let wide = Wave::new(block.products.intermediate(), count)?;
                of(vec![slots(&wide, members.attending.clone())], 0.0, false)
            }
            other => {
                return Err(Error::Internal(format!("`{}` at a seam without a layout", other.name())));
            }
        }))
    }
}

/// Slots of the given members of `wave`, in ascending order.
fn slots(wave: &Wave, members: std::ops::Range<usize>) -> Vec<usize> {
    let vector = wave.vector();
    let of_member = |member: usize| vector.value_slots().map(move |slot| slot + wave.offset(member));
    let mut slots: Vec<usize> = members.flat_map(|member| of_member(member).collect::<Vec<_>>()).collect();
    slots.sort_unstable();
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::clear::{ClearCiphertext, ClearClient, ClearParameters};
    use crate::contract::{BootstrapSummary, Client, Complex64, Level};
    use crate::decoder::plan::{Accuracy, DecoderPlan};
    use crate::decoder::typical::typical_ranges;
    use crate::related_work::formulas::ModelShape;

    /// Every value that enters a bootstrap is what its layout says, slot by slot, for one token and for three side by
    /// side.
    #[test]
    fn what_enters_a_bootstrap_stands_where_its_seam_says_and_nothing_else_does() {
        let shape = ModelShape {
            name: "small".to_owned(),
            hidden_size: 90,
            num_attention_heads: 6,
            num_key_value_heads: 3,
            head_dim: 16,
            intermediate_size: 200,
            num_hidden_layers: 2,
            gated: true,
        };
        let config = shape.llama(24).unwrap();
        let bootstrap = BootstrapSummary {
            output_level: Level(16),
            minimum_input_level: Level(3),
            bound: f64::INFINITY,
            few: None,
        };
        // Without weights every score is the same: low enough for the sum over all tokens.
        let mut ranges = typical_ranges(&config).unwrap();
        for head in ranges.layers.iter_mut().flat_map(|layer| &mut layer.heads) {
            head.offset = 4.0;
        }
        let plan = DecoderPlan::new(&config, &ranges, Accuracy::default(), bootstrap).unwrap();
        let decoder = Decoder::without_weights(&config, plan, 2048, 24).unwrap();
        let parameters = ClearParameters::new(2048, 16, 42).unwrap().with_bootstrapping(bootstrap);
        let client = ClearClient::new(parameters);
        for (cached, tokens) in [(0, 1), (9, 1), (5, 3)] {
            let zero = |level| client.encrypt(&[Complex64::ZERO], level);
            let mut state = decoder.filled_state(cached, zero).unwrap();
            let hidden = decoder.wave_of(tokens).unwrap().mask(0..tokens, 0.9);
            let x = client.encrypt(&hidden, decoder.plan().input_level).unwrap();
            let mut seen: Vec<(usize, &'static str, ClearCiphertext)> = Vec::new();
            let mut observe = |progress: crate::decoder::Progress, x: &ClearCiphertext| {
                if !progress.refreshed && progress.stage != "residual" {
                    seen.push((progress.layer, progress.stage, x.clone()));
                }
            };
            decoder.step_wave(&client.dry_run(), &mut state, &x, tokens, true, &mut observe).unwrap();
            assert!(seen.len() >= 2 * 4, "{} bootstraps", seen.len());
            for (index, stage, ciphertext) in seen {
                let step =
                    Step::LAYER.into_iter().find(|step| step.seam().is_some() && step.stage() == stage);
                let layout = decoder.seam_layout(index, step.unwrap(), cached, tokens).unwrap().unwrap();
                assert_eq!(layout.slots.len(), 1, "{stage}");
                for (slot, value) in client.decrypt(&ciphertext).unwrap().iter().enumerate() {
                    let elsewhere = Complex64::new(layout.elsewhere, 0.0);
                    assert!(
                        layout.slots[0].contains(&slot) || (value - elsewhere).norm() < 1e-9,
                        "{stage} of layer {index}, slot {slot}: {value}"
                    );
                    let is_missing = layout.slots[0].contains(&slot) && stage == "scores";
                    assert!(!is_missing || (value - elsewhere).norm() > 1e-9, "no score in slot {slot}");
                }
            }
        }
    }
}
