//! How long an image takes, for those who have to wait.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The time that the model takes for one image, as a smoothed mean, in seconds.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU64);

impl Pace {
    /// How fast old measurements are forgotten.
    const SHARE: f64 = 0.2;

    /// Adds a measurement.
    pub(crate) fn add(&self, image: Duration) {
        let old = f64::from_bits(self.0.load(Relaxed));
        let new = if old == 0.0 { image.as_secs_f64() } else { old + Self::SHARE * (image.as_secs_f64() - old) };
        self.0.store(new.to_bits(), Relaxed);
    }

    /// How long this many images take.
    pub(crate) fn of(&self, images: usize) -> Duration {
        let image = f64::from_bits(self.0.load(Relaxed));
        Duration::from_secs_f64((image * images as f64).clamp(0.0, 3600.0))
    }
}
