//! Held-out images beside what a model predicts of their hidden patches.

use image::RgbImage;
use vitral::config::Size;
use vitral::model::{Corrupted, Replacement, Visible};
use vitral_engine::Tensor;

use super::hiding::Hiding;
use crate::error::TrainError;
use crate::hidden::{Pretraining, Removal, brightness_of, moments};
use crate::loss::argmax;
use crate::step::{Batch, Hidden};

/// White pixels between images.
const GAP: usize = 2;
/// The brightness of what is hidden.
const GRAY: f64 = 128.0 / 255.0;

/// Images on their way to a drawing.
pub(super) struct Drawn<'a> {
    pub(super) hiding: &'a Hiding,
    pub(super) batch: &'a Batch,
    /// Pixels of all patches or logits of the corrupted ones, as [`super::evaluation::predicted`] gives them.
    pub(super) predicted: &'a Tensor,
}

/// A sample of a drawing.
struct Sample {
    /// The image, from the top.
    image: usize,
    /// Which drawing of it, from the left.
    column: usize,
    patch: usize,
    /// The pixel in the patch, counted row by row.
    cell: usize,
    channel: usize,
}

impl Drawn<'_> {
    /// A PNG with a row for each image. `None` for images that are neither gray nor in color.
    ///
    /// # Errors
    /// If the device fails, or the PNG cannot be made.
    pub(super) fn png(&self) -> Result<Option<Vec<u8>>, TrainError> {
        if !matches!(self.channels(), 1 | 3) {
            return Ok(None);
        }
        let (pixels, predicted) = (self.batch.pixels.to_vec()?, self.predicted.to_vec()?);
        let drawing = match (&self.hiding.rule, &self.batch.hidden) {
            (Pretraining::MaskedAutoencoder(rule), Some(Hidden::AllBut(visible))) => {
                self.reconstructions(rule, visible, &pixels, &predicted)
            }
            (Pretraining::MaskedPatches(_), Some(Hidden::Embeddings(corrupted))) => {
                self.colors(corrupted, &pixels, &predicted)
            }
            _ => unreachable!("a batch of images, with what is hidden of them"),
        };
        let mut png = Vec::new();
        let written = drawing.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png);
        let fault = |error: image::ImageError| TrainError::Recipe { path: "drawing".into(), fault: error.to_string() };
        written.map(|()| Some(png)).map_err(fault)
    }

    fn channels(&self) -> usize {
        self.batch.pixels.extent(1)
    }

    fn size(&self) -> Size {
        Size { height: self.batch.pixels.extent(2), width: self.batch.pixels.extent(3) }
    }

    /// Each image whole, with its hidden patches in gray, and with them as predicted, with the brightness and contrast of the true
    /// ones if the model does not predict those.
    fn reconstructions(&self, rule: &Removal, visible: &Visible, pixels: &[f32], predicted: &[f32]) -> RgbImage {
        let (channels, seen) = (self.channels(), visible.seen());
        let plain = Removal { normalize_patches: false, ..*rule };
        let truth = plain.targets(pixels, channels, self.size(), self.hiding.patch);
        let each = channels * self.hiding.patch.area();
        let scales: Vec<(f64, f64)> = match rule.normalize_patches {
            true => truth.chunks_exact(each).map(moments).collect(),
            false => vec![(0.0, 1.0); truth.len() / each],
        };
        let patches = truth.len() / each / seen.len();
        self.drawing(3, |sample| {
            let patch = sample.image * patches + sample.patch;
            let at = patch * each + sample.cell * channels + sample.channel;
            let hidden = seen[sample.image].binary_search(&sample.patch).is_err();
            let value = match sample.column {
                1 if hidden => return GRAY,
                2 if hidden => {
                    let (mean, deviation) = scales[patch];
                    f64::from(predicted[at]) * deviation + mean
                }
                _ => f64::from(truth[at]),
            };
            self.hiding.brightness.at(value, sample.channel)
        })
    }

    /// Each image whole; as the model gets it, with masked patches in gray; and with its corrupted patches in their true and in their
    /// predicted colors.
    fn colors(&self, corrupted: &Corrupted, pixels: &[f32], logits: &[f32]) -> RgbImage {
        let (channels, size, patch) = (self.channels(), self.size(), self.hiding.patch);
        let of_images: Vec<_> = corrupted.of_images().collect();
        let classes = logits.len() / of_images.iter().map(|image| image.len()).sum::<usize>().max(1);
        let predicted: Vec<usize> = logits.chunks_exact(classes).map(argmax).collect();
        let columns = size.width / patch.width;
        self.drawing(4, |sample| {
            let of_patch = |from: usize| {
                let y = from / columns * patch.height + sample.cell / patch.width;
                let x = from % columns * patch.width + sample.cell % patch.width;
                let at = ((sample.image * channels + sample.channel) * size.height + y) * size.width + x;
                self.hiding.brightness.at(f64::from(pixels[at]), sample.channel)
            };
            let image = of_images[sample.image];
            let Ok(index) = image.binary_search_by_key(&sample.patch, |corrupted| corrupted.patch) else {
                return of_patch(sample.patch);
            };
            match (sample.column, image[index].replacement) {
                (1, Replacement::Mask) => GRAY,
                (1, Replacement::Patch(other)) => of_patch(other),
                (2, _) => brightness_of(image[index].color, channels)[sample.channel],
                (3, _) => brightness_of(predicted[sample.image * image.len() + index], channels)[sample.channel],
                _ => of_patch(sample.patch),
            }
        })
    }

    /// A drawing with `columns` images in each row, whose brightness, from 0 to 1, is given for every sample.
    fn drawing(&self, columns: usize, brightness: impl Fn(Sample) -> f64) -> RgbImage {
        let (Size { height, width }, patch, channels) = (self.size(), self.hiding.patch, self.channels());
        let rows = self.batch.pixels.extent(0);
        let full = |count: usize, extent: usize| (count * extent + count.saturating_sub(1) * GAP) as u32;
        let white = image::Rgb([255; 3]);
        RgbImage::from_fn(full(columns, width), full(rows, height), |x, y| {
            let [(column, x), (image, y)] = [(x as usize, width), (y as usize, height)]
                .map(|(at, extent)| (at / (extent + GAP), at % (extent + GAP)));
            // What does not fill a patch is seen by nobody.
            if y >= height / patch.height * patch.height || x >= width / patch.width * patch.width {
                return white;
            }
            let place = y / patch.height * (width / patch.width) + x / patch.width;
            let cell = y % patch.height * patch.width + x % patch.width;
            let level = |channel: usize| {
                let channel = channel.min(channels - 1);
                let value = brightness(Sample { image, column, patch: place, cell, channel });
                (value * 255.0).round().clamp(0.0, 255.0) as u8
            };
            image::Rgb([level(0), level(1), level(2)])
        })
    }
}
