//! What can be wrong with a wish for an explanation.

use crate::config::Size;

/// A wish that a model or an image cannot fulfill.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// A block that is not there.
    #[error("layer {asked} is not there: the model `{model}` has layers 0 to {last}, from the input to the output")]
    Layer {
        /// The model.
        model: String,
        /// What was asked for.
        asked: usize,
        /// The last there is.
        last: usize,
    },
    /// A head that is not there.
    #[error("head {asked} is not there: the model `{model}` has heads 0 to {last} in each layer")]
    Head {
        /// The model.
        model: String,
        /// What was asked for.
        asked: usize,
        /// The last there is.
        last: usize,
    },
    /// A pixel outside the image.
    #[error("pixel {x},{y} is outside `{image}`, which is {} wide and {} high; count from 0 at the top left", size.width, size.height)]
    Outside {
        /// The image.
        image: String,
        /// Column.
        x: usize,
        /// Row.
        y: usize,
        /// The image's size.
        size: Size,
    },
    /// A pixel that preprocessing crops away.
    #[error("pixel {x},{y} of `{image}` is cropped away before the model sees it; choose one nearer to the center")]
    Cropped {
        /// The image.
        image: String,
        /// Column.
        x: usize,
        /// Row.
        y: usize,
    },
    /// A class that is not there.
    #[error("class `{asked}` is not there: the model `{model}` has {classes} classes{near}")]
    Class {
        /// The model.
        model: String,
        /// What was asked for.
        asked: String,
        /// How many there are.
        classes: usize,
        /// Some that are.
        near: String,
    },
    /// A class is asked of a model that has none.
    #[error(
        "`{method}` explains a class, and the model `{model}` has no classifier; explain its pooled feature with \
         `--target feature`, or use a method that needs no class: attention, rollout, dino, patch, eigencam, pca"
    )]
    NoClass {
        /// The method.
        method: String,
        /// The model.
        model: String,
    },
    /// A model that pools nothing.
    #[error(
        "the model `{model}` does not pool its tokens: expected one answer for each image to explain, found one for each \
         token; use a model that pools, or a method that explains no answer: attention, rollout, dino, patch, eigencam, pca"
    )]
    PerToken {
        /// The model.
        model: String,
    },
    /// A figure of something that the model does not have.
    #[error("the model `{model}` has no {what}; leave out `{figure}`")]
    Missing {
        /// The model.
        model: String,
        /// What is missing.
        what: &'static str,
        /// The figure.
        figure: &'static str,
    },
    /// A figure over more images than there are.
    #[error("`{figure}` needs at least {expected} images of one size, found {found}; name a folder")]
    TooFew {
        /// The figure.
        figure: &'static str,
        /// How many it takes.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// An image of results could not be made.
    #[error("an image could not be drawn: {0}")]
    Drawing(String),
}
