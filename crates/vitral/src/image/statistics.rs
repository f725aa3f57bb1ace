//! Mean and standard deviation by band, over any number of images.

use std::borrow::Cow;

use super::preprocess::Channels;
use super::{AsImage, BandImage, ImageError, ImageView, Preprocess};

/// The mean and the standard deviation of every band of the images so far, in the numbers that preprocessing normalizes: after
/// the scale, before mean and standard deviation. Every pixel counts the same.
///
/// Sums are those of Chan, Golub and LeVeque (1979) in double precision: each image is summed by itself, around its own mean,
/// and joined with the ones before it.
#[derive(Clone, Debug, PartialEq)]
pub struct BandStatistics {
    scale: Preprocess,
    images: u64,
    bands: Vec<Moments>,
}

/// A count, a mean, and the sum of the squared differences from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (count, sum) = values.clone().fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
        let mean = if count > 0.0 { sum / count } else { 0.0 };
        Moments { count, mean, squares: values.map(|value| (value - mean).powi(2)).sum() }
    }

    fn joined(self, other: Self) -> Self {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let apart = other.mean - self.mean;
        Moments {
            count,
            mean: self.mean + apart * other.count / count,
            squares: self.squares + other.squares + apart * apart * self.count * other.count / count,
        }
    }
}

impl BandStatistics {
    /// No images yet. Samples are scaled as by this preprocessing.
    pub fn new(preprocess: &Preprocess) -> Self {
        let bands = vec![Moments::default(); preprocess.channels.count()];
        let scale = Preprocess { steps: Vec::new(), normalize: None, ..preprocess.clone() };
        BandStatistics { scale, images: 0, bands }
    }

    /// Adds an image.
    ///
    /// # Errors
    /// If it has other bands than the ones before it.
    pub fn add(&mut self, image: &impl AsImage) -> Result<(), ImageError> {
        let image = match image.view() {
            ImageView::Bands(image) => Cow::Borrowed(image),
            ImageView::Rgb(image) if self.scale.channels == Channels::Gray => {
                let gray = image.to_gray().into_iter().map(f32::from).collect();
                Cow::Owned(BandImage::new(image.size(), 1, gray, 255.0)?)
            }
            ImageView::Rgb(image) => Cow::Owned(BandImage::from_rgb(image)),
        };
        let (expected, found) = (self.bands.len(), image.bands());
        if expected != found {
            return Err(ImageError::Bands { expected, found: found.to_string() });
        }
        for (moments, plane) in self.bands.iter_mut().zip(image.planes()) {
            let scaled = |&sample: &f32| f64::from(self.scale.scaled_sample(sample, image.full()));
            *moments = moments.joined(Moments::of(plane.iter().map(scaled)));
        }
        self.images += 1;
        Ok(())
    }

    /// Number of images.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// The mean of every band.
    pub fn mean(&self) -> Vec<f32> {
        self.bands.iter().map(|band| band.mean as f32).collect()
    }

    /// The standard deviation of every band, over all pixels.
    pub fn std(&self) -> Vec<f32> {
        self.bands.iter().map(|band| (band.squares / band.count.max(1.0)).sqrt() as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Size;

    #[test]
    fn images_of_different_sizes_count_by_their_pixels() {
        let value = json!({"channels": {"bands": 1}, "steps": [], "rescale": null, "normalize": null});
        let mut found = BandStatistics::new(&Preprocess::from_vitral(&value).expect("our own format"));
        let mut all = Vec::new();
        for (side, offset) in [(1, 1e6f32), (3, 1e6), (2, 1e6 + 50.0)] {
            let values: Vec<f32> = (0..side * side).map(|at| offset + at as f32).collect();
            all.extend(values.iter().copied().map(f64::from));
            found.add(&BandImage::new(Size::square(side), 1, values, 1.0).expect("an image")).expect("one band");
        }
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let std = (all.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
        assert_eq!((found.images(), found.mean(), found.std()), (3, vec![mean as f32], vec![std as f32]));
        assert!(found.add(&BandImage::new(Size::square(1), 2, vec![0.0; 2], 1.0).expect("an image")).is_err());
    }
}
