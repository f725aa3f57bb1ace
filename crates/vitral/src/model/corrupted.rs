//! Masked-patch prediction: some patches of an image are corrupted, and their mean colors predicted.

use vitral_engine::ops::Linear;
use vitral_engine::{Context, Declarations, ParameterId, Tensor};

use super::build::Builder;
use super::error::ModelError;
use super::masked::check_patches;
use super::vit::Vit;
use crate::config::{ConfigError, ModelConfig};

/// Levels of a channel of a mean color: 3 bits.
pub const COLOR_LEVELS: usize = 8;

/// A Vision Transformer that is trained without labels by predicting the mean colors of corrupted patches (Dosovitskiy et al.,
/// arXiv:2010.11929, appendix B.1.2). The encoder sees all tokens; a linear map on those of corrupted patches predicts the class
/// of the patch's mean color, of 3 bits in each channel.
pub struct MaskedPatches {
    vit: Vit,
    declarations: Declarations,
    mask: ParameterId,
    color: Linear,
}

impl std::fmt::Debug for MaskedPatches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MaskedPatches").field("vit", &self.vit).finish_non_exhaustive()
    }
}

/// What takes the place of the embedding of a corrupted patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// A learned embedding, the same for all patches.
    Mask,
    /// The embedding of this patch of the same image.
    Patch(usize),
    /// Its own: it stays as it is.
    Own,
}

/// A corrupted patch of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptedPatch {
    /// The patch, counted row by row.
    pub patch: usize,
    /// What takes the place of its embedding.
    pub replacement: Replacement,
    /// The class of its mean color: the channels' levels from 0 to 7, the first channel's counting most.
    pub color: usize,
}

/// Which patches are corrupted, in each image the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupted {
    patches: usize,
    each: usize,
    /// `each` patches of every image in turn, in ascending order.
    all: Vec<CorruptedPatch>,
}

impl Corrupted {
    /// `each` of `patches` patches in every image, one image after the other.
    ///
    /// # Panics
    /// If they are not in ascending order, not a whole number of images, or replaced by a patch that there is not.
    pub fn new(patches: usize, each: usize, all: Vec<CorruptedPatch>) -> Self {
        assert!(each > 0 && each <= patches && all.len().is_multiple_of(each), "{each} of {patches} patches");
        let ascending = |image: &[CorruptedPatch]| {
            image.windows(2).all(|pair| pair[0].patch < pair[1].patch) && image[each - 1].patch < patches
        };
        assert!(all.chunks_exact(each).all(ascending), "patches in ascending order");
        let known = |replacement| !matches!(replacement, Replacement::Patch(patch) if patch >= patches);
        assert!(all.iter().all(|corrupted| known(corrupted.replacement)), "replaced by one of {patches} patches");
        Corrupted { patches, each, all }
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.all.len() / self.each
    }

    /// The corrupted patches of each image, in ascending order.
    pub fn of_images(&self) -> impl Iterator<Item = &[CorruptedPatch]> {
        self.all.chunks_exact(self.each)
    }

    /// The classes of the colors, image by image.
    pub fn colors(&self) -> impl Iterator<Item = usize> {
        self.all.iter().map(|corrupted| corrupted.color)
    }

    /// Those of some images.
    pub fn part(&self, images: std::ops::Range<usize>) -> Self {
        Corrupted { all: self.all[images.start * self.each..images.end * self.each].to_vec(), ..*self }
    }

    /// Of every image, where the embedding of each patch is among the learned one (0) and those of the image's patches.
    fn sources(&self) -> Vec<usize> {
        let mut sources = Vec::with_capacity(self.images() * self.patches);
        for image in self.of_images() {
            let begin = sources.len();
            sources.extend(1..=self.patches);
            for corrupted in image {
                sources[begin + corrupted.patch] = match corrupted.replacement {
                    Replacement::Mask => 0,
                    Replacement::Patch(patch) => 1 + patch,
                    Replacement::Own => 1 + corrupted.patch,
                };
            }
        }
        sources
    }

    /// Of every image, the tokens of its corrupted patches, which are behind `prefix` others.
    fn tokens(&self, prefix: usize) -> Vec<usize> {
        self.all.iter().map(|corrupted| prefix + corrupted.patch).collect()
    }
}

impl MaskedPatches {
    /// A model whose encoder is the one that `config` describes, without its head.
    ///
    /// # Errors
    /// If the configuration contradicts itself, the model is not made of patches, or its images are neither gray nor in color.
    pub fn new(config: ModelConfig) -> Result<Self, ConfigError> {
        check_patches(&config)?;
        if !matches!(config.channels, 1 | 3) {
            let problem = format!("has {} channels, and the mean color of a patch is of 1 or 3", config.channels);
            return Err(ConfigError::Contradiction { problem, hint: "predict the colors of images in color or gray" });
        }
        let vit = Vit::new(ModelConfig { classes: 0, ..config })?;
        let encoder = vit.config();
        let mut declarations = vit.declarations().clone();
        let mut root = Builder::new(encoder, &mut declarations);
        let mut place = root.at("prediction");
        let mask = place.plain("mask", &[encoder.width]);
        let color = place.linear("color", encoder.width, COLOR_LEVELS.pow(encoder.channels as u32), true);
        Ok(MaskedPatches { vit, declarations, mask, color })
    }

    /// The encoder.
    pub fn vit(&self) -> &Vit {
        &self.vit
    }

    /// Names and shapes of all parameters: the encoder's, then the others, whose names begin with `prediction.`.
    pub fn declarations(&self) -> &Declarations {
        &self.declarations
    }

    /// The number of colors.
    pub fn colors(&self) -> usize {
        COLOR_LEVELS.pow(self.vit.config().channels as u32)
    }

    /// The mean cross-entropy of the colors of corrupted patches, a scalar.
    ///
    /// # Errors
    /// If the model does not take such images, or `corrupted` is not of them.
    pub fn loss(&self, cx: &Context<'_>, pixels: &Tensor, corrupted: &Corrupted) -> Result<Tensor, ModelError> {
        Ok(self.loss_of(cx, &self.predict(cx, pixels, corrupted)?, corrupted))
    }

    /// The same of logits as [`MaskedPatches::predict`] gives them.
    pub fn loss_of(&self, cx: &Context<'_>, logits: &Tensor, corrupted: &Corrupted) -> Tensor {
        let colors = self.colors();
        let mut targets = vec![0.0; corrupted.all.len() * colors];
        targets.chunks_exact_mut(colors).zip(corrupted.colors()).for_each(|(row, color)| row[color] = 1.0);
        cx.cross_entropy(logits, &cx.device().constant([corrupted.all.len(), colors], &targets))
    }

    /// The logits of all colors for the corrupted patches, image by image: `[batch · corrupted patches, colors]`.
    ///
    /// # Errors
    /// As [`MaskedPatches::loss`].
    pub fn predict(&self, cx: &Context<'_>, pixels: &Tensor, corrupted: &Corrupted) -> Result<Tensor, ModelError> {
        let config = self.vit.config();
        let (image, batch) = self.vit.image_size(pixels)?;
        let grid = self.vit.grid(image)?;
        if corrupted.images() != batch || corrupted.patches != grid.area() {
            let found = corrupted.images() * corrupted.patches;
            return Err(ModelError::Mask { expected: batch * grid.area(), found });
        }
        // Embeddings are replaced before they get positions: a corrupted patch is still known by its place.
        let embeddings = cx.prepend_tokens(&self.vit.embed(cx, pixels, grid), &[self.mask]);
        let embeddings = cx.keep_tokens(&embeddings, corrupted.sources(), grid.area());
        let tokens = self.vit.encode(cx, self.vit.tokens(cx, &embeddings, grid), Some(grid));
        let tokens = cx.keep_tokens(&tokens, corrupted.tokens(config.prefix_tokens()), corrupted.each);
        Ok(cx.linear(&tokens.reshape([batch * corrupted.each, config.width]), self.color))
    }
}

#[cfg(test)]
mod tests {
    use vitral_engine::random::normal;
    use vitral_engine::{Device, Parameters};

    use super::super::init::Initialization;
    use super::*;
    use crate::config::Size;
    use crate::config::{DropRates, Rotary};

    fn patch(patch: usize, replacement: Replacement) -> CorruptedPatch {
        CorruptedPatch { patch, replacement, color: patch }
    }

    fn some() -> Corrupted {
        use Replacement::{Mask, Own, Patch};
        Corrupted::new(4, 2, vec![patch(0, Mask), patch(2, Patch(3)), patch(1, Own), patch(3, Mask)])
    }

    fn small() -> ModelConfig {
        ModelConfig {
            image_size: Size::square(8),
            patch_size: Size::square(4),
            width: 8,
            depth: 2,
            heads: 2,
            head_width: 4,
            mlp_width: 16,
            ..ModelConfig::default()
        }
    }

    #[test]
    fn embeddings_are_replaced_and_colors_predicted_where_they_were() {
        let corrupted = some();
        assert_eq!(corrupted.sources(), [0, 2, 4, 4, 1, 2, 3, 0]);
        assert_eq!(corrupted.tokens(1), [1, 3, 2, 4]);
        assert_eq!(corrupted.part(1..2).colors().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(corrupted.part(1..2).sources(), [1, 2, 3, 0]);
    }

    #[test]
    fn models_whose_patches_cannot_be_corrupted_are_refused() {
        assert_eq!(MaskedPatches::new(small()).map(|model| model.colors()).expect("valid"), 512);
        let gray = MaskedPatches::new(ModelConfig { channels: 1, ..small() });
        assert_eq!(gray.map(|model| model.colors()).expect("valid"), 8);
        let rotary = ModelConfig { rotary: Some(Rotary::Normalized { theta: 100.0 }), ..small() };
        assert!(MaskedPatches::new(rotary).is_ok());
        let drop = DropRates { patches: 0.5, ..DropRates::default() };
        for refused in [ModelConfig { channels: 4, ..small() }, ModelConfig { drop, ..small() }] {
            assert!(MaskedPatches::new(refused).is_err());
        }
    }

    /// The loss on a device, and the gradient of all parameters.
    fn gradient(model: &MaskedPatches, parameters: &Parameters, pixels: &[f32]) -> (f32, Vec<f32>) {
        let device = parameters.device();
        let pixels = device.upload([2, 3, 8, 8], pixels).expect("valid");
        let cx = Context::recording(parameters);
        let loss = model.loss(&cx, &pixels, &some()).expect("valid");
        let mut gradient = device.flat_zeros(parameters.flat().len());
        cx.backward(&loss, &mut gradient);
        (loss.to_vec().expect("valid")[0], gradient.to_vec().expect("valid"))
    }

    /// Along its gradient, each parameter changes the loss by the gradient's length; the other device finds the same gradient.
    #[test]
    fn gradients_are_those_of_differences() {
        const STEP: f32 = 4e-3;
        let rotary = ModelConfig { rotary: Some(Rotary::Normalized { theta: 100.0 }), ..small() };
        for config in [small(), rotary] {
            let model = MaskedPatches::new(config).expect("valid");
            let pixels: Vec<f32> = (0..2 * 3 * 8 * 8).map(|i| normal(7, i)).collect();
            let on = |device: Device| {
                let mut parameters = Parameters::zeros(model.declarations().clone(), device);
                model.initialize(&mut parameters, Initialization::Lucidrains, 5);
                parameters
            };
            let mut parameters = on(Device::reference());
            let (_, whole) = gradient(&model, &parameters, &pixels);
            let on_cpu = gradient(&model, &on(Device::cpu(2)), &pixels).1;
            let largest = whole.iter().fold(0.0, |top: f32, value| top.max(value.abs()));
            let near = |(found, expected): (&f32, &f32)| (found - expected).abs() < 2e-5 * largest;
            assert!(on_cpu.iter().zip(&whole).all(near), "the CPU finds other gradients");
            for id in model.declarations().ids() {
                let name = &model.declarations().spec(id).name;
                let own = &whole[parameters.range(id)];
                let length = own.iter().map(|value| value * value).sum::<f32>().sqrt();
                assert!(length > 1e-4, "`{name}` has no gradient");
                let values = parameters.read(id).expect("valid");
                let mut at = |step: f32| {
                    let moved: Vec<f32> = values.iter().zip(own).map(|(x, g)| x + step * g / length).collect();
                    parameters.write(id, &moved);
                    gradient(&model, &parameters, &pixels).0
                };
                let difference = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                at(0.0);
                let near = (difference - length).abs() < 2e-3 * length + 3e-4;
                assert!(near, "`{name}`: a difference of {difference}, a gradient of {length}");
            }
        }
    }
}
