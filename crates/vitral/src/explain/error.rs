//! Errors in requests for explanations.

use crate::config::Size;

/// A request that a model or an image cannot satisfy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The caller stopped the work.
    #[error("the map was stopped before it was finished")]
    Stopped,
    /// The layer does not exist.
    #[error("layer {asked} does not exist: the model `{model}` has layers 0 to {last}, from the input to the output")]
    Layer {
        /// The model.
        model: String,
        /// The requested layer.
        asked: usize,
        /// The last layer.
        last: usize,
    },
    /// The head does not exist.
    #[error("head {asked} does not exist: the model `{model}` has heads 0 to {last} in each layer")]
    Head {
        /// The model.
        model: String,
        /// The requested head.
        asked: usize,
        /// The last head.
        last: usize,
    },
    /// Bands were asked to be shown of an image in color.
    #[error(
        "`{image}`: expected an image of bands to choose from, found one in color, as the model takes; leave the bands out"
    )]
    NoBands {
        /// The image.
        image: String,
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
    /// The pixel is removed by the crop in preprocessing.
    #[error("pixel {x},{y} of `{image}` is cropped away before the model sees it; choose one nearer to the center")]
    Cropped {
        /// The image.
        image: String,
        /// Column.
        x: usize,
        /// Row.
        y: usize,
    },
    /// The class does not exist.
    #[error("class `{asked}` does not exist: the model `{model}` has {classes} classes{near}")]
    Class {
        /// The model.
        model: String,
        /// The requested class.
        asked: String,
        /// Number of classes.
        classes: usize,
        /// Some similar classes.
        near: String,
    },
    /// A class is requested from a model without a classifier.
    #[error(
        "`{method}` explains a class, and the model `{model}` has no classifier; explain its pooled features with \
         `--target feature`, or use a method that needs no class: attention, rollout, dino, patch, eigencam, pca"
    )]
    NoClass {
        /// The method.
        method: String,
        /// The model.
        model: String,
    },
    /// A model that does not pool its tokens.
    #[error(
        "the model `{model}` does not pool its tokens: expected one output per image to explain, found one per token; \
         use a model that pools, or a method without a target: attention, rollout, dino, patch, eigencam, pca"
    )]
    PerToken {
        /// The model.
        model: String,
    },
    /// A figure that needs something the model does not have.
    #[error("the model `{model}` has no {what}; leave out `{figure}`")]
    Missing {
        /// The model.
        model: String,
        /// What is missing.
        what: &'static str,
        /// The figure.
        figure: &'static str,
    },
    /// A figure that needs more images than there are.
    #[error("`{figure}` needs at least {expected} images of one size, found {found}; name a folder")]
    TooFew {
        /// The figure.
        figure: &'static str,
        /// Number of images it needs.
        expected: usize,
        /// Number of images found.
        found: usize,
    },
    /// A result could not be drawn.
    #[error("an image could not be drawn: {0}")]
    Drawing(String),
}
