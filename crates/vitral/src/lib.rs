//! The Vision Transformer as a library: image to label, features, explanation.

pub mod config;
pub mod image;
pub mod model;
pub mod weights;
