//! A masked autoencoder: most patches of an image are hidden, and predicted from the others.

use vitral_engine::ops::{Linear, Norm};
use vitral_engine::{Context, Declarations, ParameterId, Tensor};

use super::attention::BlockContext;
use super::block::Block;
use super::build::Builder;
use super::error::ModelError;
use super::tokens::sin_cos_2d_of_mae;
use super::vit::Vit;
use crate::config::{ConfigError, DropRates, ModelConfig, OtherSizes, RelativePositions, Stem};

/// The decoder of a masked autoencoder; its blocks are like the encoder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderConfig {
    /// Width of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub heads: usize,
}

/// A Vision Transformer that is trained without labels by predicting hidden patches from the others (He et al.,
/// arXiv:2111.06377). Only the patches that are not hidden go through the encoder; a small decoder gets their tokens, one learned
/// token in place of each hidden patch, and positions of its own, and predicts the pixels of all.
pub struct MaskedAutoencoder {
    vit: Vit,
    decoder: ModelConfig,
    declarations: Declarations,
    embedding: Linear,
    mask: ParameterId,
    blocks: Vec<Block>,
    norm: Norm,
    prediction: Linear,
}

impl std::fmt::Debug for MaskedAutoencoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MaskedAutoencoder")
            .field("vit", &self.vit)
            .field("decoder", &self.decoder)
            .finish_non_exhaustive()
    }
}

/// Which patches are not hidden, in each image the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visible {
    patches: usize,
    each: usize,
    /// `each` patches of every image in turn, in ascending order.
    indices: Vec<usize>,
}

impl Visible {
    /// `each` of `patches` patches in every image, one image after the other.
    ///
    /// # Panics
    /// If they are not in ascending order, or not a whole number of images.
    pub fn new(patches: usize, each: usize, indices: Vec<usize>) -> Self {
        assert!(each > 0 && each < patches && indices.len().is_multiple_of(each), "{each} of {patches} patches");
        let ascending = |image: &[usize]| image.windows(2).all(|pair| pair[0] < pair[1]) && image[each - 1] < patches;
        assert!(indices.chunks_exact(each).all(ascending), "patches in ascending order");
        Visible { patches, each, indices }
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.indices.len() / self.each
    }

    /// The patches of each image, in ascending order.
    pub fn seen(&self) -> Vec<&[usize]> {
        self.indices.chunks_exact(self.each).collect()
    }

    /// Those of some images.
    pub fn part(&self, images: std::ops::Range<usize>) -> Self {
        let indices = self.indices[images.start * self.each..images.end * self.each].to_vec();
        Visible { indices, ..*self }
    }

    /// Of every image, the tokens that are not hidden, behind `prefix` tokens that never are.
    fn tokens(&self, prefix: usize) -> Vec<usize> {
        let of = |image: &[usize]| (0..prefix).chain(image.iter().map(|patch| prefix + patch)).collect::<Vec<_>>();
        self.indices.chunks_exact(self.each).flat_map(of).collect()
    }

    /// Of every image, where each token of the whole image is among the learned token (0), then the prefix and the patches
    /// that are not hidden.
    fn places(&self, prefix: usize) -> Vec<usize> {
        let mut all = Vec::with_capacity(self.images() * (prefix + self.patches));
        for image in self.indices.chunks_exact(self.each) {
            let mut places = vec![0; self.patches];
            image.iter().enumerate().for_each(|(rank, &patch)| places[patch] = 1 + prefix + rank);
            all.extend((1..=prefix).chain(places));
        }
        all
    }

    /// Of every image, the hidden patches in ascending order.
    fn hidden(&self) -> Vec<usize> {
        let of =
            |image: &[usize]| (0..self.patches).filter(|patch| image.binary_search(patch).is_err()).collect::<Vec<_>>();
        self.indices.chunks_exact(self.each).flat_map(of).collect()
    }

    /// How many patches of an image are hidden.
    fn hidden_each(&self) -> usize {
        self.patches - self.each
    }
}

fn refused<T>(problem: &str, hint: &'static str) -> Result<T, ConfigError> {
    Err(ConfigError::Contradiction { problem: problem.to_owned(), hint })
}

/// Refuses models whose patches are not each seen by themselves, or not all there.
pub(super) fn check_patches(config: &ModelConfig) -> Result<(), ConfigError> {
    if config.stem != Stem::Patches {
        return refused("has a stem whose cells see their neighbors", "hide patches of a model without a stem");
    }
    if matches!(config.other_sizes, OtherSizes::Resample { pad: true, .. })
        && !(config.image_size.height.is_multiple_of(config.patch_size.height)
            && config.image_size.width.is_multiple_of(config.patch_size.width))
    {
        return refused("pads its images to whole patches", "take an image size that is a multiple of the patch size");
    }
    if config.drop.patches > 0.0 {
        return refused("drops patches in training (`drop.patches`)", "set it to 0: patches are hidden already");
    }
    Ok(())
}

impl MaskedAutoencoder {
    /// An autoencoder whose encoder is the model that `config` describes, without its head.
    ///
    /// # Errors
    /// If a configuration contradicts itself, or the model is not made of patches with positions of their own.
    pub fn new(config: ModelConfig, decoder: DecoderConfig) -> Result<Self, ConfigError> {
        check_patches(&config)?;
        if config.rotary.is_some() || config.relative_positions != RelativePositions::None {
            return refused(
                "has positions inside its blocks",
                "hide patches of a model with learned or sine positions",
            );
        }
        let config = ModelConfig { classes: 0, ..config };
        let vit = Vit::new(config)?;
        let encoder = vit.config();
        let decoder = ModelConfig {
            width: decoder.width,
            depth: decoder.depth,
            heads: decoder.heads,
            head_width: decoder.width / decoder.heads.max(1),
            mlp_width: 4 * decoder.width,
            layer_scale: None,
            drop: DropRates::default(),
            ..encoder.clone()
        };
        if decoder.heads == 0 || !decoder.width.is_multiple_of(decoder.heads) || !decoder.width.is_multiple_of(4) {
            return refused("has a decoder whose width is not a multiple of its heads and of 4", "change one of them");
        }
        decoder.check()?;
        let mut declarations = vit.declarations().clone();
        let mut root = Builder::new(&decoder, &mut declarations);
        let mut place = root.at("decoder");
        let embedding = place.linear("embedding", encoder.width, decoder.width, true);
        let mask = place.plain("mask", &[decoder.width]);
        let blocks = (0..decoder.depth).map(|index| Block::new(&mut place, index)).collect();
        let norm = place.norm("norm", decoder.width);
        let pixels = encoder.channels * encoder.patch_size.area();
        let prediction = place.linear("prediction", decoder.width, pixels, true);
        Ok(MaskedAutoencoder { vit, decoder, declarations, embedding, mask, blocks, norm, prediction })
    }

    /// The encoder.
    pub fn vit(&self) -> &Vit {
        &self.vit
    }

    /// Names and shapes of all parameters: the encoder's, then the decoder's, whose names begin with `decoder.`.
    pub fn declarations(&self) -> &Declarations {
        &self.declarations
    }

    /// The mean squared error of the hidden patches, a scalar. `targets` are what is to be predicted, `[batch, patches, channels ·
    /// height · width of a patch]`.
    ///
    /// # Errors
    /// If the model does not take such images, or `visible` is not of them.
    pub fn loss(
        &self,
        cx: &Context<'_>,
        pixels: &Tensor,
        targets: &Tensor,
        visible: &Visible,
    ) -> Result<Tensor, ModelError> {
        let predicted = self.predict(cx, pixels, visible)?;
        let (count, width) = (visible.hidden_each(), targets.shape().last());
        let [predicted, targets] = [&predicted, targets].map(|x| {
            let hidden = cx.keep_tokens(x, visible.hidden(), count);
            hidden.reshape([visible.images() * count, width])
        });
        Ok(cx.squared_error(&predicted, &targets))
    }

    /// What is predicted for all patches, hidden or not, `[batch, patches, channels · height · width of a patch]`.
    ///
    /// # Errors
    /// As [`MaskedAutoencoder::loss`].
    pub fn predict(&self, cx: &Context<'_>, pixels: &Tensor, visible: &Visible) -> Result<Tensor, ModelError> {
        let config = self.vit.config();
        let (image, batch) = self.vit.image_size(pixels)?;
        let grid = self.vit.grid(image)?;
        if visible.images() != batch || visible.patches != grid.area() {
            return Err(ModelError::Mask { expected: batch * grid.area(), found: visible.images() * visible.patches });
        }
        let prefix = config.prefix_tokens();
        let tokens = self.vit.tokens(cx, &self.vit.embed(cx, pixels, grid), grid);
        let x = cx.keep_tokens(&tokens, visible.tokens(prefix), prefix + visible.each);
        let x = self.vit.encode(cx, x, None);
        let x = cx.prepend_tokens(&cx.linear(&x, self.embedding), &[self.mask]);
        let all = prefix + grid.area();
        let x = cx.keep_tokens(&x, visible.places(prefix), all);
        // Prefix tokens have no place in the image.
        let mut positions = vec![0.0; prefix * self.decoder.width];
        positions.extend(sin_cos_2d_of_mae(grid, self.decoder.width));
        let mut x = cx.add_positions(&x, &cx.device().constant([all, self.decoder.width], &positions));
        for block in &self.blocks {
            x = block.forward(cx, &x, BlockContext::default());
        }
        let patches = cx.tokens(&cx.norm(&x, &self.norm), prefix, grid.area());
        Ok(cx.linear(&patches, self.prediction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    #[test]
    fn every_patch_is_visible_or_hidden() {
        let visible = Visible::new(6, 2, vec![1, 4, 0, 5]);
        assert_eq!(visible.tokens(1), [0, 2, 5, 0, 1, 6]);
        assert_eq!(visible.hidden(), [0, 2, 3, 5, 1, 2, 3, 4]);
        // The learned token is the first, then the class token, then those that are not hidden.
        assert_eq!(visible.places(1), [1, 0, 2, 0, 0, 3, 0, 1, 2, 0, 0, 0, 0, 3]);
        assert_eq!(visible.part(1..2), Visible::new(6, 2, vec![0, 5]));
    }

    #[test]
    fn what_cannot_be_hidden_is_refused() {
        let decoder = DecoderConfig { width: 16, depth: 1, heads: 2 };
        let small = ModelConfig {
            image_size: Size::square(32),
            width: 32,
            depth: 1,
            heads: 2,
            head_width: 16,
            ..ModelConfig::default()
        };
        assert!(MaskedAutoencoder::new(small.clone(), decoder).is_ok());
        assert!(MaskedAutoencoder::new(small.clone(), DecoderConfig { heads: 3, ..decoder }).is_err());
        let rotary = ModelConfig { rotary: Some(crate::config::Rotary::Normalized { theta: 100.0 }), ..small };
        assert!(MaskedAutoencoder::new(rotary, decoder).is_err());
    }
}
