//! The Vision Transformer (ViT) as a library: image to label, features and explanation, with the weights of Hugging Face
//! transformers, timm, torchvision, lucidrains/vit-pytorch and Google's JAX code.
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
//!
//! A [`Model`] is an architecture ([`model::Vit`]), weights, and what the model's own files say about preprocessing and
//! labels. Its methods are grouped by module: classification here, [`features`], [`trace`] (named intermediate tensors),
//! and, with the feature `explain`, `explain`. [`search`] looks for images by their features.
//!
//! # Features
//!
//! All are on by default.
//!
//! - `hub`: `weights::hub`, which pulls models by name; brings TLS.
//! - `explain`: saliency maps, lenses and figures; brings plots.
//! - `embedded-model`: `Model::embedded`, a small model inside the library.
//! - `text`: `text`, the text towers of CLIP and SigLIP, and classes that are described in words; brings tokenizers.

#[doc(hidden)]
pub mod atomic;
pub mod choice;
pub mod config;
pub mod doctor;
#[cfg(feature = "embedded-model")]
mod embedded;
pub mod error;
#[cfg(feature = "explain")]
pub mod explain;
pub mod features;
#[doc(hidden)]
pub mod files;
pub mod image;
pub mod info;
pub mod labels;
mod load;
#[doc(hidden)]
pub mod message;
pub mod model;
#[doc(hidden)]
pub mod nested;
#[doc(hidden)]
pub mod npy;
#[doc(hidden)]
pub mod numbers;
pub mod onnx;
#[doc(hidden)]
pub mod palette;
pub mod pipeline;
mod predict;
pub mod quantize;
mod save;
pub mod search;
#[cfg(feature = "text")]
pub mod text;
pub mod tiles;
#[doc(hidden)]
pub mod timing;
pub mod trace;
pub mod weights;

pub use error::Error;
pub use load::{LoadOptions, Model};
pub use vitral_engine::{Cpu, DType, Device, DeviceError, Precision, Tensor, UnknownPrecision};
