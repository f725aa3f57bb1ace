//! How images are read, the same for every command.

use std::num::NonZero;

use clap::Args;
use vitral::image::{DecodeOptions, Limits, SampleRange};

/// Bytes that decoding takes for each pixel, at most: so many are allowed when more pixels are.
const BYTES_PER_PIXEL: u64 = 12;

/// How images are read, and how many at a time.
#[derive(Args, Debug)]
pub(crate) struct ReadingArgs {
    /// Batch size; it does not affect the results
    #[arg(long, alias = "batch-size", value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Largest image to decode, in pixels
    #[arg(long, value_name = "N", default_value_t = Limits::DEFAULT.max_pixels)]
    max_pixels: u64,
    /// What becomes black to white in images with more than 8 bits per sample: `full` (all that the file declares), a
    /// number of bits such as `12`, or `auto` (as many bits as each image's largest sample needs)
    #[arg(long, value_name = "RANGE", default_value = "full")]
    sample_range: SampleRange,
}

impl ReadingArgs {
    /// Number of images that go through the model together.
    pub(crate) fn batch(&self) -> NonZero<usize> {
        NonZero::new(usize::from(self.batch)).unwrap_or(NonZero::<usize>::MIN)
    }

    /// The range of samples that becomes black to white.
    pub(crate) fn sample_range(&self) -> SampleRange {
        self.sample_range
    }

    /// How images are decoded. Whoever allows more pixels allows their bytes too.
    pub(crate) fn decoding(&self) -> DecodeOptions {
        let bytes = self.max_pixels.saturating_mul(BYTES_PER_PIXEL).max(Limits::DEFAULT.max_bytes);
        let limits = Limits::DEFAULT.max_pixels(self.max_pixels).max_bytes(bytes);
        DecodeOptions::default().limits(limits).sample_range(self.sample_range)
    }
}
