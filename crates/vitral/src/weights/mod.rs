//! Loads the weight files of many libraries into the parameters of our model.
//!
//! Three independent concerns meet here: the *container* (how a file stores tensors), the *dialect* (how tensors are
//! named and laid out) and the *adaptation* to the model at hand. A fourth, the *description*, defines the model
//! itself: its configuration, preprocessing and labels, from the files that accompany the weights.
//!
//! [`load_description`] reads a path, [`Container::open`] its weight files, [`resolve`] matches both with the model's
//! parameters, and [`Assignment::read`] returns each parameter's values.

pub mod adapt;
pub mod assign;
pub mod catalog;
pub mod container;
pub mod description;
pub mod dialect;
pub mod error;
pub mod export;
#[cfg(feature = "hub")]
pub mod hub;
pub mod inspect;
mod json;
pub mod resample;

/// The optional file in a model's folder with `pixel_values` and the `logits` (or `features`) expected for them.
pub const CHECK_FILE: &str = "vitral-check.safetensors";

pub use assign::{Assignment, PositionAdaptation, ResolveOptions, recognize, resolve};
pub use container::{Container, DataType, TensorView};
pub use description::{Description, PreprocessSource, TextDescription, load_description, load_text_description};
pub use dialect::Dialect;
pub use error::WeightsError;
