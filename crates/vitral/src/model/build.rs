//! Declares parameters: a cursor into the tree of names.

use vitral_engine::ops::{Linear, Norm};
use vitral_engine::{Declarations, ParameterId, ParameterKind, ops};

use crate::config::{Activation, ModelConfig, NormKind};

/// A place in the tree of parameter names.
pub(super) struct Builder<'a> {
    pub(super) config: &'a ModelConfig,
    declarations: &'a mut Declarations,
    prefix: String,
}

impl<'a> Builder<'a> {
    pub(super) fn new(config: &'a ModelConfig, declarations: &'a mut Declarations) -> Self {
        Builder { config, declarations, prefix: String::new() }
    }

    /// The child of this place with that name.
    pub(super) fn at(&mut self, name: impl std::fmt::Display) -> Builder<'_> {
        let prefix = if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) };
        Builder { config: self.config, declarations: self.declarations, prefix }
    }

    /// The full name of a tensor at this place.
    pub(super) fn name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// A parameter that is not the weight of a linear map.
    pub(super) fn plain(&mut self, name: &str, shape: &[usize]) -> ParameterId {
        let name = self.name(name);
        self.declarations.declare(name, shape, ParameterKind::Plain)
    }

    /// A linear map `[out, in]`.
    pub(super) fn linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Linear {
        let mut place = self.at(name);
        let weight = place.name("weight");
        let weight = place.declarations.declare(weight, &[outputs, inputs], ParameterKind::Matrix);
        Linear { weight, bias: bias.then(|| place.plain("bias", &[outputs])) }
    }

    /// A norm of the configured kind.
    pub(super) fn norm(&mut self, name: &str, width: usize) -> Norm {
        let (kind, epsilon) = (self.config.norm, self.config.norm_epsilon);
        let mut place = self.at(name);
        let weight = place.plain("weight", &[width]);
        let bias = (kind == NormKind::Layer).then(|| place.plain("bias", &[width]));
        let kind = match kind {
            NormKind::Layer => ops::NormKind::Layer,
            NormKind::Rms => ops::NormKind::Rms,
        };
        Norm { weight, bias, epsilon, kind }
    }

    /// LayerScale, if configured.
    pub(super) fn scale(&mut self, name: &str) -> Option<ParameterId> {
        self.config.layer_scale.map(|_| self.plain(name, &[self.config.width]))
    }
}

impl From<Activation> for vitral_engine::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Gelu => vitral_engine::Activation::Gelu,
            Activation::GeluTanh => vitral_engine::Activation::GeluTanh,
            Activation::QuickGelu => vitral_engine::Activation::QuickGelu,
            Activation::Relu => vitral_engine::Activation::Relu,
            Activation::Silu => vitral_engine::Activation::Silu,
            Activation::Tanh => vitral_engine::Activation::Tanh,
        }
    }
}
