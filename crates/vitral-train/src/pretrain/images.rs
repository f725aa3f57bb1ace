//! The images of a pre-training.

use std::path::Path;
use std::sync::Arc;

use crate::data::{Dataset, Split, Subset, Unlabeled, ValidationSplit, open_part};
use crate::error::TrainError;
use crate::recipe::Recipe;

/// The images of a pre-training.
#[derive(Debug)]
pub struct Images {
    /// Those it is trained on.
    pub train: Arc<dyn Dataset>,
    /// Those that the best epoch is chosen on, which are held out.
    pub held_out: Arc<dyn Dataset>,
    /// What was left out or decided when they were opened, a sentence each.
    pub notes: Vec<String>,
}

impl Images {
    /// Opens a recipe's images: labeled data whose labels are not looked at, or any folder of images. Without `data.test`, a part
    /// is held out.
    ///
    /// # Errors
    /// If there are no images.
    pub fn open(recipe: &Recipe) -> Result<Self, TrainError> {
        let data = &recipe.data;
        let (mut train, mut notes) = unlabeled(&data.train, Split::Train)?;
        let held_out = match &data.test {
            Some(path) => {
                let (held_out, more) = unlabeled(path, Split::Test)?;
                notes.extend(more);
                held_out
            }
            None => {
                let ValidationSplit { fraction, seed } = data.validation_split;
                let (some, rest) = Subset::parted(&train, fraction, seed);
                train = Arc::new(rest);
                Arc::new(some)
            }
        };
        if let Some(subset) = data.subset {
            train = Arc::new(Subset::share(&train, subset.fraction, subset.seed));
        }
        if train.is_empty() || held_out.is_empty() {
            let fault =
                format!("expected images to train on and to hold out, found {} and {}", train.len(), held_out.len());
            return Err(TrainError::Data { path: data.train.clone(), fault, hint: "add images, or give `data.test`" });
        }
        Ok(Images { train, held_out, notes })
    }
}

/// Images of any kind, and notes about them.
fn unlabeled(path: &Path, split: Split) -> Result<(Arc<dyn Dataset>, Vec<String>), TrainError> {
    let all = ValidationSplit { fraction: if split == Split::Train { 0.0 } else { 1.0 }, ..ValidationSplit::default() };
    match open_part(path, split, all) {
        Ok(part) => Ok((part.dataset, part.notes)),
        // A folder that is not a data set is still full of images, unless it has splits: those are not to be mixed.
        Err(_) if path.is_dir() && !has_splits(path) => {
            let images = Unlabeled::open(path)?;
            let notes = images.notes();
            Ok((Arc::new(images), notes))
        }
        Err(error) => Err(error),
    }
}

/// Whether a folder has one for a split.
fn has_splits(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .any(|entry| entry.file_name().to_str().is_some_and(|name| Split::of_name(name).is_some()))
}
