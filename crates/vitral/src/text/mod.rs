//! Words beside images: the text tower of a CLIP or SigLIP model, and classes that are described in words.
//!
//! A model that was trained on pairs of images and texts puts both into one space. [`TextModel`] gives the vectors of texts
//! there; [`TextClasses`] makes the classes of a classifier out of them, so that a model classifies what it was never trained
//! to tell apart (zero-shot classification, arXiv:2103.00020).

mod classes;
mod json;
mod sentencepiece;
mod tokenizer;
mod tower;

pub use classes::{PLACE, TextClasses, TextLabels};
pub use tokenizer::Tokenizer;
pub use tower::TextModel;
