//! What both parties must agree on: functions, bootstraps, layouts, keys. Equal models and options make equal set-ups.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::costs::built_in_for;
use super::model::{Model, ProgressOf};
use super::{Backend, MemoryNeeded, Preset, Scheme};
use crate::ckks::container::Fingerprint;
use crate::contract::{Error, Result};
use crate::decoder::Decoder;
use crate::decoder::accuracy::Accuracy;
use crate::decoder::head_side::HeadSide;
use crate::decoder::hidden_codec::HiddenCodec;
use crate::decoder::keys::{KeyPlan, plan_keys};
use crate::decoder::placement::{DecoderPlacement, TokensOfCache, place_decoder};
use crate::decoder::plan::DecoderPlan;
use crate::generation::chat::GenerationRequest;
use crate::generation::checkpoint::{CheckpointHeader, plan_digest};
use crate::placement::{CostFile, Plan};

/// Tokens that a sequence may have where nobody asks for another number: as many as the built-in calibration covers.
const DEFAULT_CONTEXT: usize = 128;
/// Tokens of a prompt that go together where nobody asks for another number, as far as they fit.
const DEFAULT_WAVE: usize = 8;

/// How a [`Setup`] is to be made. Everything has a default but the preset.
#[derive(Clone)]
pub struct SetupOptions {
    preset: Preset,
    backend: Backend,
    context: Option<usize>,
    wave: usize,
    head: HeadSide,
    plan: Option<Plan>,
    costs: Option<CostFile>,
}

/// Functions with their bootstraps placed, and where the costs came from.
struct PlacedFunctions {
    plan: DecoderPlan,
    costs: String,
}

impl SetupOptions {
    /// The native backend under `preset`, a context of 128 tokens or as many as the model and its calibration have,
    /// waves of up to eight tokens, the output head on the client, bootstraps placed by the costs built into this
    /// crate.
    #[must_use]
    pub fn new(preset: Preset) -> Self {
        let (backend, head) = (Backend::Native, HeadSide::Client);
        Self { preset, backend, context: None, wave: DEFAULT_WAVE, head, plan: None, costs: None }
    }

    /// On `backend` instead of the native one.
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// With caches laid out for `tokens` tokens, public prefix, prompt and answer together. Fewer cost less.
    #[must_use]
    pub fn context(mut self, tokens: usize) -> Self {
        self.context = Some(tokens);
        self
    }

    /// With prompts read `tokens` tokens at a time, as far as they fit; 1 for one by one. More need more rotation keys.
    #[must_use]
    pub fn wave(mut self, tokens: usize) -> Self {
        self.wave = tokens;
        self
    }

    /// With the output head on `side`.
    #[must_use]
    pub fn head(mut self, side: HeadSide) -> Self {
        self.head = side;
        self
    }

    /// With the bootstraps of `plan`, which must be for this model, preset and backend, instead of a search.
    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plan = Some(plan);
        self
    }

    /// With bootstraps placed by `costs`, measured on the server's machine, instead of those built in.
    #[must_use]
    pub fn costs(mut self, costs: CostFile) -> Self {
        self.costs = Some(costs);
        self
    }

    /// Makes the set-up for `model`. Cost: seconds for the bundled model, up to minutes for one of 100 M parameters.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for the backend `openfhe`, whose parameters only its client knows: see
    /// [`SetupOptions::build_on`]; those of [`SetupOptions::build_on`].
    pub fn build(self, model: &Model) -> Result<Setup> {
        let scheme = match self.backend {
            Backend::Native => Scheme::native(self.preset)?,
            Backend::Clear => Scheme::clear(self.preset, self.preset.slots(), None)?,
            Backend::Openfhe => {
                return Err(Error::Unsupported {
                    backend: "openfhe",
                    operation: "make a set-up without its client".to_owned(),
                    remedy: "make the client first and build on Scheme::openfhe".to_owned(),
                });
            }
        };
        self.build_on(scheme, model, &mut |_, _, _| {})
    }

    /// Makes the set-up for `model` on `scheme`, and tells `progress` what it is at.
    ///
    /// # Errors
    /// [`Error::Shape`] when the context exceeds the model's or the model does not fit the slots; [`Error::Plan`]
    /// when the plan belongs to something else, or no placement exists.
    pub fn build_on(self, scheme: Scheme, model: &Model, progress: &mut ProgressOf<'_>) -> Result<Setup> {
        let context = self.checked_context(model)?;
        progress("placing bootstraps", 0, 3);
        let PlacedFunctions { plan, costs } = self.place(&scheme, model)?;
        progress("preparing the weights", 1, 3);
        let codec = HiddenCodec::new(model.config(), &plan, scheme.slots(), context)?;
        let decoder = Decoder::new(model.weights(), plan, scheme.slots(), context)?;
        let wave = self.wave.clamp(1, decoder.wave_capacity());
        progress("counting the keys needed", 2, 3);
        let keys = plan_keys(&decoder, scheme.chain(), scheme.bootstrap(), wave)?;
        progress("counting the keys needed", 3, 3);
        let digest = digest(&scheme, &decoder, context, wave)?;
        Ok(Setup {
            model: model.clone(),
            scheme,
            context,
            wave,
            decoder: Arc::new(decoder),
            codec,
            keys,
            costs,
            digest,
        })
    }

    /// The functions of `model` on `scheme`, with bootstraps placed by hand: what a placement starts from.
    ///
    /// # Errors
    /// [`Error::Plan`] for ranges that no function of the levels at hand covers.
    pub fn functions(&self, scheme: &Scheme, model: &Model) -> Result<DecoderPlan> {
        let ranges = &model.calibration().ranges;
        DecoderPlan::new(model.config(), ranges, Accuracy::default(), scheme.bootstrap())?
            .with_head(self.head)
    }

    /// The cheapest placement for `model` on `scheme`, and what others would cost.
    ///
    /// # Errors
    /// [`Error::Shape`] when the context exceeds the model's or the model does not fit the slots; [`Error::Plan`] when
    /// no placement exists ([`SetupOptions::build_on`]).
    pub fn placement(&self, scheme: &Scheme, model: &Model) -> Result<DecoderPlacement> {
        let functions = self.functions(scheme, model)?;
        place(model, scheme, &functions, &self.costs_for(scheme)?, self.checked_context(model)?)
    }

    /// The functions of `model` on `scheme` with bootstraps where the plan given says, or else the cheapest one.
    ///
    /// # Errors
    /// [`Error::Shape`] when the context exceeds the model's or the model does not fit the slots; [`Error::Plan`] when
    /// no placement exists ([`SetupOptions::build_on`]).
    pub fn planned(&self, scheme: &Scheme, model: &Model) -> Result<DecoderPlan> {
        Ok(self.place(scheme, model)?.plan)
    }

    fn place(&self, scheme: &Scheme, model: &Model) -> Result<PlacedFunctions> {
        let functions = self.functions(scheme, model)?;
        if let Some(plan) = &self.plan {
            plan.check(&scheme.for_placement().target(model.config(), &functions)?)?;
            return Ok(PlacedFunctions {
                plan: functions.placed(plan)?,
                costs: "those of the plan given".to_owned(),
            });
        }
        let costs = self.costs_for(scheme)?;
        let placement = place(model, scheme, &functions, &costs, self.checked_context(model)?)?;
        Ok(PlacedFunctions { plan: functions.placed(&placement.plan)?, costs: costs.provenance })
    }

    fn costs_for(&self, scheme: &Scheme) -> Result<CostFile> {
        self.costs.clone().map_or_else(|| built_in_for(scheme.backend(), scheme.preset()), Ok)
    }

    /// The context wanted, or the default as far as the model and its calibration go.
    fn checked_context(&self, model: &Model) -> Result<usize> {
        let longest = model.config().max_position_embeddings;
        let context = self.context.unwrap_or(DEFAULT_CONTEXT.min(longest).min(model.longest_text()));
        if context == 0 || context > longest {
            return Err(Error::Shape {
                operation: "set-up",
                what: format!("a context of {context} tokens, the model has {longest} positions"),
                remedy: format!("ask for 1 to {longest} tokens"),
            });
        }
        Ok(context)
    }
}

/// The cheapest placement of `functions` for the last token of the context: the dearest one.
fn place(
    model: &Model,
    scheme: &Scheme,
    functions: &DecoderPlan,
    costs: &CostFile,
    context: usize,
) -> Result<DecoderPlacement> {
    let tokens = TokensOfCache { cached: context.saturating_sub(1), context };
    place_decoder(model.config(), functions, &scheme.for_placement(), costs, tokens)
}

/// SHA-256 over everything that both parties must have in common.
fn digest(scheme: &Scheme, decoder: &Decoder, context: usize, wave: usize) -> Result<Fingerprint> {
    let mut hash = Sha256::new();
    for part in [scheme.backend().name(), scheme.preset().name(), &plan_digest(decoder)?] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    for number in [scheme.slots(), context, wave] {
        hash.update((number as u64).to_le_bytes());
    }
    Ok(Fingerprint::of(&hash.finalize()))
}

/// A model made ready for a preset: the functions that replace its non-linearities, where it bootstraps, how vectors
/// are packed, and which evaluation keys that takes. The same on both sides; it holds the model's weights and no key.
///
/// ```
/// let model = cachemir::Model::bundled()?;
/// let setup = cachemir::SetupOptions::new(cachemir::Preset::Test).context(16).build(&model)?;
/// println!("{} bootstraps a token", setup.bootstraps_per_token());
/// # Ok::<(), cachemir::Error>(())
/// ```
pub struct Setup {
    model: Model,
    scheme: Scheme,
    context: usize,
    wave: usize,
    decoder: Arc<Decoder>,
    codec: HiddenCodec,
    keys: KeyPlan,
    costs: String,
    digest: Fingerprint,
}

impl Setup {
    /// The set-up of `model` on the native backend under `preset`, with the defaults of [`SetupOptions::new`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] for the backend `openfhe`, whose parameters only its client knows; errors of
    /// [`SetupOptions::build`].
    pub fn new(model: &Model, preset: Preset) -> Result<Self> {
        SetupOptions::new(preset).build(model)
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Backend and parameters.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Tokens that a sequence may have.
    #[must_use]
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens of a prompt that go through the model together.
    #[must_use]
    pub fn wave(&self) -> usize {
        self.wave
    }

    /// The model on ciphertexts.
    #[must_use]
    pub fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }

    /// How embeddings are packed and hidden states unpacked.
    #[must_use]
    pub fn codec(&self) -> &HiddenCodec {
        &self.codec
    }

    /// The evaluation keys that a server needs, and the operations of one token.
    #[must_use]
    pub fn keys_needed(&self) -> &KeyPlan {
        &self.keys
    }

    /// Which costs placed the bootstraps.
    #[must_use]
    pub fn costs(&self) -> &str {
        &self.costs
    }

    /// Bootstraps of one token, each iteration counted.
    #[must_use]
    pub fn bootstraps_per_token(&self) -> usize {
        self.decoder.plan().bootstraps_per_token()
    }

    /// Names this set-up: two parties whose fingerprints are equal can talk.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.digest
    }

    /// What a checkpoint of `request` under this set-up says at its start; `key` is the fingerprint of the stored
    /// secret key, empty when nothing is encrypted.
    ///
    /// # Errors
    /// [`Error::Internal`] when the plan does not serialize ([`plan_digest`]).
    pub fn checkpoint_header(&self, request: &GenerationRequest, key: String) -> Result<CheckpointHeader> {
        let (backend, preset) = (self.scheme.backend(), self.scheme.preset());
        Ok(CheckpointHeader {
            scheme: format!("{backend} {preset:?} {} slots", self.scheme.slots()),
            key,
            plan: plan_digest(&self.decoder)?,
            context: self.context,
            request: request.clone(),
            generated: Vec::new(),
        })
    }

    /// Memory that a run holds whose evaluation keys take `key_bytes`.
    #[must_use]
    pub fn memory_with_keys(&self, key_bytes: u64) -> MemoryNeeded {
        MemoryNeeded::new(key_bytes, self.scheme.slots())
    }
}
