//! Every kind of map by name, applied to a model.

use vitral_engine::random::uniform;

use super::attention::{self, Fusion};
use super::cam::{self, Cam};
use super::perturb::{self, Progress, RiseOptions};
use super::pixels::{self, Channels};
use super::rollout::{self, RolloutOptions};
use super::{ExplainError, InputImage, Map, Target, Wanted};
use crate::config::Pooling;
use crate::error::Error;
use crate::load::Model;

/// A kind of map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Raw attention of the tokens that are read out.
    Attention,
    /// Last-layer attention as in DINO, thresholded by mass.
    Dino,
    /// Attention of one patch.
    Patch,
    /// Attention rollout.
    Rollout,
    /// Rollout of attention weighted by its gradient.
    GradientRollout,
    /// Class-specific relevance.
    Chefer,
    /// Grad-CAM.
    GradCam,
    /// Grad-CAM++.
    GradCamPlusPlus,
    /// XGrad-CAM.
    XGradCam,
    /// HiResCAM.
    HiResCam,
    /// LayerCAM.
    LayerCam,
    /// Eigen-CAM.
    EigenCam,
    /// The gradient with respect to the pixels.
    Gradient,
    /// Integrated gradients.
    IntegratedGradients,
    /// SmoothGrad.
    SmoothGrad,
    /// Occlusion.
    Occlusion,
    /// RISE.
    Rise,
    /// Random values: the baseline for every map.
    Random,
    /// Similarity of the other patches to one.
    Similarity,
    /// Norms of patch tokens.
    Norms,
}

/// Name, title, paper and meaning of a method.
#[derive(Debug)]
pub struct About {
    /// The name on the command line and in file names.
    pub name: &'static str,
    /// The title for display.
    pub title: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// How to interpret a map.
    pub meaning: &'static str,
}

impl Method {
    /// Every method, in the order of [`Method`].
    pub const ALL: [Method; 20] = [
        Method::Attention,
        Method::Dino,
        Method::Patch,
        Method::Rollout,
        Method::GradientRollout,
        Method::Chefer,
        Method::GradCam,
        Method::GradCamPlusPlus,
        Method::XGradCam,
        Method::HiResCam,
        Method::LayerCam,
        Method::EigenCam,
        Method::Gradient,
        Method::IntegratedGradients,
        Method::SmoothGrad,
        Method::Occlusion,
        Method::Rise,
        Method::Random,
        Method::Similarity,
        Method::Norms,
    ];

    /// Its name, title, paper and meaning.
    pub const fn about(self) -> About {
        let (name, title, paper, meaning) = match self {
            Method::Attention => (
                "attention",
                "Attention",
                "Dosovitskiy et al., arXiv:2010.11929",
                "Attention weights from the token that is read out (or the pooled tokens) to each patch, in one \
                 layer; the mean of its heads, or a single one. What a model attends to is not necessarily what its \
                 output depends on.",
            ),
            Method::Dino => (
                "dino",
                "Last-layer attention, thresholded by mass",
                "Caron et al., arXiv:2104.14294",
                "Last-layer attention of the class token. Each head keeps only the patches that together hold 60 % of \
                 its weight; then the heads are averaged.",
            ),
            Method::Patch => (
                "patch",
                "Attention of one patch",
                "Dosovitskiy et al., arXiv:2010.11929",
                "Attention weights from one patch to the others, in one layer; the mean of its heads, or a single one.",
            ),
            Method::Rollout => (
                "rollout",
                "Attention rollout",
                "Abnar & Zuidema, arXiv:2005.00928",
                "Attention propagated through all layers, with the residual connections counted as attention to self. \
                 It does not depend on a class: the map is the same for all of them.",
            ),
            Method::GradientRollout => (
                "gradient-rollout",
                "Gradient-weighted rollout",
                "after Abnar & Zuidema, arXiv:2005.00928, and Chefer et al., arXiv:2012.09838",
                "Rollout of only the attention that supports the target: each weight times its positive gradient.",
            ),
            Method::Chefer => (
                "chefer",
                "Class-specific relevance",
                "Chefer, Gur & Wolf, arXiv:2103.15679",
                "Attention times its positive gradient, accumulated through the layers: which patches supported the \
                 target.",
            ),
            Method::GradCam => (
                "gradcam",
                "Grad-CAM",
                "Selvaraju et al., arXiv:1610.02391",
                "The channels of the last layer, each weighted by its mean gradient: the pooled tokens if patches are \
                 pooled, the input of its attention if there is a class token. High where the content of the patches \
                 raises the score of the target.",
            ),
            Method::GradCamPlusPlus => (
                "gradcam++",
                "Grad-CAM++",
                "Chattopadhay et al., arXiv:1710.11063",
                "Like Grad-CAM, with weights that let small regions count as much as large ones.",
            ),
            Method::XGradCam => (
                "xgradcam",
                "XGrad-CAM",
                "Fu et al., arXiv:2008.02312",
                "Like Grad-CAM, with gradients weighted by how much of a channel's activation is at each patch.",
            ),
            Method::HiResCam => (
                "hirescam",
                "HiResCAM",
                "Draelos & Carin, arXiv:2011.08891",
                "Activation times gradient, patch by patch, without averaging the gradient over the image.",
            ),
            Method::LayerCam => (
                "layercam",
                "LayerCAM",
                "Jiang et al., IEEE TIP 2021",
                "Activation times the positive part of the gradient, patch by patch.",
            ),
            Method::EigenCam => (
                "eigencam",
                "Eigen-CAM",
                "Muhammad & Yeasin, arXiv:2008.00299",
                "The direction in which patches differ most. It uses no gradient and does not depend on a class.",
            ),
            Method::Gradient => (
                "gradient",
                "Gradient",
                "Simonyan et al., arXiv:1312.6034",
                "How strongly a small change of each pixel changes the score of the target, in either direction.",
            ),
            Method::IntegratedGradients => (
                "integrated-gradients",
                "Integrated gradients",
                "Sundararajan et al., arXiv:1703.01365",
                "How much each pixel adds to the score of the target on the way from a uniform image to this one. The \
                 values sum to the difference of the two scores.",
            ),
            Method::SmoothGrad => (
                "smoothgrad",
                "SmoothGrad",
                "Smilkov et al., arXiv:1706.03825",
                "The gradient, averaged over copies of the image with strong noise, so that accidental details cancel.",
            ),
            Method::Occlusion => (
                "occlusion",
                "Occlusion",
                "Zeiler & Fergus, arXiv:1311.2901",
                "How much of the target's score is lost when the patches here are hidden. It uses only forward passes.",
            ),
            Method::Rise => (
                "rise",
                "RISE",
                "Petsiuk et al., arXiv:1806.07421",
                "The image is seen through many random masks; the map is the mean of the masks, each weighted by the \
                 target's score through it.",
            ),
            Method::Random => ("random", "Random", "", "Random values: the baseline that a map has to beat."),
            Method::Similarity => (
                "similarity",
                "Similarity to one patch",
                "Caron et al., arXiv:2104.14294; Oquab et al., arXiv:2304.07193",
                "The cosine between the final token of one patch and those of the others: which patches are similar \
                 to the model.",
            ),
            Method::Norms => (
                "norms",
                "Norms of tokens",
                "Darcet et al., arXiv:2309.16588",
                "The norms of the last block's output tokens. A few very large ones on plain background are the \
                 artifacts that register tokens remove.",
            ),
        };
        About { name, title, paper, meaning }
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        self.about().name
    }

    /// Whether the map explains a target, which must then exist.
    pub const fn needs_target(self) -> bool {
        use Method::*;
        !matches!(self, Attention | Dino | Patch | Rollout | EigenCam | Random | Similarity | Norms)
    }

    /// Whether the map ranks patches by importance, so that its faithfulness can be evaluated.
    pub const fn is_attribution(self) -> bool {
        !matches!(self, Method::Patch | Method::Similarity | Method::Norms)
    }

    /// The map as it is drawn: the magnitude for signed pixel attributions, and the loss of score for hidden parts.
    pub fn painted(self, map: &Map) -> Map {
        let change = |change: fn(f32) -> f32| Map {
            size: map.size,
            values: map.values.iter().map(|value| change(*value)).collect(),
        };
        match self {
            Method::IntegratedGradients => change(f32::abs),
            Method::Occlusion => change(|lost| lost.max(0.0)),
            _ => map.clone(),
        }
    }

    /// Whether the map is made of attention weights, which a ResNet does not have.
    pub const fn needs_attention(self) -> bool {
        use Method::*;
        matches!(self, Attention | Dino | Patch | Rollout | GradientRollout | Chefer)
    }

    /// Whether the map is about one patch.
    pub const fn needs_patch(self) -> bool {
        matches!(self, Method::Patch | Method::Similarity)
    }

    /// The number of sequential forward passes that it reports to `progress`, for an image with this many patches.
    pub const fn passes(self, options: &Options, patches: usize) -> usize {
        match self {
            Method::Rise => options.rise.masks,
            Method::Occlusion => patches + 1,
            _ => 0,
        }
    }
}

/// Options for maps; every method uses its own part.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// The layer, from 0; the last if absent.
    pub layer: Option<usize>,
    /// The head, from 0; the mean of all if absent.
    pub head: Option<usize>,
    /// The patch for [`Method::Patch`] and [`Method::Similarity`]; the center if absent.
    pub patch: Option<usize>,
    /// How rollout combines heads.
    pub fusion: Fusion,
    /// How rollout treats each layer.
    pub rollout: RolloutOptions,
    /// The fraction of weight kept by the mask of [`Method::Dino`].
    pub mass: f32,
    /// Number of steps of integrated gradients.
    pub steps: usize,
    /// Number of noisy images of SmoothGrad.
    pub samples: usize,
    /// SmoothGrad's noise, as a fraction of the range of the pixels.
    pub noise: f32,
    /// Side of the square that occlusion hides, in patches.
    pub window: usize,
    /// How RISE generates its masks.
    pub rise: RiseOptions,
    /// The random seed.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            layer: None,
            head: None,
            patch: None,
            fusion: Fusion::default(),
            rollout: RolloutOptions::default(),
            mass: 0.6,
            steps: 32,
            samples: 16,
            noise: 0.15,
            window: 3,
            rise: RiseOptions::default(),
            seed: 0,
        }
    }
}

impl Options {
    /// Checks layer and head against a model.
    ///
    /// # Errors
    /// If there is no such layer or head.
    pub fn check(&self, model: &Model) -> Result<(), Error> {
        let (depth, heads) = (model.vit.config().depth, attention::heads(model));
        let name = || model.name.clone();
        let without = |figure| ExplainError::Missing { model: name(), what: "blocks with attention", figure };
        match (self.layer, self.head) {
            (Some(_), _) if depth == 0 => return Err(without("--layer").into()),
            (_, Some(_)) if heads == 0 => return Err(without("--head").into()),
            _ => {}
        }
        if let Some(asked) = self.layer.filter(|&layer| layer >= depth) {
            return Err(ExplainError::Layer { model: name(), asked, last: depth - 1 }.into());
        }
        match self.head.filter(|&head| head >= heads) {
            Some(asked) => Err(ExplainError::Head { model: name(), asked, last: heads - 1 }.into()),
            None => Ok(()),
        }
    }

    fn layer(&self, model: &Model) -> usize {
        self.layer.unwrap_or(model.vit.config().depth.saturating_sub(1))
    }
}

impl Model {
    /// Computes the map of an image with one method. `progress` gets the number of forward passes done, for the methods
    /// that take many.
    ///
    /// # Errors
    /// If there is no such layer or head, or no target for a method that needs one.
    pub fn explain(
        &self,
        input: &InputImage,
        method: Method,
        target: Option<&Target>,
        options: &Options,
        progress: Progress<'_>,
    ) -> Result<Map, Error> {
        options.check(self)?;
        if method.needs_attention() && self.vit.config().depth == 0 {
            let (model, figure) = (self.name.clone(), method.name());
            return Err(ExplainError::Missing { model, what: "blocks with attention", figure }.into());
        }
        let target = || {
            let fault = || ExplainError::NoClass { method: method.name().to_owned(), model: self.name.clone() };
            target.ok_or_else(|| Error::from(fault()))
        };
        let (pixels, layout) = (&input.pixels, &input.layout);
        let readers = || layout.readers(self.vit.config());
        let patch = options.patch.unwrap_or(layout.patch_at([layout.image.height / 2, layout.image.width / 2]));
        match method {
            Method::Attention => self.of_layer(input, options, |weights| attention::read(weights, &readers(), layout)),
            Method::Patch => self.of_layer(input, options, |weights| attention::view(weights, patch, layout)),
            Method::Dino => self.dino(input, options),
            Method::Rollout => {
                let layers = self.fused(input, options.fusion)?;
                Ok(rollout::rollout(&layers, &readers(), layout, options.rollout))
            }
            Method::GradientRollout => {
                let layers = self.agreements(input, target()?)?;
                Ok(rollout::rollout(&layers, &readers(), layout, options.rollout))
            }
            Method::Chefer => Ok(rollout::relevance(&self.agreements(input, target()?)?, &readers(), layout)),
            Method::GradCam => self.cam(input, Cam::GradCam, target()?, options),
            Method::GradCamPlusPlus => self.cam(input, Cam::GradCamPlusPlus, target()?, options),
            Method::XGradCam => self.cam(input, Cam::XGradCam, target()?, options),
            Method::HiResCam => self.cam(input, Cam::HiResCam, target()?, options),
            Method::LayerCam => self.cam(input, Cam::LayerCam, target()?, options),
            Method::EigenCam => {
                let name = &self.activations(options)[0];
                let (_, kept) = self.observe(pixels, None, |wanted| wanted == name)?;
                let tokens = &kept[name];
                let width = tokens.shape().last();
                Ok(Map::new(layout.grid, cam::eigen(&tokens.to_vec()?[layout.prefix * width..], width)))
            }
            Method::Gradient => {
                let found = pixels::gradient(self, pixels, target()?)?;
                Ok(pixels::over_channels(&found, layout.image, Channels::Greatest))
            }
            Method::IntegratedGradients => {
                let baseline = self.parameters.device().zeros(pixels.shape());
                let found = pixels::integrated(self, pixels, target()?, &baseline, options.steps)?;
                Ok(pixels::over_channels(&found.values, layout.image, Channels::Sum))
            }
            Method::SmoothGrad => {
                let found = pixels::smooth(self, pixels, target()?, options.samples, options.noise, options.seed)?;
                Ok(pixels::over_channels(&found, layout.image, Channels::Greatest))
            }
            Method::Occlusion => perturb::occlusion(self, pixels, layout, target()?, options.window, progress),
            Method::Rise => {
                let rise = RiseOptions { seed: options.seed, ..options.rise };
                perturb::rise(self, pixels, layout, target()?, rise, progress)
            }
            Method::Random => {
                let draw = |i| uniform(options.seed ^ 0x5eed, i as u64);
                Ok(Map::new(layout.grid, (0..layout.grid.area()).map(draw).collect()))
            }
            Method::Similarity => {
                let tokens = self.final_tokens(input)?;
                Ok(Map::new(layout.grid, super::representation::similarities(&tokens, self.vit.config().width, patch)))
            }
            Method::Norms => {
                let name = match self.vit.config().depth {
                    0 => "tokens".to_owned(),
                    _ => format!("blocks.{}.output", options.layer(self)),
                };
                let (_, kept) = self.observe(pixels, None, |wanted| wanted == name)?;
                let width = self.vit.config().width;
                let patches = &kept[&name].to_vec()?[layout.prefix * width..];
                Ok(Map::new(layout.grid, super::representation::norms(patches, width)))
            }
        }
    }

    /// Patch tokens after the final norm, `[patches, width]`.
    ///
    /// # Errors
    /// If the model does not accept this input.
    pub fn final_tokens(&self, input: &InputImage) -> Result<Vec<f32>, Error> {
        let (_, kept) = self.observe(&input.pixels, None, |name| name == "norm")?;
        Ok(kept["norm"].to_vec()?[input.layout.prefix * self.vit.config().width..].to_vec())
    }

    /// The maps of every head of every layer, `[layers][heads]`: the attention of the tokens that are read out.
    ///
    /// # Errors
    /// If the model does not accept this input.
    pub fn attention_maps(&self, input: &InputImage) -> Result<Vec<Vec<Map>>, Error> {
        let (layout, readers) = (&input.layout, input.layout.readers(self.vit.config()));
        let area = layout.tokens().pow(2);
        let all = 0..self.vit.config().depth;
        let maps = |weights: &[f32]| -> Vec<Map> {
            weights.chunks_exact(area).map(|head| attention::read(head, &readers, layout)).collect()
        };
        let (_, mut layers) = self.reduce_attention(&input.pixels, all, maps)?;
        Ok(layers.iter_mut().map(|layer| layer.remove(0)).collect())
    }

    /// One layer's attention, of one head or fused, reduced by `read`.
    fn of_layer(
        &self,
        input: &InputImage,
        options: &Options,
        read: impl Fn(&[f32]) -> Map + Sync,
    ) -> Result<Map, Error> {
        let (layer, tokens) = (options.layer(self), input.layout.tokens());
        let (_, mut found) = self.reduce_attention(&input.pixels, layer..layer + 1, |weights| match options.head {
            Some(head) => read(&weights[head * tokens * tokens..][..tokens * tokens]),
            None => read(&attention::fuse(weights, tokens, Fusion::Mean)),
        })?;
        Ok(found.remove(0).remove(0))
    }

    /// The mean of the last layer's heads (or one head), each thresholded by mass.
    fn dino(&self, input: &InputImage, options: &Options) -> Result<Map, Error> {
        let mut layers = self.attention_maps(input)?;
        let heads = layers.swap_remove(options.layer(self));
        let chosen: Vec<&Map> = match options.head {
            Some(head) => vec![&heads[head]],
            None => heads.iter().collect(),
        };
        let mut sum = vec![0.0; input.layout.grid.area()];
        for map in &chosen {
            for ((sum, value), kept) in sum.iter_mut().zip(&map.values).zip(map.mass(options.mass).values) {
                *sum += value * kept / chosen.len() as f32;
            }
        }
        Ok(Map::new(input.layout.grid, sum))
    }

    /// Every layer's attention with its heads fused.
    fn fused(&self, input: &InputImage, fusion: Fusion) -> Result<Vec<Vec<f32>>, Error> {
        let all = 0..self.vit.config().depth;
        let tokens = input.layout.tokens();
        let (_, mut layers) =
            self.reduce_attention(&input.pixels, all, |weights| attention::fuse(weights, tokens, fusion))?;
        Ok(layers.iter_mut().map(|layer| layer.remove(0)).collect())
    }

    /// Every layer's attention times its gradient, where positive.
    fn agreements(&self, input: &InputImage, target: &Target) -> Result<Vec<Vec<f32>>, Error> {
        use rayon::prelude::*;
        let tokens = input.layout.tokens();
        let layers: Vec<Vec<String>> =
            (0..self.vit.config().depth).map(|layer| attention::names(self, layer, "weights")).collect();
        let pass = self.gradients(&input.pixels, target, Wanted::Named(&layers.concat()))?;
        let of_layer = |names: &Vec<String>| -> Result<Vec<f32>, Error> {
            let mut mean = vec![0.0; tokens * tokens];
            for (weights, gradient) in names.iter().filter_map(|name| pass.named(name)) {
                let found = rollout::agreement(&weights.to_vec()?, &gradient.to_vec()?, tokens);
                mean.iter_mut().zip(found).for_each(|(mean, found)| *mean += found / names.len() as f32);
            }
            Ok(mean)
        };
        layers.par_iter().map(of_layer).collect()
    }

    /// The names of the activations used by class activation maps. If patches are pooled, these are the pooled tokens,
    /// as in the networks the maps were invented for; they are taken after the final norm, since before it, activation
    /// times gradient would be 0 (the norm is scale-invariant). A class token sees the patches only through attention,
    /// so with one we use the input of the layer's attention: after the last attention, patches have no path to the
    /// output.
    fn activations(&self, options: &Options) -> Vec<String> {
        let (config, layer) = (self.vit.config(), options.layer(self));
        match config.pooling {
            _ if config.depth == 0 => vec!["tokens".to_owned()],
            Pooling::Class | Pooling::None => attention::names(self, layer, "input"),
            _ if layer + 1 == config.depth => vec!["norm".to_owned()],
            _ => vec![format!("blocks.{layer}.output")],
        }
    }

    /// A class activation map.
    fn cam(&self, input: &InputImage, cam: Cam, target: &Target, options: &Options) -> Result<Map, Error> {
        let layout = &input.layout;
        let names = self.activations(options);
        let pass = self.gradients(&input.pixels, target, Wanted::Named(&names))?;
        let mut sum = vec![0.0; layout.grid.area()];
        for (values, gradient) in names.iter().filter_map(|name| pass.named(name)) {
            let (width, prefix) = (values.shape().last(), layout.prefix * values.shape().last());
            let map = cam.map(&values.to_vec()?[prefix..], &gradient.to_vec()?[prefix..], width);
            sum.iter_mut().zip(map).for_each(|(sum, value)| *sum += value);
        }
        Ok(Map::new(layout.grid, sum))
    }
}
