//! From bytes to the tensor a model was trained on.
//!
//! [`decode`](decode::decode) reads any common format into an upright [`RgbImage`], [`resize`](resize::resize)
//! resamples it like Pillow, and [`Preprocess`] holds every choice a checkpoint makes about its input: size, filter,
//! crop, scale, mean and standard deviation. The choices are read from the model's own files
//! ([`Preprocess::from_huggingface`], [`Preprocess::from_timm`], [`Preprocess::from_torchvision`]) and never assumed. Whose
//! arithmetic does it is a choice of the caller's, where a library has two ([`Backend`]).
//!
//! Models that take other bands than color get a [`BandImage`]: [`decode_for`] reads what a model's [`Channels`](preprocess::Channels)
//! ask for, and [`Image`] is either kind.

mod any;
mod arrays;
mod as_stored;
pub mod bands;
pub mod decode;
mod depth;
pub mod error;
mod foreign;
mod format;
mod jpeg;
mod limits;
pub mod mask;
mod options;
mod orientation;
pub mod preprocess;
pub mod resize;
mod rgb;
pub mod statistics;
mod tiff;

pub use any::{AsImage, Image, ImageView};
pub use bands::BandImage;
pub use decode::{Decoded, decode, decode_for, decode_with, open, open_for, open_with};
pub use depth::{Note, SampleRange};
pub use error::ImageError;
pub use format::Format;
pub use limits::Limits;
pub use options::DecodeOptions;
pub use preprocess::{Backend, Preprocess};
pub use resize::{Filter, resize};
pub use rgb::RgbImage;
