//! Every kind of map by its name, joined with a model.

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
    /// Raw attention of the tokens that the answer is read from.
    Attention,
    /// Last-layer attention as DINO prints it, cut to its mass.
    Dino,
    /// What one patch looks at.
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
    /// The gradient of the pixels.
    Gradient,
    /// Integrated gradients.
    IntegratedGradients,
    /// SmoothGrad.
    SmoothGrad,
    /// Occlusion.
    Occlusion,
    /// RISE.
    Rise,
    /// Nothing but chance: the floor that every map has to pass.
    Random,
    /// How alike the other patches are to one.
    Similarity,
    /// The lengths of patch tokens.
    Norms,
}

/// What a method is called and what it says.
pub struct About {
    /// As on the command line and in the names of files.
    pub name: &'static str,
    /// As people call it.
    pub title: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// What a map means.
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

    /// What it is called and what it says.
    pub const fn about(self) -> About {
        let (name, title, paper, meaning) = match self {
            Method::Attention => (
                "attention",
                "Attention",
                "Dosovitskiy et al., arXiv:2010.11929",
                "The weights with which the tokens that the answer is read from look at each patch, in one layer; the mean of \
                 its heads, or one of them. Where a model looks is not yet what it concludes from.",
            ),
            Method::Dino => (
                "dino",
                "Last-layer attention, cut to its mass",
                "Caron et al., arXiv:2104.14294",
                "Last-layer attention of the class token. Of each head only the patches stay that together hold 60 % of its \
                 weight; the heads are then averaged.",
            ),
            Method::Patch => (
                "patch",
                "One patch's view",
                "Dosovitskiy et al., arXiv:2010.11929",
                "The weights with which one patch looks at the others, in one layer; the mean of its heads, or one of them.",
            ),
            Method::Rollout => (
                "rollout",
                "Attention rollout",
                "Abnar & Zuidema, arXiv:2005.00928",
                "Attention followed through all layers, the residual connection counted as looking at oneself. It knows no \
                 class: the map is the same for all of them.",
            ),
            Method::GradientRollout => (
                "gradient-rollout",
                "Gradient-weighted rollout",
                "after Abnar & Zuidema, arXiv:2005.00928, and Chefer et al., arXiv:2012.09838",
                "Rollout of only that attention which speaks for what is explained: each weight times its positive gradient.",
            ),
            Method::Chefer => (
                "chefer",
                "Class-specific relevance",
                "Chefer, Gur & Wolf, arXiv:2103.15679",
                "Attention times its positive gradient, added up through the layers: which patches spoke for what is \
                 explained.",
            ),
            Method::GradCam => (
                "gradcam",
                "Grad-CAM",
                "Selvaraju et al., arXiv:1610.02391",
                "The channels of the last layer, each weighted by its mean gradient: those that are pooled, where patches are, \
                 and those that enter its attention, where a class token looks at them. High where the patches hold what \
                 raises the answer.",
            ),
            Method::GradCamPlusPlus => (
                "gradcam++",
                "Grad-CAM++",
                "Chattopadhay et al., arXiv:1710.11063",
                "As Grad-CAM, with weights that let small regions count as much as large ones.",
            ),
            Method::XGradCam => (
                "xgradcam",
                "XGrad-CAM",
                "Fu et al., arXiv:2008.02312",
                "As Grad-CAM, with gradients weighted by how much of a channel each patch holds.",
            ),
            Method::HiResCam => (
                "hirescam",
                "HiResCAM",
                "Draelos & Carin, arXiv:2011.08891",
                "Activation times gradient, patch by patch, with no mean over the image in between.",
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
                "The direction in which patches differ most. It uses no gradient and knows no class.",
            ),
            Method::Gradient => (
                "gradient",
                "Gradient",
                "Simonyan et al., arXiv:1312.6034",
                "How strongly a small change of each pixel moves the answer, whichever way.",
            ),
            Method::IntegratedGradients => (
                "integrated-gradients",
                "Integrated gradients",
                "Sundararajan et al., arXiv:1703.01365",
                "What each pixel adds to the answer on the way from an even image to this one. The numbers sum to the \
                 difference of the two answers.",
            ),
            Method::SmoothGrad => (
                "smoothgrad",
                "SmoothGrad",
                "Smilkov et al., arXiv:1706.03825",
                "The gradient, averaged over the image with much noise, so that what is accidental cancels.",
            ),
            Method::Occlusion => (
                "occlusion",
                "Occlusion",
                "Zeiler & Fergus, arXiv:1311.2901",
                "How much of the answer goes when the patches here are hidden. Only forward passes, nothing assumed.",
            ),
            Method::Rise => (
                "rise",
                "RISE",
                "Petsiuk et al., arXiv:1806.07421",
                "The image is seen through many random masks; the map is the mean of the masks, weighted by the answer \
                 through each.",
            ),
            Method::Random => {
                ("random", "Chance", "", "Numbers drawn at random: the floor that a map has to be better than.")
            }
            Method::Similarity => (
                "similarity",
                "Similarity to one patch",
                "Caron et al., arXiv:2104.14294; Oquab et al., arXiv:2304.07193",
                "The cosine between the final token of one patch and those of the others: what the model takes for the same.",
            ),
            Method::Norms => (
                "norms",
                "Lengths of tokens",
                "Darcet et al., arXiv:2309.16588",
                "The lengths of the tokens that leave the last block. Few very long ones on plain background are the artifacts \
                 that register tokens remove.",
            ),
        };
        About { name, title, paper, meaning }
    }

    /// Its name, as on the command line.
    pub const fn name(self) -> &'static str {
        self.about().name
    }

    /// Whether the map is of an answer, so that there has to be one.
    pub const fn needs_target(self) -> bool {
        use Method::*;
        !matches!(self, Attention | Dino | Patch | Rollout | EigenCam | Random | Similarity | Norms)
    }

    /// Whether the map claims which patches matter, and so can be put to the test.
    pub const fn is_attribution(self) -> bool {
        !matches!(self, Method::Patch | Method::Similarity | Method::Norms)
    }

    /// A map as it is painted: of what each pixel adds, the size, and of what hiding takes away, what is lost.
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

    /// Whether the map is made of attention weights, which a ResNet has none of.
    pub const fn needs_attention(self) -> bool {
        use Method::*;
        matches!(self, Attention | Dino | Patch | Rollout | GradientRollout | Chefer)
    }

    /// Whether the map is about one patch.
    pub const fn needs_patch(self) -> bool {
        matches!(self, Method::Patch | Method::Similarity)
    }

    /// Forward passes that it runs one after the other and tells of, in an image of so many patches.
    pub const fn passes(self, options: &Options, patches: usize) -> usize {
        match self {
            Method::Rise => options.rise.masks,
            Method::Occlusion => patches + 1,
            _ => 0,
        }
    }
}

/// How maps are made; every method uses its own part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The layer, from 0; the last if not given.
    pub layer: Option<usize>,
    /// The head, from 0; the mean of all if not given.
    pub head: Option<usize>,
    /// The patch that [`Method::Patch`] and [`Method::Similarity`] are about; the middle one if not given.
    pub patch: Option<usize>,
    /// How rollout makes heads one.
    pub fusion: Fusion,
    /// How rollout treats each layer.
    pub rollout: RolloutOptions,
    /// The share of weight that the mask of [`Method::Dino`] keeps.
    pub mass: f32,
    /// Steps of integrated gradients.
    pub steps: usize,
    /// Noisy images of SmoothGrad.
    pub samples: usize,
    /// SmoothGrad's noise, as a share of the range of the pixels.
    pub noise: f32,
    /// Patches along each side of what occlusion hides.
    pub window: usize,
    /// How RISE draws its masks.
    pub rise: RiseOptions,
    /// Seeds what is drawn.
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
    /// Holds layer and head against a model.
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
    /// The map of an image by one method. `progress` is told of forward passes, for the methods that take many.
    ///
    /// # Errors
    /// If there is no such layer or head, or nothing to explain where the method needs something.
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
    /// If the model does not take such an input.
    pub fn final_tokens(&self, input: &InputImage) -> Result<Vec<f32>, Error> {
        let (_, kept) = self.observe(&input.pixels, None, |name| name == "norm")?;
        Ok(kept["norm"].to_vec()?[input.layout.prefix * self.vit.config().width..].to_vec())
    }

    /// The maps of every head of every layer, `[layers][heads]`: what the tokens that the answer is read from attend to.
    ///
    /// # Errors
    /// If the model does not take such an input.
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

    /// One layer's attention, of one head or fused, through `read`.
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

    /// The mean of the last layer's heads (or one), each cut to its mass.
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

    /// Every layer's attention where it agrees with its gradient.
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

    /// The names of what class activation maps are made of. Where patches are pooled, it is what is pooled, as in the
    /// networks that the maps were invented for; before the final norm, which knows no lengths, activation times gradient
    /// would be 0. A class token sees the patches through attention alone, so there it is what enters that of the layer:
    /// behind the last one, patches have no way to the answer.
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
