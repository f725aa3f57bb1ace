//! The Vision Transformer as a library: image to label, features, explanation.
//!
//! ```no_run
//! use vitral::{Device, LoadOptions, Model};
//!
//! let model = Model::load("google/vit-base-patch16-224", &LoadOptions::default(), &Device::cpu(0))?;
//! for answer in model.classify_bytes(&std::fs::read("cat.jpg")?, 5)? {
//!     println!("{:5.1} %  {}", 100.0 * answer.probability, answer.label);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod atomic;
pub mod config;
pub mod doctor;
#[cfg(feature = "embedded-model")]
mod embedded;
pub mod error;
#[cfg(feature = "explain")]
pub mod explain;
pub mod features;
pub mod image;
pub mod labels;
mod load;
pub mod model;
pub mod npy;
pub mod numbers;
pub mod pipeline;
mod predict;
mod save;
pub mod timing;
pub mod trace;
pub mod weights;

pub use error::Error;
pub use load::{LoadOptions, Model};
pub use vitral_engine::{Cpu, DType, Device, DeviceError, Tensor};
