//! The state of a run in a file: parameters, optimizer state, the moving average, and the position in the run.
//!
//! All randomness in a run is derived from its seed and counters, so the counters are the whole random state: a run
//! resumed from a checkpoint is bit-identical to an uninterrupted one.

mod recipes;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, View};
use serde::{Deserialize, Serialize};
use vitral_engine::FlatBuffer;
use vitral_ranks::Failed;

use crate::epoch::{EpochStats, Score};
use crate::error::TrainError;
use crate::step::Trainer;

/// Position of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The version of the checkpoint format, [`FORMAT`].
    pub format: u32,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Batches of that epoch already used.
    pub batch: usize,
    /// Optimizer steps taken.
    pub step: u64,
    /// The score of the best epoch so far, and its number, from 1.
    pub best: Option<(Score, u64)>,
    /// Statistics of the epoch's steps so far.
    pub stats: EpochStats,
    /// A checksum of the frozen parameters, which are not in the file; 0 if there are none.
    #[serde(default)]
    pub base: u32,
    /// The resolved recipe.
    pub recipe: String,
    /// The training data.
    #[serde(default)]
    pub data: TrainedOn,
}

/// What is remembered of the training data, so that a run does not go on with other data unnoticed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedOn {
    /// Names of the classes, in order; empty in pre-training, and in checkpoints of earlier versions.
    pub classes: Vec<String>,
    /// Number of training images.
    pub images: usize,
}

impl TrainedOn {
    /// Why a run on `self` cannot go on with `now`.
    fn contradiction(&self, now: &TrainedOn) -> Option<String> {
        // Checkpoints of earlier versions say neither; without labels there are only images.
        if self == now || (self.classes.is_empty() && (self.images == 0 || !now.classes.is_empty())) {
            return None;
        }
        let (before, after) = (&self.classes, &now.classes);
        if before.len() != after.len() {
            return Some(format!("it was trained on {} classes, the data has {}", before.len(), after.len()));
        }
        if let Some(at) = (0..before.len()).find(|&at| before[at] != after[at]) {
            let (before, after) = (&before[at], &after[at]);
            return Some(format!("its class number {at} is `{before}`, the data's is `{after}`"));
        }
        Some(format!("it was trained on {} images, the data has {}", self.images, now.images))
    }
}

/// Values to write to a file.
struct Flat {
    numbers: Vec<f32>,
    shape: [usize; 1],
}

impl View for Flat {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        4 * self.numbers.len()
    }
}

/// The checkpoint format that is read and written.
pub const FORMAT: u32 = 2;

/// The position's key in the file's metadata.
const POSITION: &str = "vitral.position";
/// The key of how a GPU computes products, so that the run goes on with the same bits.
const PRODUCTS: &str = "vitral.products";

/// Writes a checkpoint to a temporary file, then renames it, so that the file of that name is always complete. With
/// several ranks the first one writes, and gets the moments that others keep; all of them call this.
///
/// # Errors
/// If it cannot be written; the previous file is then kept.
pub fn save(path: &Path, trainer: &Trainer, position: &Position) -> Result<(), TrainError> {
    let ranks = trainer.ranks();
    let first = moment(trainer, &trainer.moments.first)?;
    let keeps_second = trainer.rules().optimizer.rule().keeps_second();
    let second = if keeps_second { moment(trainer, &trainer.moments.second)? } else { Vec::new() };
    let written = if ranks.is_first() { write(path, trainer, position, first, second) } else { Ok(()) };
    ranks.agree(written).map_err(Failed::into_error)
}

/// A moment of all parameters, on the first rank.
fn moment(trainer: &Trainer, own: &FlatBuffer) -> Result<Vec<f32>, TrainError> {
    let Some(shares) = trainer.shares() else { return Ok(own.to_vec()?) };
    let ranks = trainer.ranks();
    let own = own.to_vec()?;
    if !ranks.is_first() {
        ranks.send(0, bytemuck::cast_slice(&own))?;
        return Ok(Vec::new());
    }
    let mut whole = own;
    for (rank, share) in shares.ranges().iter().enumerate().skip(1) {
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&ranks.receive(rank)?);
        debug_assert_eq!(values.len(), share.len());
        whole.extend(values);
    }
    Ok(whole)
}

fn write(
    path: &Path,
    trainer: &Trainer,
    position: &Position,
    first: Vec<f32>,
    second: Vec<f32>,
) -> Result<(), TrainError> {
    let flat = |numbers: Vec<f32>| Flat { shape: [numbers.len()], numbers };
    let mut tensors = vec![("parameters", flat(trainer.parameters.flat().to_vec()?)), ("first", flat(first))];
    if !second.is_empty() {
        tensors.push(("second", flat(second)));
    }
    if let Some(ema) = &trainer.ema {
        tensors.push(("ema", flat(ema.to_vec()?)));
    }
    let position = serde_json::to_string(position).expect("plain data");
    let products = trainer.parameters.device().choices().map(|choices| (PRODUCTS.to_owned(), choices));
    let header: HashMap<_, _> = std::iter::once((POSITION.to_owned(), position)).chain(products).collect();
    let bytes = safetensors::serialize(tensors, Some(header)).expect("names are distinct and shapes match");
    vitral::atomic::write(path, &bytes).map_err(TrainError::file(path, "writing a checkpoint"))
}

/// Restores a trainer from the bytes of a checkpoint. The recipe may differ in what does not change the steps taken so far: the number
/// of epochs, how often the model is evaluated and saved, and where data and models are.
///
/// # Errors
/// If the file is damaged, or belongs to another model, recipe or data.
pub fn load(
    path: &Path,
    bytes: &[u8],
    trainer: &mut Trainer,
    recipe: &str,
    data: &TrainedOn,
) -> Result<Position, TrainError> {
    let fault = |fault: String| TrainError::Checkpoint { path: path.to_owned(), fault };
    let damaged = |fault: String| TrainError::Damaged { path: path.to_owned(), fault };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(error.to_string()))?;
    let position = header.metadata().as_ref().and_then(|header| header.get(POSITION)).cloned();
    let position = position.ok_or_else(|| fault("it has no position in the run".into()))?;
    // Before anything else: the keys of another format would be reported as unknown.
    let value: serde_json::Value = serde_json::from_str(&position).map_err(|error| fault(error.to_string()))?;
    if value.get("format").is_none_or(|format| *format != FORMAT) {
        let found = value.get("format").map_or("none".to_owned(), ToString::to_string);
        return Err(fault(format!(
            "expected checkpoint format {FORMAT}, found {found}; finish the run with the version of Vitral that began it"
        )));
    }
    let position: Position = serde_json::from_value(value).map_err(|error| fault(error.to_string()))?;
    if let Some(differences) = recipes::differences(&position.recipe, recipe) {
        return Err(fault(format!("it was written with another recipe: {differences}")));
    }
    if let Some(contradiction) = position.data.contradiction(data) {
        return Err(fault(contradiction));
    }
    if position.base != trainer.base() {
        return Err(fault("it belongs to another model: the frozen parameters differ".into()));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(error.to_string()))?;
    let total = trainer.parameters.flat().len();
    let read = |name: &str, into: &mut FlatBuffer, share: Range<usize>| {
        let tensor = file.tensor(name).map_err(|error| fault(format!("`{name}`: {error}")))?;
        if tensor.dtype() != Dtype::F32 || tensor.data().len() != 4 * total {
            let found = tensor.data().len() / 4;
            return Err(fault(format!("`{name}` holds {found} values, expected {total}")));
        }
        let numbers = tensor.data()[4 * share.start..4 * share.end].as_chunks().0.iter();
        into.write(0, &numbers.map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>());
        Ok(())
    };
    read("parameters", trainer.parameters.flat_mut(), 0..total)?;
    let share = trainer.moments.share();
    read("first", &mut trainer.moments.first, share.clone())?;
    if !trainer.moments.second.is_empty() {
        read("second", &mut trainer.moments.second, share)?;
    }
    if let Some(ema) = &mut trainer.ema {
        read("ema", ema, 0..total)?;
    }
    if let Some(choices) = header.metadata().as_ref().and_then(|header| header.get(PRODUCTS)) {
        trainer.parameters.device().use_choices(choices);
    }
    trainer.step = position.step;
    Ok(position)
}

/// Checkpoints in a run's folder, the newest last. Names contain the step, so sorting by name sorts by step.
pub fn list(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.starts_with("step-") && name.ends_with(".safetensors")
        })
        .collect();
    found.sort();
    found
}

/// The path of a step's checkpoint.
pub fn name(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("step-{step:010}.safetensors"))
}

/// Removes all but the newest checkpoints.
///
/// # Errors
/// If one cannot be removed.
pub fn prune(folder: &Path, keep: usize) -> Result<(), TrainError> {
    let found = list(folder);
    for path in found.iter().take(found.len().saturating_sub(keep.max(1))) {
        std::fs::remove_file(path).map_err(TrainError::file(path, "removing an old checkpoint"))?;
    }
    Ok(())
}
