//! What the steps of a layer work with: its weights and functions, the model around it, and the tokens under way.
//!
//! Tokens of a wave stand side by side in the residual stream, in the scores, in numerator and denominator, and in
//! up + i·gate; they are apart, each at place 0, in every product, in queries, keys and values.

use std::ops::Range;
use std::sync::Arc;

use crate::circuits::inverse_sqrt::InverseSquareRoot;
use crate::contract::{CiphertextInfo, Error, Evaluator, Level, Result};
use crate::packing::{AttentionPlan, Rope, VectorLayout, Wave};

use crate::decoder::functions::LayerFunctions;
use crate::decoder::head::EncryptedHead;
use crate::decoder::layout::DecoderLayout;
use crate::decoder::products::LayerProducts;
use crate::decoder::schedule::LayerSchedule;
use crate::decoder::step::Step;
use crate::decoder::values::LayerValue;
use crate::model::config::LlamaConfig;

/// What all layers share.
pub(crate) struct Shared {
    /// Layouts of the vectors.
    pub(crate) layout: DecoderLayout,
    /// Rotary position embedding.
    pub(crate) rope: Rope,
    /// ε of the norms.
    pub(crate) epsilon: f64,
}

impl Shared {
    /// What the layers of a model of shape `config` share under `layout`.
    pub(crate) fn new(config: &LlamaConfig, layout: DecoderLayout) -> Self {
        let rope = Rope::with_frequencies(config.rope_frequencies(), config.max_position_embeddings);
        Self { layout, rope, epsilon: config.rms_norm_eps }
    }
}

/// A norm of the stream that enters, and what follows it: attention and MLP, or the end of the model.
#[derive(Clone)]
pub(crate) struct Layer {
    /// 1/√ of the norm at the entry.
    pub(crate) norm: InverseSquareRoot,
    /// What each feature of the stream that enters is divided by.
    pub(crate) entering: Vec<f64>,
    /// Where it bootstraps, and at which levels its steps run.
    pub(crate) schedule: LayerSchedule,
    /// What follows the norm.
    pub(crate) body: Body,
}

impl Layer {
    /// Levels by which each value that `step` reads stands above the level at which the step runs, for several tokens
    /// side by side or for one alone.
    pub(crate) fn above(&self, step: Step, several: bool) -> Vec<usize> {
        let apart = usize::from(several);
        match (step, &self.body) {
            // The mask that takes tokens apart, where none took them apart before the norm.
            (Step::QueryKeyValue, _) => vec![apart * usize::from(self.schedule.refresh(step).is_some())],
            // The value loses one level to the masks of its lanes; the residual one to its factor.
            (Step::Append, _) => vec![0, 1],
            (Step::AttentionResidual | Step::MlpResidual, _) => vec![1, 0],
            // Masks that take tokens apart.
            (Step::Values | Step::GateProduct, _) => vec![apart, 0],
            (Step::Output, _) => vec![apart],
            (Step::DivideFirst, Body::Block(block)) => vec![block.functions.division_gap, 0],
            _ => vec![0; step.edges().0.len()],
        }
    }

    /// Levels above that at which `step` runs that a placement must leave to each value it reads, so that several
    /// tokens can go together. Where the norm is bootstrapped no room is left: that bootstrap then ends one level
    /// higher.
    pub(crate) fn above_in_placement(&self, step: Step) -> Vec<usize> {
        self.above(step, step != Step::QueryKeyValue)
    }
}

/// What follows the norm at the entry of a layer.
#[derive(Clone)]
pub(crate) enum Body {
    /// Attention and MLP.
    Block(Box<Block>),
    /// The end of the model: its head, where that is on the server.
    End(Option<Arc<EncryptedHead>>),
}

/// Attention and MLP of one layer.
#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) products: Arc<LayerProducts>,
    pub(crate) attention: AttentionPlan,
    pub(crate) functions: LayerFunctions,
    /// Whether queries take something of themselves off the keys they meet.
    pub(crate) has_query_shifts: bool,
}

impl Block {
    /// Block of `functions`, checked against the shape of the model.
    ///
    /// # Errors
    /// [`Error::Plan`] when the functions hold another number of heads, of dimensions or of features.
    pub(crate) fn new(
        config: &LlamaConfig,
        products: Arc<LayerProducts>,
        attention: AttentionPlan,
        functions: LayerFunctions,
    ) -> Result<Self> {
        check_shapes(config, &functions)?;
        let shifts = &functions.attention.square_shifts;
        let has_query_shifts = shifts.iter().flatten().any(|weight| *weight != 0.0);
        Ok(Self { products, attention, functions, has_query_shifts })
    }
}

/// That `functions` have a value for every head, dimension and feature of a model of shape `config`.
fn check_shapes(config: &LlamaConfig, functions: &LayerFunctions) -> Result<()> {
    let (heads, hidden) = (config.num_attention_heads, config.hidden_size);
    let attention = &functions.attention;
    let by_dimension = |rows: &[Vec<f64>]| rows.iter().map(Vec::len).collect::<Vec<usize>>();
    let dimensions = vec![config.head_dim; heads];
    let found = [
        ("offsets of the scores", vec![attention.offsets.len()], vec![heads]),
        ("factors of the values", vec![attention.value_factors.len()], vec![heads]),
        ("factors of the attended values", vec![attention.output_factors.len()], vec![heads]),
        ("shifts of the keys", by_dimension(&attention.shifts), dimensions.clone()),
        ("shifts by queries", by_dimension(&attention.square_shifts), dimensions),
        ("bounds of the middle stream", vec![functions.middle_residual.len()], vec![hidden]),
        ("bounds of the residual stream", vec![functions.residual.len()], vec![hidden]),
    ];
    match found.into_iter().find(|(_, found, wanted)| found != wanted) {
        None => Ok(()),
        Some((what, found, wanted)) => Err(Error::Plan {
            why: format!("{what}: {found:?} values, the model wants {wanted:?}"),
            remedy: "make the functions for this model, from a calibration of it".to_owned(),
        }),
    }
}

/// A factor of every head, read where [`Block::new`] has checked that it is there. Elsewhere NaN, which no
/// encoder takes, so that a missing factor can never pass for a number.
pub(crate) fn of_head(factors: &[f64], head: usize) -> f64 {
    factors.get(head).copied().unwrap_or(f64::NAN)
}

/// A factor of every head and dimension; see [`of_head`].
pub(crate) fn of_dimension(factors: &[Vec<f64>], head: usize, dimension: usize) -> f64 {
    factors.get(head).map_or(f64::NAN, |factors| of_head(factors, dimension))
}

/// The tokens under way.
#[derive(Clone)]
pub(crate) struct Members {
    /// Places of the tokens in the residual stream.
    pub(crate) wave: Wave,
    /// Tokens that the norm at the entry is for: all that a layer caches, or the one whose logits are wanted.
    pub(crate) entering: Range<usize>,
    /// Tokens that go beyond the cache.
    pub(crate) attending: Range<usize>,
}

impl Members {
    /// Whether several tokens stand side by side.
    pub(crate) fn are_several(&self) -> bool {
        self.wave.members() > 1
    }
}

/// One layer at work on some tokens.
pub(crate) struct LayerRun<'a, E> {
    pub(crate) evaluator: &'a E,
    pub(crate) shared: &'a Shared,
    pub(crate) layer: &'a Layer,
    pub(crate) members: Members,
    /// Tokens in the cache before these.
    pub(crate) position: usize,
    /// Number of the layer, for reports.
    pub(crate) index: usize,
}

impl<E: Evaluator> LayerRun<'_, E> {
    /// Attention and MLP.
    ///
    /// # Errors
    /// [`Error::Internal`] at the end of the model, which has none.
    pub(crate) fn block(&self) -> Result<&Block> {
        match &self.layer.body {
            Body::Block(block) => Ok(block),
            Body::End(_) => Err(Error::Internal("a step of a layer at the end of the model".to_owned())),
        }
    }

    /// The output head.
    ///
    /// # Errors
    /// [`Error::Internal`] elsewhere than at the end of a model with its head on the server.
    pub(crate) fn head(&self) -> Result<&EncryptedHead> {
        match &self.layer.body {
            Body::End(Some(head)) => Ok(head),
            _ => Err(Error::Internal("an output head where the server has none".to_owned())),
        }
    }

    /// Places of the tokens in numerator, denominator and attended values.
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not fit.
    pub(crate) fn heads(&self) -> Result<Wave> {
        Wave::new(self.block()?.attention.output_layout()?, self.members.wave.members())
    }

    /// Layout of key and value of token `member`: where the cache wants them.
    ///
    /// # Errors
    /// [`Error::Internal`] at the end of the model.
    pub(crate) fn place_in_cache(&self, member: usize) -> Result<VectorLayout> {
        let stored = self.block()?.attention.stored();
        stored.vector().at_offset((self.position + member) % stored.tokens())
    }

    /// Levels by which each value that `step` reads stands above the level at which the step runs.
    pub(crate) fn above(&self, step: Step) -> Vec<usize> {
        self.layer.above(step, self.members.are_several())
    }

    /// `x`, lowered to `level` where it stands higher.
    ///
    /// # Errors
    /// Errors of [`Evaluator::lower`], for an `x` that stands lower.
    pub(crate) fn lower(&self, x: &E::Ciphertext, level: Level) -> Result<E::Ciphertext> {
        if x.level() == level { Ok(x.clone()) } else { self.evaluator.lower(x, level) }
    }
}

/// A norm of a layer: its function, and the values it is about.
pub(crate) struct NormSite<'a> {
    pub(crate) function: &'a InverseSquareRoot,
    /// What each feature of the stream is divided by.
    pub(crate) bounds: &'a [f64],
    /// Tokens that are normed.
    pub(crate) members: Range<usize>,
    /// Whether they leave side by side, to be bootstrapped, and not each alone.
    pub(crate) together: bool,
    pub(crate) stream: LayerValue,
    pub(crate) masked: LayerValue,
    pub(crate) mean_square: LayerValue,
    pub(crate) inverse_root: LayerValue,
    pub(crate) normed: LayerValue,
}

impl<E: Evaluator> LayerRun<'_, E> {
    /// The norm at the entry.
    pub(crate) fn input_norm(&self) -> NormSite<'_> {
        let refreshed = self.layer.schedule.refresh(Step::QueryKeyValue).is_some();
        NormSite {
            function: &self.layer.norm,
            bounds: &self.layer.entering,
            members: self.members.entering.clone(),
            together: refreshed || !self.members.are_several(),
            stream: LayerValue::Residual,
            masked: LayerValue::InputMasked,
            mean_square: LayerValue::InputMeanSquare,
            inverse_root: LayerValue::InputInverseRoot,
            normed: LayerValue::InputNormed,
        }
    }

    /// The norm before the MLP.
    ///
    /// # Errors
    /// [`Error::Internal`] at the end of the model.
    pub(crate) fn post_norm(&self) -> Result<NormSite<'_>> {
        let functions = &self.block()?.functions;
        Ok(NormSite {
            function: &functions.post_norm,
            bounds: &functions.middle_residual,
            members: self.members.attending.clone(),
            together: !self.members.are_several(),
            stream: LayerValue::MiddleResidual,
            masked: LayerValue::PostMasked,
            mean_square: LayerValue::PostMeanSquare,
            inverse_root: LayerValue::PostInverseRoot,
            normed: LayerValue::PostNormed,
        })
    }
}
