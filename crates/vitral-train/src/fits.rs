//! Which batch fits into a card's memory, where one did not.

use vitral::config::{ModelConfig, Size};
use vitral_engine::{Device, DeviceError};

use crate::error::TrainError;
use crate::step::{Batch, Trainer};

/// Adds to a card's want of memory which batch would have fit: steps are rehearsed with smaller ones. Other errors stay
/// as they are.
///
/// `batch` images were too many, of a model of this configuration; `make` makes the trainer of the run on a device. What
/// the run itself took must have been given back.
pub(crate) fn explained(
    error: TrainError,
    device: &Device,
    (batch, config, image): (usize, &ModelConfig, Size),
    make: impl Fn(&Device) -> Result<Trainer, TrainError>,
) -> TrainError {
    let TrainError::Device(error @ DeviceError::OutOfDeviceMemory { .. }) = error else { return error };
    match largest(device, (batch, config, image), make) {
        Some(fits) => TrainError::BatchTooLarge { error, batch, fits },
        None => TrainError::Device(error),
    }
}

/// The largest batch below one that was too large; 0 if there is none. Nothing if it cannot be found out.
fn largest(
    device: &Device,
    (batch, config, image): (usize, &ModelConfig, Size),
    make: impl Fn(&Device) -> Result<Trainer, TrainError>,
) -> Option<usize> {
    let room = device.room()?.ok()?;
    let fits = |images: usize| {
        let device = device.rehearsal()?.ok()?;
        let mut trainer = make(&device).ok()?;
        let shape = [images, config.channels, image.height, image.width];
        let pixels = device.upload(shape, &vec![0.0; shape.iter().product()]).ok()?;
        let labels = vec![0; images];
        let targets = device.one_hot(&labels, config.classes, 0.0).ok()?;
        // It diverges: what is read from a rehearsal is zero.
        let _ = trainer.step(&[Batch::whole(pixels, targets, labels)], None);
        Some(device.peak_memory()? <= room)
    };
    let (mut fitting, mut too_large) = (0, batch);
    while too_large - fitting > (too_large / 16).max(1) {
        let middle = fitting + (too_large - fitting) / 2;
        if fits(middle)? {
            fitting = middle;
        } else {
            too_large = middle;
        }
    }
    // A round number, where that costs little.
    Some(if fitting >= 64 { fitting / 8 * 8 } else { fitting })
}
