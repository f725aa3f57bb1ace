//! The logit lens: what the head would predict after every layer (nostalgebraist 2020, for language models; here with
//! the ViT's own final norm, pooling and head).

use vitral_engine::Context;

use super::{ExplainError, InputImage};
use crate::error::Error;
use crate::labels::{Ranked, top};
use crate::load::Model;

/// What the model would predict after each layer: from the input of the first block, then from the output of each.
/// Returns the `count` top classes of each, and the probability of `class`.
///
/// # Errors
/// If the model has no classifier, or does not accept this input.
pub fn lens(model: &Model, input: &InputImage, class: usize, count: usize) -> Result<Vec<(Vec<Ranked>, f32)>, Error> {
    let config = model.vit.config();
    if config.classes == 0 {
        let fault = ExplainError::Missing { model: model.name.clone(), what: "classifier", figure: "lens" };
        return Err(fault.into());
    }
    let names: Vec<String> = std::iter::once("tokens".to_owned())
        .chain((0..config.depth).map(|layer| format!("blocks.{layer}.output")))
        .collect();
    let (_, kept) = model.observe(&input.pixels, None, |name| names.iter().any(|wanted| wanted == name))?;
    let read = |name: &String| {
        let tokens = &kept[name];
        let read = || model.vit.read_out(&Context::inference(&model.parameters), tokens);
        let output = model.parameters.device().scope(read);
        let logits = output.logits.as_ref().filter(|logits| logits.shape().len() == 2);
        let logits = logits.ok_or_else(|| ExplainError::PerToken { model: model.name.clone() })?;
        let all = top(&logits.to_vec()?, config.classes, &model.labels, config.problem);
        let probability = all.iter().find(|ranked| ranked.class == class).map_or(0.0, |ranked| ranked.probability);
        Ok((all.into_iter().take(count).collect(), probability))
    };
    names.iter().map(read).collect()
}
