//! The keys of a recipe, with every default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vitral::Precision;
use vitral::image::Filter;
use vitral::image::preprocess::Rescale;
use vitral::model::init::Initialization;

use crate::augment::Augment;
use crate::balance::{ChooseBy, ClassWeights};
use crate::data::{Sampling, ValidationSplit};
use crate::hidden::Pretraining;
use crate::lora::Lora;
use crate::loss::{Distillation, Loss};
use crate::optimize::{Clip, GroupOptions, Optimizer, Schedule};

/// The recipe of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The model.
    pub model: ModelRecipe,
    /// The images.
    pub data: DataRecipe,
    /// Data augmentation.
    #[serde(default)]
    pub augment: Augment,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Learning rate schedule.
    pub schedule: Schedule,
    /// Weight decay, layer decay, freezing.
    #[serde(default)]
    pub groups: GroupOptions,
    /// Low-rank updates trained in place of the model's own parameters (LoRA, arXiv:2106.09685).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// A teacher (DeiT, arXiv:2012.12877).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<TeacherRecipe>,
    /// Pre-training without labels: hidden patches are predicted (arXiv:2111.06377, arXiv:2010.11929).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretraining: Option<Pretraining>,
    /// Length, batch size, seed and the like.
    pub run: RunRecipe,
}

/// The model to train: a named size from scratch, or a pretrained model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecipe {
    /// A named size, such as `Ti/4` (see `vitral models`); the fields in `set` override it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The model to start from, in place of `variant`: a folder, a bundle, or a name on a hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The classifier of a pretrained model.
    #[serde(default)]
    pub head: NewHead,
    /// The bands of the images, from 1, that are red, green and blue, and get these colors' kernels of the patch embedding of a
    /// pretrained model that takes color; other bands get their mean. Without it, the kernels are repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rgb_bands: Option<[usize; 3]>,
    /// Fields of the model's configuration; the classes come from the data.
    #[serde(default)]
    pub set: toml::Table,
    /// Initialization scheme.
    #[serde(default = "timm")]
    pub initialize: Initialization,
}

fn timm() -> Initialization {
    Initialization::Timm
}

/// The initial classifier in fine-tuning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NewHead {
    /// A new one, all zero, as in the ViT paper.
    #[default]
    Zeros,
    /// A new one, initialized according to `initialize`.
    Random,
    /// The existing one, for the same classes.
    Keep,
}

/// A teacher and its weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeacherRecipe {
    /// The teacher: a folder, a bundle, or a name on a hub.
    pub teacher: String,
    /// How the student learns from it.
    #[serde(flatten)]
    pub how: Distillation,
}

/// The images and their preprocessing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// A folder with one sub-folder per class, a tar of one, Parquet files, idx files, CIFAR's files, or a list.
    pub train: PathBuf,
    /// Test images; without them, the test or validation split of `train` is used, or a part is split off.
    #[serde(default)]
    pub test: Option<PathBuf>,
    /// How a data set without a test split is split.
    #[serde(default)]
    pub validation_split: ValidationSplit,
    /// A subset of the training images, for studies; validation and test images are not reduced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<SubsetRecipe>,
    /// Number of bands of an image, for images other than in color or gray. A pretrained model of other channels is adapted to
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bands: Option<usize>,
    /// What samples of bands are multiplied by before mean and standard deviation. By default, integers are divided by the
    /// largest value of their type, and real numbers stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Mean of every channel, for values from 0 to 1. A pretrained model has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<Vec<f32>>,
    /// Standard deviation of every channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<Vec<f32>>,
    /// Whether mean and standard deviation are computed from the training images, before the run; the resolved recipe has them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub statistics: bool,
    /// Filter for resizing images of other sizes, if mean and standard deviation are given here.
    #[serde(default = "bicubic")]
    pub filter: Filter,
}

impl DataRecipe {
    /// The scale of samples before mean and standard deviation.
    pub fn rescale(&self) -> Rescale {
        match (self.bands, self.scale) {
            (_, Some(factor)) => Rescale::Multiply { factor, offset: 0.0 },
            (Some(_), None) => Rescale::TypeRange,
            (None, None) => Rescale::Divide255,
        }
    }
}

/// A subset of the images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as `{ fraction = 0.01 }`")]
pub struct SubsetRecipe {
    /// Fraction of every class.
    pub fraction: f64,
    /// Seed for the selection.
    #[serde(default)]
    pub seed: u64,
}

fn bicubic() -> Filter {
    Filter::Bicubic
}

/// Length, batch size, seed and the like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecipe {
    /// Number of epochs.
    pub epochs: u64,
    /// Batch size.
    pub batch: usize,
    /// Batches whose gradients are accumulated for one step.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Parts of a batch whose gradients are summed apart, and then in pairs: a power of two. So many ranks can train at
    /// most, with the same bits as one; each part takes as much memory as the parameters.
    #[serde(default = "leaves", skip_serializing_if = "is_default_leaves")]
    pub leaves: usize,
    /// Whether each of several ranks keeps and updates a share of the optimizer's moments only: less memory, more
    /// communication, identical results.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub share_moments: bool,
    /// Seed for initial values, order, augmentation, dropout and drop path.
    #[serde(default)]
    pub seed: u64,
    /// Gradient clipping.
    #[serde(default)]
    pub clip: Option<Clip>,
    /// Decay of the parameters' moving average, which is then evaluated and saved in place of the parameters.
    #[serde(default)]
    pub ema_decay: Option<f32>,
    /// Loss function. By default cross-entropy, or the binary loss for images with several labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// What the classes count in the loss, for data with few images of some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// How often the images of each class come in an epoch.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sampling: Sampling,
    /// What the best epoch is chosen by, and the journal shows of the validation images.
    #[serde(default, skip_serializing_if = "is_default")]
    pub choose_by: ChooseBy,
    /// Whether blocks keep only their input and are recomputed in the backward pass: less memory, more time, identical
    /// results.
    #[serde(default)]
    pub recompute: bool,
    /// What a step's products are computed in: by default f32, on a GPU bf16. Weights, sums, gradients of weights and moments
    /// are in 32 bits whatever it is. Evaluations are in the device's own precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<TrainingPrecision>,
    /// Epochs between evaluations on the validation images; the last epoch is always evaluated, and 0 means only the
    /// last.
    #[serde(default = "every_epoch", skip_serializing_if = "is_every_epoch")]
    pub evaluate_every: u64,
    /// Steps between checkpoints within an epoch; 0 means only at its end.
    #[serde(default)]
    pub checkpoint_every: u64,
    /// Number of checkpoints to keep.
    #[serde(default = "two")]
    pub keep: usize,
}

/// What products are computed in while training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainingPrecision {
    /// 32-bit floats.
    F32,
    /// Operands rounded to 10 bits after the point, on a GPU.
    Tf32,
    /// Operands rounded to bfloat16.
    Bf16,
}

impl From<TrainingPrecision> for Precision {
    fn from(precision: TrainingPrecision) -> Self {
        match precision {
            TrainingPrecision::F32 => Precision::F32,
            TrainingPrecision::Tf32 => Precision::Tf32,
            TrainingPrecision::Bf16 => Precision::Bf16,
        }
    }
}

fn one() -> usize {
    1
}

fn two() -> usize {
    2
}

/// Leaves of a batch, where a recipe does not say.
pub(crate) const LEAVES: usize = 4;

fn leaves() -> usize {
    LEAVES
}

fn is_default_leaves(leaves: &usize) -> bool {
    *leaves == LEAVES
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn every_epoch() -> u64 {
    1
}

fn is_every_epoch(epochs: &u64) -> bool {
    *epochs == every_epoch()
}
