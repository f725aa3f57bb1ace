//! Which batch fits into a card's memory, where one did not.

use vitral::config::{ModelConfig, Size};
use vitral_engine::{Device, DeviceError};

use crate::error::TrainError;
use crate::step::{Batch, Trainer};

/// A batch that was too large.
pub(crate) struct Tried<'a> {
    /// Images of it on this rank.
    pub(crate) batch: usize,
    /// How many ranks have as many.
    pub(crate) ranks: usize,
    /// Batches that wait on the card while one is trained on.
    pub(crate) waiting: usize,
    /// The model.
    pub(crate) config: &'a ModelConfig,
    /// Its images.
    pub(crate) image: Size,
}

/// Adds to a card's want of memory which batch would have fit: steps are rehearsed with smaller ones. Other errors stay
/// as they are, and so does this one where steps were not what was too large.
///
/// `make` makes the trainer of the run on a device, and `hide` adds to a batch what the run hides of it, if anything. What
/// the run itself took must have been given back.
pub(crate) fn explained(
    error: TrainError,
    device: &Device,
    tried: &Tried<'_>,
    make: impl Fn(&Device) -> Result<Trainer, TrainError>,
    hide: impl Fn(&Device, Batch) -> Result<Batch, TrainError>,
) -> TrainError {
    let TrainError::Device(error @ DeviceError::OutOfDeviceMemory { .. }) = error else { return error };
    match largest(device, tried, make, hide) {
        Some(fits) if fits < tried.batch => {
            TrainError::BatchTooLarge { error, batch: tried.batch * tried.ranks, fits: fits * tried.ranks }
        }
        _ => TrainError::Device(error),
    }
}

/// Hides nothing.
pub(crate) fn whole(_: &Device, batch: Batch) -> Result<Batch, TrainError> {
    Ok(batch)
}

/// The largest batch that fits up to the one that was tried; 0 if there is none. Nothing if it cannot be found out.
fn largest(
    device: &Device,
    tried: &Tried<'_>,
    make: impl Fn(&Device) -> Result<Trainer, TrainError>,
    hide: impl Fn(&Device, Batch) -> Result<Batch, TrainError>,
) -> Option<usize> {
    let room = device.room()?.ok()?;
    let (config, image) = (tried.config, tried.image);
    let fits = |images: usize| {
        let device = device.rehearsal()?.ok()?;
        let mut trainer = make(&device).ok()?;
        let shape = [images, config.channels, image.height, image.width];
        let pixels = vec![0.0; shape.iter().product()];
        let batch = || {
            let labels = vec![0; images];
            // Without labels there is one class, as in a data set of them.
            let targets = device.one_hot(&labels, config.classes.max(1), 0.0).ok()?;
            let batch = Batch::whole(device.upload(shape, &pixels).ok()?, targets, labels);
            hide(&device, batch).ok()
        };
        let _waiting = (0..tried.waiting).map(|_| batch()).collect::<Option<Vec<_>>>()?;
        // It diverges: what is read from a rehearsal is zero.
        let _ = trainer.step(&[batch()?], None);
        Some(device.peak_memory()? <= room)
    };
    let (mut fitting, mut too_large) = (0, tried.batch + 1);
    let mut next = tried.batch;
    while too_large - fitting > (too_large / 16).max(1) {
        if fits(next)? {
            fitting = next;
        } else {
            too_large = next;
        }
        next = fitting + (too_large - fitting) / 2;
    }
    // A round number, where that costs little.
    Some(if (64..tried.batch).contains(&fitting) { fitting / 8 * 8 } else { fitting })
}
