//! One vector, or one vector a token, for every picture.

use crate::Tensor;
use crate::error::Error;
use crate::predict::Model;

/// Which features of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FeatureKind {
    /// The model's own: what its classifier sees.
    #[default]
    Pooled,
    /// The class token after the final norm.
    Class,
    /// The mean of the patch tokens after the final norm.
    Mean,
    /// Both, side by side.
    ClassAndMean,
    /// All tokens after the final norm: class, distillation or registers, then patches row by row.
    Tokens,
}

impl Model {
    /// Features of pixels `[batch, channels, height, width]`: `[batch, width]`, or `[batch, tokens, width]` for
    /// [`FeatureKind::Tokens`] and for models that do not pool. A model without a final norm gives its tokens as the last
    /// block leaves them.
    ///
    /// # Errors
    /// If the model does not take such an input, or has no class token where that is asked for.
    pub fn features(&self, pixels: &Tensor, kind: FeatureKind) -> Result<Tensor, Error> {
        if kind == FeatureKind::Pooled {
            return Ok(self.run(pixels, None)?.features);
        }
        let config = self.vit.config();
        if matches!(kind, FeatureKind::Class | FeatureKind::ClassAndMean) && !config.class_token {
            return Err(Error::NoClassToken { name: self.name.clone() });
        }
        let (_, mut kept) = self.observe(pixels, None, |name| name == "norm")?;
        let tokens = kept.remove("norm").expect("every model names its tokens after the final norm");
        let [batch, count, width] = tokens.shape()[..] else { unreachable!("tokens have three extents") };
        let prefix = config.prefix_tokens();
        if kind == FeatureKind::Tokens {
            return Ok(tokens);
        }
        let mean = |image: &[f32], out: &mut [f32]| {
            for patch in image[prefix * width..].chunks_exact(width) {
                out.iter_mut().zip(patch).for_each(|(sum, value)| *sum += value);
            }
            out.iter_mut().for_each(|sum| *sum /= (count - prefix) as f32);
        };
        let per_image = |image: &[f32], out: &mut [f32]| match kind {
            FeatureKind::Class => out.copy_from_slice(&image[..width]),
            FeatureKind::ClassAndMean => {
                let (class, rest) = out.split_at_mut(width);
                class.copy_from_slice(&image[..width]);
                mean(image, rest);
            }
            _ => mean(image, out),
        };
        let features = if kind == FeatureKind::ClassAndMean { 2 * width } else { width };
        let mut values = vec![0.0; batch * features];
        for (image, out) in tokens.values().chunks_exact(count * width).zip(values.chunks_exact_mut(features)) {
            per_image(image, out);
        }
        Ok(Tensor::from_slice(self.parameters.device(), [batch, features], &values))
    }
}
