//! Errors of a training run.

use std::path::PathBuf;

use vitral_ranks::RanksError;

/// An error in training. None of them loses anything already written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// An error of the underlying library.
    #[error(transparent)]
    Vitral(#[from] vitral::Error),
    /// A device failed, or ran out of memory.
    #[error(transparent)]
    Device(#[from] vitral::DeviceError),
    /// A card's memory does not hold a batch.
    #[error("{error}; {}", how_many(*batch, *fits))]
    BatchTooLarge {
        /// What the card says.
        error: vitral::DeviceError,
        /// Images in the batch.
        batch: usize,
        /// Images that would fit.
        fits: usize,
    },
    /// Ranks cannot go on together, or another one failed.
    #[error(transparent)]
    Ranks(#[from] RanksError),
    /// A file or folder could not be read or written.
    #[error("`{}`: {doing}: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        fault: std::io::Error,
    },
    /// An invalid recipe.
    #[error("`{}`: {fault}", path.display())]
    Recipe {
        /// The file, or `--set`.
        path: PathBuf,
        /// What is wrong, and what is allowed.
        fault: String,
    },
    /// Data that cannot be used for training.
    #[error("`{}`: {fault}; {hint}", path.display())]
    Data {
        /// The data.
        path: PathBuf,
        /// What was found.
        fault: String,
        /// What to do.
        hint: &'static str,
    },
    /// A checkpoint that belongs to another run or is damaged.
    #[error("`{}`: {fault}; start a new run in another folder, or use the recipe it was written with", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// A checkpoint that cannot be read, of a run that has no other.
    #[error(
        "`{}`: expected a complete checkpoint, found a damaged one ({fault}), and there is no earlier one; remove it to \
         begin the run again", path.display()
    )]
    Damaged {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The loss or a gradient is no longer finite.
    #[error(
        "the loss is {loss} and the gradient norm {gradient_norm} at step {step}: the run diverged; lower the learning \
        rate, warm up longer or clip gradients, and resume from the last checkpoint{}",
        batch.as_ref().map_or(String::new(), |path| format!("; the step's batch is in `{}`", path.display()))
    )]
    Diverged {
        /// The step.
        step: u64,
        /// The loss.
        loss: f32,
        /// The norm of all gradients.
        gradient_norm: f64,
        /// Where the step's images and targets were written.
        batch: Option<PathBuf>,
    },
    /// The caller stopped the work.
    #[error("stopped before the end")]
    Stopped,
}

impl TrainError {
    /// Adds the file and the operation to an I/O error.
    pub(crate) fn file(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(std::io::Error) -> TrainError {
        let path = path.into();
        move |fault| TrainError::File { path, doing, fault }
    }
}

/// Which batch fits where one does not.
fn how_many(batch: usize, fits: usize) -> String {
    match fits {
        0 => "not even one image of this model fits".to_owned(),
        _ => format!("a batch of {fits} fits, {batch} do not"),
    }
}
