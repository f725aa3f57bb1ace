//! Which patches are corrupted in masked-patch prediction, and the colors to predict.

use vitral::config::Size;
use vitral::model::{COLOR_LEVELS, Corrupted, CorruptedPatch, Replacement};

use super::brightness::Brightness;
use crate::draws::Draws;

/// The mean colors of corrupted patches are predicted (Dosovitskiy et al., arXiv:2010.11929, appendix B.1.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corruption {
    /// The fraction of the patches that is corrupted.
    pub corrupted: f32,
}

/// Of corrupted patches, those whose embedding is replaced by the learned one.
const MASKED: f64 = 0.8;
/// Those whose embedding is replaced by that of another patch; the others stay as they are.
const REPLACED: f64 = 0.1;

impl Default for Corruption {
    /// As in the paper.
    fn default() -> Self {
        Corruption { corrupted: 0.5 }
    }
}

impl Corruption {
    /// How many of so many patches are corrupted: at least one.
    fn of_patches(&self, patches: usize) -> usize {
        ((patches as f64 * f64::from(self.corrupted)).round() as usize).clamp(1, patches.max(1))
    }

    /// The corrupted patches of images of `patches` patches, drawn for each image by itself. `round` is the epoch, and `first` the
    /// place of the first image in it; `colors` are those of all patches, image by image ([`colors`]).
    ///
    /// # Panics
    /// If there is not a color for each patch.
    pub fn draw(&self, seed: u64, round: u64, first: u64, patches: usize, colors: &[usize]) -> Corrupted {
        assert!(colors.len().is_multiple_of(patches), "{} colors of {patches} patches", colors.len());
        let each = self.of_patches(patches);
        let mut all = Vec::with_capacity(colors.len() / patches * each);
        for (image, colors) in colors.chunks_exact(patches).enumerate() {
            // Apart from the draws of augmentation, which have the same seed and image.
            let mut draws = Draws::new(seed ^ 0x636f_6c6f_7273, round, first + image as u64);
            let mut order: Vec<(u64, usize)> = (0..patches).map(|patch| (draws.unit().to_bits(), patch)).collect();
            order.sort_unstable();
            let mut chosen: Vec<usize> = order[..each].iter().map(|&(_, patch)| patch).collect();
            chosen.sort_unstable();
            all.extend(chosen.into_iter().map(|patch| {
                let replacement = replacement(&mut draws, patch, patches);
                CorruptedPatch { patch, replacement, color: colors[patch] }
            }));
        }
        Corrupted::new(patches, each, all)
    }
}

fn replacement(draws: &mut Draws, patch: usize, patches: usize) -> Replacement {
    let (kind, other) = (draws.unit(), draws.unit());
    match kind {
        kind if kind < MASKED => Replacement::Mask,
        // A single patch has no other.
        kind if kind < MASKED + REPLACED && patches > 1 => {
            let other = ((other * (patches - 1) as f64) as usize).min(patches - 2);
            Replacement::Patch(other + usize::from(other >= patch))
        }
        _ => Replacement::Own,
    }
}

/// The classes of the mean colors of all patches of images `[batch, channels, height, width]`, patch by patch: the channels'
/// levels, the first channel's counting most.
pub fn colors(pixels: &[f32], brightness: &Brightness, image: Size, patch: Size) -> Vec<usize> {
    let channels = brightness.channels();
    let (rows, columns) = (image.height / patch.height, image.width / patch.width);
    let mut classes = Vec::with_capacity(pixels.len() / (channels * patch.area()).max(1));
    for pixels in pixels.chunks_exact(channels * image.area()) {
        for place in 0..rows * columns {
            let begin = place / columns * patch.height * image.width + place % columns * patch.width;
            classes.push((0..channels).fold(0, |class, channel| {
                let row = |row: usize| &pixels[channel * image.area() + begin + row * image.width..][..patch.width];
                let sum: f64 = (0..patch.height).flat_map(row).map(|&value| f64::from(value)).sum();
                class * COLOR_LEVELS + level(brightness.at(sum / patch.area() as f64, channel))
            }));
        }
    }
    classes
}

/// The level of a brightness.
fn level(brightness: f64) -> usize {
    // Pixels are finite: images with others are refused where they are decoded.
    ((brightness * COLOR_LEVELS as f64) as usize).min(COLOR_LEVELS - 1)
}

/// The brightness in the middle of each channel's level of a color.
pub fn brightness_of(class: usize, channels: usize) -> Vec<f64> {
    let level = |channel: usize| class / COLOR_LEVELS.pow((channels - 1 - channel) as u32) % COLOR_LEVELS;
    (0..channels).map(|channel| (level(channel) as f64 + 0.5) / COLOR_LEVELS as f64).collect()
}

#[cfg(test)]
mod tests {
    use vitral::image::Preprocess;
    use vitral::image::preprocess::{Channels, Rescale};

    use super::*;

    #[test]
    fn every_image_draws_its_own_half() {
        let rule = Corruption::default();
        let colors: Vec<usize> = (0..4 * 16).collect();
        let drawn = rule.draw(1, 2, 3, 16, &colors);
        assert_eq!((drawn.images(), drawn.of_images().all(|image| image.len() == 8)), (4, true));
        let places = |drawn: &Corrupted| -> Vec<(usize, Replacement)> {
            drawn.of_images().flatten().map(|patch| (patch.patch, patch.replacement)).collect()
        };
        assert_ne!(places(&drawn.part(0..1)), places(&drawn.part(1..2)));
        assert_eq!(rule.draw(1, 2, 5, 16, &colors[32..48]), drawn.part(2..3));
        assert_ne!(rule.draw(1, 3, 5, 16, &colors[32..48]), drawn.part(2..3));
        for (image, drawn) in drawn.of_images().enumerate() {
            assert!(drawn.iter().all(|patch| patch.color == 16 * image + patch.patch));
        }
        let few = [1, 2, 3, 4, 9].map(|patches| rule.of_patches(patches));
        assert_eq!(few, [1, 1, 2, 2, 5]);
    }

    #[test]
    fn eight_tenths_are_masked_and_one_is_replaced_by_another() {
        let (images, patches) = (2000, 10);
        let drawn = Corruption::default().draw(7, 0, 0, patches, &vec![0; images * patches]);
        let (mut masked, mut others, mut own) = (0, [0; 10], 0);
        for patch in drawn.of_images().flatten() {
            match patch.replacement {
                Replacement::Mask => masked += 1,
                Replacement::Patch(other) => {
                    assert_ne!(other, patch.patch);
                    others[other] += 1;
                }
                Replacement::Own => own += 1,
            }
        }
        let share = |count: usize| count as f64 / (images * patches / 2) as f64;
        let replaced = others.iter().sum::<usize>();
        assert!((share(masked) - 0.8).abs() < 0.015 && (share(replaced) - 0.1).abs() < 0.015, "{masked}, {replaced}");
        assert!((share(own) - 0.1).abs() < 0.015 && others.iter().all(|&count| share(count) > 0.006), "{others:?}");
        let alone = Corruption::default().draw(7, 0, 0, 1, &vec![0; images]);
        assert!(alone.of_images().flatten().all(|patch| !matches!(patch.replacement, Replacement::Patch(_))));
    }

    #[test]
    fn colors_are_levels_of_means() {
        let rescale = Some(Rescale::Divide255);
        let preprocess = Preprocess { channels: Channels::Rgb, steps: Vec::new(), rescale, normalize: None };
        let brightness = Brightness::of(&preprocess, 3);
        // One image of 2 × 4 pixels, in two patches: black and white in red, the other channels even.
        let red = [0.0, 1.0, 1.0, 1.0, 0.0, 0.98, 1.0, 1.0];
        let pixels: Vec<f32> = [red, [0.126; 8], [0.124; 8]].concat();
        let found = colors(&pixels, &brightness, Size { height: 2, width: 4 }, Size::square(2));
        assert_eq!(found, [3 * 64 + 8, 7 * 64 + 8]);
        assert_eq!(brightness_of(found[0], 3), [0.4375, 0.1875, 0.0625]);
        let back: Vec<f32> = brightness_of(437, 3).into_iter().map(|value| value as f32).collect();
        assert_eq!(colors(&back, &brightness, Size::square(1), Size::square(1)), [437]);
    }
}
