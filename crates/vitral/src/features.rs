//! Feature extraction: one vector, or one vector per token, for every image.

use serde::{Deserialize, Serialize};
use vitral_engine::Context;

use crate::Tensor;
use crate::config::Problem;
use crate::error::Error;
use crate::load::Model;

/// Which features to extract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureKind {
    /// The model's own pooled features: the input of its classifier, or its embedding if it has one in place of a
    /// classifier (CLIP).
    #[default]
    Pooled,
    /// The class token after the final norm.
    Class,
    /// The mean of the patch tokens after the final norm.
    Mean,
    /// Both, concatenated.
    ClassAndMean,
    /// All tokens after the final norm: class, distillation or registers, then patches row by row.
    Tokens,
}

impl FeatureKind {
    /// The name, as options have it.
    pub const fn name(self) -> &'static str {
        match self {
            FeatureKind::Pooled => "pooled",
            FeatureKind::Class => "class",
            FeatureKind::Mean => "mean",
            FeatureKind::ClassAndMean => "class-and-mean",
            FeatureKind::Tokens => "tokens",
        }
    }
}

impl Model {
    /// Features of pixels `[batch, channels, height, width]`: `[batch, width]`, or `[batch, tokens, width]` for
    /// [`FeatureKind::Tokens`] and for models that do not pool. Without a final norm, tokens are the last block's
    /// output.
    ///
    /// # Errors
    /// If the model does not accept this input, or has no class token when one is requested.
    pub fn features(&self, pixels: &Tensor, kind: FeatureKind) -> Result<Tensor, Error> {
        if kind == FeatureKind::Pooled {
            let output = self.run(pixels, None)?;
            let embeds = self.vit.config().problem == Problem::Embedding;
            return Ok(output.logits.filter(|_| embeds).unwrap_or(output.features));
        }
        let config = self.vit.config();
        if matches!(kind, FeatureKind::Class | FeatureKind::ClassAndMean) && !config.class_token {
            return Err(Error::NoClassToken { name: self.name.clone() });
        }
        let (_, mut kept) = self.observe(pixels, None, |name| name == "norm")?;
        let tokens = kept.remove("norm").expect("every model names its tokens after the final norm");
        if kind == FeatureKind::Tokens {
            return Ok(tokens);
        }
        let context = Context::inference(&self.parameters);
        let class = || context.token(&tokens, 0);
        let mean = || context.mean_tokens(&tokens, config.prefix_tokens());
        Ok(match kind {
            FeatureKind::Class => class(),
            FeatureKind::ClassAndMean => context.side_by_side(&class(), &mean()),
            _ => mean(),
        })
    }
}
