//! Every kind of map, applied to a model.

use vitral_engine::random::uniform;

use super::attention::{self, Fusion};
use super::cam::{self, Cam};
use super::perturb::{self, RiseOptions};
use super::pixels::{self, Channels};
use super::rollout::{self, RolloutOptions};
use super::{ExplainError, InputImage, Layout, Map, Method, Progress, Target, Wanted};
use crate::config::Pooling;
use crate::error::Error;
use crate::load::Model;

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

    /// The number of passes that a method reports to `progress`, for an image with this many patches; 0 if it needs so few
    /// that it reports none.
    pub const fn passes(&self, method: Method, patches: usize) -> usize {
        match method {
            Method::Rise => self.rise.masks,
            Method::Occlusion => patches + 1,
            Method::IntegratedGradients => self.steps,
            Method::SmoothGrad => self.samples,
            _ => 0,
        }
    }

    /// The patch that [`Method::Patch`] and [`Method::Similarity`] are about.
    pub fn patch_in(&self, layout: &Layout) -> usize {
        self.patch.unwrap_or(layout.patch_at([layout.image.height / 2, layout.image.width / 2]))
    }

    fn layer(&self, model: &Model) -> usize {
        self.layer.unwrap_or(model.vit.config().depth.saturating_sub(1))
    }
}

impl Model {
    /// Computes the map of an image with one method. `progress` gets the number of passes done, for the methods that take
    /// many, and can stop them.
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
        let patch = options.patch_in(layout);
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
                let found = pixels::integrated(self, pixels, target()?, &baseline, options.steps, progress)?;
                Ok(pixels::over_channels(&found.values, layout.image, Channels::Sum))
            }
            Method::SmoothGrad => {
                let drawn = (options.samples, options.noise, options.seed);
                let found = pixels::smooth(self, pixels, target()?, drawn, progress)?;
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
