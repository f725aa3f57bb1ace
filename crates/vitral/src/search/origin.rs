//! Where features come from. Vectors of two models have nothing to do with each other, even if their widths are equal.

use serde::{Deserialize, Serialize};

use super::SearchError;
use crate::config::Size;
use crate::features::FeatureKind;
use crate::image::preprocess::Channels;
use crate::image::{BandImage, Image, ImageError, Preprocess, RgbImage, SampleRange};
use crate::load::Model;

/// What features were computed with: a model, its pooling, and what images go through on their way to it.
///
/// A model is recognized by what it does, not by its name or its files: its features of a fixed test image are kept, so
/// that a converted or moved model is the same one, and a model of the same name with other weights is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    model: String,
    location: Option<String>,
    pool: FeatureKind,
    precision: String,
    sample_range: String,
    preprocess: Preprocess,
    /// Features of the test image.
    #[serde(skip)]
    pub(super) test: Vec<f32>,
}

/// The largest difference between features of the test image that are of the same model, as a part of their length: in 32
/// bits on any device, and if one of them was computed in fewer.
const SAME: f64 = 1e-3;
const SAME_ROUNDED: f64 = 0.1;

impl Origin {
    /// What features of `model` come from. `location` says where the model is, for whoever uses the index later.
    ///
    /// # Errors
    /// If the model does not give one vector of finite numbers for an image, or does not say how it is preprocessed.
    pub fn of(
        model: &Model,
        pool: FeatureKind,
        sample_range: SampleRange,
        location: Option<String>,
    ) -> Result<Self, SearchError> {
        if pool == FeatureKind::Tokens {
            return Err(SearchError::ManyVectors);
        }
        if pool == FeatureKind::Pooled {
            model.check_pools("feature")?;
        }
        let image = test_image(model.channels()).map_err(crate::Error::from)?;
        let test = model.features(&model.pixels(&[image])?, pool)?.to_vec()?;
        if !test.iter().all(|value| value.is_finite()) {
            return Err(SearchError::NotFinite { name: model.name().to_owned() });
        }
        Ok(Origin {
            model: model.name().to_owned(),
            location,
            pool,
            precision: model.precision().name().to_owned(),
            sample_range: sample_range.to_string(),
            preprocess: model.preprocess()?,
            test,
        })
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Where the model was, as it was given.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// What images are decoded to for the model.
    pub fn channels(&self) -> Channels {
        self.preprocess.channels
    }

    /// The pooling.
    pub fn pool(&self) -> FeatureKind {
        self.pool
    }

    /// The precision of products.
    pub fn precision(&self) -> &str {
        &self.precision
    }

    /// The range of samples that becomes black to white, for images with more than 8 bits per sample.
    pub fn sample_range(&self) -> &str {
        &self.sample_range
    }

    /// Numbers of a feature vector.
    pub fn width(&self) -> usize {
        self.test.len()
    }

    /// Checks that features from `other` may be compared with those from here.
    ///
    /// # Errors
    /// If something is different that changes features; the error says what.
    pub fn check(&self, other: &Origin) -> Result<(), SearchError> {
        match self.difference(other) {
            None => Ok(()),
            Some(difference) => Err(SearchError::OtherModel { difference }),
        }
    }

    fn difference(&self, other: &Origin) -> Option<String> {
        let (ours, theirs) = (&self.model, &other.model);
        if self.pool != other.pool {
            return Some(format!("expected the pooling `{}`, found `{}`", self.pool.name(), other.pool.name()));
        }
        if self.width() != other.width() {
            let (expected, found) = (self.width(), other.width());
            return Some(format!("expected {expected} numbers, of `{ours}`, found {found}, of `{theirs}`"));
        }
        if self.preprocess != other.preprocess {
            return Some(format!(
                "`{ours}` was given images after other preprocessing than `{theirs}` describes; give the model, and \
                 `--backend`, as when the index was made"
            ));
        }
        if self.sample_range != other.sample_range {
            let (expected, found) = (&self.sample_range, &other.sample_range);
            return Some(format!("expected images read with the sample range `{expected}`, found `{found}`"));
        }
        let rounded = self.precision != other.precision || self.precision != "f32";
        let allowed = if rounded { SAME_ROUNDED } else { SAME };
        let apart = apart(&self.test, &other.test);
        (apart > allowed || rounded && ours != theirs).then(|| {
            let weights = if ours == theirs { " with other weights" } else { "" };
            format!(
                "expected `{ours}`, found `{theirs}`{weights} (of a test image, the features differ by {:.2} % of their \
                 length); give the model that the index was made with",
                100.0 * apart
            )
        })
    }
}

/// The distance of two vectors as a part of the first one's length.
fn apart(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let length: f64 = a.iter().map(|&a| square(a.into())).sum();
    let distance: f64 = a.iter().zip(b).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    (distance / length.max(1e-24)).sqrt()
}

/// An image with edges, areas and gradients in all colors or bands, 240 × 320, from whole numbers alone.
fn test_image(channels: Channels) -> Result<Image, ImageError> {
    const SIZE: (usize, usize) = (240, 320);
    let pixel = |row: usize, column: usize, channel: usize| {
        let cell = (row / 40) * 8 + column / 40;
        let area = (cell * 97 + channel * 59) * 31 % 256;
        let slope = (row * (channel + 1) + column * 3usize.saturating_sub(channel)) / 5 % 256;
        let edge = if (row + 2 * column) % 53 < 5 { 255 } else { 0 };
        ((3 * area + 2 * slope + edge) / 6) as u8
    };
    if let Channels::Bands(bands) = channels {
        let plane = |band: usize| (0..SIZE.0 * SIZE.1).map(move |at| f32::from(pixel(at / SIZE.1, at % SIZE.1, band)));
        let size = Size { height: SIZE.0, width: SIZE.1 };
        return Ok(BandImage::new(size, bands, (0..bands).flat_map(plane).collect(), 255.0)?.into());
    }
    let pixels = (0..SIZE.0)
        .flat_map(|row| (0..SIZE.1).flat_map(move |column| (0..3).map(move |channel| pixel(row, column, channel))));
    Ok(RgbImage::new(SIZE.1, SIZE.0, pixels.collect())?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(model: &str, precision: &str, test: Vec<f32>) -> Origin {
        let preprocess = serde_json::from_value(serde_json::json!({
            "channels": "rgb", "steps": [], "rescale": null, "normalize": null
        }));
        Origin {
            model: model.to_owned(),
            location: None,
            pool: FeatureKind::Pooled,
            precision: precision.to_owned(),
            sample_range: "full".to_owned(),
            preprocess: preprocess.expect("our own format"),
            test,
        }
    }

    #[test]
    fn a_model_is_recognized_by_its_features() {
        let own = origin("a", "f32", vec![3.0, 4.0]);
        assert_eq!(own.difference(&origin("moved", "f32", vec![3.0, 4.0001])), None);
        assert_eq!(own.difference(&origin("a", "bf16", vec![3.1, 4.0])), None);
        for (other, said) in [
            (origin("a", "f32", vec![3.1, 4.0]), "with other weights"),
            (origin("b", "bf16", vec![3.0, 4.0]), "found `b`"),
            (origin("b", "f32", vec![3.0, 4.0, 0.0]), "expected 2 numbers"),
            (Origin { pool: FeatureKind::Mean, ..own.clone() }, "the pooling `pooled`, found `mean`"),
            (Origin { sample_range: "auto".to_owned(), ..own.clone() }, "`full`, found `auto`"),
        ] {
            let difference = own.difference(&other).unwrap_or_default();
            assert!(difference.contains(said), "{difference}");
        }
    }
}
