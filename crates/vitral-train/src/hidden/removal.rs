//! Which patches are hidden from a masked autoencoder, and what it is to predict.

use vitral::config::Size;
use vitral::model::{DecoderConfig, Visible};

use crate::draws::Draws;

/// The pixels of hidden patches are predicted from the other patches (He et al., arXiv:2111.06377).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Removal {
    /// The fraction of the patches that is hidden.
    pub hidden: f32,
    /// Whether the pixels of each patch are predicted with a mean of 0 and a deviation of 1.
    pub normalize_patches: bool,
    /// Width of the decoder.
    pub decoder_width: usize,
    /// Number of the decoder's blocks.
    pub decoder_depth: usize,
    /// Number of the decoder's attention heads.
    pub decoder_heads: usize,
}

impl Default for Removal {
    /// As in the paper.
    fn default() -> Self {
        Removal { hidden: 0.75, normalize_patches: true, decoder_width: 512, decoder_depth: 8, decoder_heads: 16 }
    }
}

/// Added to a patch's variance.
const EPSILON: f64 = 1e-6;

impl Removal {
    /// The decoder.
    pub fn decoder(&self) -> DecoderConfig {
        DecoderConfig { width: self.decoder_width, depth: self.decoder_depth, heads: self.decoder_heads }
    }

    /// How many of so many patches are not hidden: at least one, and not all.
    fn seen_of(&self, patches: usize) -> usize {
        ((patches as f64 * (1.0 - f64::from(self.hidden))) as usize).clamp(1, patches.saturating_sub(1).max(1))
    }

    /// The patches of `images` images that are not hidden, drawn for each image by itself. `round` is the epoch, and `first` the
    /// place of the first image in it.
    pub fn draw(&self, seed: u64, round: u64, first: u64, images: usize, patches: usize) -> Visible {
        let each = self.seen_of(patches);
        let mut indices = Vec::with_capacity(images * each);
        for image in 0..images as u64 {
            // Apart from the draws of augmentation, which have the same seed and image.
            let mut draws = Draws::new(seed ^ 0x6d61_736b, round, first + image);
            let mut order: Vec<(u64, usize)> = (0..patches).map(|patch| (draws.unit().to_bits(), patch)).collect();
            order.sort_unstable();
            let mut seen: Vec<usize> = order[..each].iter().map(|&(_, patch)| patch).collect();
            seen.sort_unstable();
            indices.extend(seen);
        }
        Visible::new(patches, each, indices)
    }

    /// What is to be predicted of images `[batch, channels, height, width]`: for each patch, row by row, its pixels, each with
    /// its channels side by side.
    pub fn targets(&self, pixels: &[f32], channels: usize, image: Size, patch: Size) -> Vec<f32> {
        let (rows, columns) = (image.height / patch.height, image.width / patch.width);
        let mut targets = Vec::with_capacity(pixels.len());
        for pixels in pixels.chunks_exact(channels * image.area()) {
            for place in 0..rows * columns {
                let (top, left) = (place / columns * patch.height, place % columns * patch.width);
                let begin = targets.len();
                for cell in 0..patch.area() {
                    let at = (top + cell / patch.width) * image.width + left + cell % patch.width;
                    targets.extend((0..channels).map(|channel| pixels[channel * image.area() + at]));
                }
                if self.normalize_patches {
                    normalize(&mut targets[begin..]);
                }
            }
        }
        targets
    }
}

/// Brings values to a mean of 0 and an unbiased deviation of 1.
fn normalize(values: &mut [f32]) {
    let (mean, deviation) = moments(values);
    values.iter_mut().for_each(|value| *value = ((f64::from(*value) - mean) / deviation) as f32);
}

/// The mean of a patch, and the deviation by which it is divided.
pub(crate) fn moments(values: &[f32]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let squares = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>();
    (mean, (squares / (count - 1.0).max(1.0) + EPSILON).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_seen_and_every_image_draws_its_own() {
        let rule = Removal::default();
        let drawn = rule.draw(1, 2, 3, 4, 16);
        assert_eq!((drawn.images(), drawn.part(0..1) == drawn.part(1..2)), (4, false));
        assert_eq!(rule.draw(1, 2, 5, 1, 16), drawn.part(2..3));
        assert_ne!(rule.draw(1, 3, 5, 1, 16), drawn.part(2..3));
        let few = [2, 3, 4].map(|patches| rule.seen_of(patches));
        assert_eq!((few, rule.seen_of(196)), ([1, 1, 1], 49));
    }

    #[test]
    fn targets_are_patches_with_channels_side_by_side() {
        let plain = Removal { normalize_patches: false, ..Removal::default() };
        // One image of two channels, 2 × 4 pixels, in two patches.
        let pixels: Vec<f32> = (0..16).map(|value| value as f32).collect();
        let (image, patch) = (Size { height: 2, width: 4 }, Size::square(2));
        let targets = plain.targets(&pixels, 2, image, patch);
        assert_eq!(targets[..8], [0.0, 8.0, 1.0, 9.0, 4.0, 12.0, 5.0, 13.0]);
        assert_eq!(targets[8..], [2.0, 10.0, 3.0, 11.0, 6.0, 14.0, 7.0, 15.0]);
        let normal = Removal::default().targets(&pixels, 2, image, patch);
        let (mean, deviation) = moments(&normal[..8]);
        assert!(mean.abs() < 1e-6 && (deviation - 1.0).abs() < 1e-4);
    }
}
