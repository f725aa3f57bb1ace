//! A forward pass that keeps its intermediates, for parity checks and for inspection.

use std::collections::BTreeMap;
use std::sync::Mutex;

use vitral_engine::{Context, Observer, Tensor};

use crate::error::Error;
use crate::load::Model;
use crate::model::{Input, Output};

/// Which intermediates to keep.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TraceOptions {
    /// The tokens before the first block and after every block.
    pub hidden_states: bool,
    /// The attention weights of every block.
    pub attentions: bool,
}

impl TraceOptions {
    /// Keeps the tokens before the first block and after every block.
    #[must_use]
    pub fn hidden_states(mut self, keep: bool) -> Self {
        self.hidden_states = keep;
        self
    }

    /// Keeps the attention weights of every block.
    #[must_use]
    pub fn attentions(mut self, keep: bool) -> Self {
        self.attentions = keep;
        self
    }
}

/// A forward pass and its intermediates.
#[derive(Debug)]
pub struct Trace {
    /// Logits and features.
    pub output: Output,
    /// `[batch, tokens, width]`: the input of the first block, then the output of each.
    pub hidden_states: Vec<Tensor>,
    /// `[batch, heads, tokens, tokens]` of each block, after softmax.
    pub attentions: Vec<Tensor>,
}

/// Passes on intermediates by name.
pub(crate) struct Visitor<F, G> {
    pub(crate) wanted: F,
    pub(crate) each: G,
}

impl<F: Fn(&str) -> bool + Sync, G: Fn(&str, &Tensor) + Sync> Observer for Visitor<F, G> {
    fn wants(&self, name: &str) -> bool {
        (self.wanted)(name)
    }

    fn observe(&self, name: &str, tensor: &Tensor) {
        (self.each)(name, tensor);
    }
}

/// Intermediates by name.
#[derive(Default)]
pub(crate) struct Kept(Mutex<BTreeMap<String, Tensor>>);

impl Kept {
    pub(crate) fn keep(&self, name: &str, tensor: &Tensor) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name.to_owned(), tensor.clone());
    }

    pub(crate) fn into_inner(self) -> BTreeMap<String, Tensor> {
        self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Model {
    /// Runs the model and keeps every named intermediate that `wanted` accepts; names as in
    /// [`Vit::forward`](crate::model::Vit::forward). The output has the same bits as in a plain run.
    ///
    /// # Errors
    /// If the model does not accept this input.
    pub fn observe(
        &self,
        pixels: &Tensor,
        mask: Option<&[u8]>,
        wanted: impl Fn(&str) -> bool + Sync,
    ) -> Result<(Output, BTreeMap<String, Tensor>), Error> {
        let kept = Kept::default();
        let output = self.visit(pixels, mask, wanted, |name, tensor| kept.keep(name, tensor))?;
        Ok((output, kept.into_inner()))
    }

    /// Like [`Model::observe`], but passes each intermediate to `each` as it is computed and keeps none, so that large
    /// ones (attention weights) can be reduced immediately.
    ///
    /// # Errors
    /// If the model does not accept this input.
    pub fn visit(
        &self,
        pixels: &Tensor,
        mask: Option<&[u8]>,
        wanted: impl Fn(&str) -> bool + Sync,
        each: impl Fn(&str, &Tensor) + Sync,
    ) -> Result<Output, Error> {
        let visitor = Visitor { wanted, each };
        let forward = || {
            let context = Context::inference(&self.parameters).observed_by(&visitor);
            self.vit.forward(&context, Input { pixels, mask })
        };
        Ok(self.parameters.device().scope(forward)?)
    }

    /// Runs the model and keeps hidden states and attentions.
    ///
    /// # Errors
    /// If the model does not accept this input.
    pub fn trace(&self, pixels: &Tensor, mask: Option<&[u8]>, options: TraceOptions) -> Result<Trace, Error> {
        let wanted = |name: &str| {
            (options.hidden_states && (name == "tokens" || name.ends_with(".output")))
                || (options.attentions && name.ends_with("attention.weights"))
        };
        let (output, mut kept) = self.observe(pixels, mask, wanted)?;
        let depth = self.vit.config().depth;
        let hidden_states = std::iter::once("tokens".to_owned())
            .chain((0..depth).map(|i| format!("blocks.{i}.output")))
            .filter_map(|name| kept.remove(&name))
            .collect();
        // A block with parallel pairs has two.
        let attentions = (0..depth)
            .flat_map(|i| {
                [String::new(), ".pairs.0".into(), ".pairs.1".into()]
                    .map(|pair| format!("blocks.{i}{pair}.attention.weights"))
            })
            .filter_map(|name| kept.remove(&name))
            .collect();
        Ok(Trace { output, hidden_states, attentions })
    }
}
