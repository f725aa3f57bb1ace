//! What can go wrong in a training run.

use std::path::PathBuf;

/// A fault of training. Nothing that was written is lost by any of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A fault of the library underneath.
    #[error(transparent)]
    Vitral(#[from] vitral::Error),
    /// A device failed, or ran out of memory.
    #[error(transparent)]
    Device(#[from] vitral::DeviceError),
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
    /// A recipe that does not follow its form.
    #[error("`{}`: {fault}", path.display())]
    Recipe {
        /// The file, or `--set`.
        path: PathBuf,
        /// What is wrong and what is known.
        fault: String,
    },
    /// Data that cannot be trained on.
    #[error("`{}`: {fault}; {hint}", path.display())]
    Data {
        /// The data.
        path: PathBuf,
        /// What was found.
        fault: String,
        /// What to do.
        hint: &'static str,
    },
    /// A checkpoint of another run, or a damaged one.
    #[error("`{}`: {fault}; start the run anew in another folder, or give the recipe it was made with", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The loss or a gradient is not finite any more.
    #[error(
        "the loss is {loss} and the gradients' norm {gradient_norm} at step {step}: the run diverged; lower the learning rate, warm up longer or clip gradients, \
         and go on from the last checkpoint{}",
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
}

impl TrainError {
    /// Adds the file and what was being done to an I/O fault.
    pub(crate) fn file(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(std::io::Error) -> TrainError {
        let path = path.into();
        move |fault| TrainError::File { path, doing, fault }
    }
}
