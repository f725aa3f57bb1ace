//! From files that other libraries wrote to parameters of our model.
//!
//! Three independent things meet here: the *container* (how tensors lie in a file), the *dialect* (what they are called
//! and how they are laid out) and the *adaptation* to the model at hand. A fourth, the *description*, says what the model
//! is: its configuration, preprocessing and labels, from the files that travel with the weights.
//!
//! [`load_description`] reads a path, [`Container::open`] its weight files, [`resolve`] joins both with the parameters the
//! model asks for, and [`Assignment::read`] gives each parameter's values.

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
pub mod resample;

/// The file in which a model's folder may keep `pixel_values` and the `logits` (or `features`) they gave.
pub const CHECK_FILE: &str = "vitral-check.safetensors";

pub use assign::{Assignment, PositionAdaptation, ResolveOptions, recognize, resolve};
pub use container::{Container, DataType, TensorView};
pub use description::{Description, PreprocessSource, load_description};
pub use dialect::Dialect;
pub use error::WeightsError;
