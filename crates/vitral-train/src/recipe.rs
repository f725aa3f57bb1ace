//! A run as data: TOML, every key known, every default written here.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vitral::config::{ModelConfig, Size};
use vitral::image::Filter;
use vitral::model::init::Initialisation;
use vitral::model::variants;

use crate::augment::Augment;
use crate::data::HeldOut;
use crate::error::TrainError;
use crate::loss::Loss;
use crate::optimise::{Clip, GroupOptions, Optimiser, Schedule};

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The model, from scratch.
    pub model: ModelRecipe,
    /// The pictures.
    pub data: DataRecipe,
    /// What is varied from epoch to epoch.
    #[serde(default)]
    pub augment: Augment,
    /// The optimiser.
    pub optimiser: Optimiser,
    /// Its learning rate.
    pub schedule: Schedule,
    /// Weight decay, layer decay, freezing.
    #[serde(default)]
    pub groups: GroupOptions,
    /// How long, how large, and from which seed.
    pub run: RunRecipe,
}

/// The model that is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecipe {
    /// A known size, such as `Ti/4` (see `vitral models`); fields of `set` come on top of it.
    pub variant: String,
    /// Fields of the model's configuration; classes are the data's.
    #[serde(default)]
    pub set: toml::Table,
    /// Initial values.
    #[serde(default = "timm")]
    pub initialise: Initialisation,
}

fn timm() -> Initialisation {
    Initialisation::Timm
}

/// The pictures and how they are shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// A folder with a sub-folder a class, a tar of one, idx files, CIFAR's files, or a list.
    pub train: PathBuf,
    /// The pictures that judge; without them `train` holds its own or a part is held out.
    #[serde(default)]
    pub test: Option<PathBuf>,
    /// How a set without a test part is parted.
    #[serde(default)]
    pub held_out: HeldOut,
    /// Mean of every channel, of numbers from 0 to 1.
    pub mean: Vec<f32>,
    /// Deviation of every channel.
    pub std: Vec<f32>,
    /// Filter that pictures of another size are resized with.
    #[serde(default = "bicubic")]
    pub filter: Filter,
}

fn bicubic() -> Filter {
    Filter::Bicubic
}

/// How long, how large, and from which seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecipe {
    /// Epochs.
    pub epochs: u64,
    /// Pictures in a batch.
    pub batch: usize,
    /// Batches whose gradients make one step.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Seeds initial values, order, augmentation and drops.
    #[serde(default)]
    pub seed: u64,
    /// How gradients are clipped.
    #[serde(default)]
    pub clip: Option<Clip>,
    /// Decay of the parameters' average, which is then what is judged and kept.
    #[serde(default)]
    pub average: Option<f32>,
    /// What is minimised.
    #[serde(default)]
    pub loss: Loss,
    /// Steps between checkpoints within an epoch; 0 is only at its end.
    #[serde(default)]
    pub checkpoint_every: u64,
    /// Checkpoints that are kept.
    #[serde(default = "two")]
    pub keep: usize,
}

fn one() -> usize {
    1
}

fn two() -> usize {
    2
}

impl Recipe {
    /// Reads a recipe and applies `key.path=value` settings on top. Paths of data are relative to the recipe's folder.
    ///
    /// # Errors
    /// If the file cannot be read, a key is not known, or a value does not fit.
    pub fn load(path: &Path, settings: &[String]) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::file(path, "reading a recipe"))?;
        let fault = |fault: String| TrainError::Recipe { path: path.to_owned(), fault };
        let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| fault(error.to_string()))?;
        for setting in settings {
            apply(&mut table, setting).map_err(fault)?;
        }
        let mut recipe: Recipe =
            toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| fault(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for path in std::iter::once(&mut recipe.data.train).chain(&mut recipe.data.test) {
            *path = folder.join(&path);
        }
        Ok(recipe)
    }

    /// The model's configuration for so many classes.
    ///
    /// # Errors
    /// If the size is not known or a field of `set` does not fit.
    pub fn config(&self, classes: usize) -> Result<ModelConfig, TrainError> {
        let fault = |fault: String| TrainError::Recipe { path: "[model]".into(), fault };
        let base = variants::find(&self.model.variant)
            .ok_or_else(|| fault(format!("no model `{}`; `vitral models` lists them", self.model.variant)))?;
        let mut fields = serde_json::to_value(base).expect("plain data");
        let set = serde_json::to_value(&self.model.set).map_err(|error| fault(error.to_string()))?;
        if let (Some(fields), Some(set)) = (fields.as_object_mut(), set.as_object()) {
            fields.extend(set.clone());
        }
        let mut config: ModelConfig =
            serde_json::from_value(fields).map_err(|error| fault(format!("`set`: {error}")))?;
        config.classes = classes;
        Ok(config)
    }

    /// How pictures are shown to a model of this size.
    pub fn preprocess(&self, size: Size) -> vitral::image::Preprocess {
        crate::data::plain(size, self.data.filter, &self.data.mean, &self.data.std)
    }
}

/// Sets `a.b.c=value`; the value is read as TOML, or as a word.
fn apply(table: &mut toml::Table, setting: &str) -> Result<(), String> {
    let (path, value) = setting.split_once('=').ok_or_else(|| format!("`{setting}` is not `key=value`"))?;
    let value = format!("value = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = table;
    for part in parents.split('.').filter(|part| !part.is_empty()) {
        place = place
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("`{part}` of `{setting}` is no table"))?;
    }
    place.insert(key.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, settings: &[&str]) -> Result<Recipe, TrainError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        Recipe::load(file.path(), &settings.iter().map(|&setting| setting.to_owned()).collect::<Vec<_>>())
    }

    const SMALL: &str = r#"
        [model]
        variant = "test/4"
        set = { image_size = 28, channels = 1 }
        [data]
        train = "mnist"
        mean = [0.13]
        std = [0.31]
        [optimiser]
        kind = "adamw"
        [schedule]
        rate = 1e-3
        [run]
        epochs = 2
        batch = 8
    "#;

    #[test]
    fn recipes_are_read_and_set() {
        let recipe = written(SMALL, &["run.epochs=5", "schedule.shape=linear"]).expect("a recipe");
        assert_eq!(recipe.run.epochs, 5);
        let config = recipe.config(10).expect("a model");
        assert_eq!((config.image_size, config.channels, config.classes), (Size::square(28), 1, 10));
    }

    #[test]
    fn unknown_keys_are_named() {
        for (setting, word) in [("run.epoch=3", "epoch"), ("shedule.rate=1", "shedule"), ("model.variant=Z/9", "Z/9")] {
            let error = match written(SMALL, &[setting]) {
                Err(error) => error,
                Ok(recipe) => recipe.config(10).expect_err("an unknown model"),
            };
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
