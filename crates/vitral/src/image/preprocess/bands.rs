//! Images of bands: the same steps over floats.

use std::borrow::Cow;

use super::super::{BandImage, ImageError};
use super::{Channels, Halving, Preprocess, Step};
use crate::config::Size;

impl Preprocess {
    /// An image of bands after the steps, in the samples as stored. Every resize is in floating point, whatever arithmetic
    /// the step names for bytes.
    ///
    /// # Errors
    /// If the image has other bands than the model takes, or a step cannot be done.
    pub fn bands<'a>(&self, image: &'a BandImage) -> Result<Cow<'a, BandImage>, ImageError> {
        self.check_channels()?;
        match self.channels {
            Channels::Bands(expected) if expected != image.bands() => {
                return Err(ImageError::Bands { expected, found: image.bands().to_string() });
            }
            Channels::Bands(_) => {}
            Channels::Rgb | Channels::Gray => return Err(ImageError::NotColor { bands: image.bands() }),
        }
        let mut image = Cow::Borrowed(image);
        for step in &self.steps {
            let from = image.size();
            let to = step.size_of(from);
            // Every band is resized as a whole.
            step.check_size(from, Size { height: to.height, width: to.width.saturating_mul(image.bands()) })?;
            match step {
                Step::Resize { filter, .. }
                | Step::ResizeTensor { filter, .. }
                | Step::ResizeNumbers { filter, .. } => {
                    if from != to {
                        image = Cow::Owned(image.resized(to, *filter));
                    }
                }
                Step::Interpolate { .. } => {
                    if from != to {
                        image = Cow::Owned(image.interpolated(to));
                    }
                }
                Step::CenterCrop { fill, halving, .. } => {
                    if *fill != [0; 3] && (from.height < to.height || from.width < to.width) {
                        return Err(ImageError::UnknownStep {
                            place: "preprocessing of bands",
                            key: "fill".into(),
                            found: format!("{fill:?}"),
                            known: "padding with 0".into(),
                        });
                    }
                    if from != to {
                        image = Cow::Owned(cropped(&image, to, *halving));
                    }
                }
            }
        }
        Ok(image)
    }

    /// Scales and normalizes what [`bands`](Self::bands) gives into a tensor of its length.
    pub(super) fn numbers_of_bands(&self, image: &BandImage, tensor: &mut [f32]) {
        for (channel, (plane, numbers)) in image.planes().zip(tensor.chunks_exact_mut(image.size().area())).enumerate()
        {
            for (number, &sample) in numbers.iter_mut().zip(plane) {
                *number = self.normalized(channel, self.scaled_sample(sample, image.full()));
            }
        }
    }
}

/// The center of an image; a side that is too short is padded with 0.
fn cropped(image: &BandImage, to: Size, halving: Halving) -> BandImage {
    let side = |from: usize, to: usize| -> Vec<Option<usize>> {
        let offset = halving.offset(from, to);
        let place = |at: usize| at.checked_add_signed(offset).filter(|&at| at < from);
        (0..to).map(place).collect()
    };
    image.gathered(&side(image.size().height, to.height), &side(image.size().width, to.width))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn steps(channels: serde_json::Value, rescale: serde_json::Value) -> Preprocess {
        let crop = json!({"center-crop": {"size": 2, "halving": "even", "fill": [0, 0, 0]}});
        let normalize = json!({"mean": [0.5, 0.0], "std": [0.5, 1.0]});
        let value = json!({"channels": channels, "steps": [crop], "rescale": rescale, "normalize": normalize});
        Preprocess::from_vitral(&value).expect("our own format")
    }

    #[test]
    fn samples_are_scaled_by_their_type_or_as_said() {
        let size = Size { height: 1, width: 2 };
        let image = BandImage::new(size, 2, vec![0.0, 65535.0, 6553.5, 3.0], 65535.0).expect("an image");
        let apply = |rescale| steps(json!({"bands": 2}), rescale).apply(&image).expect("a tensor");
        // A row of padding below: the image has one row, its half is rounded down.
        assert_eq!(apply(json!("type-range"))[..2], [-1.0, 1.0]);
        assert_eq!(apply(json!("type-range"))[4], 0.1);
        assert_eq!(apply(json!(null))[5], 3.0);
        assert_eq!(apply(json!({"multiply": {"factor": 0.5, "offset": 1.0}}))[5], 2.5);
    }

    #[test]
    fn other_bands_are_an_error_and_zero_bands_no_model() {
        let image = BandImage::new(Size::square(2), 3, vec![0.0; 12], 255.0).expect("an image");
        let fault = steps(json!({"bands": 2}), json!(null)).apply(&image).expect_err("three").to_string();
        assert!(fault.contains("expected an image of 2 bands") && fault.contains("found 3"), "{fault}");
        let none = json!({"channels": {"bands": 0}, "steps": [], "rescale": null, "normalize": null});
        assert!(Preprocess::from_vitral(&none).is_err());
        assert_eq!(steps(json!({"bands": 2}), json!("type-range")).to_string().split(" | ").next(), Some("2 bands"));
    }
}
