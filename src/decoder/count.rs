//! The steps of the decoder one by one: counted on the simulator at every level, as templates of a level graph, or
//! made ready to be timed on a backend.
//!
//! Nothing here knows what a step does: it is `Step::apply` on encryptions of zero at the level in question, with
//! caches filled as far as the tokens before. Neither counts nor times depend on the values, and on the simulator the
//! ciphertexts have none ([`ClearClient::encrypt_blank`]), so that the layer of a large model is counted as fast as
//! that of a small one.

use std::collections::{BTreeMap, HashMap};

use crate::backend::clear::{ClearCiphertext, ClearClient, ClearEvaluator, ClearParameters};
use crate::contract::{
    BootstrapSummary, CountingEvaluator, Error, KeyRequest, Level, LevelChain, OperationCounts, Result,
};
use crate::decoder::Decoder;
use crate::decoder::counted::{Counted, Written, stages, writes};
use crate::decoder::head_side::HeadSide;
use crate::decoder::layer::{Body, Layer};
use crate::decoder::prepared_step::{PreparedStep, StepPoint};
use crate::decoder::step::{Step, may_bootstrap};
use crate::decoder::values::{LayerValue, Values};
use crate::placement::{LayerTemplate, OperationTemplate, Read, Refresh, ValueId, Write};

/// Counts the steps of a decoder.
pub struct StepCounter<'d> {
    decoder: &'d Decoder,
    parameters: ClearParameters,
    cached: usize,
    tokens: usize,
    /// Steps counted so far, by what their counts depend on.
    known: HashMap<(Step, String), Counted>,
}

impl<'d> StepCounter<'d> {
    /// Counter for `tokens` tokens at once behind `cached` others, under the levels of `chain` and bootstraps of
    /// `bootstrap`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the context of the decoder is shorter, or the tokens do not fit one wave.
    pub fn new(
        decoder: &'d Decoder,
        chain: &LevelChain,
        bootstrap: BootstrapSummary,
        cached: usize,
        tokens: usize,
    ) -> Result<Self> {
        decoder.wave_of(tokens)?;
        let context = decoder.layout().context;
        if cached + tokens > context {
            return Err(Error::Shape {
                operation: "steps of the decoder",
                what: format!("{cached} cached tokens and {tokens} more in a context of {context}"),
                remedy: "count fewer tokens, or make the decoder for a longer context".to_owned(),
            });
        }
        let parameters = ClearParameters {
            slots: decoder.layout().hidden.slots(),
            chain: chain.clone(),
            bootstrapping: Some(bootstrap),
            noise: None,
        };
        Ok(Self { decoder, parameters, cached, tokens, known: HashMap::new() })
    }

    /// The steps of layer `index`; of the end of the model, behind the last one.
    #[must_use]
    pub fn steps(&self, index: usize) -> &'static [Step] {
        if index < self.decoder.layers.len() { &Step::LAYER } else { self.decoder.end_steps() }
    }

    fn layer(&self, index: usize) -> Result<&'d Layer> {
        let layers = &self.decoder.layers;
        layers.iter().chain([&self.decoder.end]).nth(index).ok_or_else(|| Error::Shape {
            operation: "steps of the decoder",
            what: format!("layer {index} of {} and the end of the model", layers.len()),
            remedy: "name a layer of the model".to_owned(),
        })
    }

    /// The bootstraps of layer `index` that the decoder's own plan has.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is no such layer.
    pub fn refreshes(&self, index: usize) -> Result<Vec<Refresh>> {
        let refreshes = self.layer(index)?.schedule.refreshes();
        let refresh = |(step, refresh): (Option<Step>, crate::decoder::schedule::Refresh)| Refresh {
            before: step.map(|step| step.name().to_owned()),
            values: vec![step.and_then(Step::seam).unwrap_or(LayerValue::NextResidual).name().to_owned()],
            to: refresh.level,
        };
        Ok(refreshes.map(refresh).collect())
    }

    /// `step` of layer `index` on fresh encryptions, made by `encrypt(level)`, for a run at `level`; caches stand
    /// there too.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is no such layer or step, or for a cache below level 2; those of `encrypt` above
    /// the top level.
    pub fn prepare<C: Clone>(
        &mut self,
        index: usize,
        step: Step,
        level: Level,
        encrypt: &dyn Fn(Level) -> Result<C>,
    ) -> Result<PreparedStep<'d, C>> {
        let ciphertexts = self.ciphertexts_before(index, step)?;
        let layer = self.layer(index)?.with_caches_for(step, level, self.decoder.layout())?;
        PreparedStep::new(self.decoder, layer, &self.point(index, step, level), &ciphertexts, encrypt)
    }

    /// Ciphertexts of every value that is written before `step` of layer `index`.
    fn ciphertexts_before(&mut self, index: usize, step: Step) -> Result<BTreeMap<LayerValue, usize>> {
        let mut ciphertexts = BTreeMap::from([(LayerValue::Residual, 1)]);
        for before in self.steps(index).iter().take_while(|before| **before != step) {
            let counted = self.counted(index, *before, &ciphertexts)?;
            ciphertexts.extend(counted.writes.iter().map(|written| (written.value, written.ciphertexts)));
        }
        Ok(ciphertexts)
    }

    /// Layer `index` as a template (the end of the model behind the last one): every step counted at every level at
    /// which it runs.
    ///
    /// # Errors
    /// [`Error::Plan`] when a step runs nowhere; [`Error::Shape`] when there is no such layer.
    pub fn template(&mut self, index: usize) -> Result<LayerTemplate> {
        let layer = self.layer(index)?;
        let name = if matches!(layer.body, Body::Block(_)) { "decoder layer" } else { "final norm" };
        let mut template = LayerTemplate::new(name);
        let mut ids = BTreeMap::from([(LayerValue::Residual, template.value("residual", 1, 2))]);
        let mut ciphertexts = BTreeMap::from([(LayerValue::Residual, 1)]);
        template.inputs.extend(ids.values());
        let precise = layer.schedule.refresh(Step::DivideLast).map_or(1, |refresh| refresh.iterations);
        for step in self.steps(index).iter().copied() {
            let counted = self.counted(index, step, &ciphertexts)?;
            let reads = step.edges().0.iter().zip(layer.above_in_placement(step));
            let reads = reads.filter_map(|(value, above)| Some(Read { value: *ids.get(value)?, above }));
            let reads = reads.collect();
            let mut writes = Vec::with_capacity(counted.writes.len());
            for Written { value, ciphertexts: count, depth } in counted.writes {
                ciphertexts.insert(value, count);
                // A precise bootstrap is two.
                let count = if value == LayerValue::Halves { count * precise } else { count };
                let id = template.value(value.name(), count, value.lanes());
                if let Some(entry) = template.values.get_mut(id.0) {
                    entry.may_bootstrap = may_bootstrap(value);
                }
                ids.insert(value, id);
                writes.push(Write { value: id, depth });
            }
            let highest = match step {
                // A precise bootstrap ends lower.
                Step::DivideLast => self.highest(step).saturating_sub(precise - 1),
                _ => self.highest(step),
            };
            template.operations.push(OperationTemplate {
                name: step.name().to_owned(),
                reads,
                writes,
                stages: counted.stages,
                levels: counted.lowest..=highest,
            });
        }
        let last = self.steps(index).last().into_iter().flat_map(|step| step.edges().1);
        template.outputs.extend(last.filter_map(|value| ids.get(value)).copied().collect::<Vec<ValueId>>());
        Ok(template)
    }

    /// Highest level of a bootstrap.
    fn top(&self) -> usize {
        self.parameters.bootstrapping.map_or(0, |summary| summary.output_level.0)
    }

    /// Highest level at which `step` may run.
    fn highest(&self, step: Step) -> usize {
        match step {
            // Logits leave at level 0.
            Step::Head => HeadSide::Server.level().0,
            _ => self.top(),
        }
    }

    /// What the counts of a step depend on beside the sizes of the model and the tokens: the functions it evaluates.
    fn signature(layer: &Layer, step: Step) -> Result<String> {
        let json = match (&layer.body, step) {
            (_, Step::InputNormRoot) => serde_json::to_string(&layer.norm),
            (Body::End(_), _) => serde_json::to_string("end"),
            (Body::Block(block), step) => {
                // Bounds of the stream and factors of heads are only multiplied with.
                let functions = &block.functions;
                let softmax = &functions.attention.softmax;
                match step {
                    Step::PostNormRoot => serde_json::to_string(&functions.post_norm),
                    Step::Exponential => serde_json::to_string(&softmax.exponential),
                    Step::DivideFirst => serde_json::to_string(&(&softmax.before, functions.division_gap)),
                    Step::DivideLast => serde_json::to_string(&softmax.after),
                    Step::Activation => serde_json::to_string(&functions.gate),
                    Step::Rope | Step::Scores => serde_json::to_string(&block.has_query_shifts),
                    _ => Ok(String::new()),
                }
            }
        };
        json.map_err(|error| Error::Internal(format!("functions of `{}`: {error}", step.name())))
    }

    /// `step` of layer `index` counted, its inputs as many as `ciphertexts` says.
    fn counted(
        &mut self,
        index: usize,
        step: Step,
        ciphertexts: &BTreeMap<LayerValue, usize>,
    ) -> Result<Counted> {
        let key = (step, Self::signature(self.layer(index)?, step)?);
        if let Some(counted) = self.known.get(&key) {
            return Ok(counted.clone());
        }
        let counted = self.count(index, step, ciphertexts)?;
        self.known.insert(key, counted.clone());
        Ok(counted)
    }

    fn count(&self, index: usize, step: Step, ciphertexts: &BTreeMap<LayerValue, usize>) -> Result<Counted> {
        let mut found: Option<Counted> = None;
        let mut refusal = None;
        for level in 0..=self.highest(step) {
            let point = self.point(index, step, Level(level));
            let layer = self.layer(index)?.with_caches_for(step, point.level, self.decoder.layout());
            match layer.and_then(|layer| self.count_in(layer, &point, ciphertexts)) {
                Ok((counts, written)) => {
                    let lowest = found.as_ref().map_or(level, |known| known.lowest);
                    let writes = writes(&point, &written)?;
                    found = Some(Counted { lowest, writes, stages: stages(level, &counts) });
                }
                Err(error) => refusal = Some(error),
            }
        }
        found.ok_or_else(|| {
            refusal.unwrap_or_else(|| Error::Internal(format!("`{}` was not run", step.name())))
        })
    }

    fn point(&self, index: usize, step: Step, level: Level) -> StepPoint {
        StepPoint { index, step, level, cached: self.cached, tokens: self.tokens }
    }

    /// Operations of a step of `layer`, its caches as they are there, and what it writes.
    fn count_in(
        &self,
        layer: Layer,
        point: &StepPoint,
        ciphertexts: &BTreeMap<LayerValue, usize>,
    ) -> Result<(OperationCounts, Values<ClearCiphertext>)> {
        let client = ClearClient::new(self.parameters.clone());
        let evaluator = CountingEvaluator::new(ClearEvaluator::dry_run(self.parameters.clone()));
        let encrypt = |level| client.encrypt_blank(level);
        let written =
            PreparedStep::new(self.decoder, layer, point, ciphertexts, &encrypt)?.apply(&evaluator)?;
        Ok((evaluator.counts(), written))
    }

    /// Keys that the steps of layer `index` use at any level up to the top.
    ///
    /// # Errors
    /// Errors of [`StepCounter::prepare`].
    pub fn keys(&mut self, index: usize) -> Result<KeyRequest> {
        let client = ClearClient::new(self.parameters.clone());
        let evaluator = client.dry_run();
        for step in self.steps(index).iter().copied() {
            let above = self.layer(index)?.above(step, self.tokens > 1).into_iter().max().unwrap_or(0);
            let level = Level(self.highest(step).saturating_sub(above));
            self.prepare(index, step, level, &|level| client.encrypt_blank(level))?.run(&evaluator)?;
        }
        Ok(evaluator.recorded())
    }
}

#[cfg(test)]
mod tests;
