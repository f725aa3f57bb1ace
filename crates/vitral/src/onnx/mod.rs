//! Writes a model as an ONNX graph, for the runtimes that read that format.
//!
//! [`convert`] goes from the files of any model that is read to one `.onnx` file; [`export`] takes a model that is
//! already loaded. A graph has the input `pixel_values` `[batch, channels, height, width]`, of any batch and one image
//! size, and the outputs `features` and, where there is a head, `logits`. It is built from the configuration and from
//! the parameters by their names, as `model` builds its own forward pass: one file here for each file there.

mod attention;
mod attribute;
mod block;
mod build;
mod error;
mod export;
mod graph;
mod head;
mod initializer;
mod inspect;
#[cfg(test)]
mod interpreter;
mod layers;
mod metadata;
mod operations;
mod options;
mod patches;
mod proto;
mod resnet;
mod resnet_d;
mod shapes;
#[cfg(test)]
mod tests;
mod tokens;
mod write;

pub use error::OnnxError;
pub use export::{Exported, convert, export};
pub use inspect::{Contents, inspect};
pub use options::{OnnxOptions, Opset};
