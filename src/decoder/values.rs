//! The values between the steps of a layer: their names, and the ciphertexts under way.
//!
//! A value is a list of ciphertexts: one for a whole wave of tokens, one for each token where the tokens are apart,
//! or one for each segment of scores. The names stand in plans and cost files, and bootstraps are placed by them.

use std::collections::BTreeMap;

use crate::contract::{Error, Result};

/// What one step of a layer writes and others read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerValue {
    /// Residual stream that enters: all tokens, each feature divided by its bound.
    Residual,
    /// Residual stream without anything between its values, for the product with the root.
    InputMasked,
    /// Mean square, as the unit variable of the norm's polynomial, at every slot of its token.
    InputMeanSquare,
    /// 1/√ of the mean square, 1 at its largest.
    InputInverseRoot,
    /// What the norm before attention gives, without γ.
    InputNormed,
    /// Query of each token before RoPE.
    QueryStraight,
    /// Key of each token before RoPE, at its place in the cache.
    KeyStraight,
    /// Value of each token, at its place in the cache.
    Value,
    /// Query of each token, times 1/√head_dim.
    Query,
    /// What each query takes off every key it meets; none where squares do not help to predict the denominators.
    QueryShift,
    /// Key of each token, shifted.
    Key,
    /// Keys of all tokens: a [`crate::packing::KeyValueCache`] holds them.
    KeyCache,
    /// Values of all tokens: a [`crate::packing::KeyValueCache`] holds them.
    ValueCache,
    /// Scores as the unit variable of the exponential, −1 where no score is; one ciphertext for each segment of
    /// tokens.
    Scores,
    /// exp of the scores, magnified; one ciphertext for each segment.
    Weights,
    /// Sums of the weights in two scalings: a quarter of the first f of the inverse, and the magnified D.
    Denominator,
    /// Weights times cached values, summed.
    Numerator,
    /// Denominator and numerator half way through the inverse, as one complex vector.
    Halves,
    /// Attended values, up to factors that the output projection holds.
    Attended,
    /// Output of attention, divided by the bounds of the stream between attention and MLP.
    AttentionOutput,
    /// Residual stream between attention and MLP, each feature divided by its bound.
    MiddleResidual,
    /// Middle stream without anything between its values.
    PostMasked,
    /// Mean square of the middle stream, as the unit variable of the norm's polynomial.
    PostMeanSquare,
    /// 1/√ of the mean square of the middle stream.
    PostInverseRoot,
    /// What the norm before the MLP gives, without γ.
    PostNormed,
    /// Half of the up projection, divided by its bound, + i · half of the gate's unit variable.
    UpGate,
    /// The up projection, divided by its bound.
    Up,
    /// SiLU of the gate, divided by its largest value.
    Activation,
    /// SiLU(gate) · up.
    Gated,
    /// Output of the MLP, divided by the bounds of the stream behind the layer.
    MlpOutput,
    /// Residual stream that leaves, each feature divided by its bound.
    NextResidual,
    /// Logits of the last token, divided by their bound; several ciphertexts.
    Logits,
}

impl LayerValue {
    /// Name of the value in plans.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Residual => "residual",
            Self::InputMasked => "input.masked",
            Self::InputMeanSquare => "input.mean_square",
            Self::InputInverseRoot => "input.inverse_root",
            Self::InputNormed => "input.normed",
            Self::QueryStraight => "query.straight",
            Self::KeyStraight => "key.straight",
            Self::Value => "value",
            Self::Query => "query",
            Self::QueryShift => "query.shift",
            Self::Key => "key",
            Self::KeyCache => "key_cache",
            Self::ValueCache => "value_cache",
            Self::Scores => "scores",
            Self::Weights => "weights",
            Self::Denominator => "denominator",
            Self::Numerator => "numerator",
            Self::Halves => "halves",
            Self::Attended => "attended",
            Self::AttentionOutput => "attention_output",
            Self::MiddleResidual => "middle_residual",
            Self::PostMasked => "post.masked",
            Self::PostMeanSquare => "post.mean_square",
            Self::PostInverseRoot => "post.inverse_root",
            Self::PostNormed => "post.normed",
            Self::UpGate => "up_gate",
            Self::Up => "up",
            Self::Activation => "activation",
            Self::Gated => "gated",
            Self::MlpOutput => "mlp_output",
            Self::NextResidual => "next_residual",
            Self::Logits => "logits",
        }
    }

    /// Whether every slot is real, so that a bootstrap need not carry imaginary parts.
    #[must_use]
    pub fn is_real(self) -> bool {
        !matches!(self, Self::Halves | Self::UpGate | Self::Logits)
    }

    /// Whether a cache holds it, and not a list of ciphertexts.
    #[must_use]
    pub fn is_cache(self) -> bool {
        matches!(self, Self::KeyCache | Self::ValueCache)
    }

    /// How many values laid out like it fit one bootstrapped ciphertext: two real ones.
    pub(crate) fn lanes(self) -> usize {
        if self.is_real() && !self.is_cache() { 2 } else { 1 }
    }
}

/// Ciphertexts of a layer under way, by the names of their values.
pub(crate) struct Values<C> {
    lists: BTreeMap<LayerValue, Vec<C>>,
}

impl<C: Clone> Values<C> {
    /// No values.
    pub(crate) fn new() -> Self {
        Self { lists: BTreeMap::new() }
    }

    /// One value of one ciphertext.
    pub(crate) fn of(value: LayerValue, ciphertext: C) -> Self {
        Self::new().with(value, vec![ciphertext])
    }

    /// These and one more; a list without ciphertexts is no value.
    pub(crate) fn with(mut self, value: LayerValue, list: Vec<C>) -> Self {
        self.set(value, list);
        self
    }

    /// Puts `list` in the place of what `value` held.
    pub(crate) fn set(&mut self, value: LayerValue, list: Vec<C>) {
        if !list.is_empty() {
            self.lists.insert(value, list);
        }
    }

    /// Adds the values of `others`.
    pub(crate) fn extend(&mut self, others: Self) {
        self.lists.extend(others.lists);
    }

    /// All values and their ciphertexts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LayerValue, &[C])> {
        self.lists.iter().map(|(value, list)| (*value, list.as_slice()))
    }

    /// The ciphertexts of `value`: none where nothing wrote it.
    pub(crate) fn list(&self, value: LayerValue) -> &[C] {
        self.lists.get(&value).map_or(&[], Vec::as_slice)
    }

    /// The one ciphertext of `value`.
    ///
    /// # Errors
    /// [`Error::Internal`] when there is none, or several.
    pub(crate) fn one(&self, value: LayerValue) -> Result<&C> {
        match self.list(value) {
            [one] => Ok(one),
            list => Err(miscounted(value, list.len(), 1)),
        }
    }

    /// The ciphertexts of `value`, which are `count`.
    ///
    /// # Errors
    /// [`Error::Internal`] when they are not.
    pub(crate) fn many(&self, value: LayerValue, count: usize) -> Result<&[C]> {
        let list = self.list(value);
        if list.len() == count { Ok(list) } else { Err(miscounted(value, list.len(), count)) }
    }

    /// The `N` ciphertexts of `value`.
    ///
    /// # Errors
    /// [`Error::Internal`] when they are not as many.
    pub(crate) fn exactly<const N: usize>(&self, value: LayerValue) -> Result<&[C; N]> {
        let list = self.list(value);
        list.try_into().map_err(|_| miscounted(value, list.len(), N))
    }

    /// Takes the ciphertexts of `value` out.
    pub(crate) fn take(&mut self, value: LayerValue) -> Vec<C> {
        self.lists.remove(&value).unwrap_or_default()
    }

    /// Takes the one ciphertext of `value` out.
    ///
    /// # Errors
    /// [`Error::Internal`] when there is none, or several.
    pub(crate) fn take_one(&mut self, value: LayerValue) -> Result<C> {
        let list = self.take(value);
        let count = list.len();
        let [one] = <[C; 1]>::try_from(list).map_err(|_| miscounted(value, count, 1))?;
        Ok(one)
    }
}

fn miscounted(value: LayerValue, found: usize, wanted: usize) -> Error {
    Error::Internal(format!(
        "`{}` is {found} ciphertexts where a step of the layer reads {wanted}",
        value.name()
    ))
}
