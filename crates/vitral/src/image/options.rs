//! How images are decoded.

use super::depth::SampleRange;
use super::limits::Limits;

/// How images are decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// Limits on the size of images.
    pub limits: Limits,
    /// The range of samples that becomes black to white, for more than 8 bits per sample.
    pub sample_range: SampleRange,
}

impl DecodeOptions {
    /// Rejects larger images.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Makes this range of samples black to white.
    #[must_use]
    pub const fn sample_range(mut self, range: SampleRange) -> Self {
        self.sample_range = range;
        self
    }
}
