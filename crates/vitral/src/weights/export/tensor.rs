//! Tensors to be written.

use std::ops::Range;

use vitral_engine::ParameterSpec;

use crate::weights::dialect::SourceLayout;

/// A tensor to be written.
#[derive(Debug)]
pub(super) struct Tensor {
    /// Dimensions in the library's layout.
    pub(super) shape: Vec<usize>,
    /// The pieces it consists of, in order.
    pub(super) pieces: Vec<Piece>,
    /// The value it is filled with if it has no pieces.
    pub(super) fill: f32,
}

impl Tensor {
    /// A tensor filled with one value.
    pub(super) fn filled(shape: &[usize], fill: f32) -> Self {
        Tensor { shape: shape.to_vec(), pieces: Vec::new(), fill }
    }
}

/// Rows of a parameter, in the library's layout.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) spec: ParameterSpec,
    pub(super) rows: Range<usize>,
    pub(super) layout: Option<SourceLayout>,
    /// Whether this piece comes last in a tensor that holds several parameters.
    pub(super) last: bool,
}
