//! An image to be explained, and the target of the explanation.

use vitral_engine::Tensor;

use super::{ExplainError, Layout};
use crate::error::Error;
use crate::image::{AsImage, Image, ImageView, Preprocess, RgbImage};
use crate::labels::{Ranked, top};
use crate::load::Model;

/// One image, prepared for the model and for display.
#[derive(Clone, Debug)]
pub struct InputImage {
    /// Its name.
    pub name: String,
    /// The model's view of the image: after resizing and cropping.
    pub shown: RgbImage,
    /// `[1, channels, height, width]`.
    pub pixels: Tensor,
    /// The layout of its tokens.
    pub layout: Layout,
    original: crate::config::Size,
}

/// What to explain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aim {
    /// The most likely class.
    #[default]
    Predicted,
    /// This class.
    Class(usize),
    /// The pooled features: how much of their own direction is left. For models without a classifier.
    Feature,
}

/// The target of an explanation.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The logit of a class.
    Class(usize),
    /// The pooled features along this direction, a unit vector `[width]`.
    Feature(Vec<f32>),
}

/// The model's prediction for an image.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The top classes; empty without a classifier.
    pub ranked: Vec<Ranked>,
    /// The target; `None` if it would be a class and there are none.
    pub target: Option<Target>,
    /// The target in words.
    pub explained: String,
}

/// An image that is preprocessed, and not yet on the model's device.
#[derive(Clone, Debug)]
pub struct PreparedImage {
    shown: RgbImage,
    pixels: Vec<f32>,
    original: crate::config::Size,
}

impl PreparedImage {
    /// Preprocesses an image. Of an image of bands, the first three are shown.
    ///
    /// # Errors
    /// If the image has other channels, or one of the steps cannot be done.
    pub fn new(preprocess: &Preprocess, image: &impl AsImage) -> Result<Self, Error> {
        let (shown, pixels) = (preprocess.image(image)?, preprocess.apply(image)?);
        Ok(PreparedImage { shown, pixels, original: image.view().size() })
    }
}

impl InputImage {
    /// Takes an image that is preprocessed as the model's files describe to the model's device.
    ///
    /// # Errors
    /// If the model does not take images of its size, or the device has no room for it.
    pub fn from_prepared(model: &Model, name: &str, image: PreparedImage) -> Result<Self, Error> {
        let PreparedImage { shown, pixels, original } = image;
        let (size, config) = (shown.size(), model.vit.config());
        let layout = Layout::new(config, size, model.vit.grid(size)?);
        let shape = [1, config.channels, size.height, size.width];
        let pixels = model.parameters.device().upload(shape, &pixels)?;
        Ok(InputImage { name: name.to_owned(), shown, pixels, layout, original })
    }

    /// Prepares an image as specified by the model's files. Of an image of bands, the first three are shown.
    ///
    /// # Errors
    /// If they do not say how, or the image cannot be resized to the model's size.
    pub fn new(model: &Model, name: &str, image: &impl AsImage) -> Result<Self, Error> {
        Self::showing(model, name, image, None)
    }

    /// The same with other bands shown as red, green and blue, by their numbers from 0. Maps do not depend on them.
    ///
    /// # Errors
    /// As [`InputImage::new`]; if the image does not have such bands, or is not one of bands.
    pub fn showing(model: &Model, name: &str, image: &impl AsImage, bands: Option<[usize; 3]>) -> Result<Self, Error> {
        let preprocess = model.preprocess()?;
        let mut prepared = PreparedImage::new(&preprocess, image)?;
        match (image.view(), bands) {
            (ImageView::Bands(image), Some(bands)) => prepared.shown = preprocess.bands(image)?.shown(bands)?,
            (ImageView::Rgb(_), Some(_)) => return Err(ExplainError::NoBands { image: name.to_owned() }.into()),
            (_, None) => {}
        }
        Self::from_prepared(model, name, prepared)
    }

    /// A window of a larger image, with preprocessing of its own.
    pub(super) fn of_window(
        model: &Model,
        preprocess: &Preprocess,
        window: &Image,
        layout: Layout,
    ) -> Result<Self, Error> {
        let (shown, pixels) = (preprocess.image(window)?, preprocess.apply(window)?);
        let shape = [1, preprocess.channels.count(), layout.image.height, layout.image.width];
        let pixels = model.parameters.device().upload(shape, &pixels)?;
        Ok(InputImage { name: String::new(), shown, pixels, layout, original: window.size() })
    }

    /// The patch that contains a pixel of the original image: column `x`, row `y`, from 0.
    ///
    /// # Errors
    /// If the pixel is outside, or is cropped away.
    pub fn patch_at(&self, model: &Model, [x, y]: [usize; 2]) -> Result<usize, Error> {
        let image = || self.name.clone();
        if x >= self.original.width || y >= self.original.height {
            return Err(ExplainError::Outside { image: image(), x, y, size: self.original }.into());
        }
        let seen = model.preprocess()?.locate(self.original, [y, x]);
        Ok(self.layout.patch_at(seen.ok_or_else(|| ExplainError::Cropped { image: image(), x, y })?))
    }
}

impl Model {
    /// The index of a class given by its name, by a part of its name between commas, or by its index.
    ///
    /// # Errors
    /// If there is no such class; the error names some similar ones.
    pub fn class(&self, asked: &str) -> Result<usize, Error> {
        self.check_classifies()?;
        let classes = self.vit.config().classes;
        let wanted = asked.trim().to_lowercase();
        let names = self.labels.names().unwrap_or_default();
        let has = |name: &String| name.to_lowercase().split(',').any(|part| part.trim() == wanted);
        let exact = names.iter().position(|name| name.to_lowercase() == wanted).or_else(|| names.iter().position(has));
        let numbered = || wanted.parse().ok().filter(|&class: &usize| class < classes);
        exact.or_else(numbered).ok_or_else(|| {
            let mut near: Vec<(usize, &String)> =
                names.iter().map(|name| (apart(&name.to_lowercase(), &wanted), name)).collect();
            near.sort_by_key(|(apart, _)| *apart);
            let near: Vec<String> = near.iter().take(5).map(|(_, name)| format!("`{name}`")).collect();
            let near = match near.len() {
                0 => ", 0 to ".to_owned() + &(classes - 1).to_string(),
                _ => format!(", among them {}", near.join(", ")),
            };
            ExplainError::Class { model: self.name.clone(), asked: asked.to_owned(), classes, near }.into()
        })
    }

    /// Runs the model on an image and determines the target.
    ///
    /// # Errors
    /// If the model does not pool its tokens, or if a class is requested and the model has no classifier.
    pub fn explained(&self, input: &InputImage, aim: Aim, count: usize) -> Result<Prediction, Error> {
        let output = self.run(&input.pixels, None)?;
        if output.features.shape().len() != 2 {
            // There is no target, but methods without one, such as attention, still work.
            return match aim {
                Aim::Predicted => Ok(Prediction {
                    ranked: Vec::new(),
                    target: None,
                    explained: "nothing: the model does not pool its tokens".to_owned(),
                }),
                _ => Err(ExplainError::PerToken { model: self.name.clone() }.into()),
            };
        }
        let ranked = match &output.logits {
            // A projection to an embedding has logits, too, but no classes.
            Some(logits) if self.check_classifies().is_ok() => {
                top(&logits.to_vec()?, count.max(1), &self.labels, self.vit.config().problem)
            }
            _ => Vec::new(),
        };
        let named = |class: usize| format!("class `{}`", self.labels.name(class));
        let (target, explained) = match aim {
            Aim::Class(class) => {
                self.check_classifies()?;
                (Some(Target::Class(class)), named(class))
            }
            Aim::Predicted => match ranked.first() {
                Some(best) => (Some(Target::Class(best.class)), named(best.class)),
                None => (None, "nothing: the model has no classifier".to_owned()),
            },
            Aim::Feature => {
                let feature = output.features.to_vec()?;
                let length = feature.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
                let direction = feature.iter().map(|x| (f64::from(*x) / length) as f32).collect();
                (Some(Target::Feature(direction)), "the pooled features".to_owned())
            }
        };
        Ok(Prediction { ranked, target, explained })
    }
}

/// The edit distance between two words; a word that contains the other is close.
fn apart(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (before + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            before = std::mem::replace(&mut row[j + 1], next);
        }
    }
    let held = a.contains(&b.iter().collect::<String>());
    row[b.len()] / if held { 4 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_words_are_close() {
        assert_eq!(apart("tabby", "tabby"), 0);
        assert_eq!(apart("tabby", "tably"), 1);
        assert_eq!(apart("abc", ""), 0);
        assert!(apart("egyptian cat", "cat") < apart("dog", "cat"));
    }
}
