//! Corner crops of images, for averaging predictions over several views.

use std::sync::Arc;

use vitral::config::Size;
use vitral::image::preprocess::{Channels, Step};
use vitral::image::resize::Window;
use vitral::image::{Image, Preprocess, RgbImage};

use super::Dataset;
use crate::error::TrainError;
use crate::labeling::Labeling;

/// Position of a crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corner {
    /// Top left.
    TopLeft,
    /// Top right.
    TopRight,
    /// Bottom left.
    BottomLeft,
    /// Bottom right.
    BottomRight,
}

impl Corner {
    /// All four.
    pub const ALL: [Corner; 4] = [Corner::TopLeft, Corner::TopRight, Corner::BottomLeft, Corner::BottomRight];
}

/// A data set whose images are resized according to a model's preprocessing, and then cropped at a corner.
#[derive(Debug)]
pub struct View {
    inner: Arc<dyn Dataset>,
    before: Preprocess,
    crop: Size,
    corner: Corner,
}

impl View {
    /// The images at one corner, and the remaining preprocessing. `None` if the preprocessing does not end with a crop,
    /// so that all views would be the same.
    pub fn of(inner: Arc<dyn Dataset>, preprocess: &Preprocess, corner: Corner) -> Option<(Self, Preprocess)> {
        let (Step::CenterCrop { size, .. }, steps) = preprocess.steps.split_last()? else { return None };
        let before = Preprocess { steps: steps.to_vec(), normalize: None, ..preprocess.clone() };
        let after = Preprocess { steps: preprocess.steps[steps.len()..].to_vec(), ..preprocess.clone() };
        Some((View { inner, before, crop: *size, corner }, after))
    }
}

/// The part of an image at a corner; a side that is too short is kept whole.
fn part(of: Size, crop: Size, corner: Corner) -> Window {
    let (height, width) = (crop.height.min(of.height), crop.width.min(of.width));
    let below = matches!(corner, Corner::BottomLeft | Corner::BottomRight);
    let right = matches!(corner, Corner::TopRight | Corner::BottomRight);
    let top = if below { of.height - height } else { 0 };
    let left = if right { of.width - width } else { 0 };
    Window { top, left, size: Size { height, width } }
}

/// Crops an image at a corner.
fn cut(image: &RgbImage, crop: Size, corner: Corner) -> Option<RgbImage> {
    let Window { top, left, size: Size { height, width } } = part(image.size(), crop, corner);
    let rows = image.pixels().chunks_exact(3 * image.width()).skip(top).take(height);
    let pixels = rows.flat_map(|row| &row[3 * left..3 * (left + width)]).copied().collect();
    RgbImage::new(width, height, pixels).ok()
}

impl Dataset for View {
    fn classes(&self) -> &[String] {
        self.inner.classes()
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn label(&self, index: usize) -> usize {
        self.inner.label(index)
    }

    fn labeling(&self) -> Labeling {
        self.inner.labeling()
    }

    fn labels(&self, index: usize) -> Vec<usize> {
        self.inner.labels(index)
    }

    fn values(&self, index: usize) -> Vec<f32> {
        self.inner.values(index)
    }

    fn name(&self, index: usize) -> String {
        self.inner.name(index)
    }

    fn image_for(&self, index: usize, channels: Channels) -> Result<Image, TrainError> {
        match self.inner.image_for(index, channels)? {
            Image::Rgb(image) => {
                let resized = self.before.image(&image).map_err(vitral::Error::from)?;
                Ok(cut(&resized, self.crop, self.corner).unwrap_or(resized).into())
            }
            Image::Bands(image) => {
                let resized = self.before.bands(&image).map_err(vitral::Error::from)?;
                Ok(resized.cut(part(resized.size(), self.crop, self.corner)).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_are_where_their_names_say() {
        let pixels = (0..5 * 4).flat_map(|i| [i; 3]).collect();
        let image = RgbImage::new(5, 4, pixels).expect("an image");
        let crop = Size { height: 2, width: 3 };
        let first = |corner| cut(&image, crop, corner).expect("a part").pixel(0, 0)[0];
        assert_eq!(Corner::ALL.map(first), [0, 2, 10, 12]);
        let tall = cut(&image, Size { height: 9, width: 3 }, Corner::BottomRight).expect("a part");
        assert_eq!((tall.height(), tall.width(), tall.pixel(0, 0)[0]), (4, 3, 2));
    }
}
