//! What the protocol says about the server and its models.

use vitral::config::Pooling;

use super::{IMAGES, OutputName, PIXELS};
use crate::runner::Runner;

/// The server's name.
pub(crate) const SERVER: &str = "vitral";
/// What runs the models.
pub(crate) const PLATFORM: &str = "vitral";
/// The extensions of the protocol that the server speaks.
pub(crate) const EXTENSIONS: [&str; 6] =
    ["binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics", "parameters"];

/// A tensor of a model; the first dimension is the number of images, and -1 is any number.
#[derive(Clone, Debug)]
pub(crate) struct TensorShape {
    pub(crate) name: &'static str,
    pub(crate) datatype: &'static str,
    pub(crate) shape: Vec<i64>,
}

/// The inputs that a model takes, of which a request has one.
pub(crate) fn inputs(runner: &Runner) -> Vec<TensorShape> {
    let config = runner.model().vit().config();
    let size = config.image_size;
    let pixels = vec![-1, config.channels as i64, size.height as i64, size.width as i64];
    vec![
        TensorShape { name: IMAGES, datatype: "BYTES", shape: vec![-1] },
        TensorShape { name: PIXELS, datatype: "FP32", shape: pixels },
    ]
}

/// The outputs that a model has.
pub(crate) fn outputs(runner: &Runner) -> Vec<TensorShape> {
    let config = runner.model().vit().config();
    OutputName::of(runner)
        .into_iter()
        .map(|name| {
            let width = match name {
                OutputName::Features => runner.features().last().copied().unwrap_or(0),
                _ => config.classes,
            };
            let tokens = (config.pooling == Pooling::None).then_some(-1);
            let shape = [-1].into_iter().chain(tokens).chain([width as i64]).collect();
            TensorShape { name: name.name(), datatype: "FP32", shape }
        })
        .collect()
}
