//! How images are read, the same for every command.

use std::num::NonZero;

use clap::Args;
use vitral::image::{DecodeOptions, Limits, SampleRange};

/// How images are read, and how many at a time.
#[derive(Args, Debug)]
pub(crate) struct ReadingArgs {
    /// Batch size; it does not affect the results
    #[arg(long, alias = "batch-size", value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Largest image to decode, in pixels
    #[arg(long, value_name = "N", default_value_t = Limits::DEFAULT.max_pixels)]
    max_pixels: u64,
    /// The range of sample values that maps to black through white, in images with more than 8 bits per sample: `full` (all
    /// that the file declares), a number of bits such as `12`, or `auto` (as many bits as each image's largest sample needs)
    #[arg(long, value_name = "RANGE", default_value = "full")]
    sample_range: SampleRange,
}

impl ReadingArgs {
    /// Number of images that go through the model together.
    pub(crate) fn batch(&self) -> NonZero<usize> {
        NonZero::new(usize::from(self.batch)).unwrap_or(NonZero::<usize>::MIN)
    }

    /// The range of samples that maps to black through white.
    pub(crate) fn sample_range(&self) -> SampleRange {
        self.sample_range
    }

    /// How images are decoded.
    pub(crate) fn decoding(&self) -> DecodeOptions {
        DecodeOptions::default().limits(Limits::of_pixels(self.max_pixels)).sample_range(self.sample_range)
    }
}
