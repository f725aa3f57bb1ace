//! A whole Vision Transformer as a graph: pixels in, features and logits out.

use vitral_engine::DType;

use super::attention::BlockContext;
use super::graph::{Graph, Kept};
use super::initializer::Initializer;
use super::options::Opset;
use super::proto::GraphProto;
use super::shapes::Shape;
use crate::config::{Pooling, Size};
use crate::model::Vit;

/// The name of the input.
pub(super) const PIXELS: &str = "pixel_values";

/// The name of the graph.
const GRAPH: &str = "vision_transformer";

/// The graph of a model for images of one size, which its grid belongs to, and its constants. `kept` are parameters that are
/// stored in another type than `storage`.
///
/// # Panics
/// If a parameter of the model is not used: the graph would be of another model.
pub(super) fn build(
    vit: &Vit,
    image: Size,
    grid: Size,
    opset: Opset,
    storage: DType,
    kept: &Kept,
) -> (GraphProto, Vec<Initializer>) {
    let config = vit.config();
    let mut graph = Graph::new(vit, opset, storage, kept);
    let pixels = graph.input(PIXELS, Shape::batch_of(&[config.channels, image.height, image.width]));
    let patches = graph.patches(&pixels, grid);
    let mut x = graph.prefixed(&patches, grid);
    // Of the last block only the tokens that are read out are computed.
    let read = (config.pooling == Pooling::Class).then_some(if config.distillation_head { 2 } else { 1 });
    for index in 0..config.depth {
        let tokens_read = read.filter(|_| index + 1 == config.depth);
        x = graph.block(index, &x, BlockContext { grid, tokens_read });
    }
    let outputs = graph.read_out(&x);
    // A distillation head without its token's pooling has no part in the forward pass either.
    let forgotten: Vec<&str> =
        graph.unused().into_iter().filter(|name| !name.starts_with("distillation_head.")).collect();
    assert!(forgotten.is_empty(), "the graph does not use {forgotten:?}");
    let logits = outputs.logits.map(|logits| ("logits", logits));
    let outputs: Vec<_> = logits.into_iter().chain([("features", outputs.features)]).collect();
    graph.finish(GRAPH, &pixels, &outputs)
}
