//! The ViT paper's figures (Dosovitskiy et al., arXiv:2010.11929) and statistics of all layers over many images.

use rayon::prelude::*;

use super::{ExplainError, Layout, algebra, attention, distance, representation};
use crate::Tensor;
use crate::config::Size;
use crate::error::Error;
use crate::load::Model;

/// The cosines between learned position embeddings of patches, `[patches, patches]` (figure 7, center), and their grid.
///
/// # Errors
/// If the model has no learned positions.
pub fn positions(model: &Model) -> Result<(Size, Vec<f32>), Error> {
    let config = model.vit.config();
    let learned = model.parameters.declarations().find("positions");
    let Some(id) = learned.filter(|_| config.learned_positions().is_some()) else {
        let what = "learned position embeddings";
        return Err(ExplainError::Missing { model: model.name.clone(), what, figure: "positions" }.into());
    };
    let values = model.parameters.read(id)?;
    let (grid, width) = (config.grid(), config.width);
    let patches: Vec<&[f32]> = values[values.len() - grid.area() * width..].chunks_exact(width).collect();
    let cosines = patches.par_iter().flat_map_iter(|a| patches.iter().map(|b| representation::cosine(a, b)));
    Ok((grid, cosines.collect()))
}

/// Filters of the patch embedding as images.
#[derive(Debug)]
pub struct Filters {
    /// `[filters, patch height, patch width, channels]`.
    pub values: Vec<f32>,
    /// A patch, in pixels.
    pub patch: Size,
    /// Color channels of a patch.
    pub channels: usize,
    /// The fraction of the filters' variance explained by each.
    pub shares: Vec<f64>,
}

/// The first `count` principal components of the patch embedding's filters (figure 7, left).
///
/// # Errors
/// If the patches are taken from a hybrid's feature map, not from pixels.
pub fn filters(model: &Model, count: usize) -> Result<Filters, Error> {
    let config = model.vit.config();
    let id = model.parameters.declarations().find("patches.weight");
    let Some(id) = id.filter(|_| config.stem == crate::config::Stem::Patches) else {
        let what = "patch embedding over pixels";
        return Err(ExplainError::Missing { model: model.name.clone(), what, figure: "filters" }.into());
    };
    let (patch, channels) = (config.patch_size, config.channels);
    let width = patch.area() * channels;
    let found = algebra::principal(&model.parameters.read(id)?, width, count);
    let total: f64 = found.variances.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut values = Vec::with_capacity(found.components.len());
    for component in found.components.chunks_exact(width) {
        for pixel in 0..patch.area() {
            values.extend((0..channels).map(|channel| component[channel * patch.area() + pixel] as f32));
        }
    }
    let shares = found.variances.iter().take(count).map(|variance| variance / total).collect();
    Ok(Filters { values, patch, channels, shares })
}

/// Which statistics to collect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Mean attention distance.
    pub distance: bool,
    /// Mean entropy of attention.
    pub entropy: bool,
    /// Token norms and effective rank.
    pub tokens: bool,
    /// Similarity of layers (CKA).
    pub likeness: bool,
}

/// Statistics over many images, collected batch by batch.
#[derive(Debug)]
pub struct Statistics<'a> {
    model: &'a Model,
    other: Option<&'a Model>,
    gathered: Gathered,
    images: usize,
    distance: Vec<f64>,
    entropy: Vec<f64>,
    rank: Vec<f64>,
    norms: Vec<Vec<f32>>,
    alike: Vec<f64>,
    own: [Vec<f64>; 2],
    batches: usize,
}

impl<'a> Statistics<'a> {
    /// No images yet; with `other`, the layers of two models are compared.
    pub fn new(model: &'a Model, other: Option<&'a Model>, gathered: Gathered) -> Self {
        let layers = model.vit.config().depth;
        let states = |model: &Model| model.vit.config().depth + 1;
        let columns = states(other.unwrap_or(model));
        let heads = attention::heads(model);
        Statistics {
            model,
            other,
            gathered,
            images: 0,
            distance: vec![0.0; layers * heads],
            entropy: vec![0.0; layers * heads],
            rank: vec![0.0; layers + 1],
            norms: vec![vec![]; layers + 1],
            alike: vec![0.0; states(model) * columns],
            own: [vec![0.0; states(model)], vec![0.0; columns]],
            batches: 0,
        }
    }

    /// Adds a batch of images; `others` are the same images, preprocessed for the other model.
    ///
    /// # Errors
    /// If a model does not accept this input.
    pub fn add(&mut self, pixels: &Tensor, others: Option<&Tensor>) -> Result<(), Error> {
        let images = pixels.extent(0);
        self.images += images;
        if self.gathered.distance || self.gathered.entropy {
            self.add_attention(pixels)?;
        }
        if self.gathered.tokens || self.gathered.likeness {
            let states = states(self.model, pixels)?;
            if self.gathered.tokens {
                self.add_tokens(&states)?;
            }
            if self.gathered.likeness && images >= 4 {
                let others = self.other.zip(others).map(|(model, pixels)| self::states(model, pixels)).transpose()?;
                self.add_likeness(&states, others.as_deref(), images)?;
            }
        }
        Ok(())
    }

    fn add_attention(&mut self, pixels: &Tensor) -> Result<(), Error> {
        let image = Size { height: pixels.extent(2), width: pixels.extent(3) };
        let layout = Layout::new(self.model.vit.config(), image, self.model.vit.grid(image)?);
        let (apart, tokens) = (layout.distances(), layout.tokens());
        let Gathered { distance, entropy, .. } = self.gathered;
        let all = 0..self.model.vit.config().depth;
        let (_, layers) = self.model.reduce_attention(pixels, all, |weights| {
            let distances = if distance { distance::distances(weights, tokens, &apart) } else { vec![] };
            let entropies = if entropy { distance::entropies(weights, tokens) } else { vec![] };
            (distances, entropies)
        })?;
        let heads = attention::heads(self.model);
        for (layer, images) in layers.iter().enumerate() {
            for (distances, entropies) in images {
                for (sums, found) in [(&mut self.distance, distances), (&mut self.entropy, entropies)] {
                    sums[layer * heads..].iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
                }
            }
        }
        Ok(())
    }

    fn add_tokens(&mut self, states: &[Tensor]) -> Result<(), Error> {
        let prefix = self.model.vit.config().prefix_tokens();
        let of_layer = |state: &Tensor| -> Result<(f64, Vec<f32>), Error> {
            let [_, tokens, width] = state.shape()[..] else { unreachable!("tokens have three dimensions") };
            let mut found = (0.0, vec![]);
            for image in state.to_vec()?.chunks_exact(tokens * width) {
                found.0 += representation::effective_rank(&image[prefix * width..], width);
                found.1.extend(representation::norms(&image[prefix * width..], width));
            }
            Ok(found)
        };
        let found = states.par_iter().map(of_layer).collect::<Result<Vec<_>, Error>>()?;
        for (layer, (rank, norms)) in found.into_iter().enumerate() {
            self.rank[layer] += rank;
            self.norms[layer].extend(norms);
        }
        Ok(())
    }

    fn add_likeness(&mut self, states: &[Tensor], others: Option<&[Tensor]>, images: usize) -> Result<(), Error> {
        let grams = |states: &[Tensor]| -> Result<Vec<Vec<f64>>, Error> {
            states.par_iter().map(|state| Ok(representation::gram(&state.to_vec()?, images))).collect()
        };
        let rows = grams(states)?;
        let columns = others.map(grams).transpose()?;
        let columns = columns.as_ref().unwrap_or(&rows);
        for (i, a) in rows.iter().enumerate() {
            self.own[0][i] += representation::independence(a, a);
            for (j, b) in columns.iter().enumerate() {
                self.alike[i * columns.len() + j] += representation::independence(a, b);
            }
        }
        for (j, b) in columns.iter().enumerate() {
            self.own[1][j] += representation::independence(b, b);
        }
        self.batches += 1;
        Ok(())
    }

    /// Joins images of one size into a batch; `None` if there are none.
    pub fn joined(&self, images: &[Tensor]) -> Option<Tensor> {
        match images {
            [] => None,
            [whole] => Some(whole.clone()),
            several => Some(self.model.parameters.device().concatenate(several)),
        }
    }

    /// The number of images added.
    pub fn images(&self) -> usize {
        self.images
    }

    fn mean(&self, sums: &[f64]) -> Vec<f64> {
        sums.iter().map(|sum| sum / self.images.max(1) as f64).collect()
    }

    /// Mean attention distance in pixels, `[layers, heads]`.
    pub fn distances(&self) -> Vec<f64> {
        self.mean(&self.distance)
    }

    /// Mean entropy of attention in nats, `[layers, heads]`.
    pub fn entropies(&self) -> Vec<f64> {
        self.mean(&self.entropy)
    }

    /// Mean effective rank of patch tokens, `[layers + 1]`: before the first block, then after each.
    pub fn ranks(&self) -> Vec<f64> {
        self.mean(&self.rank)
    }

    /// Norms of all patch tokens, `[layers + 1]` lists: before the first block, then after each.
    pub fn norms(&self) -> &[Vec<f32>] {
        &self.norms
    }

    /// Centered kernel alignment (Kornblith et al., arXiv:1905.00414; estimated over batches as in arXiv:2010.15327)
    /// between all tokens of the layers, `[layers + 1, layers + 1]`: this model's layers along rows, those of the other
    /// model (or this one again) along columns.
    ///
    /// # Errors
    /// If no batch had four images.
    pub fn likeness(&self) -> Result<Vec<f64>, Error> {
        if self.batches == 0 {
            return Err(ExplainError::TooFew { figure: "cka", expected: 4, found: self.images }.into());
        }
        let columns = self.own[1].len();
        let of = |(place, alike): (usize, &f64)| {
            let both = self.own[0][place / columns] * self.own[1][place % columns];
            alike / both.max(f64::MIN_POSITIVE).sqrt()
        };
        Ok(self.alike.iter().enumerate().map(of).collect())
    }
}

/// The tokens before the first block and after each, `[images, tokens, width]`.
fn states(model: &Model, pixels: &Tensor) -> Result<Vec<Tensor>, Error> {
    let options = crate::trace::TraceOptions::default().hidden_states(true);
    Ok(model.trace(pixels, None, options)?.hidden_states)
}
