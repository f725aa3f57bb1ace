//! A forward pass that keeps what happened inside, for parity checks and for people who look.

use std::collections::BTreeMap;
use std::sync::Mutex;

use vitral_engine::{Context, Observer, Tensor};

use crate::error::Error;
use crate::model::{Input, Output};
use crate::predict::Model;

/// Which intermediates are kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceOptions {
    /// The tokens before the first block and after every block.
    pub hidden_states: bool,
    /// The attention weights of every block.
    pub attentions: bool,
}

/// A forward pass and what happened inside.
pub struct Trace {
    /// Logits and features.
    pub output: Output,
    /// `[batch, tokens, width]`: the input of the first block, then the output of each.
    pub hidden_states: Vec<Tensor>,
    /// `[batch, heads, tokens, tokens]` of each block, after softmax.
    pub attentions: Vec<Tensor>,
}

/// Keeps intermediates by name.
struct Keeper<F> {
    wanted: F,
    kept: Mutex<BTreeMap<String, Tensor>>,
}

impl<F: Fn(&str) -> bool + Sync> Observer for Keeper<F> {
    fn wants(&self, name: &str) -> bool {
        (self.wanted)(name)
    }

    fn observe(&self, name: &str, tensor: &Tensor) {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name.to_owned(), tensor.clone());
    }
}

impl Model {
    /// Runs the model and keeps every named intermediate that `wanted` accepts; names as in
    /// [`Vit::forward`](crate::model::Vit::forward). The answer has the same bits as without.
    ///
    /// # Errors
    /// If the model does not take such an input.
    pub fn observe(
        &self,
        pixels: &Tensor,
        mask: Option<&[u8]>,
        wanted: impl Fn(&str) -> bool + Sync,
    ) -> Result<(Output, BTreeMap<String, Tensor>), Error> {
        let keeper = Keeper { wanted, kept: Mutex::default() };
        let forward = || {
            let context = Context::inference(&self.parameters).observed_by(&keeper);
            self.vit.forward(&context, Input { pixels, mask })
        };
        let output = self.parameters.device().scope(forward)?;
        Ok((output, keeper.kept.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)))
    }

    /// Runs the model and keeps hidden states and attentions.
    ///
    /// # Errors
    /// If the model does not take such an input.
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
        // A block of parallel pairs has two.
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
