//! What layers multiply, seen on a few images.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use vitral_engine::random::mix;

use crate::Tensor;
use crate::error::Error;
use crate::load::Model;

/// Tokens kept of every image and layer, to measure with.
const TOKENS: u64 = 4;

/// What the layers of a model's blocks multiply, collected image by image.
#[derive(Debug)]
pub struct Calibration {
    seed: u64,
    images: u64,
    layers: BTreeMap<String, Seen>,
}

/// The input of one layer.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Some tokens, `[tokens, width]`.
    pub(super) tokens: Vec<f32>,
    /// The greatest size of each channel, of all tokens.
    pub(super) greatest: Vec<f32>,
}

impl Calibration {
    /// Nothing seen yet. The seed chooses the tokens that are kept.
    pub fn new(seed: u64) -> Self {
        Calibration { seed, images: 0, layers: BTreeMap::new() }
    }

    /// So many of the items, or all, by a seed.
    pub fn choose<T>(mut items: Vec<T>, count: usize, seed: u64) -> Vec<T> {
        let count = count.min(items.len());
        // The beginning of a shuffle (Fisher and Yates).
        for place in 0..count {
            let rest = (items.len() - place) as u64;
            items.swap(place, place + (mix(seed ^ mix(place as u64)) % rest) as usize);
        }
        items.truncate(count);
        items
    }

    /// How many images were seen.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// Takes one image, `[1, channels, height, width]`, through a model.
    ///
    /// # Errors
    /// If the model does not accept it, or the device fails.
    pub fn add(&mut self, model: &Model, pixels: &Tensor) -> Result<(), Error> {
        let inputs = Mutex::new(Vec::new());
        let wanted = |name: &str| name.starts_with("blocks.") && name.ends_with(".input");
        let keep = |name: &str, tensor: &Tensor| {
            inputs.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_owned(), tensor.clone()));
        };
        model.visit(pixels, None, wanted, keep)?;
        for (name, tensor) in inputs.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let (values, width) = (tensor.to_vec()?, tensor.shape().last());
            let seen = self.layers.entry(name).or_default();
            seen.greatest.resize(width, 0.0);
            for token in values.chunks_exact(width) {
                seen.greatest.iter_mut().zip(token).for_each(|(most, x)| *most = most.max(x.abs()));
            }
            let count = (values.len() / width) as u64;
            for turn in 0..TOKENS {
                let token = (mix(self.seed ^ mix(self.images * TOKENS + turn)) % count) as usize;
                seen.tokens.extend_from_slice(&values[token * width..][..width]);
            }
        }
        self.images += 1;
        Ok(())
    }

    /// The input of a layer, by its name.
    pub(super) fn layer(&self, name: &str) -> Option<&Seen> {
        self.layers.get(name)
    }
}

impl Seen {
    /// How many values a token has.
    pub(super) fn width(&self) -> usize {
        self.greatest.len()
    }

    /// What each channel of the input is divided by, and the weights of that channel multiplied, to move scales this far.
    pub(super) fn factors(&self, weight: &[f32], moved: f32) -> Vec<f32> {
        let mut of_weight = vec![0.0f32; self.width()];
        for row in weight.chunks_exact(self.width()) {
            of_weight.iter_mut().zip(row).for_each(|(most, x)| *most = most.max(x.abs()));
        }
        let factor = |(&input, &weight): (&f32, &f32)| match input > 0.0 && weight > 0.0 {
            true => (input.powf(moved) / weight.powf(1.0 - moved)).clamp(1e-4, 1e4),
            false => 1.0,
        };
        self.greatest.iter().zip(&of_weight).map(factor).collect()
    }
}
