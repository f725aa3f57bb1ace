//! The recipes of fine-tuning, made from what is usually said about it.

use std::path::{Path, PathBuf};

use super::{Recipe, Setting};
use crate::error::TrainError;

/// The default recipe.
const DEFAULT: &str = include_str!("../../recipes/finetune.toml");

/// The default recipe with LoRA.
const LORA: &str = include_str!("../../recipes/lora.toml");

/// What to fine-tune, and on what.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Finetuning {
    /// The model to start from: a path, or a name on a hub.
    pub model: String,
    /// The images to train on.
    pub data: PathBuf,
    /// Validation images; those next to the training images, or a tenth split off, if absent.
    pub test: Option<PathBuf>,
    /// A side in pixels to train at, if it is not the model's own.
    pub image_size: Option<u32>,
    /// Number of bands of an image, if it is not in color.
    pub bands: Option<u32>,
    /// Which bands, from 1, are red, green and blue.
    pub rgb_bands: Option<[u32; 3]>,
    /// The rank of low-rank updates that are trained in place of the model (LoRA).
    pub lora: Option<u32>,
    /// A recipe in place of the default ones.
    pub recipe: Option<PathBuf>,
}

impl Finetuning {
    /// Fine-tunes all of a model on images.
    pub fn new(model: impl Into<String>, data: impl Into<PathBuf>) -> Self {
        let (model, data) = (model.into(), data.into());
        Finetuning { model, data, test: None, image_size: None, bands: None, rgb_bands: None, lora: None, recipe: None }
    }
}

impl Recipe {
    /// The recipe of a fine-tuning, with settings on top.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn finetuning(wanted: &Finetuning, settings: &[Setting]) -> Result<Self, TrainError> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let mut set =
            vec![Setting::new("model.from", wanted.model.clone()), Setting::new("data.train", path(&wanted.data))];
        set.extend(wanted.test.as_deref().map(|test| Setting::new("data.test", path(test))));
        set.extend(wanted.image_size.map(|size| Setting::new("model.set.image_size", i64::from(size))));
        set.extend(wanted.bands.map(|bands| Setting::new("data.bands", i64::from(bands))));
        set.extend(wanted.rgb_bands.map(|bands| Setting::new("model.rgb_bands", bands.map(i64::from).to_vec())));
        set.extend(wanted.lora.map(|rank| Setting::new("lora.rank", i64::from(rank))));
        set.extend_from_slice(settings);
        match &wanted.recipe {
            Some(path) => Recipe::load(path, &set),
            None => {
                let text = if wanted.lora.is_some() { LORA } else { DEFAULT };
                Recipe::parse(text, Path::new("the default recipe"), &set)
            }
        }
    }
}
