//! A layer of the encrypted decoder, taken apart into modules that run alone at any level.
//!
//! The modules are the operations of [`crate::decoder`] between the values a placement may bootstrap; run one after the
//! other they are the layer. Run on the simulator they are counted and become the template of a level graph; run on a
//! backend they are timed. Inputs are encryptions of zero: neither counts nor times depend on the values.

use std::collections::HashMap;
use std::sync::Arc;

use crate::backend::clear::{ClearClient, ClearEvaluator, ClearParameters};
use crate::circuits::evaluate_series;
use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::circuits::softmax::{Denominators, join_complex, split_complex};
use crate::contract::{
    BootstrapSummary, CiphertextInfo, Client, Complex64, CountingEvaluator, Error, Evaluator, KeyRequest,
    Level, LevelChain, Result,
};
use crate::packing::{AttentionPlan, CacheBounds, Grouping, KeyValueCache, Packed, Rope, Wave};
use crate::placement::{LayerTemplate, OperationTemplate, Read, Refresh, ValueId, Work, Write};

use crate::decoder::head::EncryptedHead;
use crate::decoder::module::{Module, may_bootstrap};
use crate::decoder::plan::{DecoderPlan, LayerFunctions};
use crate::decoder::products::{DecoderLayout, LayerProducts};
use crate::decoder::{Decoder, DecoderState, squared_for_norm};
use crate::model::config::LlamaConfig;
use crate::model::weights::Weights;

/// A module on inputs of one level, ready to run as often as it is timed; returns what it writes.
pub type Prepared<'a, E> = Box<dyn Fn(&E) -> Result<Vec<<E as Evaluator>::Ciphertext>> + 'a>;

/// A layer, module by module.
pub struct LayerModules {
    config: LlamaConfig,
    layout: DecoderLayout,
    functions: LayerFunctions,
    products: Arc<LayerProducts>,
    rope: Rope,
    residual: Vec<f64>,

    top: Level,
    cached: usize,
}

impl LayerModules {
    /// Layer `index` of the model under `plan` in `slots` slots, with `cached` tokens before the new one in a cache laid
    /// out for `context`.
    ///
    /// # Errors
    /// As [`Decoder::new`]; [`Error::Shape`] when the cache is shorter than the tokens, or there is no such layer.
    pub fn new(
        weights: &Weights,
        plan: &DecoderPlan,
        index: usize,
        slots: usize,
        (cached, context): (usize, usize),
    ) -> Result<Self> {
        let config = weights.config().clone();
        let layout = DecoderLayout::new(&config, slots, context)?;
        let bad = |what: String| Error::Shape {
            operation: "layer modules",
            what,
            remedy: "name a layer of the model and fewer tokens than the context".to_owned(),
        };
        let functions = plan
            .layers
            .get(index)
            .cloned()
            .ok_or_else(|| bad(format!("layer {index} of {}", plan.layers.len())))?;
        if cached >= context {
            return Err(bad(format!("{cached} cached tokens in a context of {context}")));
        }
        let attention = layout.attention(functions.key_level, functions.value_level)?;
        let (residual, layer) = (plan.entering(index, config.hidden_size), weights.layer(index)?);
        let products = LayerProducts::new(&config, &layout, &attention, &functions, &layer, &residual)?;

        let rope = Rope::with_frequencies(config.rope_frequencies(), config.max_position_embeddings);
        let (top, products) = (plan.input_level, Arc::new(products));
        Ok(Self { config, layout, functions, products, rope, residual, top, cached })
    }

    /// Another layer with the functions of layer `index` of `plan` and the weights of this one: counts like that layer.
    ///
    /// # Errors
    /// [`Error::Internal`] when there is no such layer.
    pub(crate) fn counting_as(&self, plan: &DecoderPlan, index: usize) -> Result<Self> {
        let functions = plan.layers.get(index).cloned();
        let functions = functions.ok_or_else(|| Error::Internal(format!("no layer {index} to count")))?;
        Ok(self.with(functions, plan.entering(index, self.config.hidden_size)))
    }

    /// The final norm of `plan`, as the input norm of a layer.
    pub(crate) fn final_norm_of(&self, plan: &DecoderPlan) -> Self {
        let functions = LayerFunctions { input_norm: plan.final_norm.clone(), ..self.functions.clone() };
        self.with(functions, plan.entering(plan.layers.len(), self.config.hidden_size))
    }

    fn with(&self, functions: LayerFunctions, residual: Vec<f64>) -> Self {
        Self {
            config: self.config.clone(),
            layout: self.layout.clone(),
            functions,
            products: Arc::clone(&self.products),
            rope: self.rope.clone(),
            residual,

            top: self.top,
            cached: self.cached,
        }
    }

    /// The bootstraps of the decoder's plan.
    #[must_use]
    pub fn refreshes(&self) -> Vec<Refresh> {
        let refreshes = self.functions.schedule.refreshes();
        refreshes
            .map(|(module, refresh)| Refresh {
                before: module.map(|module| module.name().to_owned()),
                values: vec![module.and_then(Module::seam).unwrap_or("next_residual").to_owned()],
                to: refresh.level,
            })
            .collect()
    }

    /// Levels by which each value read stands above the level at which the module runs.
    fn above(&self, module: Module) -> Vec<usize> {
        match module {
            // The value loses one level to the masks of its lanes; the residual one to its factor.
            Module::Append => vec![0, 1],
            Module::AttentionResidual | Module::MlpResidual => vec![1, 0],
            Module::DivideFirst => vec![self.functions.division_gap, 0],
            // A mask takes the tokens of a wave apart.
            Module::Values => vec![1, 0],
            Module::Output => vec![1],
            _ => vec![0; module.edges().0.len()],
        }
    }

    fn attention(&self, level: Level) -> Result<AttentionPlan> {
        let bounds =
            CacheBounds { maximum_tokens: self.layout.context, key_level: level, value_level: level };
        let layout = &self.layout;
        AttentionPlan::new(layout.hidden.slots(), layout.ring, layout.shape, Grouping::Duplicated, bounds)
    }

    fn cache<E: Evaluator>(
        &self,
        plan: &AttentionPlan,
        evaluator: &E,
        tokens: usize,
        encrypt: &dyn Fn(Level) -> Result<E::Ciphertext>,
    ) -> Result<KeyValueCache<E::Ciphertext>> {
        let mut cache = KeyValueCache::new(plan.cache_layout());
        for _ in 0..tokens {
            cache.append_public(evaluator, |_, _| 0.0, |_, _| 0.0)?;
        }
        cache.encrypted(|_, level| encrypt(level))
    }

    /// The module on fresh encryptions of zero for a run at `level`.
    ///
    /// # Errors
    /// Those of `encrypt` above the top level, and of caches below level 2.
    pub fn prepare<'a, E: Evaluator>(
        &'a self,
        module: Module,
        level: Level,
        evaluator: &E,
        encrypt: &dyn Fn(Level) -> Result<E::Ciphertext>,
    ) -> Result<Prepared<'a, E>>
    where
        E::Ciphertext: 'a,
    {
        let mut inputs = Vec::new();
        for above in self.above(module) {
            inputs.push(encrypt(Level(level.0 + above))?);
        }
        let mut inputs = inputs.into_iter();
        let mut next = || inputs.next().ok_or_else(|| Error::Internal("a module without input".to_owned()));
        let x = next()?;
        let (functions, products, layout) = (&self.functions, &self.products, &self.layout);
        let softmax = &functions.attention.softmax;
        let squares = functions.attention.square_shifts.iter().flatten().any(|weight| *weight != 0.0);
        let prepared: Prepared<'a, E> = match module {
            Module::InputNormSquare => Box::new(move |evaluator: &E| {
                self.square(evaluator, &x, &functions.input_norm, &self.residual)
            }),
            Module::PostNormSquare => Box::new(move |evaluator: &E| {
                self.square(evaluator, &x, &functions.post_norm, &functions.middle_residual)
            }),
            Module::InputNormRoot => {
                Box::new(move |evaluator: &E| root(evaluator, &x, &functions.input_norm))
            }
            Module::PostNormRoot => Box::new(move |evaluator: &E| root(evaluator, &x, &functions.post_norm)),
            Module::InputNormScale | Module::PostNormScale | Module::GateProduct => {
                let y = next()?;
                Box::new(move |evaluator: &E| Ok(vec![evaluator.mul(&x, &y)?]))
            }
            Module::QueryKeyValue => {
                let (normed, offset) = (Packed::new(x, layout.hidden), self.offset()?);
                Box::new(move |evaluator: &E| {
                    let prepared = products.query.prepare(evaluator, &normed)?;
                    let [key, value, query] = products.query_key_value(evaluator, &prepared, offset)?;
                    Ok(vec![query.ciphertext, key.ciphertext, value.ciphertext])
                })
            }
            Module::Rope => {
                let (heads, offset, key) = (self.attention(Level(2))?.stored(), self.offset()?, next()?);
                let query = Packed::new(x, heads.vector());
                let key = Packed::new(key, heads.vector().at_offset(offset)?);
                Box::new(move |evaluator: &E| {
                    let key = self.rope.apply(evaluator, &heads, &key, self.cached, 1.0)?;
                    let shifts = heads.values(offset, |_, _| 0.5);
                    let key = evaluator.add_values(&key.ciphertext, &shifts)?;
                    if squares {
                        self.rope.apply_scaled(evaluator, &heads, &query, self.cached, |_, _| 0.5)?;
                    }
                    let query = self.rope.apply(evaluator, &heads, &query, self.cached, 1.0)?;
                    Ok(vec![query.ciphertext, key])
                })
            }
            Module::Append => {
                let plan = self.attention(level)?;
                let cache = self.cache(&plan, evaluator, self.cached, encrypt)?;
                let place = plan.stored().vector().at_offset(cache.next_offset()?)?;
                let (key, value) = (Packed::new(x, place), Packed::new(next()?, place));
                let cached = encrypt(level)?;
                Box::new(move |evaluator: &E| {
                    cache.clone().append(evaluator, &key, &value)?;
                    Ok(vec![cached.clone(), cached.clone()])
                })
            }
            Module::Scores => {
                let plan = self.attention(level)?;
                let cache = self.cache(&plan, evaluator, self.cached + 1, encrypt)?;
                let query = [Packed::new(x, plan.stored().vector())];
                let constants = plan.score_layout().values(0, cache.tokens(), |_, _| 0.5);
                Box::new(move |evaluator: &E| {
                    let [vector] = &query;
                    let shift = squares.then_some(vector);
                    let scores = plan.shifted_scores(evaluator, &query, shift, &cache, 0.5, None)?;
                    scores.iter().map(|scores| evaluator.add_values(scores, &constants)).collect()
                })
            }
            Module::Exponential => {
                let segments = self.segments()?;
                Box::new(move |evaluator: &E| (0..segments).map(|_| softmax.weights(evaluator, &x)).collect())
            }
            Module::Denominator => {
                let (plan, segments) = (self.attention(Level(2))?, self.segments()?);
                let weights = vec![x; segments];
                Box::new(move |evaluator: &E| {
                    // Both scalings cost; the graph of levels knows them as one value.
                    let f = plan.denominators(evaluator, &weights, &[0.5, 0.5])?.remove(0);
                    let offset = f.layout.mask(softmax.quarter_offset());
                    Ok(vec![evaluator.add_values(&f.ciphertext, &offset)?])
                })
            }
            Module::Values => {
                let plan = self.attention(level)?;
                let cache = self.cache(&plan, evaluator, self.cached + 1, encrypt)?;
                let weights = vec![encrypt(level)?; self.segments()?];
                Box::new(move |evaluator: &E| {
                    Ok(vec![plan.weighted_values(evaluator, &weights, &cache)?.ciphertext])
                })
            }
            Module::DivideFirst => {
                let (places, o) = (self.places()?, next()?);
                Box::new(move |evaluator: &E| {
                    let denominators = Denominators { quarter: x.clone(), magnified: x.clone() };
                    let (f, o) = softmax.before_refresh(evaluator, denominators, o.clone(), &places)?;
                    Ok(vec![join_complex(evaluator, &f, &o)?])
                })
            }
            Module::DivideLast => {
                let places = self.places()?;
                Box::new(move |evaluator: &E| {
                    let (f, o) = split_complex(evaluator, &x)?;
                    Ok(vec![softmax.after_refresh(evaluator, f, o, &places)?])
                })
            }
            Module::Output => {
                // What stands higher is lowered when a wave is taken apart.
                let attended = Packed::new(encrypt(level)?, self.attention(Level(2))?.output_layout()?);
                Box::new(move |evaluator: &E| {
                    let projected = products.output.apply(evaluator, &attended)?;
                    Ok(vec![projected.mask(evaluator, 1.0)?.ciphertext])
                })
            }
            Module::AttentionResidual | Module::MlpResidual => {
                let update = next()?;
                let ratios = Wave::single(layout.hidden).mask(0..1, 0.5);
                Box::new(move |evaluator: &E| {
                    let scaled = evaluator.mul_values(&x, &ratios)?;
                    Ok(vec![evaluator.add(&evaluator.lower(&scaled, update.level())?, &update)?])
                })
            }
            Module::UpGate => {
                let normed = Packed::new(x, layout.hidden);
                Box::new(move |evaluator: &E| {
                    let both = products.up_gate.apply(evaluator, &normed)?.mask(evaluator, 1.0)?;
                    let offset = Complex64::new(0.0, functions.gate.interval.unit_offset() / 2.0);
                    let offsets: Vec<Complex64> =
                        both.layout.mask(1.0).iter().map(|place| place * offset).collect();
                    Ok(vec![evaluator.add_values(&both.ciphertext, &offsets)?])
                })
            }
            Module::Activation => Box::new(move |evaluator: &E| {
                let (up, gate) = split_complex(evaluator, &x)?;
                let coefficients = functions.gate.complex_coefficients();
                Ok(vec![up, evaluate_series(evaluator, &gate, &coefficients, None)?])
            }),
            Module::Head => {
                let (vocabulary, size) = (self.config.vocab_size, self.config.hidden_size);
                let head = EncryptedHead::for_counting(vocabulary, size, layout)?;
                let hidden = Packed::new(x, layout.hidden);
                Box::new(move |evaluator: &E| {
                    // The graph of levels knows the logits as one value.
                    Ok(head.apply(evaluator, &hidden)?.into_iter().take(1).collect())
                })
            }
            Module::Down => {
                let gated = Packed::new(x, products.down.geometry().input());
                Box::new(move |evaluator: &E| {
                    let down = products.down.apply(evaluator, &gated)?;
                    Ok(vec![down.mask(evaluator, 1.0)?.ciphertext])
                })
            }
        };
        Ok(prepared)
    }

    /// x masked and scaled, and the unit variable of its mean square.
    fn square<E: Evaluator>(
        &self,
        evaluator: &E,
        x: &E::Ciphertext,
        norm: &InverseSquareRoot,
        bounds: &[f64],
    ) -> Result<Vec<E::Ciphertext>> {
        let wave = Wave::single(self.layout.hidden);

        let epsilon = self.config.rms_norm_eps;
        let (x, unit) = squared_for_norm(evaluator, &wave, &self.layout, x, norm, bounds, epsilon)?;
        Ok(vec![x, unit])
    }

    /// Slot vector of 1 at the places of the attended values.
    fn places(&self) -> Result<Vec<Complex64>> {
        Ok(self.attention(Level(2))?.output_layout()?.mask(1.0))
    }

    /// Where the new token lands in its key ciphertext.
    fn offset(&self) -> Result<usize> {
        Ok(self.cached % self.attention(Level(2))?.stored().tokens())
    }

    /// Score ciphertexts, the new token included.
    fn segments(&self) -> Result<usize> {
        Ok(self.attention(Level(2))?.score_layout().segments(self.cached + 1).max(1))
    }

    /// The layer as a template: every module counted on the simulator, at every level at which it runs there.
    ///
    /// # Errors
    /// [`Error::Plan`] when a module runs nowhere; those of the simulator.
    pub fn template(&self, chain: &LevelChain, bootstrap: BootstrapSummary) -> Result<LayerTemplate> {
        self.template_of("decoder layer", &Module::ALL, (chain, bootstrap), &mut Counts::default())
    }

    /// `modules` in a row as a template; what `known` holds already is not counted again.
    ///
    /// # Errors
    /// As [`LayerModules::template`].
    pub(crate) fn template_of(
        &self,
        name: &str,
        modules: &[Module],
        (chain, bootstrap): (&LevelChain, BootstrapSummary),
        known: &mut Counts,
    ) -> Result<LayerTemplate> {
        let mut template = LayerTemplate::new(name);
        let mut names: Vec<&str> = vec!["residual"];
        let residual = template.value("residual", 1, 2);
        template.inputs.push(residual);
        let segments = self.segments()?;
        let iterations = self.functions.schedule.refresh(Module::DivideLast).map_or(1, |it| it.iterations);
        for module in modules.iter().copied() {
            let (reads, writes) = module.edges();
            let key = (module, self.signature(module)?);
            let counted = match known.get(&key) {
                Some(counted) => counted.clone(),
                None => {
                    let counted = self.count(module, chain, bootstrap)?;
                    known.insert(key, counted.clone());
                    counted
                }
            };
            let find = |name: &&str| {
                names.iter().position(|known| known == name).map(ValueId).ok_or_else(|| {
                    Error::Internal(format!("`{}` reads `{name}` before it is written", module.name()))
                })
            };
            let values: Vec<ValueId> = reads.iter().map(find).collect::<Result<_>>()?;
            let reads = values.into_iter().zip(self.above(module));
            let reads = reads.map(|(value, above)| Read { value, above }).collect();
            let mut written = Vec::with_capacity(writes.len());
            for ((name, lanes), depth) in writes.iter().zip(counted.depths) {
                let ciphertexts = match *name {
                    "scores" | "weights" => segments,
                    // A precise bootstrap is two.
                    "halves" => iterations,
                    _ => 1,
                };
                names.push(name);
                let value = template.value(name, ciphertexts, *lanes);
                if let Some(value) = template.values.get_mut(value.0) {
                    value.may_bootstrap = may_bootstrap(&value.name);
                }
                written.push(Write { value, depth });
            }
            // A precise bootstrap ends lower.
            let highest = match module {
                Module::DivideLast => self.top.0.saturating_sub(iterations - 1),
                _ => self.top.0,
            };
            template.operations.push(OperationTemplate {
                name: module.name().to_owned(),
                reads,
                writes: written,
                stages: counted.stages,
                levels: counted.lowest..=highest,
            });
        }
        let outputs = modules.last().into_iter().flat_map(|module| module.edges().1);
        let outputs = outputs.filter_map(|(output, _)| names.iter().position(|name| name == output));
        template.outputs.extend(outputs.map(ValueId));
        Ok(template)
    }

    /// What the counts of a module depend on beside the sizes of the model: the functions it evaluates.
    fn signature(&self, module: Module) -> Result<String> {
        let functions = &self.functions;
        let softmax = &functions.attention.softmax;
        let squares = functions.attention.square_shifts.iter().flatten().any(|weight| *weight != 0.0);
        let json = match module {
            Module::InputNormRoot => serde_json::to_string(&functions.input_norm),
            Module::PostNormRoot => serde_json::to_string(&functions.post_norm),
            Module::Exponential => serde_json::to_string(&softmax.exponential),
            Module::DivideFirst => serde_json::to_string(&(&softmax.before, functions.division_gap)),
            Module::DivideLast => serde_json::to_string(&softmax.after),
            Module::Activation => serde_json::to_string(&functions.gate),
            Module::Rope | Module::Scores => serde_json::to_string(&squares),
            _ => Ok(String::new()),
        };
        json.map_err(|error| Error::Internal(format!("functions of `{}`: {error}", module.name())))
    }

    fn count(&self, module: Module, chain: &LevelChain, bootstrap: BootstrapSummary) -> Result<Counted> {
        let (client, parameters) = self.simulator(chain, bootstrap);
        let evaluator = CountingEvaluator::new(ClearEvaluator::dry_run(parameters));
        let encrypt = |level| client.encrypt(&[Complex64::ZERO], level);
        let mut found: Option<Counted> = None;
        let mut refusal = None;
        for level in 0..=self.top.0 {
            let prepared = self.prepare(module, Level(level), &evaluator, &encrypt);
            evaluator.take_counts();
            match prepared.and_then(|run| run(&evaluator)) {
                Ok(outputs) => {
                    let counts = evaluator.take_counts();
                    // What happens to inputs that stand above the run level counts at it.
                    let mut stages = vec![Work::default(); level + 1];
                    for (at, counts) in &counts.by_level {
                        let work = Work::from(*counts);
                        let work = Work { encodings: work.plaintext_products, ..work };
                        if let Some(stage) = stages.get_mut(level.saturating_sub(at.0)) {
                            *stage += work;
                        }
                    }
                    while stages.len() > 1 && stages.last() == Some(&Work::default()) {
                        stages.pop();
                    }
                    let depth = |level: Level, output: &<ClearEvaluator as Evaluator>::Ciphertext| {
                        level.minus(output.level().0, "module").map(|depth| depth.0)
                    };
                    let depths =
                        outputs.iter().map(|output| depth(Level(level), output)).collect::<Result<_>>()?;
                    let lowest = found.as_ref().map_or(level, |known| known.lowest);
                    found = Some(Counted { lowest, depths, stages });
                }
                Err(error) => refusal = Some(error),
            }
        }
        found.ok_or_else(|| {
            refusal.unwrap_or_else(|| Error::Internal(format!("`{}` was not run", module.name())))
        })
    }

    fn simulator(&self, chain: &LevelChain, bootstrap: BootstrapSummary) -> (ClearClient, ClearParameters) {
        let parameters = ClearParameters {
            slots: self.layout.hidden.slots(),
            chain: chain.clone(),
            bootstrapping: Some(bootstrap),
            noise: None,
        };
        (ClearClient::new(parameters.clone()), parameters)
    }

    /// Keys that the modules use at any level up to the top.
    ///
    /// # Errors
    /// Those of the simulator.
    pub fn keys(&self, chain: &LevelChain, bootstrap: BootstrapSummary) -> Result<KeyRequest> {
        let (client, parameters) = self.simulator(chain, bootstrap);
        let evaluator = ClearEvaluator::dry_run(parameters);
        let encrypt = |level| client.encrypt(&[Complex64::ZERO], level);
        for module in Module::ALL {
            let above = self.above(module).into_iter().max().unwrap_or(0);
            let level = Level(self.top.0.saturating_sub(above));
            self.prepare(module, level, &evaluator, &encrypt)?(&evaluator)?;
        }
        Ok(evaluator.recorded())
    }
}

/// Modules counted so far, by what their counts depend on.
pub(crate) type Counts = HashMap<(Module, String), Counted>;

/// A module as counted.
#[derive(Clone)]
pub(crate) struct Counted {
    lowest: usize,
    depths: Vec<usize>,
    stages: Vec<Work>,
}

fn root<E: Evaluator>(
    evaluator: &E,
    unit: &E::Ciphertext,
    norm: &InverseSquareRoot,
) -> Result<Vec<E::Ciphertext>> {
    let root = evaluate_series(evaluator, unit, &norm.start.complex_coefficients(), None)?;
    Ok(vec![norm.refine(evaluator, unit, &root)?])
}

/// A sequence whose caches hold `tokens` encrypted tokens of zeros in every layer: a state to time a decode step from.
///
/// # Errors
/// [`Error::Shape`] when the context is shorter; those of `encrypt`.
pub fn filled_state<E: Evaluator>(
    decoder: &Decoder,
    evaluator: &E,
    tokens: usize,
    encrypt: &dyn Fn(Level) -> Result<E::Ciphertext>,
) -> Result<DecoderState<E::Ciphertext>> {
    let mut caches = Vec::new();
    for layout in decoder.cache_layouts() {
        let mut cache = KeyValueCache::new(layout);
        for _ in 0..tokens {
            cache.append_public(evaluator, |_, _| 0.0, |_, _| 0.0)?;
        }
        caches.push(cache.encrypted(|_, level| encrypt(level))?);
    }
    DecoderState::from_caches(caches)
        .ok_or_else(|| Error::Internal("caches of one state hold different numbers of tokens".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::calibration::calibrate::calibrate;
    use crate::calibration::measure::Margins;
    use crate::decoder::functions::Accuracy;
    use crate::decoder::keys::plan_keys;
    use crate::model::prepared::{PreparedModel, TextPart, built_in};
    use crate::placement::{BootstrapCosts, OperationCosts, OperationRow, Prices, Source, run_in_order};

    const TOP: usize = 13;

    /// The bundled model, planned, and its layers taken apart, before the first token.
    fn bundled() -> (Vec<LayerModules>, Decoder, ClearParameters) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join("tiny-shakespeare-llama");
        let prepared = PreparedModel::read(&directory).unwrap();
        let config = prepared.model.config();
        let texts = |part| prepared.private_tokens(&built_in(part, prepared.frame.is_chat), 128, 0).unwrap();
        let table = calibrate(
            &prepared,
            &texts(TextPart::Calibration),
            &texts(TextPart::HeldOut),
            &Margins::default(),
            &mut |_, _, _| {},
        )
        .unwrap()
        .table;
        let bootstrap = BootstrapSummary {
            output_level: Level(TOP),
            minimum_input_level: Level(0),
            bound: 1.0,
            few: None,
        };
        let parameters = ClearParameters::new(1 << 11, TOP, 42).unwrap().with_bootstrapping(bootstrap);
        let plan = DecoderPlan::new(config, &table.ranges, Accuracy::default(), bootstrap).unwrap();
        let weights = Weights::open(&directory, config).unwrap();
        let modules = (0..config.num_hidden_layers)
            .map(|index| LayerModules::new(&weights, &plan, index, 1 << 11, (0, 8)).unwrap())
            .collect();
        let decoder = Decoder::new(&weights, plan, 1 << 11, 8).unwrap();
        (modules, decoder, parameters)
    }

    #[test]
    fn modules_run_one_by_one_take_the_levels_bootstraps_and_operations_of_the_decoder_itself() {
        let (layers, decoder, parameters) = bundled();
        let bootstrap = parameters.bootstrapping.unwrap();
        let rows: Vec<OperationRow> = ["rotate", "mult", "mult_plain", "rescale", "encode"]
            .into_iter()
            .map(|op| OperationRow {
                op: op.to_owned(),
                level: Level(TOP),
                seconds: 1.0,
                source: Source::Assumed,
            })
            .collect();
        let operations = OperationCosts::new(&rows).unwrap();
        let prices = Prices { operations: &operations, file: None };
        let costs = BootstrapCosts::constant(100.0, Level(TOP)).with_pairing(1.0);
        let mut work = Work::default();
        for (modules, functions) in layers.iter().zip(&decoder.plan().layers) {
            let template = modules.template(&parameters.chain, bootstrap).unwrap();
            let graph = template.graph(&prices, Level(TOP)).unwrap();
            let by_hand = run_in_order(&graph, &costs, Level(TOP), &modules.refreshes()).unwrap();
            assert_eq!(by_hand.exit, [Level(TOP)]);
            // The last refresh has no step.
            let inside = functions.schedule.refreshes().filter(|(module, _)| module.is_some());
            assert_eq!(by_hand.bootstraps(), inside.map(|(_, refresh)| refresh.iterations).sum::<usize>());
            work += template.work();
        }
        // Beside the layers a step has the final norm: two masks, a square, one polynomial and a product.
        let counted = plan_keys(&decoder, &parameters.chain, bootstrap, 1).unwrap().operations;
        let products = counted.ciphertext_products as f64 - work.ciphertext_products;
        assert!((3.0..40.0).contains(&products), "{} of {work:?}", counted.ciphertext_products);
        let plain = counted.plaintext_products as f64 - work.plaintext_products;
        assert!((plain - 2.0).abs() < 0.5, "{} of {work:?}", counted.plaintext_products);
    }

    #[test]
    fn a_layer_or_a_cache_that_does_not_exist_is_refused() {
        let (_, decoder, _) = bundled();
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join("tiny-shakespeare-llama");
        let weights = Weights::open(&directory, decoder.config()).unwrap();
        let new = |layer, cached| LayerModules::new(&weights, decoder.plan(), layer, 1 << 11, cached);
        assert!(new(2, (0, 8)).err().unwrap().to_string().contains("layer 2 of 2"));
        assert!(new(0, (8, 8)).err().unwrap().to_string().contains("8 cached tokens"));
    }
}
